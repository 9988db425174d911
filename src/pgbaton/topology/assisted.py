"""What failures cost where there are agents. Pure.

Every figure is for hosts whose agents run; without them it is what :mod:`~pgbaton.topology.budget` says of the stock
stack. The constants are *measured* in a lab of six machines on two cores, under the load of a proof: the least and the
most that was seen, rounded outwards, and the median.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.durations import LOGIN, RETRANSMISSION
from pgbaton.topology.model import ReplicationMode
from pgbaton.topology.prediction import Part, Prediction, Range, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.topology.durations import Durations

#: Until the kernel's word of a process's end has reached the agent, and etcd has released the lock.
CRASH = Range(0.02, 0.08, 0.4)
#: Until a lock that is free has been taken, by members that all answer or are fenced, and promotion has begun.
RACE = Range(0.02, 0.08, 0.5)
#: In quorum mode Patroni itself gives up the lock of a crashed server, woken by the agent.
WOKEN = Range(0.05, 0.2, 0.8)
#: Votes, fences and a transaction, when a silent host's lock is released.
RELEASE = Range(0.02, 0.06, 0.4)
#: What etcd's followers need beyond their patience: they elect, and whoever was kept waiting asks again.
ETCD_ELECTS = Range(0.05, 0.15, 1.5)
PROMOTION = Range(0.03, 0.1, 0.5)
ROUTING = Range(0.01, 0.03, 0.3)
#: Every pooler holds its clients, none has a server any more, and the standby has everything.
HOLD = Range(0.02, 0.06, 1.0)
#: The old primary's orderly end, right after a checkpoint.
STOP = Range(0.04, 0.1, 1.2)
#: Patroni, woken, names other synchronous standbys.
REPLACEMENT = Range(0.02, 0.25, 1.5)
#: A service that was stopped is seen by three looks; for one that does not answer otherwise, Keepalived's own script is
#: about as quick as three questions of half a second.
HANG = Range(0.25, 0.35, 1.4)


def predictions(sizes: Durations) -> Mapping[str, Prediction]:
    """Return the predictions that agents change, by fault; none where there are no agents."""
    if not sizes.topology.has_agents:
        return {}
    made = (*(() if sizes.topology.is_manual else _elected(sizes)), *_watched(sizes))
    return {each.fault: each for each in made}


def _watched(sizes: Durations) -> Iterator[Prediction]:
    """Yield those that agents change whoever promotes."""
    if sizes.floats:
        yield _haproxy_hung(sizes)


def _elected(sizes: Durations) -> Iterator[Prediction]:
    """Yield those that agents change by what they do for Patroni's elections."""
    replication = sizes.topology.replication
    if replication.mode != ReplicationMode.ASYNCHRONOUS and sizes.topology.timings.primary_start_timeout == 0:
        yield _postmaster_killed(sizes)
    if replication.mode in {ReplicationMode.SYNCHRONOUS, ReplicationMode.STRICT} and sizes.spare_standbys > 0:
        yield _standby_power_off(sizes)
    if replication.mode in {ReplicationMode.SYNCHRONOUS, ReplicationMode.STRICT} and replication.count == 1:
        yield _switchover(sizes)
    if replication.mode != ReplicationMode.ASYNCHRONOUS or replication.accept_loss:
        yield from _silent_primary(sizes)


def _silence(sizes: Durations) -> Part:
    """Return the wait until a majority has not heard a host for the detection time."""
    timings = sizes.topology.timings
    detection, beat = timings.detection_time, timings.heartbeat_seconds
    seconds = Range(detection - beat, detection + beat, detection + 4 * beat + 0.3)
    return Part("detection", seconds, "a majority of the agents hears nothing for the detection time")


def _with_new_primary(fault: str, title: str, parts: tuple[Part, ...], explanation: str) -> Prediction:
    whole = (
        *parts,
        Part("promotion", PROMOTION, "PostgreSQL leaves recovery"),
        Part("routing", ROUTING, "the new primary's agent says so, and the balancers' agents tell HAProxy"),
        Part("reconnection", LOGIN, "PgBouncer logs in to the new primary"),
    )
    writes = total(whole)
    return Prediction(fault, title, writes, Range(0.0, LOGIN.typical, writes.maximum), whole, explanation)


def _postmaster_killed(sizes: Durations) -> Prediction:
    by_quorum = sizes.topology.replication.mode == ReplicationMode.QUORUM
    parts = (
        Part("detection", CRASH, "the kernel tells the agent, which gives up the lock"),
        Part("election", WOKEN if by_quorum else RACE, "a synchronous standby takes the lock"),
    )
    explanation = "The agent of the crashed server's host gives up its lock at once. Clients in its queue are held."
    return _with_new_primary("postmaster-killed", "Postmaster killed", parts, explanation)


def _silent_primary(sizes: Durations) -> Iterator[Prediction]:
    parts = (
        _silence(sizes),
        Part("release", RELEASE, "a majority votes, behind fences, and etcd releases the lock"),
        Part("election", RACE, "a synchronous standby takes the lock"),
    )
    explanation = "A majority that has fenced the silent primary releases its lock; nothing acknowledged can be lost."
    if sizes.topology.foreign_etcd:
        explanation += " The way to the foreign etcd and back, several times, comes on top."
    yield _with_new_primary("primary-power-off", "Primary host powered off", parts, explanation)
    yield _with_new_primary("primary-cut-off", "Primary host cut off", parts, explanation)
    if sizes.topology.foreign_etcd:
        return  # how soon it elects is not known
    patience = sizes.topology.etcd_election_seconds
    seconds = ETCD_ELECTS + Range(0.0, patience, 2 * patience)
    elected = (*parts, Part("etcd's election", seconds, "etcd needs a leader before it releases anything"))
    title = "Primary and etcd's leader powered off"
    explanation = "Agents keep etcd's leadership off the primary's host; this is for the moments when it is there."
    yield _with_new_primary("primary-power-off-with-etcd-leader", title, elected, explanation)


def _switchover(sizes: Durations) -> Prediction:
    held = Part("hold", HOLD, "the poolers hold their clients, and the standby has everything")
    parts = (
        *((held,) if sizes.holds else ()),
        Part("shutdown", STOP, "the old primary stops in order"),
        Part("election", RACE, "the standby takes the lock"),
    )
    explanation = (
        "Clients of a transaction pool are held meanwhile: they see a pause, and no error."
        if sizes.holds
        else "No pooler stands where it could hold clients: they are cut off, and connect again."
    )
    return _with_new_primary("switchover", "Planned switchover", parts, explanation)


def _standby_power_off(sizes: Durations) -> Prediction:
    parts = (_silence(sizes), Part("replacement", REPLACEMENT, "Patroni, woken, names other synchronous standbys"))
    down = sizes.standby_silent + sizes.reconnection
    explanation = "The primary's agent ends the connections of a standby that is silent, and wakes Patroni."
    title = "Synchronous standby powered off"
    reads = Range(0.0, down.typical, down.maximum)
    return Prediction("standby-power-off", title, total(parts), reads, parts, explanation)


def _haproxy_hung(sizes: Durations) -> Prediction:
    parts = (
        Part("takeover", HANG + Range(sizes.skew, sizes.skew, sizes.skew), "the agent ends it, and gives up the VIP"),
        Part("reconnection", LOGIN + RETRANSMISSION, "clients connect again"),
    )
    explanation = "A stopped process is ended, so that its clients hear of it; the VIP moves when it is gone."
    return Prediction("haproxy-hung", "HAProxy hung", total(parts), total(parts), parts, explanation)
