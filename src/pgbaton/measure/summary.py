"""From runs of pgbench to a row for each case and way. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from pgbaton.measure.latency import merged
from pgbaton.measure.ways import DIRECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgbaton.measure.latency import Latencies
    from pgbaton.measure.pgbench import Outcome
    from pgbaton.measure.plan import Case, Step

QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Run:
    """A step that was made, and what it came to."""

    step: Step
    outcome: Outcome


@dataclass(frozen=True)
class NotRun:
    """A case that was not measured by a way, and why."""

    case: Case
    way: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self.case), "path": self.way, "reason": self.reason}


@dataclass(frozen=True)
class Row:
    """All rounds of one case by one way.

    ``ratio`` is the median over all rounds of this way's transactions a second, as a multiple of what PostgreSQL
    itself did in the same round; None where that was not measured. Latencies are over all rounds together.
    """

    case: Case
    way: str
    rounds: tuple[float, ...]
    transactions: int
    latencies: Latencies
    ratio: float | None = None
    added_ms: float | None = None
    login_seconds: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Return the median of the rounds' transactions a second."""
        return median(self.rounds)

    def milliseconds(self, name: str) -> float | None:
        """Return a quantile of the latencies, by its name."""
        return self.latencies.quantile(QUANTILES[name])

    @property
    def failures(self) -> int:
        """Return how many errors there were."""
        return sum(self.errors.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            **asdict(self.case),
            "path": self.way,
            "transactions_per_second": round(self.per_second, 1),
            "rounds": [round(each, 1) for each in self.rounds],
            "ratio_to_direct": None if self.ratio is None else round(self.ratio, 3),
            "transactions": self.transactions,
            "latency_milliseconds": {name: self.milliseconds(name) for name in QUANTILES},
            "added_median_milliseconds": None if self.added_ms is None else round(self.added_ms, 3),
            "login_milliseconds": None if self.login_seconds is None else round(self.login_seconds * 1000, 3),
            "errors": self.failures,
            "complaints": dict(self.errors),
        }


def rows(runs: Iterable[Run]) -> tuple[Row, ...]:
    """Return a row for each case and way, in the order in which they were first measured, cases together."""
    made = tuple(runs)
    by_case = dict.fromkeys(run.step.case for run in made)
    ways = ordered(run.step.way for run in made)
    return tuple(
        row(case, way, chosen, of(made, case, DIRECT))
        for case in by_case
        for way in ways
        if (chosen := of(made, case, way))
    )


def ordered(ways: Iterable[str]) -> list[str]:
    """Return ways, each once, PostgreSQL itself first: the others are compared with it."""
    return sorted(dict.fromkeys(ways), key=lambda way: way != DIRECT)


def of(runs: Iterable[Run], case: Case, way: str) -> tuple[Run, ...]:
    """Return the runs of one case by one way."""
    return tuple(run for run in runs if (run.step.case, run.step.way) == (case, way))


def row(case: Case, way: str, runs: Sequence[Run], direct: Sequence[Run]) -> Row:
    """Return the row of some runs; ``direct`` are those of the same case by no way but PostgreSQL's own."""
    latencies = together(runs)
    errors = Counter[str]()
    for run in runs:
        errors.update(run.outcome.errors)
    logins = [run.outcome.login_seconds for run in runs if run.outcome.login_seconds is not None]
    return Row(
        case,
        way,
        rounds=tuple(run.outcome.per_second for run in runs),
        transactions=sum(run.outcome.transactions for run in runs),
        latencies=latencies,
        ratio=ratio(runs, direct),
        added_ms=added(latencies, together(direct)),
        login_seconds=median(logins) if logins else None,
        errors=dict(errors),
    )


def together(runs: Iterable[Run]) -> Latencies:
    """Return the latencies of some runs."""
    return merged(run.outcome.latencies for run in runs)


def ratio(runs: Iterable[Run], direct: Iterable[Run]) -> float | None:
    """Return the median, over the rounds that have both, of one way's pace as a multiple of the direct one's."""
    base = {run.step.round: run.outcome.per_second for run in direct}
    found = [run.outcome.per_second / base[run.step.round] for run in runs if base.get(run.step.round)]
    return median(found) if found else None


def added(latencies: Latencies, direct: Latencies) -> float | None:
    """Return by how many milliseconds the median latency is longer than the direct one."""
    ours, theirs = latencies.quantile(0.5), direct.quantile(0.5)
    return None if ours is None or theirs is None else ours - theirs
