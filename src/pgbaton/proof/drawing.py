"""Charts of a report as inline SVG: plain strings, coloured by the page's own style sheet. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pgbaton.proof.history import Kind
from pgbaton.proof.outage import Span, acknowledgements, rate
from pgbaton.proof.report import primary_lane, vip_lane
from pgbaton.proof.reporting.svg import LEFT, RIGHT, WIDTH, Plot, Scale, axis, rectangle, svg, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.parts import Part
    from pgbaton.proof.report import Event, Lane, Report

LANE_HEIGHT = 20
#: A label is left out of a box that is narrower than this per character, in pixels.
CHARACTER = 7.0
PART_COLOURS = 5


def timeline(report: Report, *, bucket_seconds: float = 0.1) -> str:
    """Return the whole run: acknowledgements per bucket, faults, outages, and who was primary and held the VIP."""
    span = report.span
    scale = Scale(span, LEFT, WIDTH - RIGHT)
    top, bottom = 34.0, 190.0
    content = [
        *axis(scale, top, bottom, origin=span.begin),
        *(outage(scale, event, top, bottom) for event in report.events),
        *curves(report, scale, top, bottom, bucket_seconds=bucket_seconds),
        *(line for number, event in enumerate(report.events, 1) for line in flag(scale, number, event, top, bottom)),
        *lane(scale, "primary", primary_lane(report.history, report.topology), bottom + 30, hosts(report)),
        *lane(scale, "VIP", vip_lane([event.trial for event in report.events], span), bottom + 56, hosts(report)),
    ]
    return svg(bottom + 84, content, label="Acknowledged writes and reads over the whole run")


def hosts(report: Report) -> list[str]:
    """Return the names of all hosts, whose places are their colours."""
    return [host.name for host in report.topology.hosts]


def curves(report: Report, scale: Scale, top: float, bottom: float, *, bucket_seconds: float) -> list[str]:
    """Return writes and reads acknowledged per bucket, with the figure that the top stands for."""
    writes, reads = (
        rate(acknowledgements(report.history.of(kind)), scale.span, bucket_seconds=bucket_seconds)
        for kind in (Kind.WRITE, Kind.READ)
    )
    plot = Plot(scale, top, bottom, bucket_seconds, max([*writes, *reads, 1]))
    return [
        plot.area(writes),
        plot.line(reads),
        text(LEFT - 8, top + 8, f"{plot.most / bucket_seconds:,.0f}/s", anchor="end"),
        text(LEFT - 8, bottom, "0", anchor="end"),
    ]


def outage(scale: Scale, event: Event, top: float, bottom: float) -> str:
    """Return the shade over an outage of writes."""
    x, width = scale.box(event.write.longest)
    title = f"no write acknowledged for {event.write.seconds:.3f} s"
    return rectangle(x, top, width, bottom - top, css="outage", title=title)


def flag(scale: Scale, number: int, event: Event, top: float, bottom: float) -> list[str]:
    """Return the mark of a fault: its number over a line."""
    x = scale.x(event.trial.injected)
    title = f"<title>{escape(event.trial.fault.title)}</title>"
    return [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 8}" y2="{bottom}" class="fault"/>',
        f'<circle cx="{x:.1f}" cy="{top - 18:.1f}" r="10" class="flag">{title}</circle>',
        text(x, top - 14, str(number), css="number", anchor="middle"),
    ]


def lane(scale: Scale, name: str, lanes: Iterable[Lane], y: float, order: Sequence[str]) -> list[str]:
    """Return a row of boxes, one for each time in which a host had a part."""
    drawn = [text(LEFT - 8, y + LANE_HEIGHT - 6, name, anchor="end")]
    for each in lanes:
        x, width = scale.box(each.span)
        colour = order.index(each.holder) if each.holder in order else 0
        drawn.append(rectangle(x, y, width, LANE_HEIGHT, css=f"host host-{colour % 8}", title=each.holder))
        if width > CHARACTER * len(each.holder) + 6:
            drawn.append(text(x + 6, y + LANE_HEIGHT - 6, each.holder, css="inside"))
    return drawn


def closeup(report: Report, event: Event) -> str:
    """Return one outage from just before to just after, with its parts under it."""
    gap = event.write.longest
    margin = max(0.6, 0.12 * gap.seconds)
    span = Span(gap.begin - margin, gap.end + 1.5 * margin)
    scale = Scale(span, LEFT, WIDTH - RIGHT)
    top, bottom = 12.0, 110.0
    content = [
        *axis(scale, top, bottom, origin=event.trial.injected),
        outage(scale, event, top, bottom),
        *curves(report, scale, top, bottom, bucket_seconds=max(0.01, span.seconds / 150)),
        *parts(scale, event.parts, gap.begin, bottom + 26),
    ]
    return svg(bottom + 52, content, label=f"{event.trial.fault.title}: acknowledgements around the outage")


def parts(scale: Scale, split: Sequence[Part], begin: float, y: float) -> list[str]:
    """Return the parts of an outage as boxes on its time axis."""
    drawn = [text(LEFT - 8, y + LANE_HEIGHT - 6, "parts", anchor="end")]
    for index, part in enumerate(split):
        if part.seconds is None:
            continue
        x, width = scale.box(Span(begin, begin + part.seconds))
        title = f"{part.name}: {part.seconds:.3f} s — ended by {part.told_by}"
        drawn.append(rectangle(x, y, width, LANE_HEIGHT, css=f"part-{index % PART_COLOURS}", title=title))
        if width > CHARACTER * len(part.name) + 6:
            drawn.append(text(x + 6, y + LANE_HEIGHT - 6, part.name, css="inside"))
        begin += part.seconds
    return drawn
