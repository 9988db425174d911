"""``pgbaton lab``: clusters of real machines on this one."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgbaton import state as states
from pgbaton.cli.common import cluster_named, cluster_option, emit, err, need_root, out, output_option, run
from pgbaton.errors import UsageError
from pgbaton.hosts import process
from pgbaton.lab import definition, disk, image, lifecycle, recipe, record
from pgbaton.topology.addresses import at_port

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pgbaton.lab.record import Lab, Machine
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology

#: Exit statuses of commands that a signal ended, as shells count them.
TERMINATED = 128 + signal.SIGTERM

os_option = click.option("--os", "system", type=click.Choice(list(recipe.SYSTEMS)), help="Operating system.")


@click.group(epilog="Example: pgbaton lab up --preset classic && pgbaton lab exec lb1 -- ip address")
def lab() -> None:
    """Clusters of real systemd machines on this one, deployed as real clusters are.

    Every machine runs Debian on a disk and a network of its own. A lab lives on after the command that made it;
    `pgbaton lab down` leaves nothing of it. Needs root.
    """


def say(text: str) -> None:
    """Report progress."""
    err().print(text, markup=False)


@lab.command("image", epilog="Example: pgbaton lab image --os debian-12")
@os_option
@click.option("--bare", is_flag=True, help="Also build the root of a freshly installed server.")
@click.option("--refresh", is_flag=True, help="Build anew, with the newest packages.")
@output_option
def make_image(system: str | None, output: str, *, bare: bool, refresh: bool) -> None:
    """Build the image that machines are laid over, unless it is there already."""
    need_root("a lab")
    chosen = recipe.system(system or next(iter(recipe.SYSTEMS)))
    made = run(image.ensure(chosen, bare=bare, refresh=refresh, report=say))
    data = {"os": chosen.name, "root": str(made.root), "bare": str(made.bare) if made.bare.is_dir() else None}
    emit(output, data, lambda: out().print(str(made.root), markup=False))


@lab.command(epilog="Example: pgbaton lab up cluster.toml --os debian-13 --cluster trial")
@click.argument("topology", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--preset", metavar="NAME", help="A topology that comes with pgbaton: standard, classic or compact.")
@os_option
@click.option("--bare", is_flag=True, help="Start from machines without the packages; apply then installs them.")
@click.option("--durable", is_flag=True, help="Keep the machines' disks on disk, not in memory.")
@click.option("--no-deploy", is_flag=True, help="Boot the machines and leave them empty.")
@cluster_named("The lab's name; by default the topology's own, and without one that of the only lab there is.")
@output_option
def up(cluster: str | None, output: str, *, no_deploy: bool, **options: Any) -> None:  # noqa: ANN401 - click's own
    """Make a lab and deploy its cluster; a lab that exists is completed.

    TOPOLOGY is a topology file; without one, and without --preset, the only lab there is is completed, and if there
    is none, the standard preset is used.
    """
    need_root("a lab")
    state, topology = wanted(options["topology"], options["preset"], cluster)
    again = (
        f"pgbaton lab up --cluster {state.name} completes the lab; pgbaton lab down --cluster {state.name} removes it"
    )
    work = bring_up(
        state, topology, options["system"], bare=options["bare"], durable=options["durable"], deploy=not no_deploy
    )
    interruptible(work, advice=again)
    show_status(state, output)


async def bring_up(
    state: ClusterState, topology: Topology, system: str | None, *, bare: bool, durable: bool, deploy: bool
) -> None:
    """Make a lab and deploy on it."""
    if state.lab_file.exists():  # what a lab was made as, it stays
        made_as = record.load(state)
        system, bare, durable = system or made_as.system, bare or made_as.bare, durable or made_as.durable is not None
    chosen = recipe.system(system) if system else recipe.system_for(topology.postgresql.version)
    adapted = definition.on_system(topology, chosen)
    made = await image.ensure(chosen, bare=bare, report=say)
    complete = await lifecycle.create(state, adapted, image=made, bare=bare, durable=durable, report=say)
    if deploy:
        from pgbaton.operate import bringup  # noqa: PLC0415 - most lab commands do without

        await bringup.bring_up(state, complete, report=say)


def wanted(path: Path | None, preset: str | None, cluster: str | None) -> tuple[ClusterState, Topology]:
    """Return which lab to make, and its topology: from a file, a preset, or as it was recorded."""
    from pgbaton.topology import load, presets  # noqa: PLC0415 - most lab commands do without

    if path and preset:
        message = "TOPOLOGY and --preset exclude each other"
        raise UsageError(message, hint="give one of them")
    if cluster:
        definition.check_name(cluster)
    if path:
        topology = load.load(path)
        return states.cluster(cluster or topology.name), topology
    existing = recorded(cluster)
    if existing and not preset:
        return existing, load.load(existing.topology_file)
    topology = load.loads(presets.text(preset or "standard", cluster=cluster))
    return states.cluster(topology.name), topology


def recorded(cluster: str | None) -> ClusterState | None:
    """Return the lab of a name, or the only one, if it is far enough to have a topology."""
    found = [state for state in lifecycle.labs() if state.exists and cluster in {None, state.name}]
    return found[0] if len(found) == 1 else None


def interruptible(work: Coroutine[Any, Any, None], *, advice: str) -> None:
    """Run work to its end; ^C and SIGTERM cancel it in an orderly way, and the user is told how to go on."""
    terminated = False

    async def watched() -> None:
        task = asyncio.ensure_future(work)

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        await task

    try:
        run(watched())
    except (KeyboardInterrupt, asyncio.CancelledError):
        say(f"interrupted: {advice}")
        if terminated:
            sys.exit(TERMINATED)
        raise KeyboardInterrupt from None


@lab.command(epilog="Example: pgbaton lab down --all")
@click.option("--all", "everything", is_flag=True, help="All labs.")
@cluster_option
def down(cluster: str | None, *, everything: bool) -> None:
    """Take a lab down and forget it: machines, disks, network, state and secrets."""
    need_root("a lab")
    chosen = lifecycle.labs() if everything else (select(cluster),)
    for state in chosen:
        run(lifecycle.destroy(state, report=say))
    if everything:
        run(lifecycle.sweep_orphans(say))


def select(cluster: str | None) -> ClusterState:
    """Return the lab a command is about; one whose making was interrupted at once counts too."""
    half_made = [state for state in lifecycle.labs() if state.name == cluster]
    return half_made[0] if half_made else states.select(cluster)


@lab.command(epilog="Example: pgbaton lab status -o json")
@cluster_option
@output_option
def status(cluster: str | None, output: str) -> None:
    """Show a lab's machines and links."""
    show_status(select(cluster), output)


