"""``pgbaton demo``: bring a lab up, break it four ways, show what it cost."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from pgbaton import state as states
from pgbaton.cli import common
from pgbaton.cli.interruption import interruptible
from pgbaton.cli.progress import teller
from pgbaton.errors import Error, ObjectiveMissedError
from pgbaton.lab import definition, recipe
from pgbaton.proof import demo as demonstration
from pgbaton.proof import faults, page, store
from pgbaton.proof.report import Verdict
from pgbaton.proof.reporting import words
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.proof.demo import Demo
    from pgbaton.proof.report import Event, Report


#: How agents do in a lab: nothing but the machine's own load delays a datagram there. Elsewhere the preset stands.
AGENT_SYSTEMS = ("debian-13",)
AGENTS = """
[timings]
detection_time = 0.25
advert_interval = 0.05
"""
STOCK = """
[orchestration]
agent = false
"""


@click.command(epilog="Example: pgbaton demo --faults postmaster-killed,switchover --keep")
@click.option(
    "--preset",
    type=click.Choice(presets.WITH_PATRONI),
    default=presets.NAMES[0],
    show_default=True,
    help="Topology.",
)
@click.option("--os", "system", type=click.Choice(list(recipe.SYSTEMS)), help="Operating system of the machines.")
@click.option("--cluster", metavar="NAME", default="demo", show_default=True, help="Name of the lab.")
@click.option(
    "--faults",
    "chosen",
    metavar="NAME,…",
    default="",
    help=f"Some of: {', '.join(faults.DEMONSTRATED)}.",
)
@click.option("--stock", is_flag=True, help="Without agents: the industry's parts alone.")
@click.option("--keep", is_flag=True, help="Leave the lab up.")
@click.option(
    "--report",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="pgbaton-demo.html",
    show_default=True,
    help="Where to write the page.",
)
@common.output_option
def demo(output: str, path: Path, **options: Any) -> None:  # noqa: ANN401 - click's own
    """Bring a lab up, break it four ways, show what it cost.

    A whole cluster of real machines comes up on this one. Clients write and read through the VIP while the postmaster
    is killed, the primary is moved, the active balancer and then the primary's host are powered off. Every
    acknowledged write is looked for on every database afterwards. An agent on each host shortens what the stock parts
    wait for; --stock shows those alone. Needs root; takes about two minutes, and a minute or two more the first
    time. The lab is taken down again, also when the demo is interrupted.

    Exit codes: 0 all kept and within what was predicted, 1 a promise about data was broken, 5 an outage was longer
    than predicted.
    """
    wanted = prepared(**options)
    common.require_writable(path, option="--report")
    common.need_root("a lab")
    with store.alone(wanted.state.name, command="demo", option="--cluster"):
        report = interruptible(demonstration.demonstrate(wanted))
    finished = datetime.now().astimezone().strftime("%-d %B %Y, %H:%M")
    path.write_text(page.render(report, finished=finished), encoding="utf-8")
    common.emit(output, report.to_dict(), lambda: show(report, path))
    conclude(report, path)


def prepared(*, preset: str, system: str | None, cluster: str, chosen: str, stock: bool, keep: bool) -> Demo:
    """Return what was asked for; raises UsageError before anything is made."""
    definition.check_name(cluster)
    with_agents = not stock and system in {None, *AGENT_SYSTEMS}
    topology = load.loads(presets.text(preset, cluster=cluster) + (AGENTS if with_agents else STOCK))
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    return demonstration.Demo(
        states.cluster(cluster),
        topology,
        recipe.system(system) if system else recipe.system_for(topology.postgresql.version),
        faults.choose(names, topology),
        teller(),
        keep=keep,
    )


def show(report: Report, path: Path) -> None:
    """Print what was found."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("Fault", no_wrap=True)
    for head in (*("Writes\nout, s", "at\nmost", "Reads\nout, s", "at\nmost"), "Acked", "Lost", "Unknown", "Errors"):
        table.add_column(head, justify="right", no_wrap=True)
    for event in report.events:
        table.add_row(*cells(event))
    console = common.out()
    console.print(table)
    console.print()
    for event in report.events:
        known = (f"{part.name} {words.seconds(part.seconds)}" for part in event.parts if part.seconds is not None)
        console.print(f"{event.trial.fault.name}: {' + '.join(known)}", markup=False)
    audited = report.audit
    settled = f"{audited.unknown_present:,} of the {audited.unknown:,} writes of unknown outcome are there"
    console.print(f"\n{page.headline(report)} {page.lead(report)}", markup=False, style="bold")
    console.print(f"{settled}; the page with the timeline is {path.resolve()}", markup=False)
    console.print("Next: pgbaton lab up makes a lab to break by hand, pgbaton init begins a topology of your own.")


def cells(event: Event) -> tuple[str, ...]:
    """Return a fault's row."""
    lost = f"[bold red]{event.lost:,}[/]" if event.lost else "0"
    return (
        event.trial.fault.name,
        measured(event.write.seconds, met=event.write_met),
        f"{event.prediction.write_seconds.maximum:.2f}",
        measured(event.read.seconds, met=event.read_met),
        f"{event.prediction.read_seconds.maximum:.2f}",
        f"{event.write.acknowledged:,}",
        lost,
        f"{event.write.unknown:,}",
        f"{event.errors:,}",
    )


def measured(seconds: float, *, met: bool) -> str:
    """Return an outage, coloured when it was longer than predicted."""
    return f"{seconds:.2f}" if met else f"[bold yellow]{seconds:.2f}[/]"


def conclude(report: Report, path: Path) -> None:
    """Return when all was kept; raises Error with what was found otherwise."""
    hint = f"{path} shows when and where; --keep leaves the lab up for a look"
    if report.verdict is Verdict.VIOLATED:
        raise Error("; ".join(report.audit.findings), hint=hint)
    if report.verdict is Verdict.MISSED:
        raise ObjectiveMissedError(page.lead(report), hint=hint)
