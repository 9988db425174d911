"""Commands of clusters that a person fails over: their failover, and whose confirmation commits wait for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pgbaton.cli import common
from pgbaton.cli.operating import open_operation, seen, timeout_option
from pgbaton.errors import RefusedError, UsageError
from pgbaton.operate.checks import listing, size
from pgbaton.operate.hand import control, standbys
from pgbaton.operate.hand import failover as failing
from pgbaton.operate.members import known, require_reached

if TYPE_CHECKING:
    from pgbaton.operate.operation import Operation
    from pgbaton.state import ClusterState

off_option = click.option(
    failing.CONFIRM,
    "off",
    multiple=True,
    metavar="HOST",
    help='With orchestration.kind = "manual": a database host that gives no answer is off for sure, or cut from '
    "everybody. May be given more than once.",
)


def failover(
    selected: ClusterState,
    operation: Operation,
    to: str | None,
    off: tuple[str, ...],
    *,
    accepted_bytes: int | None,
    dry_run: bool,
    yes: bool,
    output: str,
) -> None:
    """Make a server the primary where nobody but a person does."""
    for host in off:
        known(operation.topology, host)
    sight = common.run(failing.look_when_known(operation))
    require_reached(sight.view, "failover")
    intent = failing.consider(operation.topology, sight, to, off=off)
    if dry_run:
        common.emit(output, {**intent.data, "dry_run": True}, lambda: show_prospects(intent, stderr=False))
        intent.require()
        return
    with selected.lock("failover"):
        target = intent.require()
        show_prospects(intent, stderr=True)
        consent(intent, target, accepted_bytes, yes=yes)
        done = common.run(failing.failover(operation, intent))
    common.emit(output, done.data, lambda: show_failover(done))


def consent(intent: failing.Intent, target: failing.Prospect, accepted_bytes: int | None, *, yes: bool) -> None:
    """Get consent: that silent hosts are off, typed each; that writes may be lost, stated or typed; else a yes."""
    asks = not yes and sys.stdin.isatty()
    for host in intent.silent if asks else ():
        type_word(host, f"Type {host} to say that it is off, or cut from clients and from the other hosts")
    if not intent.needs_acceptance:
        common.confirm(f"Make {target.host} the primary?", yes=yes)
    elif not asks or accepted_bytes is not None:
        failing.accept(target, accepted_bytes)
        common.confirm(f"Make {target.host} the primary?", yes=yes)
    else:
        type_word(target.host, f"Type {target.host} to promote it")


def type_word(word: str, question: str) -> None:
    """Ask for a word; anything else, an empty answer too, is refused."""
    typed = click.prompt(question, default="", show_default=False, err=True)
    if typed.strip() != word:
        message = f"failover refused, nothing was changed: {word} was not typed"
        raise RefusedError(message, hint="run it again, and type the name; --dry-run only shows what would be lost")


def refuse_off(off: tuple[str, ...]) -> None:
    """Raise UsageError where Patroni knows whether a primary is gone."""
    if off:
        message = f"{failing.CONFIRM} is for clusters without Patroni"
        raise UsageError(message, hint="the leader lock in etcd says whether a primary is gone: leave it out")


def show_prospects(intent: failing.Intent, *, stderr: bool) -> None:
    """Show what making each server the primary means, and who is stopped first."""
    console = common.err() if stderr else common.out()
    first = [f"stopped first, and a standby from then on: {', '.join(intent.fenced)}"] if intent.fenced else []
    for line in [*([intent.warning] if intent.warning else []), *map(str, intent.prospects), *first]:
        console.print(line, markup=False)
    if intent.target:
        console.print(f"chosen: {intent.target.host}", markup=False)


def show_failover(done: failing.Failover) -> None:
    """Show a failover that happened."""
    apart = f"\nnot following yet: {', '.join(done.apart)}; pgbaton reinit brings each back" if done.apart else ""
    common.out().print(
        f"{done.target.host} is the primary\npromotion {done.promotion:.2f} s, routing {done.routing:.2f} s\n"
        f"{size(done.target.gap_bytes)} behind the furthest standby{apart}",
        markup=False,
    )


@click.group(epilog="Example: pgbaton standby detach db2")
def standby() -> None:
    """Take a standby out of commits' way, or put it back, where no Patroni does."""


@standby.command(epilog="Example: pgbaton standby detach db2")
@click.argument("host")
@timeout_option
@common.yes_option
@common.cluster_option
@common.output_option
def detach(host: str, *, timeout_seconds: float, yes: bool, cluster: str | None, output: str) -> None:
    """Let commits go on without a standby's confirmation.

    With orchestration.kind = "manual" nobody does this by himself: commits wait for a synchronous standby that is gone
    until it is back, or detached. What is acknowledged without any is on the primary alone.
    """
    change(host, timeout_seconds=timeout_seconds, yes=yes, cluster=cluster, output=output, attach=False)


@standby.command(epilog="Example: pgbaton standby attach db2")
@click.argument("host")
@timeout_option
@common.yes_option
@common.cluster_option
@common.output_option
def attach(host: str, *, timeout_seconds: float, yes: bool, cluster: str | None, output: str) -> None:
    """Have commits wait again for a standby that streams."""
    change(host, timeout_seconds=timeout_seconds, yes=yes, cluster=cluster, output=output, attach=True)


def change(host: str, *, timeout_seconds: float, yes: bool, cluster: str | None, output: str, attach: bool) -> None:
    """Change whose confirmation commits wait for."""
    selected, operation = open_operation(cluster, timeout_seconds)
    known(operation.topology, host)
    standbys.refuse_elsewhere(operation.topology)
    word = "attach" if attach else "detach"
    with selected.lock(f"{word} of {host}"):
        view = seen(operation, word)
        controls = common.run(control.look(operation.topology, operation.hosts))
        wanted = standbys.consider(operation.topology, view, controls, host, attach=attach)
        common.confirm(f"Let commits wait for {listing(wanted.attached)}?", yes=yes)
        common.run(standbys.carry_out(operation, wanted))
    text = f"commits on {wanted.primary} wait for: {listing(wanted.attached)}; detached: {listing(wanted.detached)}"
    common.emit(output, wanted.data, lambda: common.out().print(text, markup=False))
