"""What a run came to, in words: headline, verdicts, durations. Pure."""

from __future__ import annotations

import math
from datetime import datetime
from shlex import quote
from typing import TYPE_CHECKING

from pgbaton.proof import faults
from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.faults.base import Suite
from pgbaton.proof.results import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.checkers.base import Check
    from pgbaton.proof.results import FaultSummary, RunResult, TrialResult

#: From here on a duration is told in whole seconds.
LONG_SECONDS = 100.0


def seconds(value: float | None) -> str:
    """Return a duration with the digits that matter: three under a second, else two; a dash for none."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "not ended"
    if round(value, 3) < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < LONG_SECONDS else f"{value:.0f} s"


def day(began_at: str) -> str:
    """Return when something began, for people."""
    return f"{datetime.fromisoformat(began_at):%-d %B %Y, %H:%M %Z}".strip()


def count(number: int, thing: str) -> str:
    """Return a number of things; the plural is made by an s."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def right(fault: str) -> str:
    """Return what must come of a fault; empty when the catalogue no longer has it."""
    return next((each.right for each in faults.FAULTS if each.name == fault), "")


def again(run: RunResult, fault: str, seed: int) -> str:
    """Return the command that repeats a trial; a fault that was made for its run is asked for as that was."""
    asked = run.request
    suite, minutes, schedule = (asked.get(option) for option in ("suite", "minutes", "schedule"))
    if schedule:
        return f"pgbaton prove --schedule {quote(schedule)} --seed {seed}"
    if suite is None or suite in tuple(Suite):
        return f"pgbaton prove --fault {fault} --seed {seed}"
    among = "".join(f" --fault {name}" for name in asked.get("fault", ()))
    lasting = "" if minutes is None else f" --minutes {minutes:g}"
    return f"pgbaton prove --suite {suite}{among}{lasting} --seed {seed}"


def headline(run: RunResult) -> str:
    """Return the result in one sentence."""
    lost, acknowledged = sum(trial.lost for trial in run.trials), sum(trial.acknowledged for trial in run.trials)
    made = f"{count(len(run.summary), 'fault')}, {count(len(run.trials), 'trial')}"
    kept = "none lost" if not lost else f"{lost:,} lost"
    return f"{made}, {count(acknowledged, 'acknowledged write')}, {kept}."


def lead(run: RunResult) -> str:
    """Return what the verdict means, and which faults it comes from."""
    told = {
        Verdict.PROVEN: "Proven: every check of every trial passed, and clients were served again in time.",
        Verdict.MISSED: f"Missed: every promise about data was kept, but {_missed(run)}",
        Verdict.UNKNOWN: "Not proven: a check could not be concluded",
        Verdict.VIOLATED: "Violated: the cluster broke a promise that its clients had been given",
    }[run.verdict]
    if run.verdict is Verdict.PROVEN:
        return told
    if run.verdict is Verdict.UNKNOWN and (reason := _unproven(run)) is not None:
        return reason
    titles = [each.title for each in run.summary if each.verdict is run.verdict]
    return f"{told}. Where: {listed(titles)}."


def _missed(run: RunResult) -> str:
    """Return what was missed: the time, or something else that a trial objects to."""
    late = any(not trial.in_time for trial in run.trials)
    objected = any(trial.objections for trial in run.trials)
    told = (("clients were not served in time", late), ("something else was not as it must be", objected))
    return " and ".join(text for text, seen in told if seen)


def _unproven(run: RunResult) -> str | None:
    """Return why nothing could be proven whatever the trials showed, None when a trial's check is the reason."""
    if not run.trials:
        return "Not proven: no trial was made."
    if not run.complete and all(trial.verdict is not Verdict.UNKNOWN for trial in run.trials):
        return f"Not proven: the run did not come to its end; it had made {count(len(run.trials), 'trial')}."
    return None


def listed(names: Sequence[str], *, most: int = 6) -> str:
    """Return names as a list in a sentence, cut short after ``most``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def worst(summary: FaultSummary) -> TrialResult:
    """Return the trial with the gravest verdict, and the longest outage among those."""
    order = tuple(Verdict)
    return max(summary.trials, key=lambda trial: (order.index(trial.verdict), trial.write_outage_seconds))


def typical(summary: FaultSummary) -> TrialResult:
    """Return the trial with the median outage; the longer one of the two in the middle."""
    return sorted(summary.trials, key=lambda trial: trial.write_outage_seconds)[len(summary.trials) // 2]


def limit(summary: FaultSummary) -> float | None:
    """Return the lowest limit of a fault's trials: who is struck may decide what is promised."""
    return min((trial.limit_seconds for trial in summary.trials if trial.limit_seconds is not None), default=None)


def shortcomings(trial: TrialResult) -> tuple[str, ...]:
    """Return everything that keeps a trial from being proven, as sentences."""
    return (*_late(trial), *trial.objections, *(sentence for check in trial.checks for sentence in told(check)))


def told(check: Check) -> Iterable[str]:
    """Yield a check's findings, or at least its conclusion when it is not valid and has none."""
    if check.findings:
        yield from (f"{check.name}: {finding}" for finding in check.findings)
    elif check.validity is not Validity.VALID:
        yield f"{check.name}: {check.validity}"


def _late(trial: TrialResult) -> Iterable[str]:
    outage = trial.write_outage_seconds
    if not trial.served:
        yield "outage: clients were not served again while they were watched"
    elif trial.limit_seconds is not None and outage > trial.limit_seconds:
        source = f" ({trial.limit_source})" if trial.limit_source else ""
        yield f"outage: {seconds(outage)} without an acknowledged write, limit {seconds(trial.limit_seconds)}{source}"
