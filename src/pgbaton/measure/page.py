"""A measurement as one HTML page that needs nothing else: no script, no font, no picture from anywhere. Pure."""

from __future__ import annotations

from html import escape
from importlib import resources
from itertools import groupby
from string import Template
from typing import TYPE_CHECKING

from pgbaton import __version__
from pgbaton.measure import chart, tables
from pgbaton.measure.ways import DIRECT, NAMES, TITLES
from pgbaton.proof.reporting.markup import bullets, cell, style, table
from pgbaton.proof.reporting.words import day
from pgbaton.topology.addresses import at_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.measure.results import Result
    from pgbaton.measure.summary import Row


def render(result: Result) -> str:
    """Return the page."""
    asked = result.request
    template = Template(resources.files("pgbaton.measure").joinpath("page.html").read_text(encoding="utf-8"))
    beside = [*(() if result.complete else ("The measurement was not brought to its end.",)), *tables.beside(result)]
    return template.substitute(
        style=style() + chart.STYLE,
        title=escape(f"pgbaton bench: {result.cluster}"),
        kicker=escape(f"pgbaton bench · cluster {result.cluster} · {result.system} · {day(result.began_at)}"),
        headline=escape(headline(result.rows)),
        lead=escape(
            f"pgbench on {result.layout.client}, {asked.rounds} rounds of {asked.seconds} s for each case and path, "
            f"the paths in turn; {result.layout.primary} is primary, scale {asked.scale}."
        ),
        tiles="".join(tiles(result.rows)),
        ways=ways(result),
        cards="\n".join(cards(result.rows)),
        table=figures(result.rows),
        beside=bullets(beside) if beside else "<p>Nothing: every step was made, and no client had an error.</p>",
        footer=escape(f"pgbaton {__version__} · began {result.began_at}"),
    )


def headline(rows: Sequence[Row]) -> str:
    """Return the range of what the ways through the balancers come to, in one sentence."""
    ratios = [row.ratio for row in rows if row.way != DIRECT and row.ratio is not None]
    if not ratios:
        return "What each path carries."
    least, most = min(ratios), max(ratios)
    span = f"{least:.2f}" if round(least, 2) == round(most, 2) else f"{least:.2f} to {most:.2f}"
    return f"Through the balancers: {span} times as many transactions as directly."


def tiles(rows: Sequence[Row]) -> Iterable[str]:
    """Return the figures that matter most."""
    if rows:
        best = max(rows, key=lambda row: row.per_second)
        yield tile(f"{best.per_second:,.0f}/s", f"most: {best.way}, {best.case.words}")
    added = [row for row in rows if row.added_ms is not None and row.way != DIRECT]
    if added:
        few = min(row.case.clients for row in added)
        least = max((row for row in added if row.case.clients == few), key=lambda row: row.added_ms or 0.0)
        yield tile(f"{least.added_ms:+.3f} ms", f"median latency beside direct: {least.way}, {least.case.words}")
    yield tile(f"{sum(row.failures for row in rows):,}", "errors of clients")


def tile(value: str, words: str) -> str:
    """Return one figure."""
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(words)}</span></div>'


def ways(result: Result) -> str:
    """Return the paths: what is on each, and what clients connect to."""
    heads = [("Path", ""), ("What is on it", ""), ("Clients connect to", "")]
    rows = (
        cell(way.name) + cell(TITLES[way.name]) + cell(f"{at_port(way.address, way.port)} ({way.host})")
        for way in result.layout.ways
    )
    return table(heads, rows)


def cards(rows: Iterable[Row]) -> Iterable[str]:
    """Yield the pictures of each profile and protocol."""
    ordered = sorted(rows, key=kind)
    for (profile, protocol, connect), group in groupby(ordered, key=kind):
        of = tuple(group)
        name = f"{profile}, {protocol} protocol{', a new connection for each transaction' if connect else ''}"
        yield (
            f'<div class="card"><h3>{escape(name)}</h3>{legend(of)}'
            f'<p class="facts">Transactions a second; the thin line spans the rounds, the figure is the multiple of '
            f"direct.</p>{chart.throughput(of)}"
            f'<p class="facts">Latency: the disc is the median, the marks are the 95th and 99th percentile.</p>'
            f"{chart.latency(of)}</div>"
        )


def kind(row: Row) -> tuple[str, str, bool]:
    """Return what the rows of one picture have in common."""
    return row.case.profile, row.case.protocol, row.case.connect


def legend(rows: Sequence[Row]) -> str:
    """Return the colours of the paths."""
    names = [name for name in NAMES if any(row.way == name for row in rows)]
    items = (f'<li><i style="background:{chart.COLOURS[name]}"></i>{name}</li>' for name in names)
    return f'<ul class="legend">{"".join(items)}</ul>'


def figures(rows: Iterable[Row]) -> str:
    """Return every figure."""
    heads = [(column.head, "" if column.words else "n") for column in tables.COLUMNS]
    made = (
        "".join(cell(column.text(row), css="" if column.words else "n") for column in tables.COLUMNS) for row in rows
    )
    return table(heads, made, css="tight")
