"""A run as one HTML page that needs nothing else: no script, no font, no picture from anywhere. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from html import escape
from string import Template
from typing import TYPE_CHECKING

from pgbaton import __version__
from pgbaton.proof.history import History
from pgbaton.proof.reporting import overview, tables, timeline
from pgbaton.proof.reporting.markup import badge, bullets, resource, style
from pgbaton.proof.reporting.words import count, day, headline, lead, right, seconds, shortcomings, worst
from pgbaton.proof.results import TrialResult, Verdict
from pgbaton.proof.story import Story

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.proof.results import FaultSummary, RunResult

StoryOf = Callable[[TrialResult], Story | None]
HistoryOf = Callable[[TrialResult], History | None]


def render(run: RunResult, story_of: StoryOf, history_of: HistoryOf) -> str:
    """Return the page; stories and histories are asked for one after another, of each fault's worst trial alone."""
    return Template(resource("page.html")).substitute(
        style=style(),
        verdict=str(run.verdict),
        title=escape(f"{run.label}: {run.verdict}"),
        kicker=escape(f"pgbaton prove · {run.label} · cluster {run.cluster} · {run.system} · {day(run.began_at)}"),
        headline=escape(headline(run)),
        lead=escape(lead(run)),
        tiles="".join(tiles(run)),
        outcomes=tables.outcomes(run.summary),
        dots=overview.dots(run),
        breakdown=overview.breakdown(run),
        cards="\n".join(card(summary, story_of, history_of) for summary in run.summary),
        latencies=tables.latencies(run.summary),
        checks=tables.checks(run),
        findings=tables.findings(run),
        not_run=tables.not_run(run.not_run),
        seeds=tables.seeds(run),
        versions=tables.versions(run.versions),
        footer=escape(
            f"pgbaton {__version__} · asked: {run.asked} · seed {run.seed} · took {seconds(run.total_seconds)}"
        ),
    )


def tiles(run: RunResult) -> Iterable[str]:
    """Return the figures that matter most."""
    lost, duplicated = (sum(getattr(trial, name) for trial in run.trials) for name in ("lost", "duplicated"))
    yield tile(f"{lost:,}", "acknowledged writes lost", good=not lost)
    if duplicated:
        yield tile(f"{duplicated:,}", "acknowledged writes there more than once", good=False)
    if (trial := overview.longest_of(run)) is not None:
        yield tile(seconds(trial.write_outage_seconds), f"longest outage of writes: {trial.title.lower()}")
    verdicts = Counter(trial.verdict for trial in run.trials)
    others = ", ".join(f"{verdicts[each]} {each}" for each in tuple(Verdict)[1:] if verdicts[each])
    yield tile(f"{verdicts[Verdict.PROVEN]} of {len(run.trials)}", f"trials proven; {others or 'none otherwise'}")
    yield tile(f"{len(run.not_run)}", "faults asked for and not run")


def tile(value: str, text: str, *, good: bool | None = None) -> str:
    """Return one figure."""
    css = {None: "", True: ' class="good"', False: ' class="bad"'}[good]
    return f'<div class="tile"><b{css}>{escape(value)}</b><span>{escape(text)}</span></div>'


def card(summary: FaultSummary, story_of: StoryOf, history_of: HistoryOf) -> str:
    """Return a fault's worst trial: what was done, what must come of it, what came of it, and the picture."""
    trial = worst(summary)
    story = story_of(trial)
    number = summary.trials.index(trial) + 1
    which = f"trial {number} of {len(summary.trials)}" if len(summary.trials) > 1 else "the only trial"
    limit = f", limit {seconds(trial.limit_seconds)}" if trial.limit_seconds is not None else ""
    title = f"{escape(summary.title)}: {seconds(trial.write_outage_seconds)} {badge(trial.verdict)}"
    told = [f"Done: {story.does}." if story else "", f"Right: {right(trial.fault)}." if right(trial.fault) else ""]
    facts = " · ".join((f"{which}, seed {trial.seed}{limit}", *described(trial)))
    return (
        f'<div class="card trial" id="{escape(summary.fault)}"><h3>{title}</h3>'
        f"<p>{escape(' '.join(filter(None, told)))}</p>"
        f'<p class="facts">{escape(facts)}</p>{complaints(trial)}{drawn(trial, story, history_of)}</div>'
    )


def complaints(trial: TrialResult) -> str:
    """Return what keeps the trial from being proven, cut short: the whole list stands further below."""
    short = shortcomings(trial) if trial.verdict is not Verdict.PROVEN else ()
    return f'<div class="short">{bullets(short[:4])}</div>' if short else ""


def drawn(trial: TrialResult, story: Story | None, history_of: HistoryOf) -> str:
    """Return the picture, or why there is none."""
    history = history_of(trial) if story else None
    if story is None or history is None:
        return f'<p class="facts">No picture: its own files are not in {escape(trial.folder or "the run")}.</p>'
    return timeline.draw(story, history)


def described(trial: TrialResult) -> Iterable[str]:
    """Return what happened to roles, clients and the cluster."""
    yield f"struck {', '.join(trial.hosts)}"
    for name, (before, after) in (("primary", trial.primary), ("VIP", trial.vip)):
        if before and after and before != after:
            yield f"{name} {before} → {after}"
    yield f"reads out for {seconds(trial.read_outage_seconds)}"
    if trial.clients:
        slowest = max(trial.clients, key=lambda client: trial.clients[client])
        yield f"longest for a single client {seconds(trial.clients[slowest])} ({slowest})"
    further = [f"{seconds(length)} at {at:+.1f} s" for at, length in trial.gaps]
    if further:
        yield f"further stalls: {', '.join(further[:4])}" + (f" and {len(further) - 4} more" if further[4:] else "")
    again = trial.whole_again_seconds
    yield "the cluster was not seen whole again" if again is None else f"cluster whole again after {seconds(again)}"
    yield f"{trial.operations_per_second:,.0f} operations/s"
    if trial.error_classes:
        classes = sorted(trial.error_classes.items(), key=lambda each: -each[1])
        yield f"{count(trial.errors, 'error')}: " + ", ".join(f"{number:,} {name}" for name, number in classes[:4])
    if trial.meter_stalled_seconds:
        yield f"meter not scheduled for {seconds(trial.meter_stalled_seconds)} of the outage"
    yield from trial.remarks
