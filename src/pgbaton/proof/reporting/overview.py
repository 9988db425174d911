"""Pictures of all faults at once: every trial's outage as a dot, and what the typical outage was spent on. Pure."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from pgbaton.proof.parts import BALANCER_PARTS, LAST_PART, PRIMARY_PARTS, SWITCHOVER_PARTS
from pgbaton.proof.reporting.markup import place
from pgbaton.proof.reporting.words import limit, seconds, typical, worst
from pgbaton.proof.results import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.parts import Part
    from pgbaton.proof.results import FaultSummary, RunResult, TrialResult

#: The ends of the logarithmic axis; what lies beyond is drawn at its edge.
LEAST_SECONDS, MOST_SECONDS = 0.01, 120.0
DECADES = (0.01, 0.1, 1.0, 10.0, 120.0)
#: Parts have colours of their own, the same in every picture.
PART_NAMES = tuple(
    dict.fromkeys([name for name, _ in (*PRIMARY_PARTS, *SWITCHOVER_PARTS, *BALANCER_PARTS)] + [LAST_PART])
)
COLOURS = 8


def position(outage_seconds: float) -> float:
    """Return where an outage lies on the logarithmic axis, in percent; what never ended lies at its end."""
    inside = min(max(outage_seconds, LEAST_SECONDS), MOST_SECONDS)
    return 100 * math.log(inside / LEAST_SECONDS) / math.log(MOST_SECONDS / LEAST_SECONDS)


def dots(run: RunResult) -> str:
    """Return the plot of all outages of writes."""
    ticks = "".join(place(position(each), short(each), css="tick") for each in DECADES)
    lines = "".join(place(position(each), css="line") for each in DECADES)
    axis = f'<div class="row axis"><span></span><div class="track">{ticks}</div><span></span></div>'
    rows = "".join(dots_of(summary, lines) for summary in run.summary)
    return f'<div class="dots">{axis}{rows}{axis}</div>'


def dots_of(summary: FaultSummary, lines: str) -> str:
    """Return one fault's row."""
    promised = limit(summary)
    drawn = "" if promised is None else place(position(promised), css="limit", title=f"limit {seconds(promised)}")
    drawn += "".join(dot(trial, index, len(summary.trials)) for index, trial in enumerate(summary.trials))
    name = f'<a href="#{escape(summary.fault)}">{escape(summary.title)}</a>'
    return f'<div class="row">{name}<div class="track">{lines}{drawn}</div><b>{seconds(summary.max_seconds)}</b></div>'


def dot(trial: TrialResult, index: int, of: int) -> str:
    """Return a trial's mark; trials of one fault are set a little apart, so that equal ones are all seen."""
    outage = trial.write_outage_seconds
    ended = math.isfinite(outage) and trial.served
    shape = "dot" if ended else "dot unended"
    row = f"row-{index % 3}" if of > 1 else "row-1"
    title = f"seed {trial.seed}: {seconds(outage)}, {trial.verdict}"
    return place(position(outage if ended else math.inf), css=f"{shape} {row} {trial.verdict}", title=title)


def short(value: float) -> str:
    """Return a round duration for an axis."""
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def colour(part: str) -> int:
    """Return the number of a part's colour."""
    return PART_NAMES.index(part) % COLOURS if part in PART_NAMES else sum(map(ord, part)) % COLOURS


def breakdown(run: RunResult) -> str:
    """Return bars of what each fault's typical outage was spent on; faults that no journal tells of have none."""
    told = [(summary, trial) for summary in run.summary if known((trial := typical(summary)).parts)]
    if not told:
        return '<p class="facts">No journal told what an outage was made of.</p>'
    longest = max(total(trial.parts) for _, trial in told)
    rows = "".join(bar(summary, trial, longest) for summary, trial in told)
    left_out = len(run.summary) - len(told)
    rest = f'<p class="facts">Not drawn: {left_out} of which no journal tells the parts.</p>' if left_out else ""
    return f'{legend(told)}<div class="dots">{rows}</div>{rest}'


def known(parts: Sequence[Part]) -> bool:
    """Tell whether any part but the last, which is the rest, is known."""
    return any(part.seconds is not None and part.name != LAST_PART for part in parts)


def total(parts: Iterable[Part]) -> float:
    """Return the length of all known parts."""
    return sum(part.seconds or 0.0 for part in parts)


def bar(summary: FaultSummary, trial: TrialResult, longest: float) -> str:
    """Return one fault's bar, on an axis that all share."""
    drawn, reached = "", 0.0
    for part in trial.parts:
        if part.seconds is None:
            continue
        left, width = (100 * each / max(longest, 1e-9) for each in (reached, part.seconds))
        title = f"{part.name}: {seconds(part.seconds)}; ended by {part.told_by}"
        drawn += place(left, css=f"box part-{colour(part.name)}", width=width, title=title)
        reached += part.seconds
    name = f'<a href="#{escape(summary.fault)}">{escape(summary.title)}</a>'
    return f'<div class="row">{name}<div class="track">{drawn}</div><b>{seconds(reached)}</b></div>'


def legend(told: Iterable[tuple[FaultSummary, TrialResult]]) -> str:
    """Return the colours of the parts that occur."""
    names = {part.name for _, trial in told for part in trial.parts if part.seconds is not None}
    ordered = sorted(names, key=lambda name: (PART_NAMES.index(name) if name in PART_NAMES else COLOURS, name))
    entries = (f'<li><i class="part-{colour(name)}"></i>{escape(name)}</li>' for name in ordered)
    return f'<ul class="legend">{"".join(entries)}</ul>'


def longest_of(run: RunResult) -> TrialResult | None:
    """Return the trial with the longest outage of all."""
    return max(run.trials, key=lambda trial: trial.write_outage_seconds, default=None)


def unended(run: RunResult) -> int:
    """Return in how many trials clients were not served again."""
    return sum(not trial.served or math.isinf(trial.write_outage_seconds) for trial in run.trials)


def missed(run: RunResult) -> tuple[TrialResult, ...]:
    """Return the worst trial of each fault that is not proven."""
    return tuple(worst(summary) for summary in run.summary if summary.verdict is not Verdict.PROVEN)
