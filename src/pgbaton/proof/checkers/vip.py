"""Whether two balancers held a VIP at once. Pure.

Clients reach one of two holders, and which one may change with every packet; that both lead to the same primary is for
the checker *primaries* to see. Who watched samples, so a stretch is as exact as the watch was close.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.checkers.words import examples, moment, seconds_after
from pgbaton.proof.outage import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.checkers.base import Evidence, Holding

NAME = "vip"
#: A hand-over may overlap: the old holder gives up when it has heard a better advert, and has told its kernel.
HELD_TWICE_SECONDS = 1.0


@dataclass(frozen=True)
class Stretch:
    """A time in which the same balancers, or none, held the VIP."""

    span: Span
    hosts: frozenset[str]


def vip(evidence: Evidence) -> Check:
    """Find stretches of the window in which a VIP was held twice, and measure those in which nobody held it."""
    if evidence.holdings is None:
        return Check(NAME, Validity.UNKNOWN, ("nobody watched who held the VIP",))
    twice: list[tuple[str, Stretch]] = []
    nobody: list[Stretch] = []
    for address in addresses(evidence):
        of_one = [holding for holding in evidence.holdings if holding.vip == address]
        found = stretches(of_one, evidence.window)
        twice += [(address, stretch) for stretch in _joined(each for each in found if len(each.hosts) > 1)]
        nobody += _joined(stretch for stretch in found if not stretch.hosts)
    wrong = [(address, stretch) for address, stretch in twice if stretch.span.seconds > HELD_TWICE_SECONDS]
    sentences = [
        f"{' and '.join(sorted(stretch.hosts))} held {address or 'the VIP'} at once for {stretch.span.seconds:.3f} s, "
        f"from {moment(evidence, stretch.span.begin)}"
        for address, stretch in wrong
    ]
    both = [stretch for _, stretch in twice]
    figures = {
        "held_twice_seconds": _total(both),
        "held_twice_longest_seconds": _longest(both),
        "held_by_nobody_seconds": _total(nobody),
        "held_by_nobody_longest_seconds": _longest(nobody),
        "holders": [holder(evidence, holding) for holding in evidence.holdings],
    }
    return Check(NAME, Validity.INVALID if wrong else Validity.VALID, examples(sentences), figures)


def addresses(evidence: Evidence) -> tuple[str, ...]:
    """Return what the VIPs are called in holdings: a single one has no name there."""
    vips = tuple(map(str, evidence.topology.network.vips))
    return vips if len(vips) > 1 else ("",)


def holder(evidence: Evidence, holding: Holding) -> list[str | float]:
    """Return who held a VIP and since when; of several also which."""
    told: list[str | float] = [holding.host, seconds_after(evidence, holding.span.begin)]
    return [*told, holding.vip] if holding.vip else told


def stretches(holdings: Iterable[Holding], window: Span) -> list[Stretch]:
    """Cut a window at every change of holders."""
    inside = [holding for holding in holdings if holding.span.overlap_seconds(window)]
    edges = {window.begin, window.end}
    for holding in inside:
        edges |= {max(holding.span.begin, window.begin), min(holding.span.end, window.end)}
    ordered = sorted(edges)
    spans = (Span(begin, end) for begin, end in pairwise(ordered))
    return [Stretch(span, frozenset(each.host for each in inside if each.span.overlap_seconds(span))) for span in spans]


def _joined(found: Iterable[Stretch]) -> list[Stretch]:
    """Join stretches that touch: a third holder makes two of them no shorter."""
    joined: list[Stretch] = []
    for stretch in found:
        if joined and joined[-1].span.end == stretch.span.begin:
            last = joined.pop()
            joined.append(Stretch(Span(last.span.begin, stretch.span.end), last.hosts | stretch.hosts))
        else:
            joined.append(stretch)
    return joined


def _total(found: Sequence[Stretch]) -> float:
    return round(sum(stretch.span.seconds for stretch in found), 3)


def _longest(found: Sequence[Stretch]) -> float:
    return round(max((stretch.span.seconds for stretch in found), default=0.0), 3)
