"""Compare what clients were told with what every database holds. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.proof.history import Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.proof.history import Operation

WriteId = tuple[str, int]


@dataclass(frozen=True)
class FinalRead:
    """The rows that one database host holds after everything has come to rest.

    ``rows`` are those of the workload *set*, ``registers``, ``accounts`` and ``lists`` what the others' tables hold by
    key, None where the workload was not at work. ``caught_up`` tells whether the host had replayed all that the primary
    had written; ``problem`` why it could not be read.
    """

    host: str
    primary: bool
    rows: tuple[WriteId, ...] = ()
    caught_up: bool = True
    problem: str | None = None
    registers: Mapping[int, int] | None = None
    accounts: Mapping[int, int] | None = None
    lists: Mapping[int, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Audit:
    """The findings, by write and by host.

    ``lost``: acknowledged, and missing on the primary. ``missing``: acknowledged, and missing on that host.
    ``duplicated``: there more than once. ``revived``: failed for certain, and there all the same. ``strangers``: rows
    that no client wrote. ``unknown_present`` and ``unknown_absent`` settle what clients could not know: no finding.
    ``unread``: hosts that could not be read or never caught up, and why.
    """

    acknowledged: int
    failed: int
    unknown: int
    lost: tuple[WriteId, ...]
    missing: Mapping[str, tuple[WriteId, ...]]
    duplicated: Mapping[str, tuple[WriteId, ...]]
    revived: tuple[WriteId, ...]
    strangers: tuple[WriteId, ...]
    unknown_present: int
    unknown_absent: int
    unread: Mapping[str, str]

    @property
    def consistent(self) -> bool:
        """Tell whether every database holds exactly what clients were promised."""
        return not (self.lost or self.missing or self.duplicated or self.revived or self.strangers or self.unread)

    @property
    def findings(self) -> tuple[str, ...]:
        """Return what is wrong, one sentence each."""
        counted = (
            *((len(self.lost), "acknowledged writes lost", self.lost),),
            *((len(ids), f"acknowledged writes missing on {host}", ids) for host, ids in self.missing.items()),
            *((len(ids), f"writes duplicated on {host}", ids) for host, ids in self.duplicated.items()),
            (len(self.revived), "writes present that had failed", self.revived),
            (len(self.strangers), "rows that no client wrote", self.strangers),
        )
        sentences = tuple(f"{count} {what}: {_examples(ids)}" for count, what, ids in counted if count)
        return sentences + tuple(f"{host} was not audited: {why}" for host, why in self.unread.items())


def is_audited(operation: Operation) -> bool:
    """Tell whether an operation adds a row that the final reads show: a write of the workload *set*."""
    return operation.kind is Kind.WRITE and operation.workload == "set"


def audit(operations: Iterable[Operation], reads: Iterable[FinalRead]) -> Audit:
    """Compare all writes of the workload *set* with the final reads of all database hosts.

    Without a readable primary every acknowledged write counts as lost: nobody can show it.
    """
    outcomes: dict[Outcome, set[WriteId]] = {outcome: set() for outcome in Outcome}
    for operation in operations:
        if is_audited(operation):
            outcomes[operation.outcome].add((operation.client, operation.id))
    acknowledged, failed, unknown = outcomes[Outcome.OK], outcomes[Outcome.FAIL], outcomes[Outcome.UNKNOWN]
    reads = tuple(reads)
    read = {each.host: each.rows for each in reads if each.problem is None}
    present = {host: frozenset(rows) for host, rows in read.items()}
    everywhere = frozenset().union(*present.values())
    on_primary = frozenset().union(*(present[each.host] for each in reads if each.primary and each.host in present))
    return Audit(
        acknowledged=len(acknowledged),
        failed=len(failed),
        unknown=len(unknown),
        lost=tuple(sorted(acknowledged - on_primary)),
        missing=_only_some({host: sorted(acknowledged - rows) for host, rows in present.items()}),
        duplicated=_only_some({host: _repeated(rows) for host, rows in read.items()}),
        revived=tuple(sorted(failed & everywhere)),
        strangers=tuple(sorted(everywhere - acknowledged - failed - unknown)),
        unknown_present=len(unknown & on_primary),
        unknown_absent=len(unknown - on_primary),
        unread=_unread(reads),
    )


def _unread(reads: Iterable[FinalRead]) -> dict[str, str]:
    reasons = {
        each.host: each.problem or ("" if each.caught_up else "it had not replayed all WAL in time") for each in reads
    }
    return {host: reason for host, reason in reasons.items() if reason}


def _repeated(rows: Iterable[WriteId]) -> list[WriteId]:
    return sorted(row for row, count in Counter(rows).items() if count > 1)


def _only_some(found: Mapping[str, list[WriteId]]) -> dict[str, tuple[WriteId, ...]]:
    return {host: tuple(ids) for host, ids in found.items() if ids}


def _examples(ids: tuple[WriteId, ...], limit: int = 5) -> str:
    listed = ", ".join(f"{client}/{number}" for client, number in ids[:limit])
    return listed + (", …" if len(ids) > limit else "")
