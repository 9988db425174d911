"""A report as one HTML page that needs nothing else: no script, no font, no picture from anywhere. Pure."""

from __future__ import annotations

from collections import Counter
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from pgbaton import __version__
from pgbaton.proof import drawing, picture
from pgbaton.proof.report import Verdict
from pgbaton.proof.reporting.markup import style
from pgbaton.proof.reporting.words import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.audit import FinalRead
    from pgbaton.proof.outage import Measurement
    from pgbaton.proof.parts import Part
    from pgbaton.proof.report import Event, Report
    from pgbaton.topology.prediction import Range

#: A stall besides the outage itself is told of from this length.
NOTABLE_SECONDS = 0.25


def render(report: Report, *, finished: str) -> str:
    """Return the page; ``finished`` is the date and time to print on it."""
    template = Template(resources.files("pgbaton.proof").joinpath("page.html").read_text(encoding="utf-8"))
    first = report.events[0].trial.before
    return template.substitute(
        style=style(),
        verdict=str(report.verdict),
        kicker=escape(f"pgbaton demo · cluster {report.topology.name} · {report.system} · {finished}"),
        headline=escape(headline(report)),
        lead=escape(lead(report)),
        tiles="".join(tiles(report)),
        findings=findings(report.audit.findings),
        table=table(report.events),
        timeline=drawing.timeline(report),
        cards="\n".join(card(report, number, event) for number, event in enumerate(report.events, 1)),
        picture=escape(picture.draw(report.topology, first)),
        audit=audit(report),
        footer=escape(
            f"pgbaton {__version__} · demo took {report.total_seconds:.0f} s, {report.bring_up_seconds:.0f} s of it"
            " to bring the cluster up"
        ),
    )


def headline(report: Report) -> str:
    """Return the result in one sentence."""
    lost = len(report.audit.lost)
    kept = "none lost" if not lost else f"{lost:,} lost"
    faults = "1 fault" if len(report.events) == 1 else f"{len(report.events)} faults"
    return f"{faults}, {report.audit.acknowledged:,} acknowledged writes, {kept}."


def lead(report: Report) -> str:
    """Return what the verdict means."""
    if report.verdict is Verdict.VIOLATED:
        return "The cluster did not hold exactly what its clients had been promised."
    if report.verdict is Verdict.MISSED:
        missed = ", ".join(event.trial.fault.title.lower() for event in report.events if not event.met)
        return f"Every promise about data was kept, but an outage was longer than predicted: {missed}."
    return "Every database host holds every acknowledged write exactly once, and no outage was longer than predicted."


def tiles(report: Report) -> Iterable[str]:
    """Return the figures that matter most."""
    longest = max(report.events, key=lambda event: event.write.seconds)
    audited = report.audit
    yield tile(f"{len(audited.lost):,}", "acknowledged writes lost", good=not audited.lost)
    yield tile(seconds(longest.write.seconds), f"longest outage of writes: {longest.trial.fault.title.lower()}")
    yield tile(f"{sum(event.errors for event in report.events):,}", "errors at clients, in all outages together")
    yield tile(
        f"{audited.unknown:,}", f"writes of unknown outcome: {audited.unknown_present:,} are there, the rest are not"
    )


def tile(value: str, text: str, *, good: bool | None = None) -> str:
    """Return one figure."""
    css = {None: "", True: ' class="good"', False: ' class="bad"'}[good]
    return f'<div class="tile"><b{css}>{escape(value)}</b><span>{escape(text)}</span></div>'


def findings(sentences: Sequence[str]) -> str:
    """Return what is wrong, or nothing."""
    if not sentences:
        return ""
    return '<div class="card bad"><ul>' + "".join(f"<li>{escape(each)}</li>" for each in sentences) + "</ul></div>"


def table(events: Sequence[Event]) -> str:
    """Return a row for each fault."""
    heads = ("", "Fault", "No writes for", "No reads for", "Acknowledged", "Lost", "Unknown", "Errors")
    numeric = heads[4:]
    head = "".join(f'<th class="n">{text}</th>' if text in numeric else f"<th>{text}</th>" for text in heads)
    rows = "".join(row(number, event) for number, event in enumerate(events, 1))
    return f"<table><tr>{head}</tr>{rows}</table>"


