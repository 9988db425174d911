"""Two runs, fault by fault: what became faster, slower, better, worse. Pure.

The figures are outages of writes. Where the spreads of the two overlap, the difference may be chance.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.proof.reporting.words import listed, seconds
from pgbaton.proof.results import Verdict, finite

if TYPE_CHECKING:
    from pgbaton.proof.results import FaultSummary, RunResult

#: Differences of medians within this share are told as none.
SAME = 0.05
#: Ratios from here on are told without decimals.
MANY = 100


@dataclass(frozen=True)
class Side:
    """What one run says of a fault: outages in seconds, infinite while one had not ended."""

    trials: int
    median_seconds: float
    min_seconds: float
    max_seconds: float
    lost: int
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Return the side as JSON can carry it."""
        durations = ("median_seconds", "min_seconds", "max_seconds")
        return {**asdict(self), **{key: finite(getattr(self, key)) for key in durations}, "verdict": str(self.verdict)}


@dataclass(frozen=True)
class Difference:
    """One fault in both runs."""

    fault: str
    title: str
    a: Side
    b: Side

    @property
    def difference_seconds(self) -> float | None:
        """Return how much longer the second run's median is; None when both never ended."""
        difference = self.b.median_seconds - self.a.median_seconds
        return None if math.isnan(difference) else difference

    @property
    def ratio(self) -> float | None:
        """Return the second run's median as a multiple of the first's; None when that has no meaning."""
        if math.isinf(self.a.median_seconds) or math.isinf(self.b.median_seconds) or not self.a.median_seconds:
            return None
        return self.b.median_seconds / self.a.median_seconds

    @property
    def overlap(self) -> bool:
        """Tell whether some trial of one run lies within the spread of the other's."""
        return self.a.min_seconds <= self.b.max_seconds and self.b.min_seconds <= self.a.max_seconds

    @property
    def verdict_changed(self) -> bool:
        """Tell whether the two runs come to different verdicts."""
        return self.a.verdict is not self.b.verdict

    @property
    def told(self) -> str:
        """Return the difference in a word: slower and faster are said only where the spreads do not overlap."""
        if self.overlap or (self.ratio is not None and abs(self.ratio - 1) <= SAME):
            return "alike"
        return "slower" if self.b.median_seconds > self.a.median_seconds else "faster"

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON can carry it."""
        difference, ratio = self.difference_seconds, self.ratio
        return {
            "fault": self.fault,
            "title": self.title,
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "difference_seconds": None if difference is None else finite(difference),
            "ratio": None if ratio is None else round(ratio, 3),
            "overlap": self.overlap,
            "told": self.told,
            "verdict_changed": self.verdict_changed,
        }


@dataclass(frozen=True)
class Comparison:
    """Two runs; ``only_a`` and ``only_b`` are faults that one of them alone has trials of."""

    a: str
    b: str
    faults: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON can carry it."""
        return {
            "a": self.a,
            "b": self.b,
            "faults": [each.to_dict() for each in self.faults],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
        }


def compare(a: RunResult, b: RunResult, *, names: tuple[str, str] | None = None) -> Comparison:
    """Compare two runs; ``names`` are what to call them, their labels by default."""
    first, second = ({each.fault: each for each in run.summary} for run in (a, b))
    both = [fault for fault in first if fault in second]
    return Comparison(
        *(names or (a.label, b.label)),
        faults=tuple(Difference(fault, second[fault].title, side(first[fault]), side(second[fault])) for fault in both),
        only_a=tuple(fault for fault in first if fault not in second),
        only_b=tuple(fault for fault in second if fault not in first),
    )


def side(summary: FaultSummary) -> Side:
    """Return what a run says of a fault."""
    outages = summary.outages
    return Side(len(outages), summary.median_seconds, min(outages), max(outages), summary.lost, summary.verdict)


def lines(comparison: Comparison, *, width: int = 80) -> tuple[str, ...]:
    """Return the comparison as a table for a terminal."""
    name = max(12, min(max((len(each.fault) for each in comparison.faults), default=12), width - 59))
    head = f"{'Fault':<{name}} {'n':>5} {'A median':>9} {'worst':>9} {'B median':>9} {'worst':>9} {'B/A':>5} "
    table = [head] if comparison.faults else ["no fault has trials in both runs"]
    for each in comparison.faults:
        table.append(_row(each, name))
        if each.verdict_changed:
            table.append(f"  verdict: {each.a.verdict} in A, {each.b.verdict} in B")
    return (
        f"A: {comparison.a}",
        f"B: {comparison.b}",
        "",
        *(line.rstrip() for line in table),
        *(
            f"only in {run}: {listed(only, most=50)}"
            for run, only in (("A", comparison.only_a), ("B", comparison.only_b))
            if only
        ),
    )


def _row(each: Difference, name: int) -> str:
    durations = (each.a.median_seconds, each.a.max_seconds, each.b.median_seconds, each.b.max_seconds)
    figures = " ".join(f"{seconds(value):>9}" for value in durations)
    ratio = "-" if each.ratio is None else f"{each.ratio:.2f}" if each.ratio < MANY else f"{each.ratio:.0f}"
    fault = each.fault if len(each.fault) <= name else f"{each.fault[: name - 1]}…"
    return f"{fault:<{name}} {f'{each.a.trials}/{each.b.trials}':>5} {figures} {ratio:>5} {each.told}"
