"""What failures cost where a person promotes: what ends by itself, and what waits for somebody. Pure.

The constants are estimates from a lab of four machines on two cores, rounded outwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.durations import LOGIN
from pgbaton.topology.model import ReplicationMode
from pgbaton.topology.prediction import NONE, UNTIL_REPAIRED, Part, Prediction, Range, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.topology.durations import Durations

#: Failures of parts that such a cluster does not have.
ELSEWHERE = frozenset({"primary-power-off-with-etcd-leader", "etcd-member-lost", "etcd-quorum-lost"})
#: systemd waits a second, the other hosts are asked who is primary, and the server recovers what it had not written.
RESTART_IN_PLACE = Range(1.1, 2.0, 12.0)
#: Every pooler holds its clients.
HOLD = Range(0.05, 0.3, 5.5)
#: The old primary's orderly end, right after a checkpoint, and the standby's word that it has everything.
STOP = Range(0.2, 0.7, 4.0)
#: Slots, settings and pg_promote, each by its own command on the host.
PROMOTION = Range(0.3, 0.8, 4.0)
#: Everybody is told whom to follow, and HAProxy's next check of the new primary.
ROUTING = Range(0.2, 0.7, 4.0)


def predictions(sizes: Durations) -> Mapping[str, Prediction]:
    """Return the predictions that differ where a person promotes, by fault."""
    return {made.fault: made for made in _all(sizes)}


def _all(sizes: Durations) -> Iterator[Prediction]:
    yield _postmaster_killed()
    yield _switchover()
    for fault, title in (
        ("primary-power-off", "Primary host powered off"),
        ("primary-cut-off", "Primary host cut off"),
    ):
        yield _until_somebody_acts(fault, title)
    yield _standby_power_off(sizes)
    yield _standbys_lost(sizes)


def _postmaster_killed() -> Prediction:
    parts = (
        Part("restart", RESTART_IN_PLACE, "systemd starts the server again where it is, and it recovers"),
        Part("reconnection", LOGIN, "HAProxy sees it, PgBouncer logs in again"),
    )
    explanation = "Nobody takes over: the server comes back where it was. Recovery takes longer the more it wrote."
    return Prediction("postmaster-killed", "Postmaster killed", total(parts), total(parts), parts, explanation)


def _switchover() -> Prediction:
    parts = (
        Part("hold", HOLD, "the poolers hold their clients"),
        Part("shutdown", STOP, "the old primary stops in order, and the standby has all of it"),
        Part("promotion", PROMOTION, "the standby is promoted"),
        Part("routing", ROUTING, "the balancers see the new primary, and clients go on"),
    )
    explanation = "Clients of a transaction pool are held meanwhile: they see a pause, and no error."
    reads = Range(0.0, LOGIN.typical, total(parts).maximum)
    return Prediction("switchover", "Planned switchover", total(parts), reads, parts, explanation)


def _until_somebody_acts(fault: str, title: str) -> Prediction:
    parts = (Part("decision", UNTIL_REPAIRED, "a person sees that it is gone, and runs pgbaton failover"),)
    explanation = "Nothing is promoted by itself. Reads go on, on standbys that have replayed what they received."
    return Prediction(fault, title, UNTIL_REPAIRED, Range(0.0, 1.0, 5.0), parts, explanation)


def _standby_power_off(sizes: Durations) -> Prediction:
    parts = _stall(sizes, spare=sizes.spare_standbys > 0)
    down = sizes.standby_silent + sizes.reconnection
    explanation = "Commits wait for a standby that is gone until another one confirms, or a person detaches it."
    reads = Range(0.0, down.typical, down.maximum)
    return Prediction("standby-power-off", "Synchronous standby powered off", total(parts), reads, parts, explanation)


def _standbys_lost(sizes: Durations) -> Prediction:
    parts = _stall(sizes, spare=False)
    down = sizes.standby_silent + sizes.reconnection
    explanation = "Commits that wait for a standby wait until one is back, or detached; without such commits, nothing."
    reads = Range(0.0, down.typical, down.maximum)
    return Prediction("standbys-lost", "All standbys lost", total(parts), reads, parts, explanation)


def _stall(sizes: Durations, *, spare: bool) -> tuple[Part, ...]:
    """Return how long commits wait for a standby that is gone."""
    mode, silence = sizes.topology.replication.mode, sizes.topology.timings.wal_sender_timeout
    if mode is ReplicationMode.ASYNCHRONOUS:
        return ()
    if not spare:
        return (Part("stall", UNTIL_REPAIRED, "nobody takes a standby out by himself: pgbaton standby detach"),)
    if mode is ReplicationMode.QUORUM:
        return (Part("stall", NONE, "any other standby confirms"),)
    seconds = Range(silence / 2, silence, silence + 0.2)
    return (Part("detection", seconds, "wal_sender_timeout drops the silent standby, and the next one confirms"),)
