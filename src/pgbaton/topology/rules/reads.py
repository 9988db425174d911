"""Rules about reads that must be fresh, and about who takes reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.model import ReplicationMode, Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.model import Topology

PORT = ("balancing", "synchronous_port")


@rule("balancing", "replication", "hosts")
def fresh_reads_have_a_standby(topology: Topology) -> Iterator[Objection]:
    """A port for synchronous standbys leads to some that have every commit."""
    if topology.balancing.synchronous_port is None:
        return
    replication, standbys = topology.replication, len(topology.confirmers) - 1
    if replication.mode is ReplicationMode.ASYNCHRONOUS:
        reason = "leads to synchronous standbys, and in asynchronous mode there are none"
        yield Objection(PORT, reason, "take it out, or choose another replication.mode")
    elif replication.mode is ReplicationMode.QUORUM and replication.count < standbys:
        reason = (
            f"promises fresh reads, and any {replication.count} of {standbys} standbys may be all that have a commit"
        )
        yield Objection(PORT, reason, f'set replication.mode = "synchronous", or replication.count = {standbys}')


@rule("balancing", "replication")
def fresh_reads_are_applied(topology: Topology) -> Iterator[Objection]:
    """Who asks for fresh reads has standbys apply what they confirm."""
    replication = topology.replication
    if topology.balancing.synchronous_port and not replication.apply and replication.mode != "asynchronous":
        reason = "leads to standbys that have each commit on their disks, and may show it some moments later"
        yield warning(PORT, reason, "set replication.apply = true, for which commits wait")


@rule("replication")
def somebody_applies(topology: Topology) -> Iterator[Objection]:
    """Standbys that apply before they confirm do confirm."""
    if topology.replication.apply and topology.replication.mode is ReplicationMode.ASYNCHRONOUS:
        reason = "has no effect: in asynchronous mode no standby confirms a commit"
        yield Objection(("replication", "apply"), reason, "take it out, or choose another replication.mode")


@rule("hosts")
def weights_are_for_readers(topology: Topology) -> Iterator[Objection]:
    """Only databases that take reads have a share of them."""
    for index, host in enumerate(topology.hosts):
        if host.read_weight and not (host.has(Role.DATABASE) and host.reads):
            reason = f"has no effect: {host.name} takes no reads"
            yield warning(("hosts", index, "read_weight"), reason, "take it out")


RULES: tuple[Rule, ...] = (
    fresh_reads_have_a_standby,
    fresh_reads_are_applied,
    somebody_applies,
    weights_are_for_readers,
)
