"""Pictures of a measurement: transactions a second and latencies, side by side for each way. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from pgbaton.measure import axes
from pgbaton.measure.ways import NAMES
from pgbaton.proof.reporting.svg import LEFT, RIGHT, WIDTH, rectangle, text
from pgbaton.proof.reporting.svg import svg as picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pgbaton.measure.axes import Linear, Logarithmic
    from pgbaton.measure.summary import Row

TOP, BOTTOM = 24.0, 236.0
HEIGHT = BOTTOM + 42
#: The share of a group's width that its bars take, and the widest bar in pixels.
FILLED = 0.78
WIDEST = 54.0
#: A bar that is narrower than this has no room for its figure.
NARROWEST_LABELLED = 26.0
TINIEST_MS = 0.001
#: Room for the title of a picture that stands alone.
RAISED = 14.0
#: Colours of the ways, good on light and on dark paper; and all else that a picture needs where it stands alone.
COLOURS = {"direct": "#8a94a6", "pooler": "#7c56c9", "balancer": "#2f6fde", "vip": "#0e9384"}
STYLE = "\n".join(f".way-{name} {{ fill: {colour}; stroke: {colour}; }}" for name, colour in COLOURS.items())
ALONE = """
svg { background: #ffffff; } text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #5d6878; stroke: none; }
.grid { stroke: #e2e4e8; } .axis { stroke: #5d6878; } .whisker { stroke: #1b2330; }
.title { font-weight: 600; fill: #1b2330; }
"""


@dataclass(frozen=True)
class Slot:
    """The place of one way's figures beside others': its middle and its width in pixels."""

    row: Row
    middle: float
    width: float


def throughput(rows: Sequence[Row]) -> str:
    """Return transactions a second as bars, with the spread of the rounds and the multiple of the direct way."""
    scale = axes.linear(max(max(row.rounds) for row in rows), top=TOP, bottom=BOTTOM)
    content = [
        *grid(scale, lambda value: f"{value:,.0f}/s" if value else "0"),
        *(line for slot in slots(rows) for line in bar(scale, slot)),
        *groups(rows),
        baseline(),
    ]
    return picture(HEIGHT, content, label="Transactions a second by number of clients")


def bar(scale: Linear, slot: Slot) -> list[str]:
    """Return one bar."""
    row, left = slot.row, slot.middle - slot.width / 2
    y = scale.y(row.per_second)
    title = f"{row.way}: {row.per_second:,.0f}/s" + (f", {row.ratio:.2f} of direct" if row.ratio is not None else "")
    drawn = [
        rectangle(left, y, slot.width, BOTTOM - y, css=f"way-{row.way}", title=title),
        whisker(slot.middle, scale.y(max(row.rounds)), scale.y(min(row.rounds))),
    ]
    if row.ratio is not None and row.way != NAMES[0] and slot.width >= NARROWEST_LABELLED:
        drawn.append(text(slot.middle, scale.y(max(row.rounds)) - 5, f"{row.ratio:.2f}", anchor="middle"))
    return drawn


def latency(rows: Sequence[Row]) -> str:
    """Return medians as discs, and a line from each to the 99th percentile with a mark at the 95th."""
    measured = [row for row in rows if row.latencies.total]
    if not measured:
        return ""
    every = [milliseconds(row, name) for row in measured for name in ("median", "p99")]
    scale = axes.logarithmic(every, top=TOP, bottom=BOTTOM)
    content = [
        *grid(scale, lambda value: f"{value:g} ms"),
        *(line for slot in slots(measured) for line in mark(scale, slot)),
        *groups(measured),
        baseline(),
    ]
    return picture(HEIGHT, content, label="Latencies by number of clients")


def milliseconds(row: Row, name: str) -> float:
    """Return a quantile that a logarithmic axis has a place for."""
    return max(row.milliseconds(name) or 0.0, TINIEST_MS)


def mark(scale: Logarithmic, slot: Slot) -> list[str]:
    """Return one way's latencies."""
    row, x = slot.row, slot.middle
    middle, p95, p99 = (scale.y(milliseconds(row, name)) for name in ("median", "p95", "p99"))
    told = ", ".join(f"{name} {row.milliseconds(name):.3g} ms" for name in ("median", "p95", "p99"))
    css, tip = f"way-{row.way}", f"<title>{escape(f'{row.way}: {told}')}</title>"
    return [
        f'<g class="{css}" stroke-width="2"><line x1="{x:.1f}" x2="{x:.1f}" y1="{middle:.1f}" y2="{p99:.1f}"/>',
        *(f'<line x1="{x - 5:.1f}" x2="{x + 5:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>' for y in (p95, p99)),
        f'<circle cx="{x:.1f}" cy="{middle:.1f}" r="4.5">{tip}</circle></g>',
    ]


def slots(rows: Sequence[Row]) -> Iterable[Slot]:
    """Yield a place for each row: those of as many clients side by side, the ways always in the same order."""
    counts, ways = clients(rows), [way for way in NAMES if any(row.way == way for row in rows)]
    room = (WIDTH - LEFT - RIGHT) / len(counts)
    width = min(room * FILLED / len(ways), WIDEST)
    for row in rows:
        centre = LEFT + room * (counts.index(row.case.clients) + 0.5)
        yield Slot(row, centre + (ways.index(row.way) - (len(ways) - 1) / 2) * width, width - 2)


def clients(rows: Iterable[Row]) -> list[int]:
    """Return the numbers of clients that occur, in order."""
    return sorted({row.case.clients for row in rows})


def groups(rows: Sequence[Row]) -> Iterable[str]:
    """Yield the number of clients under each group."""
    counts = clients(rows)
    room = (WIDTH - LEFT - RIGHT) / len(counts)
    for index, count in enumerate(counts):
        words = "1 client" if count == 1 else f"{count:,} clients"
        yield text(LEFT + room * (index + 0.5), BOTTOM + 20, words, anchor="middle")


def grid(scale: Linear | Logarithmic, words: Callable[[float], str]) -> Iterable[str]:
    """Yield the lines across, each with its figure."""
    for value in scale.ticks:
        y = scale.y(value)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        yield text(LEFT - 8, y + 4, words(value), anchor="end")


def baseline() -> str:
    """Return the line at the bottom."""
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}" class="axis"/>'


def whisker(x: float, top: float, bottom: float) -> str:
    """Return the span of the rounds."""
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" class="whisker"/>'


def alone(svg: str, title: str, ways: Iterable[str]) -> str:
    """Return a picture as a file of its own, with its colours, its title and what the colours mean."""
    head, x = [text(LEFT, 16, title, css="title")], float(WIDTH - RIGHT)
    for way in reversed([name for name in NAMES if name in set(ways)]):
        x -= 8 * len(way) + 30
        head += [rectangle(x, 6, 11, 11, css=f"way-{way}"), text(x + 17, 16, way)]
    body = svg[svg.index(">") + 1 : svg.rindex("</svg>")]
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + RAISED:g}">'
    moved = f'<g transform="translate(0 {RAISED:g})">{body}</g>'
    return f"{opening}\n<style>{STYLE}{ALONE}</style>\n{''.join(head)}\n{moved}\n</svg>\n"
