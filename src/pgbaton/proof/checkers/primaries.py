"""Whether two primaries acknowledged writes at once. Pure.

A timeline is what one primary writes after one promotion, so an acknowledged write's timeline says which reign it
belongs to. What no acknowledged write touched, this cannot see: a second primary that nobody wrote to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.checkers.words import examples, moment, name, seconds_after
from pgbaton.proof.history import Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.proof.checkers.base import Evidence
    from pgbaton.proof.history import Operation

NAME = "primaries"


@dataclass(frozen=True)
class Reign:
    """What one server acknowledged on one timeline."""

    timeline: int
    server: str
    first: Operation
    last: Operation
    acknowledged: int


def primaries(evidence: Evidence) -> Check:
    """Find timelines that two servers acknowledged on, and acknowledgements of a timeline that had ended."""
    told = sorted(
        (each for each in evidence.history.of(Kind.WRITE) if each.outcome is Outcome.OK and _tells(each)),
        key=lambda operation: operation.end,
    )
    if not told:
        return Check(NAME, Validity.UNKNOWN, ("no acknowledged write tells its server and timeline",))
    found = reigns(told)
    findings = (*_shared(evidence, found), *examples(_late(evidence, told, found)))
    figures = {
        "primaries": [
            {
                "timeline": reign.timeline,
                "server": reign.server,
                "first_seconds": seconds_after(evidence, reign.first.end),
                "last_seconds": seconds_after(evidence, reign.last.end),
                "acknowledged": reign.acknowledged,
            }
            for reign in found
        ]
    }
    return Check(NAME, Validity.INVALID if findings else Validity.VALID, findings, figures)


def _tells(operation: Operation) -> bool:
    return operation.timeline is not None and operation.server is not None


def reigns(told: Iterable[Operation]) -> list[Reign]:
    """Return who acknowledged on which timeline, in the order of their first acknowledgements."""
    grouped: dict[tuple[int, str], list[Operation]] = {}
    for operation in told:
        grouped.setdefault((operation.timeline or 0, operation.server or ""), []).append(operation)
    return [Reign(*key, first=each[0], last=each[-1], acknowledged=len(each)) for key, each in grouped.items()]


def _shared(evidence: Evidence, found: list[Reign]) -> list[str]:
    servers: dict[int, list[Reign]] = {}
    for reign in found:
        servers.setdefault(reign.timeline, []).append(reign)
    return [
        f"timeline {timeline} was acknowledged by several servers: "
        + ", ".join(
            f"{each.server} (first {name(each.first)}, {moment(evidence, each.first.end)})" for each in reigning
        )
        for timeline, reigning in servers.items()
        if len(reigning) > 1
    ]


def _late(evidence: Evidence, told: list[Operation], found: list[Reign]) -> list[str]:
    """Return writes that began after a later timeline's first acknowledgement and went to an earlier one."""
    sentences = []
    for operation in told:
        successor = next(
            (
                reign
                for reign in found
                if reign.timeline > (operation.timeline or 0) and reign.first.end < operation.start
            ),
            None,
        )
        if successor:
            sentences.append(
                f"{operation.server} acknowledged {name(operation)} on timeline {operation.timeline}, begun "
                f"{moment(evidence, operation.start)}, when {successor.server} had acknowledged "
                f"{name(successor.first)} on timeline {successor.timeline} {moment(evidence, successor.first.end)}"
            )
    return sentences
