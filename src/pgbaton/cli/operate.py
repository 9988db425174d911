"""Commands that change who leads, or restart what runs: switchover, failover, restart, reinit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pgbaton.cli import common, hand
from pgbaton.cli.interruption import interruptible
from pgbaton.cli.operating import open_operation, seen, timeout_option
from pgbaton.errors import RefusedError
from pgbaton.operate import failover as failing
from pgbaton.operate import reinit as cloning
from pgbaton.operate import rolling
from pgbaton.operate import switchover as switching
from pgbaton.operate.checks import failed, size
from pgbaton.operate.hand import rejoin
from pgbaton.operate.members import known

if TYPE_CHECKING:
    from pgbaton.operate.members import View


@click.command(epilog="Example: pgbaton switchover --to db2 --dry-run")
@click.option("--to", metavar="HOST", help="The new primary; by default the fittest standby.")
@click.option("--dry-run", is_flag=True, help="Run every check, change nothing.")
@timeout_option
@common.yes_option
@common.cluster_option
@common.output_option
def switchover(
    to: str | None, *, dry_run: bool, timeout_seconds: float, yes: bool, cluster: str | None, output: str
) -> None:
    """Move the primary to another host, as planned.

    Only a standby that streams, is close enough and, in synchronous mode, is a synchronous one is chosen or taken.
    Sessions on the old primary end; the pools reconnect to the new one. With agents, and without Patroni, clients of
    transaction pools are held meanwhile: they see a pause and no error.
    """
    selected, operation = open_operation(cluster, timeout_seconds)
    if to is not None:
        known(operation.topology, to)
    if dry_run:
        intent = switching.consider(operation.topology, seen(operation, "switchover"), to)
        common.emit(output, {**intent.data, "dry_run": True}, lambda: show_checks(intent))
        intent.require(told=output != "json")
        return
    with selected.lock("switchover"):
        source, target = switching.consider(operation.topology, seen(operation, "switchover"), to).require()
        common.confirm(f"Move the primary from {source} to {target}?", yes=yes)
        done = interruptible(switching.switchover(operation, to=target))
    common.emit(output, done.data, lambda: show_switchover(done))


@click.command(epilog="Example: pgbaton failover --to db3")
@click.option("--to", metavar="HOST", help="The new primary; by default the standby with the least to lose.")
@click.option(
    "--accept-loss",
    "accepted_bytes",
    type=click.IntRange(min=0),
    metavar="BYTES",
    help="Accept a gap of up to so many bytes of WAL without being asked; needs --yes too.",
)
@hand.off_option
@click.option("--dry-run", is_flag=True, help="Run every check, change nothing.")
@timeout_option
@common.yes_option
@common.cluster_option
@common.output_option
def failover(
    to: str | None,
    off: tuple[str, ...],
    *,
    accepted_bytes: int | None,
    dry_run: bool,
    timeout_seconds: float,
    yes: bool,
    cluster: str | None,
    output: str,
) -> None:
    """Promote a standby when there is no primary.

    Patroni does this by itself wherever that is safe. This command is for when it will not: it shows how far each
    standby is behind the last position known of the primary, and asks for the host's name where writes may be lost.

    With orchestration.kind = "manual" nobody else promotes. What is left of the old primary is stopped first, and made
    a standby; a database host that gives no answer has to be known to be off.
    """
    selected, operation = open_operation(cluster, timeout_seconds)
    if to is not None:
        known(operation.topology, to)
    if operation.topology.is_manual:
        hand.failover(
            selected, operation, to, off, accepted_bytes=accepted_bytes, dry_run=dry_run, yes=yes, output=output
        )
        return
    hand.refuse_off(off)
    intent = failing.consider(operation.topology, seen(operation, "failover"), to)
    if dry_run:
        common.emit(output, {**intent.data, "dry_run": True}, lambda: show_prospects(intent, stderr=False))
        intent.require()
        return
    with selected.lock("failover"):
        target = intent.require()
        show_prospects(intent, stderr=True)
        accept(intent, target, accepted_bytes, yes=yes)
        done = interruptible(failing.failover(operation, intent))
    common.emit(output, done.data, lambda: show_failover(done))


@click.command(epilog="Example: pgbaton restart --pending")
@click.argument("hosts", nargs=-1, metavar="[HOST]...")
@click.option("--pending", is_flag=True, help="Only where settings wait for a restart.")
@click.option("--in-place", is_flag=True, help="Restart the primary where it is, without a switchover: writes stop.")
@timeout_option
@common.yes_option
@common.cluster_option
@common.output_option
def restart(
    hosts: tuple[str, ...],
    *,
    pending: bool,
    in_place: bool,
    timeout_seconds: float,
    yes: bool,
    cluster: str | None,
    output: str,
) -> None:
    """Restart PostgreSQL, host by host.

    Standbys first, one at a time, each awaited until it streams again; the primary last, after a switchover.
    Without HOST, every database host.
    """
    selected, operation = open_operation(cluster, timeout_seconds)
    for host in hosts:
        known(operation.topology, host)
    with selected.lock("restart"):
        view = seen(operation, "restart")
        chosen = rolling.order(operation.topology, view, hosts, pending=pending)
        target = rolling.plan(operation.topology, view, chosen, in_place=in_place)
        if chosen:
            common.confirm(question(view, chosen, target), yes=yes)
        done = interruptible(rolling.restart(operation, chosen, in_place=in_place))
    common.emit(output, {"restarted": [each.data for each in done]}, lambda: show_restarted(done))


@click.command(epilog="Example: pgbaton reinit db3")
@click.argument("host")
@timeout_option
@common.yes_option
@common.cluster_option
@common.output_option
def reinit(host: str, *, timeout_seconds: float, yes: bool, cluster: str | None, output: str) -> None:
    """Throw a standby's data away and clone it anew.

    The deadline counts from the last time the copy has moved, so that a large one may take as long as it needs.

    With orchestration.kind = "manual" this is also how an old primary comes back: a server that does not stream is
    rewound when that will do, and cloned when not. Commits wait for it again afterwards.
    """
    selected, operation = open_operation(cluster, timeout_seconds)
    known(operation.topology, host)
    with selected.lock(f"reinit of {host}"):
        view = seen(operation, "reinit")
        discard = operation.topology.is_manual and hand.discards(operation, view, host, yes=yes)
        if not operation.topology.is_manual:
            cloning.consider(view, host)
        if operation.topology.is_manual:
            operation.report(rejoin.consequences(view, host))
        else:
            operation.report(cloning.consequences(view, host))
        common.confirm(f"Clone {host} anew?", yes=yes)
        done = interruptible(cloning.reinit(operation, host, discard=discard))
    verb = "cloned" if done.how == "clone" else "rewound"
    text = f"{done.host} was {verb} ({size(done.size_bytes)}) in {done.seconds:.1f} s and streams from {done.primary}"
    common.emit(output, done.data, lambda: common.out().print(text))


def accept(intent: failing.Intent, target: failing.Prospect, accepted_bytes: int | None, *, yes: bool) -> None:
    """Get consent: a plain one when nothing acknowledged can be lost, else the host's name typed, or a stated loss."""
    if not intent.needs_acceptance:
        common.confirm(f"Promote {target.host}?", yes=yes)
    elif yes or accepted_bytes is not None or not sys.stdin.isatty():
        failing.accept(target, accepted_bytes)
        common.confirm(f"Promote {target.host}?", yes=yes)
    else:
        type_name(target.host)


