"""A run as lines of plain text for a terminal, each with the verdict that may colour it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from textwrap import wrap
from typing import TYPE_CHECKING

from pgbaton.proof.reporting.words import headline, lead, limit, seconds, shortcomings, worst
from pgbaton.proof.results import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgbaton.proof.results import FaultSummary, RunResult

#: Findings of one trial that are told here; the page has all.
FINDINGS = 3
#: The narrowest column of names.
LEAST_NAME = 12


class Style(StrEnum):
    """What a line is, beside what a verdict makes of it."""

    HEAD = "head"
    PLAIN = "plain"
    SOFT = "soft"


@dataclass(frozen=True)
class Line:
    """A line and its tone."""

    text: str
    tone: Verdict | Style = Style.PLAIN


@dataclass(frozen=True)
class Column:
    """A column of figures; ``wide`` ones are left out where there is no room."""

    head: str
    width: int
    text: Callable[[FaultSummary], str]
    wide: bool = False


def _known(summary: FaultSummary) -> str:
    times = [trial.whole_again_seconds for trial in summary.trials]
    return "not seen" if None in times else seconds(max(time for time in times if time is not None))


COLUMNS: tuple[Column, ...] = (
    Column("n", 2, lambda each: f"{len(each.trials)}"),
    Column("median", 8, lambda each: seconds(each.median_seconds)),
    Column("worst", 9, lambda each: seconds(each.max_seconds)),
    Column("limit", 8, lambda each: seconds(limit(each))),
    Column("reads", 9, lambda each: seconds(max(trial.read_outage_seconds for trial in each.trials)), wide=True),
    Column("lost", 4, lambda each: f"{each.lost:,}"),
    Column("unknown", 7, lambda each: f"{sum(trial.unknown for trial in each.trials):,}", wide=True),
    Column("errors", 7, lambda each: f"{sum(trial.errors for trial in each.trials):,}", wide=True),
    Column("whole", 8, _known, wide=True),
)
VERDICT_WIDTH = max(map(len, Verdict))


def lines(run: RunResult, *, width: int = 80) -> tuple[Line, ...]:
    """Return everything that the end of a run tells: table, what fell short, what was not run, the result."""
    return (
        *(table(run.summary, width=width) if run.trials else ()),
        *(line for summary in run.summary for line in findings(summary, width=width)),
        *not_run(run, width=width),
        Line(""),
        *(Line(each, run.verdict) for each in wrap(f"{headline(run)} {lead(run)}", width)),
    )


def table(summaries: Iterable[FaultSummary], *, width: int) -> Iterable[Line]:
    """Yield the head and a row for each fault."""
    rows = tuple(summaries)
    longest = max(len(each.fault) for each in rows)
    columns = COLUMNS
    if _figures(columns) + longest > width:
        columns = tuple(column for column in COLUMNS if not column.wide)
    name = max(LEAST_NAME, min(longest, width - _figures(columns)))
    heads = " ".join(f"{column.head:>{column.width}}" for column in columns)
    yield Line(f"{'Fault':<{name}} {heads} Verdict", Style.HEAD)
    for each in rows:
        cells = " ".join(f"{column.text(each):>{column.width}}" for column in columns)
        yield Line(f"{shortened(each.fault, name):<{name}} {cells} {each.verdict}", each.verdict)


def _figures(columns: Iterable[Column]) -> int:
    """Return the width of everything but the names, with a space before each."""
    return sum(column.width + 1 for column in columns) + VERDICT_WIDTH + 1


def shortened(name: str, width: int) -> str:
    """Return a name that fits."""
    return name if len(name) <= width else f"{name[: width - 1]}…"


def findings(summary: FaultSummary, *, width: int) -> Iterable[Line]:
    """Yield what keeps a fault from being proven, by its worst trial."""
    if summary.verdict is Verdict.PROVEN:
        return
    trial = worst(summary)
    told = shortcomings(trial)
    yield Line("")
    head = f"{summary.verdict}: {summary.fault}, seed {trial.seed}, struck {', '.join(trial.hosts)}"
    yield from (Line(each, summary.verdict) for each in wrap(head, width))
    more = (f"and {len(told) - FINDINGS} more",) if len(told) > FINDINGS else ()
    for sentence in (*told[:FINDINGS], *more):
        yield from (Line(each) for each in wrap(sentence, width, initial_indent="  ", subsequent_indent="    "))


def not_run(run: RunResult, *, width: int) -> Iterable[Line]:
    """Yield what was asked for and not made."""
    for number, each in enumerate(run.not_run):
        if not number:
            yield Line("")
        text = f"not run: {each.fault}: {each.reason}"
        yield from (Line(line, Style.SOFT) for line in wrap(text, width, subsequent_indent="    "))