def row(number: int, event: Event) -> str:
    """Return a fault's row."""
    fault = event.trial.fault
    lost = f'<td class="n {"bad" if event.lost else "good"}">{event.lost:,}</td>'
    return (
        f'<tr><td><span class="disc">{number}</span></td>'
        f"<td>{escape(fault.title)}<br><small>{escape(fault.does)}</small></td>"
        f"{outage(event.write, event.prediction.write_seconds, met=event.write_met)}"
        f"{outage(event.read, event.prediction.read_seconds, met=event.read_met)}"
        f'<td class="n">{event.write.acknowledged:,}</td>{lost}'
        f'<td class="n">{event.write.unknown:,}</td><td class="n">{event.errors:,}</td></tr>'
    )


def outage(measured: Measurement, predicted: Range, *, met: bool) -> str:
    """Return a cell with an outage against its prediction."""
    share = min(measured.seconds / max(predicted.maximum, 1e-9), 1.0)
    bar = f'<span class="bar{"" if met else " over"}"><i style="width:{share:.1%}"></i></span>'
    text = f"predicted {seconds(predicted.typical)}, at most {seconds(predicted.maximum)}"
    return f'<td><b>{duration(measured)}</b>{bar}<small class="tight">{text}</small></td>'


def card(report: Report, number: int, event: Event) -> str:
    """Return a fault's close-up with its parts and what else is known."""
    title = f'<h3><span class="disc">{number}</span>{escape(event.trial.fault.title)}: {duration(event.write)}</h3>'
    facts = f'<p class="facts">{escape(" · ".join(described(event)))}</p>'
    return f'<div class="card">{title}{facts}{drawing.closeup(report, event)}{legend(event.parts)}</div>'


def described(event: Event) -> Iterable[str]:
    """Return what happened to roles, clients and the cluster."""
    trial = event.trial
    yield f"struck {trial.host}"
    if trial.after and trial.after.primary != trial.before.primary:
        yield f"primary {trial.before.primary} → {trial.after.primary}"
    if trial.after and trial.after.vip != trial.before.vip:
        yield f"VIP {trial.before.vip} → {trial.after.vip}"
    slowest = max(event.write.clients, key=lambda client: event.write.clients[client].seconds)
    yield f"longest for a single client {seconds(event.write.clients[slowest].seconds)} ({slowest})"
    if event.write.before and event.write.after:
        medians = (seconds(each.median) for each in (event.write.before, event.write.after))
        yield f"median write {next(medians)} before, {next(medians)} after"
    others = [gap for gap in event.write.gaps if gap != event.write.longest and gap.seconds >= NOTABLE_SECONDS]
    if others:
        later = (f"{seconds(gap.seconds)} at {gap.begin - trial.injected:+.1f} s" for gap in others)
        yield f"further stalls: {', '.join(later)}"
    yield f"cluster whole again after {seconds(trial.end - trial.injected)}"
    if event.write.meter_stalled_seconds:
        yield f"meter not scheduled for {seconds(event.write.meter_stalled_seconds)} of it"
    classes = Counter(event.write.errors) + Counter(event.read.errors)
    if classes:
        yield "errors: " + ", ".join(f"{count:,} {name}" for name, count in classes.most_common(4))


def legend(parts: Sequence[Part]) -> str:
    """Return the parts with their durations."""
    entries = (
        f'<li><i class="part-{index}"></i>{escape(part.name)} '
        + (f"<b>{seconds(part.seconds)}</b></li>" if part.seconds is not None else "not told by any journal</li>")
        for index, part in enumerate(parts)
    )
    return f'<ul class="legend">{"".join(entries)}</ul>'


def audit(report: Report) -> str:
    """Return what every database host was found to hold."""
    rows = "".join(audited(report, read) for read in report.reads)
    heads = "<th>Host</th><th>Role</th>" + "".join(
        f'<th class="n">{text}</th>' for text in ("Rows", "Acknowledged, missing", "Twice")
    )
    return f"<table><tr>{heads}</tr>{rows}</table>"


def audited(report: Report, read: FinalRead) -> str:
    """Return one host's row."""
    role = "primary" if read.primary else "standby"
    if read.problem:
        problem = f'<td colspan="3" class="bad">{escape(read.problem)}</td>'
        return f"<tr><td>{escape(read.host)}</td><td>{role}</td>{problem}</tr>"
    missing = len(report.audit.missing.get(read.host, ()))
    twice = len(report.audit.duplicated.get(read.host, ()))
    counts = "".join(f'<td class="n {"bad" if count else "good"}">{count:,}</td>' for count in (missing, twice))
    return f'<tr><td>{escape(read.host)}</td><td>{role}</td><td class="n">{len(read.rows):,}</td>{counts}</tr>'


def duration(measured: Measurement) -> str:
    """Return an outage, and whether it had ended at all."""
    return f"more than {seconds(measured.seconds)}" if measured.longest.open else seconds(measured.seconds)
