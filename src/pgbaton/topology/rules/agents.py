"""Rules about agents: how many there are, how soon they take a host for silent, and what that may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.model import AGENTS_SINCE, FEWEST_VOTERS, ReplicationMode
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.model import Topology

#: Heartbeats that must be missing: fewer may be late on a host that is only busy.
MISSED_HEARTBEATS = 4
#: What a product of floats may be off by, in seconds.
ROUNDING = 1e-9
#: The tables that say whether there are agents.
WHERE_AGENTS = ("orchestration", "hosts", "postgresql", "network")
#: Keys of other tables that only agents read.
ONLY_AGENTS: tuple[tuple[str, str], ...] = (
    ("timings", "heartbeat_interval"),
    ("timings", "detection_time"),
    ("replication", "accept_loss"),
)


@rule("hosts", "orchestration", "network")
def enough_voters(topology: Topology) -> Iterator[Objection]:
    """There are three agents or more, where there are any that decide."""
    count = len(topology.electorate)
    if topology.orchestration.agent and not topology.is_manual and count < FEWEST_VOTERS:
        reason = f"would run on {count} hosts: when one of them dies, the rest is no majority, and decides nothing"
        fix = "add a host with any role but application, or take it out"
        yield Objection(("orchestration", "agent"), reason, fix)


@rule("timings")
def silence_is_several_heartbeats(topology: Topology) -> Iterator[Objection]:
    """A host is not taken for silent before four heartbeats are missing."""
    timings = topology.timings
    needed = MISSED_HEARTBEATS * timings.heartbeat_seconds
    if timings.detection_time < needed - ROUNDING:
        reason = (
            f"is shorter than {MISSED_HEARTBEATS} heartbeats of {timings.heartbeat_seconds:g} = {needed:g} seconds: "
            "a busy host would pass for a dead one"
        )
        yield Objection(("timings", "detection_time"), reason, f"set {needed:g} or more, or lower heartbeat_interval")


@rule("timings", *WHERE_AGENTS)
def silence_is_noticed_before_the_lock_expires(topology: Topology) -> Iterator[Objection]:
    """Agents notice a silent host before the leader lock expires."""
    timings = topology.timings
    if topology.has_agents and not topology.is_manual and timings.detection_time >= timings.ttl:
        reason = f"is not shorter than ttl, {timings.ttl}: the leader lock would have expired before agents notice"
        yield Objection(("timings", "detection_time"), reason, "set 0.25 to 1 second")


@rule("timings", "replication", *WHERE_AGENTS)
def agents_have_what_is_theirs(topology: Topology) -> Iterator[Objection]:
    """What only agents read is set where there are agents."""
    for section, key in ONLY_AGENTS:
        if key in getattr(topology, section).model_fields_set and not topology.has_agents:
            reason = "has no effect: no host has an agent"
            yield warning((section, key), reason, "take it out, or let hosts have agents: orchestration.agent")
    if topology.has_agents and topology.is_manual and topology.replication.accept_loss:
        reason = "has no effect: a person promotes, and is asked which loss to accept"
        yield warning(("replication", "accept_loss"), reason, "take it out")


@rule("replication", "timings", *WHERE_AGENTS)
def loss_is_accepted_knowingly(topology: Topology) -> Iterator[Objection]:
    """A loss is accepted where there may be one, and by somebody who knows what it is."""
    replication, place = topology.replication, ("replication", "accept_loss")
    if not replication.accept_loss or not topology.has_agents or topology.is_manual:
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


@rule("postgresql", "orchestration")
def patroni_respects_a_lock_that_was_released(topology: Topology) -> Iterator[Objection]:
    """Agents release locks only of a Patroni that takes its lock back by comparing, never by overwriting."""
    if topology.orchestration.agent and not topology.is_manual and topology.postgresql.version < AGENTS_SINCE:
        reason = (
            f"needs Patroni 3.0.3 or later, and the Debian of PostgreSQL {topology.postgresql.version} brings 3.0.2: "
            "an old primary whose lease was revoked would overwrite its successor's lock"
        )
        fix = f"set postgresql.version = {AGENTS_SINCE}, on Debian 13, or take it out"
        yield Objection(("orchestration", "agent"), reason, fix)


RULES: tuple[Rule, ...] = (
    patroni_respects_a_lock_that_was_released,
    enough_voters,
    silence_is_several_heartbeats,
    silence_is_noticed_before_the_lock_expires,
    agents_have_what_is_theirs,
    loss_is_accepted_knowingly,
)
