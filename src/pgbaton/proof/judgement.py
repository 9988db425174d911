"""From a trial, its history and its checks to a result. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.history import Kind
from pgbaton.proof.outage import measure
from pgbaton.proof.parts import split
from pgbaton.proof.results import Latencies, TrialResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgbaton.proof.faults.base import Fault
    from pgbaton.proof.history import History
    from pgbaton.proof.outage import Latency, Measurement
    from pgbaton.proof.trial import Trial
    from pgbaton.topology.prediction import Prediction, Range

#: The class of errors with which PostgreSQL ends a transaction that another one got in the way of.
SERIALIZATION_FAILURE = "40001"


@dataclass(frozen=True)
class Objectives:
    """What the user asks for: the longest outage of writes in seconds, None for what is predicted; losses allowed."""

    max_outage_seconds: float | None = None
    max_lost: int = 0


@dataclass(frozen=True)
class Limits:
    """The longest outages that count as kept, in seconds, None where nothing is promised; and whose word that is."""

    write_seconds: float | None = None
    read_seconds: float | None = None
    source: str = ""


def limits(done: Trial, objectives: Objectives, predictions: Mapping[str, Prediction]) -> Limits:
    """Return what a trial is measured against: the user's word, else the budget's, else the fault's own."""
    expected = done.expectation
    if objectives.max_outage_seconds is not None:
        return Limits(objectives.max_outage_seconds, None, "--max-outage")
    if expected.budget is not None:
        prediction = predictions[expected.budget]
        return Limits(bound(prediction.write_seconds), bound(prediction.read_seconds), f"budget: {expected.budget}")
    if expected.limit_seconds is not None:
        return Limits(expected.limit_seconds, None, "the fault's own bound")
    return Limits()


def bound(predicted: Range) -> float | None:
    """Return the longest that is predicted, None for what only a repair ends.

    What is predicted to be none is measured from one acknowledgement to the next, so the clients' pace is in it.
    """
    return max(predicted.maximum, 0.25) if predicted.ends else None


