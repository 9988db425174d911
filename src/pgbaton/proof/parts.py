"""Part an outage into what it was spent on: detection, election, promotion, routing, reconnection. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.proof.marks import Moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.marks import Mark
    from pgbaton.proof.outage import Span

#: How far a mark may lie outside the outage and still belong to it: clocks, and journals that lag a little.
TOLERANCE_SECONDS = 0.05

#: The parts of an outage, each with the moment that ends it; the last ends with the first acknowledgement.
PRIMARY_PARTS: tuple[tuple[str, Moment], ...] = (
    ("detection", Moment.DETECTED),
    ("election", Moment.ELECTED),
    ("promotion", Moment.WRITABLE),
    ("routing", Moment.ROUTED),
)
SWITCHOVER_PARTS: tuple[tuple[str, Moment], ...] = (("shutdown", Moment.RELEASED), *PRIMARY_PARTS[1:])
BALANCER_PARTS: tuple[tuple[str, Moment], ...] = (("takeover", Moment.CLAIMED),)
LAST_PART = "reconnection"


@dataclass(frozen=True)
class Part:
    """A part of an outage; ``seconds`` is None when no journal tells where it ended.

    The time of an unknown part is contained in the next one that is known.
    """

    name: str
    seconds: float | None
    told_by: str | None = None


def split(outage: Span, ends: Sequence[tuple[str, Moment]], marks: Iterable[Mark]) -> tuple[Part, ...]:
    """Split an outage by the first mark of each moment that lies in it; the marks' times are of the outage's clock."""
    inside = [mark for mark in marks if outage.begin - TOLERANCE_SECONDS <= mark.time <= outage.end + TOLERANCE_SECONDS]
    parts: list[Part] = []
    reached = outage.begin
    for name, moment in ends:
        mark = _first(inside, moment, after=reached)
        if mark is None:
            parts.append(Part(name, None))
            continue
        end = min(max(mark.time, reached), outage.end)
        parts.append(Part(name, end - reached, f"{mark.host}: {mark.text}"))
        reached = end
    return (*parts, Part(LAST_PART, outage.end - reached, "the first acknowledgement"))


def _first(marks: Iterable[Mark], moment: Moment, *, after: float) -> Mark | None:
    """Return the first mark of a moment at or after the part's begin."""
    fitting = (mark for mark in marks if mark.moment is moment and mark.time >= after - TOLERANCE_SECONDS)
    return min(fitting, key=lambda mark: mark.time, default=None)
