"""What a demonstration showed, as one value: trials and history become events, an audit and a verdict. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.marks import Moment
from pgbaton.proof.outage import Span, measure
from pgbaton.proof.parts import Part, split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgbaton.proof.audit import Audit, FinalRead
    from pgbaton.proof.history import History
    from pgbaton.proof.outage import Latency, Measurement
    from pgbaton.proof.trial import Trial
    from pgbaton.topology.model import Topology
    from pgbaton.topology.prediction import Prediction, Range


class Verdict(StrEnum):
    """How a demonstration ended, the best first."""

    PASSED = "passed"
    MISSED = "missed"
    VIOLATED = "violated"


@dataclass(frozen=True)
class Event:
    """One fault, and what clients saw between it and the moment at which the cluster was whole again."""

    trial: Trial
    prediction: Prediction
    write: Measurement
    read: Measurement
    parts: tuple[Part, ...]
    lost: int

    @property
    def write_met(self) -> bool:
        """Tell whether the outage of writes stayed within what was predicted."""
        return within(self.write, self.prediction.write_seconds)

    @property
    def read_met(self) -> bool:
        """Tell whether the outage of reads stayed within what was predicted."""
        return within(self.read, self.prediction.read_seconds)

    @property
    def met(self) -> bool:
        """Tell whether both did."""
        return self.write_met and self.read_met

    @property
    def errors(self) -> int:
        """Return how many operations ended with an error at a client, reads and writes."""
        return self.write.failed + self.write.unknown + self.read.failed + self.read.unknown

    def to_dict(self) -> dict[str, Any]:
        """Return the event as JSON can carry it."""
        predicted = self.prediction.write_seconds
        return {
            "fault": self.trial.fault.name,
            "host": self.trial.host,
            "predicted_seconds": predicted.as_dict()["max"],
            "write_outage_seconds": round(self.write.seconds, 3),
            "read_outage_seconds": round(self.read.seconds, 3),
            "acknowledged": self.write.acknowledged,
            "lost": self.lost,
            "unknown": self.write.unknown,
            "errors": self.errors,
            "met": self.met,
            "predicted": {"write": predicted.as_dict(), "read": self.prediction.read_seconds.as_dict()},
            "parts": {part.name: None if part.seconds is None else round(part.seconds, 3) for part in self.parts},
            "error_classes": {"write": dict(self.write.errors), "read": dict(self.read.errors)},
            "primary": moved(self.trial, "primary"),
            "vip": moved(self.trial, "vip"),
            "gaps": [
                {"after_seconds": round(gap.begin - self.trial.injected, 3), "seconds": round(gap.seconds, 3)}
                for gap in self.write.gaps
            ],
            "write_latency_seconds": {"before": quantiles(self.write.before), "after": quantiles(self.write.after)},
            "whole_again_seconds": round(self.trial.end - self.trial.injected, 3),
            "meter_stalled_seconds": round(self.write.meter_stalled_seconds, 3),
        }


def moved(trial: Trial, role: str) -> dict[str, str | None]:
    """Return who had a role before and after."""
    return {"before": getattr(trial.before, role), "after": getattr(trial.after, role, None)}


def quantiles(latency: Latency | None) -> dict[str, float] | None:
    """Return latencies as JSON can carry them."""
    if latency is None:
        return None
    return {"median": round(latency.median, 4), "p99": round(latency.p99, 4), "longest": round(latency.longest, 4)}


def within(measured: Measurement, predicted: Range) -> bool:
    """Tell whether an outage ended, and no later than predicted at most."""
    return not measured.longest.open and measured.seconds <= predicted.maximum


@dataclass(frozen=True)
class Lane:
    """Who had a part, and when, on the meter's clock."""

    holder: str
    span: Span


@dataclass(frozen=True)
class Report:
    """A whole demonstration."""

    topology: Topology
    system: str
    events: tuple[Event, ...]
    history: History
    audit: Audit
    reads: tuple[FinalRead, ...]
    bring_up_seconds: float
    total_seconds: float

    @property
    def verdict(self) -> Verdict:
        """Return the verdict: a promise that was broken weighs more than a figure that was missed."""
        if not self.audit.consistent:
            return Verdict.VIOLATED
        return Verdict.PASSED if all(event.met for event in self.events) else Verdict.MISSED

    @property
    def span(self) -> Span:
        """Return the time that the history covers."""
        operations = self.history.operations
        return Span(min(each.start for each in operations), operations[-1].end) if operations else Span(0.0, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can carry it."""
        audited = self.audit
        return {
            "events": [event.to_dict() for event in self.events],
            "passed": self.verdict is Verdict.PASSED,
            "verdict": str(self.verdict),
            "cluster": self.topology.name,
            "audit": {
                "acknowledged": audited.acknowledged,
                "lost": len(audited.lost),
                "unknown": audited.unknown,
                "unknown_present": audited.unknown_present,
                "failed": audited.failed,
                "hosts": [each.host for each in self.reads if each.problem is None],
                "findings": list(audited.findings),
            },
            "bring_up_seconds": round(self.bring_up_seconds, 1),
            "total_seconds": round(self.total_seconds, 1),
        }


def events(
    trials: Sequence[Trial], history: History, audit: Audit, predictions: Mapping[str, Prediction]
) -> tuple[Event, ...]:
    """Measure every trial in the whole history; a lost write is laid to the trial that ended next after it."""
    lost = [0] * len(trials)
    missed = frozenset(audit.lost)
    ends = [trial.end for trial in trials]
    for write in history.of(Kind.WRITE):
        if (write.client, write.id) in missed:
            lost[min(bisect_left(ends, write.end), len(ends) - 1)] += 1
    return tuple(
        event(trial, history, trial.prediction(predictions), lost=count)
        for trial, count in zip(trials, lost, strict=True)
    )


def event(trial: Trial, history: History, prediction: Prediction, *, lost: int = 0) -> Event:
    """Measure one trial; how many writes it lost is known after the final audit alone."""
    write, read = (measure(history, kind, trial.window) for kind in (Kind.WRITE, Kind.READ))
    return Event(trial, prediction, write, read, split(write.longest, trial.expectation.parts, trial.marks), lost)


def primary_lane(history: History, topology: Topology) -> tuple[Lane, ...]:
    """Return which host acknowledged writes and when: the clients' own view of who was primary."""
    names = topology.names_by_address
    answered = [each for each in history.of(Kind.WRITE) if each.outcome is Outcome.OK and each.server]
    runs = ((server, list(run)) for server, run in groupby(answered, key=lambda each: each.server or ""))
    return tuple(Lane(names.get(server, server), Span(run[0].end, run[-1].end)) for server, run in runs)


def vip_lane(trials: Sequence[Trial], span: Span) -> tuple[Lane, ...]:
    """Return which balancer held the VIP and when, by looks before and after each trial and Keepalived's journals."""
    lanes: list[Lane] = []
    begin = span.begin
    for trial in trials:
        before, after = trial.before.vip, trial.after.vip if trial.after else None
        if before and after and after != before:
            moved = next((mark.time for mark in trial.marks if mark.moment is Moment.CLAIMED), trial.injected)
            lanes.append(Lane(before, Span(begin, trial.injected)))
            begin = moved
    if trials and trials[-1].after and (last := trials[-1].after.vip):
        lanes.append(Lane(last, Span(begin, span.end)))
    return tuple(lanes)
