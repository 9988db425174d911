"""Whether every acknowledged write is where it must be, exactly once, and nothing else is there. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgbaton.proof.audit import audit, is_audited
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.checkers.words import moment, seconds_after
from pgbaton.proof.history import Outcome

if TYPE_CHECKING:
    from pgbaton.proof.audit import Audit
    from pgbaton.proof.checkers.base import Evidence

NAME = "writes"


def writes(evidence: Evidence) -> Check:
    """Find acknowledged writes that are lost, doubled, or there although they failed, and rows of nobody."""
    result = audit(evidence.history.operations, evidence.finals)
    times = _lost_times(evidence, result)
    findings = result.findings
    if times:
        when = f"{moment(evidence, times[0])} and {moment(evidence, times[-1])}"
        findings = (*findings, f"the lost writes were acknowledged between {when}")
    if not result.acknowledged:
        findings = (*findings, "no write was acknowledged: nothing is shown")
    return Check(NAME, _validity(evidence, result), findings, _figures(evidence, result, times))


def _validity(evidence: Evidence, result: Audit) -> Validity:
    """Judge by what could be looked at; a host that could not be read, or lags, can show no absence."""
    behind = {read.host for read in evidence.finals if read.problem is not None or not read.caught_up}
    shown = any(read.primary and read.host not in behind for read in evidence.finals)
    if (
        (result.lost and shown)
        or result.missing.keys() - behind
        or result.duplicated
        or result.revived
        or result.strangers
    ):
        return Validity.INVALID
    return Validity.VALID if shown and not result.unread and result.acknowledged else Validity.UNKNOWN


def _lost_times(evidence: Evidence, result: Audit) -> list[float]:
    lost = frozenset(result.lost)
    return sorted(
        operation.end
        for operation in evidence.history.operations
        if is_audited(operation) and operation.outcome is Outcome.OK and (operation.client, operation.id) in lost
    )


def _figures(evidence: Evidence, result: Audit, times: list[float]) -> dict[str, Any]:
    return {
        "acknowledged": result.acknowledged,
        "failed": result.failed,
        "lost": len(result.lost),
        "duplicated": len({row for rows in result.duplicated.values() for row in rows}),
        "revived": len(result.revived),
        "strangers": len(result.strangers),
        "missing": {host: len(rows) for host, rows in result.missing.items()},
        "unknown": result.unknown,
        "unknown_present": result.unknown_present,
        "unknown_absent": result.unknown_absent,
        "lost_first_seconds": seconds_after(evidence, times[0]) if times else None,
        "lost_last_seconds": seconds_after(evidence, times[-1]) if times else None,
    }
