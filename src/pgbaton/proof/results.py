"""What trials came to, as values that are saved as JSON, compared and shown. Pure.

Durations are in seconds. A trial's ``folder`` is where its history, journals and logs are, beside the run's own file.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, Any

from pgbaton.proof.checkers.base import Check, Validity, worst
from pgbaton.proof.parts import Part

if TYPE_CHECKING:
    from collections.abc import Mapping


class Verdict(StrEnum):
    """What a trial or a run showed, the best first: unknown is no proof, and a violation outweighs everything."""

    PROVEN = "proven"
    MISSED = "missed"
    UNKNOWN = "unknown"
    VIOLATED = "violated"


def gravest(verdicts: tuple[Verdict, ...]) -> Verdict:
    """Return the worst of some verdicts; nothing is proven where there is none."""
    order = tuple(Verdict)
    return max(verdicts, key=order.index, default=Verdict.UNKNOWN)


@dataclass(frozen=True)
class Latencies:
    """Quantiles of how long acknowledged writes took, in seconds."""

    median: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True)
class TrialResult:
    """One trial, measured and judged.

    Outages are infinite when they had not ended. ``limit_seconds`` and ``read_limit_seconds`` are the objectives, None
    where there is none, ``limit_source`` is where they come from; ``served`` tells whether clients were served again
    when they had to be. ``parts`` are where the outage of writes went. ``gaps`` are the further ones of at least 0.1 s,
    as (seconds after the fault, length). ``clients`` are the longest gaps by client. ``objections`` say what else was
    not as it must be, although no promise about data was broken.
    """

    fault: str
    title: str
    seed: int
    hosts: tuple[str, ...]
    began_at: str
    write_outage_seconds: float
    read_outage_seconds: float
    acknowledged: int
    lost: int
    duplicated: int
    unknown: int
    errors: int
    checks: tuple[Check, ...]
    parts: tuple[Part, ...] = ()
    limit_seconds: float | None = None
    read_limit_seconds: float | None = None
    limit_source: str = ""
    served: bool = True
    error_classes: Mapping[str, int] = field(default_factory=dict)
    clients: Mapping[str, float] = field(default_factory=dict)
    latency: Mapping[str, Latencies | None] = field(default_factory=dict)
    primary: tuple[str | None, str | None] = (None, None)
    vip: tuple[str | None, str | None] = (None, None)
    gaps: tuple[tuple[float, float], ...] = ()
    operations_per_second: float = 0.0
    whole_again_seconds: float | None = None
    meter_stalled_seconds: float = 0.0
    total_seconds: float = 0.0
    objections: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    folder: str = ""

    @property
    def in_time(self) -> bool:
        """Tell whether clients were served in time."""
        writes = self.limit_seconds is None or self.write_outage_seconds <= self.limit_seconds
        reads = self.read_limit_seconds is None or self.read_outage_seconds <= self.read_limit_seconds
        return self.served and writes and reads

    @property
    def met(self) -> bool:
        """Tell whether clients were served in time, and nothing else was to be objected to."""
        return self.in_time and not self.objections

    @property
    def verdict(self) -> Verdict:
        """Return what the trial showed."""
        match worst(check.validity for check in self.checks):
            case Validity.INVALID:
                return Verdict.VIOLATED
            case Validity.UNKNOWN:
                return Verdict.UNKNOWN
            case _:
                return Verdict.PROVEN if self.met else Verdict.MISSED

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON can carry it; an outage that had not ended is null."""
        data = {**asdict(self), "verdict": str(self.verdict)}
        data["checks"] = {check.name: check.to_dict() for check in self.checks}
        data["parts"] = {part.name: part.seconds for part in self.parts}
        data["told_by"] = {part.name: part.told_by for part in self.parts}
        for key in ("write_outage_seconds", "read_outage_seconds"):
            data[key] = finite(data[key])
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> TrialResult:
        """Return the trial that ``to_dict`` gave."""
        plain = {key: value for key, value in data.items() if key not in {"verdict", "told_by"}}
        plain["checks"] = tuple(Check.from_dict(name, check) for name, check in data["checks"].items())
        plain["parts"] = tuple(
            Part(name, seconds, data["told_by"].get(name)) for name, seconds in data["parts"].items()
        )
        plain["latency"] = {
            name: None if quantiles is None else Latencies(**quantiles) for name, quantiles in data["latency"].items()
        }
        for key in ("hosts", "primary", "vip", "objections", "remarks"):
            plain[key] = tuple(data[key])
        plain["gaps"] = tuple((at, seconds) for at, seconds in data["gaps"])
        for key in ("write_outage_seconds", "read_outage_seconds"):
            plain[key] = math.inf if data[key] is None else data[key]
        return TrialResult(**plain)


