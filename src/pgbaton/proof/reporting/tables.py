"""The tables of a run's page. Pure."""

from __future__ import annotations

from html import escape
from statistics import median
from typing import TYPE_CHECKING

from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.reporting.markup import badge, bullets, cell, markup_cell, table
from pgbaton.proof.reporting.words import again, limit, right, seconds, shortcomings, worst
from pgbaton.proof.results import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgbaton.proof.results import FaultSummary, Latencies, NotRun, RunResult, TrialResult

#: When latencies are taken, as a trial names it.
TIMES = ("before", "during", "after")
QUANTILES = ("median", "p95", "p99", "longest")
GLYPHS = {Validity.VALID: ("✓", "good"), Validity.UNKNOWN: ("?", "doubt"), Validity.INVALID: ("✕", "bad")}


def outcomes(summaries: Sequence[FaultSummary]) -> str:
    """Return a row for each fault: how long, what was lost, and whether that is right."""
    numeric = ("Trials", "Median", "Worst", "Limit", "Reads, worst", "Lost", "Unknown", "Errors", "Whole again")
    heads = [("Fault, and what must come of it", ""), ("Verdict", ""), *((text, "n") for text in numeric)]
    return table(heads, (outcome(each) for each in summaries), css="outcomes")


def outcome(summary: FaultSummary) -> str:
    """Return one fault's row."""
    late = any(not trial.in_time for trial in summary.trials)
    lost = summary.lost
    known = [trial.whole_again_seconds for trial in summary.trials if trial.whole_again_seconds is not None]
    whole = seconds(max(known)) if len(known) == len(summary.trials) else "not seen"
    title = f'<a href="#{escape(summary.fault)}">{escape(summary.title)}</a>'
    return "".join(
        (
            markup_cell(f"{title}<br><small>{escape(right(summary.fault) or summary.fault)}</small>"),
            markup_cell(badge(summary.verdict)),
            cell(f"{len(summary.trials)}", css="n"),
            cell(seconds(summary.median_seconds), css="n"),
            cell(seconds(summary.max_seconds), css="n bad" if late else "n"),
            cell(seconds(limit(summary)), css="n"),
            cell(seconds(max(trial.read_outage_seconds for trial in summary.trials)), css="n"),
            cell(f"{lost:,}", css="n bad" if lost else "n"),
            cell(f"{sum(trial.unknown for trial in summary.trials):,}", css="n"),
            cell(f"{sum(trial.errors for trial in summary.trials):,}", css="n"),
            cell(whole, css="n"),
        )
    )


def latencies(summaries: Sequence[FaultSummary]) -> str:
    """Return quantiles of acknowledged writes before, during and after each outage; the median of the trials."""
    heads = [("Fault", "")]
    heads += [(f"{time} {name}" if name == QUANTILES[0] else name, f"n {name}") for time in TIMES for name in QUANTILES]
    rows = (
        cell(each.title) + "".join(quantiles([trial.latency.get(time) for trial in each.trials]) for time in TIMES)
        for each in summaries
    )
    return table(heads, rows, css="tight")


def quantiles(trials: Iterable[Latencies | None]) -> str:
    """Return the cells of one time."""
    known = [each for each in trials if each is not None]
    return "".join(
        cell(seconds(median(getattr(each, name) for each in known)) if known else "-", css=f"n {name}")
        for name in QUANTILES
    )


def checks(run: RunResult) -> str:
    """Return the matrix of faults and checkers; what is not valid says in how many trials."""
    names = list(dict.fromkeys(check.name for trial in run.trials for check in trial.checks))
    heads = [("Fault", ""), *((name, "c") for name in names)]
    rows = (cell(each.title) + "".join(concluded(each, name) for name in names) for each in run.summary)
    return table(heads, rows, css="tight checks")


def concluded(summary: FaultSummary, name: str) -> str:
    """Return one checker's conclusion for one fault."""
    found = [check.validity for trial in summary.trials for check in trial.checks if check.name == name]
    if not found:
        return cell("-", css="c soft")
    gravest = max(found, key=tuple(Validity).index)
    glyph, css = GLYPHS[gravest]
    share = "" if gravest is Validity.VALID else f" {found.count(gravest)}/{len(found)}"
    return f'<td class="c {css}" title="{escape(name)}: {gravest}">{glyph}{share}</td>'


def findings(run: RunResult) -> str:
    """Return everything that keeps a trial from being proven, in full."""
    short = [trial for trial in run.trials if trial.verdict is not Verdict.PROVEN]
    if not short:
        return '<p class="facts">No checker found anything.</p>'
    return "".join(finding(trial) for trial in sorted(short, key=lambda each: -tuple(Verdict).index(each.verdict)))


def finding(trial: TrialResult) -> str:
    """Return what one trial fell short of."""
    head = f'<h3>{badge(trial.verdict)} <a href="#{escape(trial.fault)}">{escape(trial.title)}</a></h3>'
    facts = " · ".join(
        part for part in (f"seed {trial.seed}", f"struck {', '.join(trial.hosts)}", trial.folder) if part
    )
    return f'<div class="finding">{head}<p class="facts">{escape(facts)}</p>{bullets(shortcomings(trial))}</div>'


def not_run(faults: Sequence[NotRun]) -> str:
    """Return what was asked for and not made, and why."""
    if not faults:
        return '<p class="facts">Everything that was asked for was run.</p>'
    rows = (
        markup_cell(f"{escape(each.title)}<br><small>{escape(each.fault)}</small>") + cell(each.reason)
        for each in faults
    )
    return table([("Fault", ""), ("Why not", "")], rows)


def seeds(run: RunResult) -> str:
    """Return how to repeat each fault's worst trial, and the seeds of all."""
    rows = (
        markup_cell(f"<code>{escape(again(run, each.fault, worst(each).seed))}</code>")
        + markup_cell(", ".join(_seed(trial) for trial in each.trials))
        for each in run.summary
    )
    return table([("The worst trial again", ""), ("Seeds of all trials", "")], rows, css="tight")


def _seed(trial: TrialResult) -> str:
    css = {Verdict.VIOLATED: "bad", Verdict.UNKNOWN: "doubt", Verdict.MISSED: "warn"}.get(trial.verdict, "")
    place = f"{trial.verdict}, {trial.folder}" if trial.folder else str(trial.verdict)
    return f'<span class="{css}" title="{escape(place)}">{trial.seed}</span>'


def versions(packages: Mapping[str, str]) -> str:
    """Return the versions of the programs that were put to the proof."""
    if not packages:
        return '<p class="facts">No host told its versions.</p>'
    entries = "".join(f"<li>{escape(name)} <b>{escape(version)}</b></li>" for name, version in sorted(packages.items()))
    return f'<ul class="legend">{entries}</ul>'
