"""One trial drawn over time: what clients got, who served them, what the journals say. Pure.

Everything is placed in percent, so that the picture fits any width without its text being scaled.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.marks import Moment
from pgbaton.proof.outage import Span, acknowledgements, rate
from pgbaton.proof.reporting.markup import place
from pgbaton.proof.reporting.overview import colour
from pgbaton.proof.reporting.svg import Scale, step
from pgbaton.proof.reporting.words import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.history import History
    from pgbaton.proof.story import Story

#: What can be told apart on a screen: the most buckets that a curve has.
PIXELS = 1000
BUCKET_SECONDS = 0.01
#: Height of the curves in their own units.
HEIGHT = 100
#: Acknowledgements of one server further apart than this are drawn as two stretches.
PAUSE_SECONDS = 0.1
#: Labels nearer to each other than this, in percent, would run into each other.
LABEL_PERCENT = 9.0
#: Width of a character.
CHARACTER_PERCENT = 0.75
#: A label beyond this stands to the left of its mark.
RIGHT_PERCENT = 82.0
ROUTED = re.compile(r"primary/(\S+) is UP")


@dataclass(frozen=True)
class View:
    """A stretch of time to draw; ``origin`` is the moment that is zero on its axis."""

    scale: Scale
    origin: float
    bucket_seconds: float

    @property
    def span(self) -> Span:
        """Return the stretch."""
        return self.scale.span

    def percent(self, time: float) -> float:
        """Return the place of a time."""
        return self.scale.x(time)

    def shows(self, span: Span) -> bool:
        """Tell whether anything of a stretch is to be seen."""
        return span.end >= self.span.begin and span.begin <= self.span.end


@dataclass(frozen=True)
class Stretch:
    """A time in which a host had a part."""

    host: str
    span: Span


def view(span: Span, origin: float) -> View:
    """Return a view whose buckets are a whole number of 10 ms, as many as can be told apart."""
    bucket = BUCKET_SECONDS * max(1, math.ceil(span.seconds / BUCKET_SECONDS / PIXELS))
    buckets = max(1, math.ceil(span.seconds / bucket - 1e-6))
    whole = Span(span.begin, span.begin + buckets * bucket)
    return View(Scale(whole, 0.0, 100.0), origin, bucket)


def draw(story: Story, history: History) -> str:
    """Return the whole trial, and beneath it the outage alone where it would be too small to be read."""
    whole = view(Span(min(story.window.begin, story.injected - 1.0), story.window.end), story.injected)
    close = view(around(story), story.injected)
    pictures = [chart(whole, story, history)]
    if close.span.seconds < 0.6 * whole.span.seconds:
        pictures.append('<p class="facts close">The outage from near:</p>')
        pictures.append(chart(close, story, history, parts=True))
    else:
        pictures = [chart(whole, story, history, parts=True)]
    return "\n".join(pictures)


def around(story: Story) -> Span:
    """Return the outage with something before and after it, and the fault itself when it is not far."""
    outage = story.outage
    margin = max(0.3, 0.2 * outage.seconds)
    begin = outage.begin - margin
    if 0 <= outage.begin - story.injected < 2 * outage.seconds:
        begin = min(begin, story.injected - 0.5 * margin)
    return Span(begin, outage.end + margin)


def chart(seen: View, story: Story, history: History, *, parts: bool = False) -> str:
    """Return the picture of one view."""
    rows = [
        ("", "moments", moments(seen, story)),
        *curves(seen, history),
        lane(seen, "primary", primaries(history, story, seen.span), story),
        *vips(seen, story),
        ("routing", "lane marks", routing(seen, story)),
        ("journals", "lane marks", journals(seen, story)),
    ]
    if parts:
        rows.append(("parts", "lane", spent(seen, story)))
    rows.append(("", "ticks", ticks(seen)))
    body = "".join(f'<span>{label}</span><div class="{css}">{content}</div>' for label, css, content in rows)
    return f'<div class="plot">{backdrop(seen, story)}{body}</div>'


def vips(seen: View, story: Story) -> list[tuple[str, str, str]]:
    """Return a lane for each VIP: who held it."""
    named = sorted({each.vip for each in story.holdings}) or [""]
    return [
        lane(
            seen,
            f"VIP <small>{escape(vip)}</small>" if vip else "VIP",
            [Stretch(each.host, each.span) for each in story.holdings if each.vip == vip],
            story,
        )
        for vip in named
    ]


def backdrop(seen: View, story: Story) -> str:
    """Return what lies behind all rows: the outage, and the moments of the fault."""
    drawn = "".join(place(at, css="grid-line") for at, _ in _axis(seen))
    if seen.shows(story.outage):
        left, width = seen.scale.box(story.outage, least=0.15)
        title = f"no write acknowledged for {seconds(story.outage.seconds)}"
        drawn += place(left, css="shade", width=width, title=title)
    drawn += "".join(place(seen.percent(time), css="fault-line") for time, _ in _moments(seen, story))
    return f'<div class="backdrop">{drawn}</div>'


def _moments(seen: View, story: Story) -> list[tuple[float, str]]:
    told = ((story.injected, "injected"), (story.struck, "struck"), (story.healed, "healed"))
    return [(time, name) for time, name in told if seen.span.begin <= time <= seen.span.end]


def moments(seen: View, story: Story) -> str:
    """Return the fault's moments by name; those that lie close together share a label."""
    labels: list[tuple[float, str, list[str]]] = []
    for time, name in _moments(seen, story):
        at = seen.percent(time)
        title = f"{name} {time - seen.origin:+.3f} s"
        if labels and at - labels[-1][0] < LABEL_PERCENT:
            labels[-1] = (labels[-1][0], f"{labels[-1][1]}, {name}", [*labels[-1][2], title])
        else:
            labels.append((at, name, [title]))
    return "".join(place(at, name, css=_side(at), title=", ".join(titles)) for at, name, titles in labels)