def type_name(host: str) -> None:
    """Ask for a host's name; anything else, an empty answer too, is refused."""
    typed = click.prompt(f"Type {host} to promote it", default="", show_default=False, err=True)
    if typed.strip() != host:
        message = f"failover refused, nothing was changed: {host} was not typed"
        raise RefusedError(message, hint="run it again, and type the name; --dry-run only shows what would be lost")


def question(view: View, hosts: tuple[str, ...], target: str | None) -> str:
    """Return what to ask before a restart."""
    moved = f"; the primary moves to {target} first" if target else ""
    stopped = "" if target or view.primary not in hosts else "; writes stop meanwhile"
    return f"Restart PostgreSQL on {', '.join(hosts)}{moved}{stopped}?"


def show_checks(intent: switching.Intent) -> None:
    """Show every check of a switchover, and what it would do."""
    console = common.out()
    for check in intent.checks:
        console.print(
            f"{'ok' if check.passed else 'NO'}  {check.name}: {check.seen} (wanted: {check.limit})", markup=False
        )
        if not check.passed:
            console.print(f"    to fix: {check.fix}", markup=False)
    if not failed(intent.checks):
        console.print(f"would move the primary from {intent.source} to {intent.target}; nothing was changed")


def show_prospects(intent: failing.Intent, *, stderr: bool) -> None:
    """Show what promoting each standby means."""
    console = common.err() if stderr else common.out()
    for line in [*([intent.warning] if intent.warning else []), *map(str, intent.prospects)]:
        console.print(line, markup=False)
    if intent.target:
        console.print(f"chosen: {intent.target.host}", markup=False)


def show_switchover(done: switching.Switchover) -> None:
    """Show a switchover that happened and what its parts took."""
    parts = ", ".join(f"{name.replace('_', ' ')} {seconds:.2f} s" for name, seconds in done.seconds.data.items())
    common.out().print(f"{done.target} is the primary, {done.source} its standby\n{parts}")


def show_failover(done: failing.Failover) -> None:
    """Show a failover that happened."""
    common.out().print(
        f"{done.target.host} is the primary\npromotion {done.promotion:.2f} s, routing {done.routing:.2f} s\n"
        f"{size(done.target.gap_bytes or 0)} behind the last known position of the old one"
    )


def show_restarted(done: tuple[rolling.Restarted, ...]) -> None:
    """Show the restarts that happened."""
    if not done:
        common.out().print("no restart was needed")
    for each in done:
        common.out().print(f"{each.host}: {each.how}, {each.seconds:.1f} s")
