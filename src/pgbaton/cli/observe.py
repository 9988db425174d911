"""Commands that look at a cluster and change nothing: status, clients, watch, logs."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from pgbaton.cli import common, live
from pgbaton.cli.opened import open_cluster
from pgbaton.errors import UnreachableError, UsageError
from pgbaton.observe import journal
from pgbaton.observe.collect import collect, connected, wanted_units
from pgbaton.observe.report import Report, report

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pgbaton.cli.opened import Opened
    from pgbaton.observe.journal import Entry
    from pgbaton.topology.model import Topology

#: What the units that pgbaton brings itself begin with; it can be left out.
OWN_UNITS = "pgbaton-"

timeout_option = click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0.5, max=60),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="A host that takes longer counts as unreachable.",
)


async def look(opened: Opened, timeout_seconds: float) -> Report:
    """Return a report of the cluster as it is now."""
    return report(opened.topology, await collect(opened.topology, opened.hosts(), timeout=timeout_seconds))


@click.command(epilog="Example: pgbaton status -o json | jq .health")
@timeout_option
@common.cluster_option
@common.output_option
def status(*, timeout_seconds: float, cluster: str | None, output: str) -> None:
    """Show the whole cluster on one screen.

    Hosts, who is primary, who holds the VIP, whom each balancer takes for the primary, replication, pools, etcd, and
    what is not as it should be, with what to do.

    Exits with 0 when nothing is critical (warnings do not count), 3 when something is, 4 when no host answers.
    """
    from pgbaton.cli.screen import screen  # noqa: PLC0415 - JSON needs no tables

    seen = common.run(look(open_cluster(cluster), timeout_seconds))
    console = common.out()
    common.emit(output, seen.to_dict(), lambda: console.print(screen(seen, width=console.width)))
    sys.exit(seen.exit_status)


@click.command(epilog="Example: pgbaton clients -o json | jq '.clients[] | select(.user == \"app\")'")
@timeout_option
@common.cluster_option
@common.output_option
def clients(*, timeout_seconds: float, cluster: str | None, output: str) -> None:
    """Show who is connected, with the address that each client really has.

    HAProxy knows a client's address, PgBouncer its user, database and the server's process that works for it now (PID):
    what both say of the same connection stands in one line. Nothing has to be set for it.

    Exits with 4 when no host answers.
    """
    from pgbaton.cli.clientview import table  # noqa: PLC0415 - JSON needs no tables

    opened = open_cluster(cluster)
    found = common.run(connected(opened.topology, opened.hosts(), timeout=timeout_seconds))
    console = common.out()
    common.emit(output, found.to_dict(), lambda: console.print(table(found)))
    for host, reasons in found.problems.items():
        click.echo(f"{host}: {'; '.join(reasons)}", err=True)
    if found.problems and not found.clients:
        message = "no host told who is connected"
        raise UnreachableError(message, hint="pgbaton status says which hosts answer")


@click.command(epilog="Example: pgbaton watch --interval 0.5")
@click.option(
    "--interval",
    "interval_seconds",
    type=click.FloatRange(min=0.2, max=3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="From one look to the next.",
)
@timeout_option
@common.cluster_option
@common.output_option
def watch(*, interval_seconds: float, timeout_seconds: float, cluster: str | None, output: str) -> None:
    """Show the cluster, live; q or ^C ends it.

    Without a terminal, or with -o json, a line is printed for every change: of health, primary, VIP, a host's state or
    role, and for every finding that comes or goes.
    """
    opened = open_cluster(cluster)
    again = partial(look, opened, timeout_seconds)
    terminal = sys.stdout.isatty() and output != "json"
    show = live.on_screen if terminal else partial(live.as_lines, as_json=output == "json")
    try:
        common.run(show(again, interval_seconds=interval_seconds))
    except KeyboardInterrupt:
        return


@click.command(epilog="Example: pgbaton logs --since 5m --unit patroni --grep 'promot|demot'")
@click.option(
    "--since",
    default="10m",
    show_default=True,
    metavar="WHEN",
    help="How far back: 30s, 10m, 2h, 1d, or a local time as 2026-01-31T12:00:00.",
)
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only this host; may be given several times.")
@click.option(
    "--unit", "units", multiple=True, metavar="UNIT", help="Only this unit, as patroni or agent; several times too."
)
@click.option("--grep", "pattern", metavar="REGEX", help="Only messages that match.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new entries, until ^C.")
@common.cluster_option
@common.output_option
def logs(
    *,
    since: str,
    hosts: tuple[str, ...],
    units: tuple[str, ...],
    pattern: str | None,
    follow: bool,
    cluster: str | None,
    output: str,
) -> None:
    """Show the hosts' journals as one timeline.

    Entries of the cluster's own services (etcd, Patroni with PostgreSQL, PgBouncer, HAProxy, Keepalived, pgbaton's
    agents), by time.
    Secrets are replaced by their names. With -o json, one JSON object a line.
    """
    opened = open_cluster(cluster)
    wanted = journal.Journals(chosen_units(opened.topology, hosts, units), microseconds(since, now=time.time()))
    tell = partial(print_entries, matcher=matching(pattern), redact=opened.vault.redact, as_json=output == "json")
    if follow:
        try:
            common.run(journal.follow(wanted, opened.hosts, tell=tell, silent=print_silent))
        except KeyboardInterrupt:
            return
    entries, silent = common.run(journal.read(wanted, opened.hosts()))
    tell(entries)
    for name, reason in silent.items():
        print_silent(name, reason)
    if silent and len(silent) == len(wanted.units):
        message = "no host's journal could be read"
        raise UnreachableError(message, hint="pgbaton status says which hosts are up")


def chosen_units(topology: Topology, hosts: tuple[str, ...], units: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the units to read by host; a name stands for itself, ``pgbouncer`` for all its instances.

    ``agent`` stands for pgbaton's own, which has the longer name on the hosts.

    Raises UsageError for a host or a unit that the cluster does not have.
    """
    every = {name: found for name, found in wanted_units(topology).items() if found}
    for host in hosts:
        require("host", host, every)
    short = {
        unit: {
            unit,
            unit.removesuffix(".service"),
            unit.partition("@")[0],
            unit.removesuffix(".service").removeprefix(OWN_UNITS),
        }
        for found in every.values()
        for unit in found
    }
    shortest = {min(names, key=len) for names in short.values()}
    for unit in units:
        require("unit", unit, sorted(shortest), also={name for names in short.values() for name in names})
    picked = {
        name: tuple(unit for unit in found if not units or short[unit] & set(units))
        for name, found in every.items()
        if not hosts or name in hosts
    }
    return {name: found for name, found in picked.items() if found}