def _side(at: float) -> str:
    return "before" if at > RIGHT_PERCENT else "after"


def curves(seen: View, history: History) -> list[tuple[str, str, str]]:
    """Return the row of acknowledged writes (an area) and reads (a line) per bucket."""
    writes, reads = (
        rate(acknowledgements(history.of(kind)), seen.span, bucket_seconds=seen.bucket_seconds)
        for kind in (Kind.WRITE, Kind.READ)
    )
    most = max([*writes, *reads, 1])
    size = len(writes)
    area = f'<path class="writes" d="M0 {HEIGHT}{stepped(writes, most)}V{HEIGHT}Z"/>'
    line = f'<path class="reads" d="M0 {height(reads[0], most)}{stepped(reads, most)}"/>'
    label = f"Writes and reads acknowledged per {seen.bucket_seconds * 1000:.0f} ms"
    picture = (
        f'<svg viewBox="0 0 {size} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f"{area}{line}</svg>"
    )
    top = f"{most / seen.bucket_seconds:,.0f}/s"
    return [(f"{top}<small>per {seen.bucket_seconds * 1000:.0f} ms</small>", "pane", picture)]


def height(count: int, most: int) -> int:
    """Return the height of a count, from the top, in whole units."""
    return HEIGHT - round(count / most * (HEIGHT - 1))


def stepped(counts: Sequence[int], most: int) -> str:
    """Return the commands of a stepped curve; neighbours of the same height are one step."""
    heights = [height(each, most) for each in counts]
    return "".join(f"V{level}h{len(list(run))}" for level, run in groupby(heights))


def primaries(history: History, story: Story, span: Span) -> list[Stretch]:
    """Return who acknowledged writes and when, by the servers' own addresses; two at once are two stretches."""
    ends: dict[str, list[float]] = {}
    for operation in history.of(Kind.WRITE):
        if operation.outcome is Outcome.OK and operation.server and span.begin <= operation.end <= span.end:
            ends.setdefault(operation.server, []).append(operation.end)
    pause = max(PAUSE_SECONDS, span.seconds / PIXELS)
    return [
        Stretch(story.addresses.get(server, server), found)
        for server, times in ends.items()
        for found in merged(sorted(times), pause)
    ]


def merged(times: Sequence[float], pause: float) -> Iterable[Span]:
    """Yield stretches of times that are no further apart than a pause."""
    begin = last = None
    for time in times:
        if begin is not None and last is not None and time - last > pause:
            yield Span(begin, last)
            begin = time
        begin, last = (time if begin is None else begin), time
    if begin is not None and last is not None:
        yield Span(begin, last)


def lane(seen: View, name: str, stretches: Iterable[Stretch], story: Story) -> tuple[str, str, str]:
    """Return a row of boxes, one for each stretch; stretches of the same time lie beneath each other."""
    shown = sorted((each for each in stretches if seen.shows(each.span)), key=lambda each: each.span.begin)
    levels = layered(shown)
    depth = max(levels, default=0) + 1
    order = tuple(dict.fromkeys(story.addresses.values()))
    boxes = "".join(_box(seen, each, level, depth, order) for each, level in zip(shown, levels, strict=True))
    return name, f"lane {'twice' if depth > 1 else 'once'}", boxes