def tolerated(fault: Fault, objectives: Objectives, checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return the checks, with those excused that the fault breaks by its nature, or the user allows to be broken."""
    return tuple(
        excuse(check, reason) if (reason := excuse_for(fault, objectives, check)) else check for check in checks
    )


def excuse_for(fault: Fault, objectives: Objectives, check: Check) -> str | None:
    """Return why an invalid check does not count, None when it does."""
    if check.validity is not Validity.INVALID:
        return None
    if check.name in fault.tolerates:
        return fault.tolerates[check.name]
    only_lost = check.name == "writes" and check.figures.get("lost") == check.figures.get("wrong")
    if only_lost and 0 < check.figures["lost"] <= objectives.max_lost:
        return f"--max-lost {objectives.max_lost} allows it"
    return None


def excuse(check: Check, reason: str) -> Check:
    """Return a check that counts as valid for a reason, which is told with what was found."""
    return replace(check, validity=Validity.VALID, findings=(f"tolerated: {reason}", *check.findings))


def judge(
    done: Trial,
    history: History,
    checks: Sequence[Check],
    *,
    seed: int,
    objectives: Objectives,
    predictions: Mapping[str, Prediction],
) -> TrialResult:
    """Measure a trial and put everything known of it together."""
    write, read = (measure(history, kind, done.window) for kind in (Kind.WRITE, Kind.READ))
    allowed = limits(done, objectives, predictions)
    figures = next((check.figures for check in checks if check.name == "writes"), {})
    queries = measure(history, Kind.QUERY, done.window)
    return TrialResult(
        fault=done.fault.name,
        title=done.fault.title,
        seed=seed,
        hosts=done.hosts,
        began_at="",
        write_outage_seconds=outage(write),
        read_outage_seconds=outage(read),
        acknowledged=write.acknowledged,
        lost=figures.get("lost", 0),
        duplicated=figures.get("duplicated", 0),
        unknown=write.unknown,
        errors=errors(write, queries, read),
        checks=tolerated(done.fault, objectives, checks),
        parts=split(write.longest, done.expectation.parts, done.marks),
        limit_seconds=allowed.write_seconds,
        read_limit_seconds=allowed.read_seconds,
        limit_source=allowed.source,
        served=done.kept_service,
        error_classes={**write.errors, **{f"read: {name}": count for name, count in read.errors.items()}},
        clients={name: round(gap.seconds, 4) for name, gap in {**write.clients, **read.clients}.items()},
        latency={"before": latencies(write.before), "during": latencies(write.during), "after": latencies(write.after)},
        primary=(done.before.primary, done.after.primary if done.after else None),
        vip=(done.before.vip, done.after.vip if done.after else None),
        gaps=tuple(
            (round(gap.begin - done.injected, 3), round(gap.seconds, 3)) for gap in write.gaps if gap != write.longest
        ),
        operations_per_second=round(rate(history), 1),
        whole_again_seconds=round(done.end - done.injected, 2) if done.after else None,
        meter_stalled_seconds=round(write.meter_stalled_seconds, 4),
        objections=(*false_alarm(done), *done.objections),
        remarks=(*done.remarks, *slow_queries(queries)),
    )


def false_alarm(done: Trial) -> tuple[str, ...]:
    """Tell of a failover that nothing called for."""
    if not done.expectation.keeps_primary or done.after is None or done.after.primary == done.before.primary:
        return ()
    return (f"the primary moved from {done.before.primary} to {done.after.primary}, which nothing called for",)


def errors(*measured: Measurement) -> int:
    """Return how many operations ended with an error that is none of the client's own making.

    Serializable transactions that get in each other's way fail in calm as well: they are no sign of an outage.
    """
    return sum(each.failed + each.unknown - each.errors.get(SERIALIZATION_FAILURE, 0) for each in measured)


def rate(history: History) -> float:
    """Return how many operations a second were recorded over the whole history."""
    if not history.operations:
        return 0.0
    begin = min(operation.start for operation in history.operations)
    return len(history.operations) / max(history.operations[-1].end - begin, 1e-9)


def outage(measured: Measurement) -> float:
    """Return an outage in seconds, infinite when it had not ended."""
    return math.inf if measured.longest.open and measured.seconds > 1.0 else round(measured.seconds, 4)


def slow_queries(queries: Measurement) -> tuple[str, ...]:
    """Tell of an outage of reads on the port for writes, which is nobody's objective and yet worth knowing."""
    if queries.acknowledged == 0 or queries.seconds < 1.0:
        return ()
    return (f"reads on the port for writes: none answered for {queries.seconds:.2f} s",)


def latencies(latency: Latency | None) -> Latencies | None:
    """Return quantiles as results have them."""
    if latency is None:
        return None
    return Latencies(*(round(each, 5) for each in (latency.median, latency.p95, latency.p99, latency.longest)))


def failed(fault: Fault, seed: int, reason: str, *, began_at: str) -> TrialResult:
    """Return the result of a trial that could not be brought to its end: nothing is known, which is no pass."""
    return TrialResult(
        fault=fault.name,
        title=fault.title,
        seed=seed,
        hosts=(),
        began_at=began_at,
        write_outage_seconds=math.inf,
        read_outage_seconds=math.inf,
        acknowledged=0,
        lost=0,
        duplicated=0,
        unknown=0,
        errors=0,
        checks=(Check("trial", Validity.UNKNOWN, (reason,)),),
        served=False,
    )


def told(result: TrialResult) -> str:
    """Return what one trial came to, in a few lines."""
    if not result.acknowledged:
        return f"{result.verdict}: {result.checks[0].findings[0]}"
    limit = "" if result.limit_seconds is None else f" (at most {result.limit_seconds:.2f} s)"
    writes, reads = seconds(result.write_outage_seconds), seconds(result.read_outage_seconds)
    stood = f"no writes for {writes}{limit}, no reads for {reads}"
    counted = (
        f"{result.acknowledged:,} writes acknowledged, {result.lost:,} lost, {result.unknown:,} of unknown outcome, "
        f"{result.errors:,} errors"
    )
    wrong = [
        f"{check.name} {check.validity}: {'; '.join(check.findings[:2])}"
        for check in result.checks
        if check.validity is not Validity.VALID
    ]
    return "\n".join([f"{result.verdict}: {stood}", counted, *wrong, *result.objections, *result.remarks])


def seconds(value: float) -> str:
    """Return a duration, or that it had no end."""
    return f"{value:.2f} s" if math.isfinite(value) else "longer than was waited"