def require(kind: str, name: str, known: Collection[str], *, also: Collection[str] = ()) -> None:
    """Raise UsageError unless a name is known; ``also`` are names that are good and need not be told."""
    if name not in {*known, *also}:
        message = f"the cluster has no {kind} {name} whose journal is read"
        raise UsageError(message, hint=f"known: {', '.join(known)}")


def microseconds(since: str, *, now: float) -> int:
    """Return a point in time, in microseconds since 1970: a time ago, or a local time; raises UsageError otherwise."""
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h|d)", since.strip())
    if ago:
        unit = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}[ago[2]]
        return int((now - float(ago[1]) * unit) * 1e6)
    try:
        return int(datetime.fromisoformat(since.strip()).timestamp() * 1e6)
    except ValueError:
        message = f"--since {since!r} is no point in time"
        raise UsageError(message, hint="give 30s, 10m, 2h or 1d, or a local time as 2026-01-31T12:00:00") from None


def matching(pattern: str | None) -> Callable[[str], bool]:
    """Return whether a message is wanted; raises UsageError when the pattern is no regular expression."""
    if pattern is None:
        return lambda _: True
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        message = f"--grep {pattern!r} is no regular expression: {error}"
        hint = f"to find just these characters, give {shlex.quote(re.escape(pattern))}"
        raise UsageError(message, hint=hint) from None
    return lambda message: compiled.search(message) is not None


def print_entries(
    entries: tuple[Entry, ...], *, matcher: Callable[[str], bool], redact: Callable[[str], str], as_json: bool
) -> None:
    """Print entries that match, without any secret."""
    wanted = [entry for entry in journal.redacted(entries, redact) if matcher(entry.message)]
    if as_json:
        sys.stdout.writelines(json.dumps(entry.to_dict()) + "\n" for entry in wanted)
    else:
        from pgbaton.cli.screen import entry_line  # noqa: PLC0415 - JSON needs no colours

        console = common.out()
        for entry in wanted:
            console.print(entry_line(entry))
    sys.stdout.flush()


def print_silent(host: str, reason: str) -> None:
    """Say on standard error why a host's journal is not read."""
    common.err().print(f"{host}: {reason}", style="yellow", markup=False)
