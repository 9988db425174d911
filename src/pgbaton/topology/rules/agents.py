"""Rules about agents: how many there are, how soon they take a host for silent, and what that may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.model import ReplicationMode
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.model import Topology

#: With two, losing one leaves no majority that could say so.
FEWEST_VOTERS = 3
#: Heartbeats that must be missing: fewer may be late on a host that is only busy.
MISSED_HEARTBEATS = 4
#: What a product of floats may be off by, in seconds.
ROUNDING = 1e-9
#: Debian 13's PostgreSQL; Debian 12 has 15, and with it a Patroni that is too old.
FIRST_VERSION = 17
#: Keys of other tables that only agents read.
ONLY_AGENTS: tuple[tuple[str, str], ...] = (
    ("timings", "heartbeat_interval"),
    ("timings", "detection_time"),
    ("replication", "accept_loss"),
)


@rule("hosts", "orchestration")
def enough_voters(topology: Topology) -> Iterator[Objection]:
    """There are three agents or more, where there are any."""
    count = len(topology.voters)
    if topology.orchestration.agent and count < FEWEST_VOTERS:
        reason = f"would run on {count} hosts: when one of them dies, the rest is no majority, and decides nothing"
        fix = "add a host with any role but application, or take it out"
        yield Objection(("orchestration", "agent"), reason, fix)


@rule("timings")
def silence_is_several_heartbeats(topology: Topology) -> Iterator[Objection]:
    """A host is not taken for silent before four heartbeats are missing."""
    timings = topology.timings
    needed = MISSED_HEARTBEATS * timings.heartbeat_interval
    if timings.detection_time < needed - ROUNDING:
        reason = (
            f"is shorter than {MISSED_HEARTBEATS} heartbeats of {timings.heartbeat_interval:g} = {needed:g} seconds: "
            "a busy host would pass for a dead one"
        )
        yield Objection(("timings", "detection_time"), reason, f"set {needed:g} or more, or lower heartbeat_interval")


@rule("timings", "orchestration")
def silence_is_noticed_before_the_lock_expires(topology: Topology) -> Iterator[Objection]:
    """Agents notice a silent host before the leader lock expires."""
    timings = topology.timings
    if topology.orchestration.agent and timings.detection_time >= timings.ttl:
        reason = f"is not shorter than ttl, {timings.ttl}: the leader lock would have expired before agents notice"
        yield Objection(("timings", "detection_time"), reason, "set 0.25 to 1 second")


@rule("timings", "replication", "orchestration")
def agents_have_what_is_theirs(topology: Topology) -> Iterator[Objection]:
    """What only agents read is set where there are agents."""
    for section, key in ONLY_AGENTS:
        if key in getattr(topology, section).model_fields_set and not topology.orchestration.agent:
            reason = "has no effect: no host has an agent"
            yield warning((section, key), reason, "take it out, or write orchestration.agent = true")


@rule("replication", "orchestration", "timings")
def loss_is_accepted_knowingly(topology: Topology) -> Iterator[Objection]:
    """A loss is accepted where there may be one, and by somebody who knows what it is."""
    replication, place = topology.replication, ("replication", "accept_loss")
    if not replication.accept_loss or not topology.orchestration.agent:
        return
    if replication.mode != ReplicationMode.ASYNCHRONOUS:
        reason = f"has no effect: in {replication.mode} mode, agents replace a primary only where nothing is lost"
        yield warning(place, reason, "take it out")
        return
    reason = (
        f"a primary that is silent for {topology.timings.detection_time:g} seconds is replaced by a standby that may "
        "lack its last commits: those are lost, although they were acknowledged"
    )
    yield warning(place, reason, "take it out to wait for the leader lock's end, or use a synchronous mode")


@rule("orchestration")
def agents_are_tried_where_nobody_depends_on_them(topology: Topology) -> Iterator[Objection]:
    """Agents run on clusters that serve when they have passed the proof that the stock stack has passed."""
    if topology.orchestration.agent:
        reason = "is for trying out: agents have not been put through the whole of the proof yet"
        yield warning(("orchestration", "agent"), reason, "take it out where the cluster serves somebody")


@rule("postgresql", "orchestration")
def patroni_respects_a_lock_that_was_released(topology: Topology) -> Iterator[Objection]:
    """Agents release locks only of a Patroni that takes its lock back by comparing, never by overwriting."""
    if topology.orchestration.agent and topology.postgresql.version < FIRST_VERSION:
        reason = (
            f"needs Patroni 3.0.3 or later, and the Debian of PostgreSQL {topology.postgresql.version} brings 3.0.2: "
            "an old primary whose lease was revoked would overwrite its successor's lock"
        )
        fix = f"set postgresql.version = {FIRST_VERSION}, on Debian 13, or take it out"
        yield Objection(("orchestration", "agent"), reason, fix)


RULES: tuple[Rule, ...] = (
    patroni_respects_a_lock_that_was_released,
    agents_are_tried_where_nobody_depends_on_them,
    enough_voters,
    silence_is_several_heartbeats,
    silence_is_noticed_before_the_lock_expires,
    agents_have_what_is_theirs,
    loss_is_accepted_knowingly,
)
