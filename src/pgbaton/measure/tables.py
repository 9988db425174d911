"""A measurement as lines of plain text for a terminal. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from pgbaton.measure.pgbench import told
from pgbaton.proof.reporting.text import Line, Style
from pgbaton.proof.results import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgbaton.measure.results import Result
    from pgbaton.measure.summary import Row


@dataclass(frozen=True)
class Column:
    """A column; words stand on the left of theirs, figures on the right."""

    head: str
    text: Callable[[Row], str]
    words: bool = False


COLUMNS = (
    Column("Profile", lambda row: row.case.profile, words=True),
    Column("Protocol", lambda row: row.case.protocol, words=True),
    Column("Clients", lambda row: f"{row.case.clients:,}"),
    Column("Path", lambda row: row.way, words=True),
    Column("Trans./s", lambda row: pace(row.per_second)),
    Column("Of direct", lambda row: "-" if row.ratio is None else f"{row.ratio:.2f}"),
    Column("Median ms", lambda row: milliseconds(row.milliseconds("median"))),
    Column("p95", lambda row: milliseconds(row.milliseconds("p95"))),
    Column("p99", lambda row: milliseconds(row.milliseconds("p99"))),
    Column("Errors", lambda row: f"{row.failures:,}"),
)


def pace(per_second: float) -> str:
    """Return transactions a second, with the digits that matter."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"  # noqa: PLR2004 - two digits


def milliseconds(value: float | None) -> str:
    """Return a latency with three digits, or all that it has before the point; a dash for none."""
    if value is None:
        return "-"
    decimals = next((places for places, below in ((3, 1), (2, 10), (1, 100)) if value < below), 0)
    return f"{value:,.{decimals}f}"


def lines(result: Result, *, width: int = 80) -> tuple[Line, ...]:
    """Return the table, and what has to be known beside it."""
    notes = (each for said in beside(result) for each in wrap(said, width, subsequent_indent="    "))
    return (*table(result.rows), *(Line(each, Style.SOFT) for each in notes))


def table(rows: Iterable[Row]) -> Iterable[Line]:
    """Yield the head and a line for each row; one with errors stands out."""
    made = tuple(rows)
    cells = [[column.text(row) for column in COLUMNS] for row in made]
    if not made:
        return
    widths = [max(len(column.head), *(len(line[index]) for line in cells)) for index, column in enumerate(COLUMNS)]
    yield Line(aligned([column.head for column in COLUMNS], widths), Style.HEAD)
    for row, line in zip(made, cells, strict=True):
        yield Line(aligned(line, widths), Verdict.VIOLATED if row.failures else Style.PLAIN)


def aligned(cells: Iterable[str], widths: Iterable[int]) -> str:
    """Return cells as one line."""
    placed = (
        f"{cell:<{width}}" if column.words else f"{cell:>{width}}"
        for cell, width, column in zip(cells, widths, COLUMNS, strict=True)
    )
    return "  ".join(placed).rstrip()


def beside(result: Result) -> Iterable[str]:
    """Yield what was not measured, what clients complained of, and what has to be known of the ways."""
    for row in result.rows:
        for line in told(row.errors):
            yield f"{row.way}, {row.case.words}: {line}"
    for each in result.not_run:
        yield f"not measured: {each.way}, {each.case.words}: {each.reason}"
    for remark in result.remarks:
        yield f"note: {remark}"