def finite(seconds: float) -> float | None:
    """Return a duration for JSON: null for what had not ended."""
    return round(seconds, 4) if math.isfinite(seconds) else None


@dataclass(frozen=True)
class NotRun:
    """A fault that was asked for and not made, and why: that is no pass."""

    fault: str
    title: str
    reason: str


@dataclass(frozen=True)
class FaultSummary:
    """All trials of one fault."""

    fault: str
    title: str
    trials: tuple[TrialResult, ...]

    @property
    def outages(self) -> tuple[float, ...]:
        """Return every trial's outage of writes, in seconds."""
        return tuple(trial.write_outage_seconds for trial in self.trials)

    @property
    def median_seconds(self) -> float:
        """Return the median outage of writes."""
        return median(self.outages)

    @property
    def max_seconds(self) -> float:
        """Return the longest outage of writes."""
        return max(self.outages)

    @property
    def lost(self) -> int:
        """Return how many acknowledged writes were lost in all trials."""
        return sum(trial.lost for trial in self.trials)

    @property
    def verdict(self) -> Verdict:
        """Return the worst verdict."""
        return gravest(tuple(trial.verdict for trial in self.trials))

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON can carry it."""
        return {
            "fault": self.fault,
            "title": self.title,
            "trials": len(self.trials),
            "median_seconds": finite(self.median_seconds),
            "max_seconds": finite(self.max_seconds),
            "lost": self.lost,
            "verdict": str(self.verdict),
        }


@dataclass(frozen=True)
class RunResult:
    """A whole run. ``label`` names what was put to the proof, ``versions`` are of its programs by package.

    ``complete`` is False while it runs and when it was interrupted: nothing is proven by half a run. ``request`` is
    everything that was asked for, so that it can be gone on with.
    """

    label: str
    cluster: str
    system: str
    seed: int
    began_at: str
    asked: str
    versions: Mapping[str, str] = field(default_factory=dict)
    trials: tuple[TrialResult, ...] = ()
    not_run: tuple[NotRun, ...] = ()
    total_seconds: float = 0.0
    complete: bool = False
    request: Mapping[str, Any] = field(default_factory=dict)

    def has(self, fault: str, seed: int) -> bool:
        """Tell whether a trial was made already."""
        return any(trial.fault == fault and trial.seed == seed for trial in self.trials)

    @property
    def summary(self) -> tuple[FaultSummary, ...]:
        """Return the trials by fault, in the order in which the faults first appear."""
        order = list(dict.fromkeys(trial.fault for trial in self.trials))
        ordered = sorted(self.trials, key=lambda trial: order.index(trial.fault))
        grouped = ((fault, tuple(trials)) for fault, trials in groupby(ordered, key=lambda trial: trial.fault))
        return tuple(FaultSummary(fault, trials[0].title, trials) for fault, trials in grouped)

    @property
    def verdict(self) -> Verdict:
        """Return the worst verdict; a run that was interrupted proves nothing."""
        ended = gravest(tuple(trial.verdict for trial in self.trials))
        return ended if self.complete else gravest((ended, Verdict.UNKNOWN))

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON can carry it."""
        return {
            "verdict": str(self.verdict),
            **{key: getattr(self, key) for key in ("label", "cluster", "system", "seed", "began_at", "asked")},
            "versions": dict(self.versions),
            "summary": [each.to_dict() for each in self.summary],
            "trials": [trial.to_dict() for trial in self.trials],
            "not_run": [asdict(each) for each in self.not_run],
            "total_seconds": round(self.total_seconds, 1),
            "complete": self.complete,
            "request": dict(self.request),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> RunResult:
        """Return the run that ``to_dict`` gave."""
        plain = {key: value for key, value in data.items() if key not in {"verdict", "summary"}}
        plain["trials"] = tuple(TrialResult.from_dict(trial) for trial in data["trials"])
        plain["not_run"] = tuple(NotRun(**each) for each in data["not_run"])
        return RunResult(**plain)