def show_status(state: ClusterState, output: str) -> None:
    """Print a lab as it is now."""
    current = lifecycle.status(state)
    emit(output, current.to_json(), lambda: print_table(current))


def print_table(current: Lab) -> None:
    """Print a lab's machines as a table, and its cuts."""
    from rich.table import Table  # noqa: PLC0415 - not needed for JSON

    table = Table(
        "machine", "roles", "address", "state", "namespace", title=f"lab {current.name}", title_justify="left"
    )
    for each in current.machines:
        colour = "green" if each.state == "running" else "red"
        addresses = ", ".join(filter(None, (each.address, each.replication_address)))
        table.add_row(each.name, " ".join(each.roles), addresses, f"[{colour}]{each.state}[/]", each.netns)
    out().print(table)
    for vip in current.vips:
        out().print(f"writes {at_port(vip, current.write_port)}, reads {at_port(vip, current.read_port)}")
    for cut_link in current.cuts:
        out().print(f"[red]cut[/] {cut_link}")
    for loss in current.losses:
        out().print(f"[red]loss[/] {loss.machine}: {loss.percent} %")
    for delay in current.delays:
        out().print(f"[red]delay[/] {delay.machine}: {delay.milliseconds:g} ms each way")


@lab.command(
    "exec", context_settings={"allow_interspersed_args": False}, epilog="Example: pgbaton lab exec db1 -- df -h"
)
@cluster_option
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(cluster: str | None, host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on HOST as root; its exit status becomes this command's."""
    need_root("a lab")
    program = command[1:] if command[0] == "--" else command
    process.replace(*lifecycle.host(select(cluster), host).local_argv(program, terminal=sys.stdin.isatty()))


@lab.command(epilog="Example: pgbaton lab shell db1")
@cluster_option
@click.argument("host")
def shell(cluster: str | None, host: str) -> None:
    """Open a shell on HOST as root."""
    need_root("a lab")
    # script(1) gives the shell a terminal that belongs to the machine, so that job control works.
    command = ("script", "--quiet", "--return", "--command", "exec bash --login", "/dev/null")
    process.replace(*lifecycle.host(select(cluster), host).local_argv(command, terminal=True))


@lab.command(epilog="Example: pgbaton lab logs db1 db2 --unit patroni --follow")
@cluster_option
@click.argument("hosts", nargs=-1)
@click.option("--unit", "-u", multiple=True, help="Only this systemd unit; may be repeated.")
@click.option("--lines", "-n", type=click.IntRange(min=0), help="Only so many, the newest.")
@click.option("--since", metavar="TIME", help="Only from this time on, in any form that journalctl takes.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on.")
@click.option("--console", is_flag=True, help="What the machines wrote on their consoles instead.")
@output_option
def logs(cluster: str | None, hosts: tuple[str, ...], output: str, *, console: bool, **choice: Any) -> None:  # noqa: ANN401
    """Show the journals of HOSTS, or of all, in the order of time; machines that are off have theirs still."""
    need_root("a lab")
    current = lifecycle.status(select(cluster))
    machines = tuple(map(current.machine, hosts)) or current.machines
    if console:
        show_consoles(current, machines)
        return
    process.replace("journalctl", "--no-pager", *journal_options(current, machines, output, choice))


def journal_options(current: Lab, machines: tuple[Machine, ...], output: str, choice: dict[str, Any]) -> list[str]:
    """Return journalctl's options for what was asked."""
    form = "json" if output == "json" else "short-iso-precise"
    files = [f"--file={disk.root(current, each)}/var/log/journal/*/*.journal" for each in machines]
    units = [f"--unit={unit}" for unit in choice["unit"]]
    amounts = {"lines": choice["lines"], "since": choice["since"]}
    limits = [f"--{name}={value}" for name, value in amounts.items() if value is not None]
    return [f"--output={form}", *files, *units, *limits, *(["--follow"] if choice["follow"] else [])]


def show_consoles(current: Lab, machines: tuple[Machine, ...]) -> None:
    """Print what machines wrote on their consoles."""
    for each in machines:
        path = disk.console(current, each)
        sys.stdout.write(path.read_text(encoding="utf-8", errors="replace") if path.exists() else "")


@lab.command("power-off", epilog="Example: pgbaton lab power-off db1")
@cluster_option
@click.argument("host")
def power_off(cluster: str | None, host: str) -> None:
    """Cut HOST's power: nothing in it gets to say goodbye. Its disk stays."""
    need_root("a lab")
    run(lifecycle.power_off(select(cluster), host))
    say(f"{host}: off")


@lab.command("power-on", epilog="Example: pgbaton lab power-on db1")
@cluster_option
@click.argument("host")
def power_on(cluster: str | None, host: str) -> None:
    """Boot HOST from the disk it had."""
    need_root("a lab")
    run(lifecycle.power_on(select(cluster), host, report=say))


@lab.command(epilog="Example: pgbaton lab cut db1 db2 --one-way")
@cluster_option
@click.argument("a")
@click.argument("b")
@click.option("--one-way", is_flag=True, help="Only from A to B.")
@click.option(
    "--network",
    type=click.Choice((record.CLIENTS, record.REPLICATION)),
    help="Only on this network, where replication has one of its own.",
)
def cut(cluster: str | None, a: str, b: str, network: str | None, *, one_way: bool) -> None:
    """Have the network drop everything between A and B, until it is healed."""
    need_root("a lab")
    run(lifecycle.cut(select(cluster), a, b, one_way=one_way, network=network or ""))
    say(f"cut {a} {'->' if one_way else '<->'} {b}{f' (network of {network})' if network else ''}")


@lab.command(epilog="Example: pgbaton lab heal")
@cluster_option
def heal(cluster: str | None) -> None:
    """Take back all cuts, losses and delays."""
    need_root("a lab")
    run(lifecycle.heal(select(cluster)))
    say("healed")
