"""``pgbaton bench``: measure what the data path costs, with pgbench by every way to the primary."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.text import Text

from pgbaton.cli import common
from pgbaton.cli.interruption import accounted, interruptible
from pgbaton.cli.opened import open_cluster
from pgbaton.cli.progress import teller
from pgbaton.cli.report import show_lines, write
from pgbaton.errors import Error, UsageError
from pgbaton.measure import bench as measuring
from pgbaton.measure import page, plan, profiles, results, tables, ways
from pgbaton.proof.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgbaton.cli.opened import Opened
    from pgbaton.measure.results import Result

Decorated = TypeVar("Decorated", bound="Callable[..., Any]")
MOST_CLIENTS = 10_000


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers, parted by commas."""

    name = "numbers"

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:  # noqa: ANN401 - click's own
        """Return the numbers, or end with what is wrong with them."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isdecimal() and self.least <= int(word) <= self.most for word in words):
            wanted = f"numbers from {self.least:,} to {self.most:,}, parted by commas"
            self.fail(f"{value!r} is not what is wanted: {wanted}.", param, ctx)
        return tuple(int(word) for word in words)


def some_of(option: str, name: str, choices: Sequence[str], text: str) -> Callable[[Decorated], Decorated]:
    """Return an option that may be given several times, and is the first of the choices where it is not given."""
    kind = click.Choice(choices)
    return click.option(option, name, multiple=True, type=kind, default=choices[:1], show_default=True, help=text)


@click.command(
    epilog="""\b
    Examples:
      pgbaton bench --clients 1,16,150 --profile select-only --profile tpcb
      pgbaton bench --connect --seconds 10 --html path.html
    """
)
@some_of("--profile", "chosen", profiles.NAMES, "What clients do; several times for several.")
@some_of("--protocol", "protocols", profiles.PROTOCOLS, "How they ask; several times for several.")
@click.option(
    "--clients",
    type=Numbers(1, MOST_CLIENTS),
    default="1,16",
    show_default=True,
    metavar="N,N",
    help="How many clients at once.",
)
@click.option(
    "--path",
    "paths",
    multiple=True,
    type=click.Choice(ways.NAMES),
    help="Which ways are compared; by default direct, balancer and vip.",
)
@click.option("--connect", is_flag=True, help="A new connection for each transaction.")
@click.option(
    "--seconds", type=click.IntRange(1, 3600), default=5, show_default=True, metavar="N", help="How long each step."
)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="How often each step.")
@click.option(
    "--scale", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Of the tables: 15 MB each."
)
@click.option("--from", "client", metavar="HOST", help="Where pgbench runs; by default an idle balancer.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots there.")
@common.cluster_option
@common.yes_option
@common.output_option
def bench(
    *,
    chosen: tuple[str, ...],
    protocols: tuple[str, ...],
    clients: tuple[int, ...],
    paths: tuple[str, ...],
    connect: bool,
    seconds: int,
    rounds: int,
    scale: int,
    client: str | None,
    html: Path | None,
    cluster: str | None,
    yes: bool,
    output: str,
) -> None:
    """Measure what the data path costs: the same clients directly at PostgreSQL, and through the balancers.

    pgbench runs on one host by every path in turn, several rounds of it, with the application's own user, TLS and
    verified certificates. The table has transactions a second, what they are of the direct path's, and latencies.

    Its tables are in a schema of their own, pgbaton_bench, which is dropped at the end, also when this is interrupted.
    Other clients of the cluster feel the load: on a cluster that is no lab, what would be done is shown and has to be
    confirmed.

    Exit codes: 0 measured, 1 clients had errors or nothing could be measured, 3 the cluster is not fit, or the primary
    moved meanwhile, 6 refused: not confirmed, or there are tables of pgbench's that are somebody else's.
    """
    if html is not None:
        common.require_writable(html, option="--html")
    opened = open_cluster(cluster)
    require_host(opened, client)
    target = Target(opened.topology, opened.state, teller())
    names = tuple(dict.fromkeys(paths)) or ways.usual(opened.topology)
    request = plan.Request(
        plan.cases(chosen, protocols, clients, connect=connect), names, seconds=seconds, rounds=rounds, scale=scale
    )
    with opened.state.lock("bench"):
        begun = looked_at(opened, target, request, client=client)
        agree(opened, begun, yes=yes)
        made = measuring.Bench(target, begun)
        with accounted(output, made.account):
            try:
                interruptible(made.run())
            finally:
                if html is not None and made.result.runs:
                    write(html, page.render(made.result), option="--html")
    common.emit(output, made.result.to_dict(), lambda: show(made.result))
    conclude(made.result)


def looked_at(opened: Opened, target: Target, request: plan.Request, *, client: str | None) -> Result:
    """Look who is where, and return what is known before anything is measured."""
    layout = common.run(measuring.look(target, request.ways, client=client))
    remarks = results.remarks(layout)
    return results.Result(opened.topology.name, now(), machines(opened), layout, request, remarks=remarks)


def require_host(opened: Opened, name: str | None) -> None:
    """Raise UsageError for a host that the cluster does not have."""
    known = opened.hosts()
    if name is not None and name not in known:
        message = f"no host is named {name}"
        raise UsageError(message, hint=f"known: {', '.join(known)}")


def now() -> str:
    """Return the time in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machines(opened: Opened) -> str:
    """Return what is measured, in a few words."""
    kind = "lab machines, which share this one's processors" if opened.is_lab else "the cluster's own machines"
    return f"{kind}, PostgreSQL {opened.topology.postgresql.version}, {opened.topology.replication.mode} replication"


def agree(opened: Opened, begun: Result, *, yes: bool) -> None:
    """Show what would be done to a cluster in use, and ask; labs are there for that."""
    if opened.is_lab:
        return
    console = common.err()
    console.print(f"On the real cluster {opened.topology.name}:", style="bold")
    for line in measuring.intended(opened.topology, begun):
        console.print(f"  {line}", markup=False)
    common.confirm("Go on?", yes=yes)


def show(result: Result) -> None:
    """Print the table."""
    console = common.out()
    head = (
        f"{result.cluster}: from {result.layout.client}, {result.request.rounds} rounds of {result.request.seconds} s"
    )
    console.print(Text(head, style="bold"))
    show_lines(tables.lines(result, width=console.width))


def conclude(result: Result) -> None:
    """Return when there are figures and no errors; raises Error otherwise."""
    if not result.runs:
        message = "nothing could be measured"
        raise Error(message, hint="the reasons are told above; fewer --clients, perhaps")
    if result.failures:
        message = f"clients had {result.failures:,} errors"
        raise Error(message, hint="what they were told is above; pgbaton logs shows what the hosts say")
