"""Shapes that charts are made of, as inline SVG: plain strings, coloured by the page's own style sheet. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.outage import Span

WIDTH = 1120
LEFT, RIGHT = 76, 12
#: What marks of a time axis may be apart, in seconds.
STEPS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)


@dataclass(frozen=True)
class Scale:
    """From seconds to pixels."""

    span: Span
    left: float
    right: float

    def x(self, time: float) -> float:
        """Return the place of a time, never outside."""
        share = (time - self.span.begin) / max(self.span.seconds, 1e-9)
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

    def box(self, span: Span, *, least: float = 1.5) -> tuple[float, float]:
        """Return left edge and width of a span, wide enough to be seen."""
        left = self.x(span.begin)
        return left, max(self.x(span.end) - left, least)


def svg(height: float, content: Iterable[str], *, label: str) -> str:
    """Return an SVG picture that fills its container's width."""
    body = "\n".join(content)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">\n{body}\n</svg>'


def text(x: float, y: float, content: str, *, css: str = "label", anchor: str = "start") -> str:
    """Return a line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(content)}</text>'


def rectangle(x: float, y: float, width: float, height: float, *, css: str, title: str = "") -> str:
    """Return a rectangle with a tooltip."""
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{css}"'
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


def step(seconds: float, *, most: int) -> float:
    """Return how far marks of a time axis are apart, so that there are at most so many."""
    return next((each for each in STEPS if seconds / each <= most), 600)


def axis(scale: Scale, top: float, bottom: float, *, origin: float) -> list[str]:
    """Return the time axis, its marks in seconds since ``origin``."""
    apart = step(scale.span.seconds, most=14)
    marks = []
    index = -(-(scale.span.begin - origin) // apart)
    while (time := origin + index * apart) <= scale.span.end:
        x = scale.x(time)
        marks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" class="grid"/>')
        anchor = "end" if x > WIDTH - 3 * RIGHT else "middle"
        marks.append(text(x, bottom + 14, f"{index * apart + 0.0:g} s", anchor=anchor))
        index += 1
    return [*marks, f'<line x1="{scale.left}" x2="{scale.right}" y1="{bottom}" y2="{bottom}" class="axis"/>']


@dataclass(frozen=True)
class Plot:
    """A place for curves of counts per bucket; ``most`` is the count at its top."""

    scale: Scale
    top: float
    bottom: float
    bucket_seconds: float
    most: int

    def points(self, counts: Sequence[int]) -> str:
        """Return the corner points of a stepped curve."""
        begin = self.scale.span.begin
        corners = (
            f"{self.scale.x(begin + edge * self.bucket_seconds):.1f},{self.y(count):.1f}"
            for index, count in enumerate(counts)
            for edge in (index, index + 1)
        )
        return " ".join(corners)

    def y(self, count: int) -> float:
        """Return the height of a count."""
        return self.bottom - count / self.most * (self.bottom - self.top)

    def area(self, counts: Sequence[int]) -> str:
        """Return a filled curve, for writes."""
        ends = (f"{x:.1f},{self.bottom}" for x in (self.scale.left, self.scale.right))
        return f'<polygon class="writes" points="{next(ends)} {self.points(counts)} {next(ends)}"/>'

    def line(self, counts: Sequence[int]) -> str:
        """Return a line, for reads."""
        return f'<polyline class="reads" points="{self.points(counts)}"/>'