def layered(stretches: Sequence[Stretch]) -> list[int]:
    """Return for each stretch, in order of their begins, the first layer in which it overlaps with none before it."""
    ends: list[float] = []
    levels = []
    for each in stretches:
        level = next((index for index, end in enumerate(ends) if end <= each.span.begin), len(ends))
        ends[level : level + 1] = [each.span.end]
        levels.append(level)
    return levels


def _box(seen: View, stretch: Stretch, level: int, depth: int, order: Sequence[str]) -> str:
    left, width = seen.scale.box(stretch.span, least=0.15)
    number = order.index(stretch.host) % 8 if stretch.host in order else 7
    begin, end = (time - seen.origin for time in (stretch.span.begin, stretch.span.end))
    layer = f" layer-{min(level, 2)} of-{min(depth, 3)}" if depth > 1 else ""
    css = f"box host-{number}{layer}"
    return place(
        left, fitting(stretch.host, width), css=css, width=width, title=f"{stretch.host} {begin:+.3f} to {end:+.3f} s"
    )


def fitting(label: str, width: float) -> str:
    """Return a label when a box of a width in percent has room for it on a wide screen."""
    return label if width > CHARACTER_PERCENT * (len(label) + 1) else ""


def routing(seen: View, story: Story) -> str:
    """Return when balancers began to route writes, and to whom."""
    marks = [mark for mark in story.marks if mark.moment is Moment.ROUTED]
    told = ((found := ROUTED.search(mark.text)) and f"→ {found[1]}" for mark in marks)
    labelled = [
        (mark.time, text or "routed", f"{mark.host}: {mark.text}") for mark, text in zip(marks, told, strict=True)
    ]
    return _flags(seen, labelled, "routed")


def journals(seen: View, story: Story) -> str:
    """Return the other moments that journals tell of."""
    marks = [mark for mark in story.marks if mark.moment is not Moment.ROUTED]
    return _flags(seen, [(mark.time, str(mark.moment), f"{mark.host}: {mark.text}") for mark in marks], "told")


def _flags(seen: View, marks: Sequence[tuple[float, str, str]], css: str) -> str:
    """Return marks with labels; those whose labels would run into each other share one, at the last of them."""
    shown = [mark for mark in sorted(marks) if seen.span.begin <= mark[0] <= seen.span.end]
    drawn = ""
    for group in grouped([(seen.percent(time), label) for time, label, _ in shown]):
        for index in group:
            time, _, title = shown[index]
            at = seen.percent(time)
            last = index == group[-1] and at <= RIGHT_PERCENT + LABEL_PERCENT
            label = ", ".join(dict.fromkeys(shown[each][1] for each in group)) if last else ""
            drawn += place(at, label, css=css, title=f"{time - seen.origin:+.3f} s {title}")
    return drawn


def grouped(labels: Sequence[tuple[float, str]]) -> list[list[int]]:
    """Return which labels, in order of their places in percent, have to share one."""
    groups: list[list[int]] = []
    free = -1.0
    for index, (at, label) in enumerate(labels):
        if at < free:
            groups[-1].append(index)
        else:
            groups.append([index])
        together = ", ".join(dict.fromkeys(labels[each][1] for each in groups[-1]))
        free = at + CHARACTER_PERCENT * (len(together or label) + 2)
    return groups


def spent(seen: View, story: Story) -> str:
    """Return the parts of the outage, where they lie."""
    drawn, reached = "", story.outage.begin
    for part in story.parts:
        if part.seconds is None:
            continue
        left, width = seen.scale.box(Span(reached, reached + part.seconds), least=0.1)
        title = f"{part.name}: {seconds(part.seconds)}; ended by {part.told_by}"
        drawn += place(left, fitting(part.name, width), css=f"box part-{colour(part.name)}", width=width, title=title)
        reached += part.seconds
    return drawn


def _axis(seen: View) -> list[tuple[float, str]]:
    """Return the marks of the time axis, as percent and text."""
    apart = step(seen.span.seconds, most=8)
    first = math.ceil((seen.span.begin - seen.origin) / apart - 1e-6)
    last = math.floor((seen.span.end - seen.origin) / apart + 1e-6)
    return [(seen.percent(seen.origin + index * apart), f"{index * apart:g} s") for index in range(first, last + 1)]


def ticks(seen: View) -> str:
    """Return the time axis."""
    return "".join(place(at, text, css="tick") for at, text in _axis(seen))
