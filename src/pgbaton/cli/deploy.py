"""Commands that make hosts what a topology says: render, plan, apply, rollback."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgbaton import blueprint as blueprints
from pgbaton import state as states
from pgbaton.cli import common, planview
from pgbaton.cli.interruption import interruptible
from pgbaton.cli.progress import reporter
from pgbaton.deploy import engine, journal
from pgbaton.errors import UsageError
from pgbaton.hosts.connect import connect
from pgbaton.lab import definition
from pgbaton.operate.operation import Operation
from pgbaton.operate.procedures import ClusterProcedures
from pgbaton.topology import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgbaton.blueprint import HostBlueprint
    from pgbaton.deploy.apply import Outcome
    from pgbaton.deploy.engine import Draft
    from pgbaton.deploy.steps import Plan
    from pgbaton.hosts.base import Host
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology

DEFAULT_FILE = Path("topology.toml")
#: What `plan --detailed-exitcode` returns when there is something to do.
CHANGES = 2

file_argument = click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
timeout_option = click.option(
    "--timeout",
    "ready_seconds",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a component may take to become ready; a standby that clones a large database needs more.",
)


@dataclass(frozen=True)
class Subject:
    """The cluster a command is about, and the topology it shall have."""

    state: ClusterState
    text: str
    topology: Topology

    def hosts(self) -> Mapping[str, Host]:
        """Return the cluster's hosts."""
        return connect(self.topology, self.state)


def subject(file: Path | None, cluster: str | None) -> Subject:
    """Return what a command is about: a file's cluster, else the one remembered, else ./topology.toml's."""
    if file is None and not states.known() and cluster is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    if file is None:
        state = states.select(cluster)
        return Subject(state, state.topology_file.read_text(encoding="utf-8"), load.load(state.topology_file))
    topology = load.load(file)
    state = states.cluster(cluster or topology.name)
    if state.lab_file.exists():
        # A lab has its own name and an application machine, whatever the file says.
        topology = definition.complete(topology, state.name)
        return Subject(state, definition.to_toml(topology), topology)
    return Subject(state, file.read_text(encoding="utf-8"), topology)


@click.command(epilog="Example: pgbaton render topology.toml --host db1")
@file_argument
@click.option("--host", metavar="HOST", help="Only this host's files.")
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Write them there, a directory for each host, instead of printing them.",
)
@common.file_cluster_option
@common.output_option
def render(file: Path | None, host: str | None, output_dir: Path | None, cluster: str | None, output: str) -> None:
    """Show every file each host would get; secrets appear as references.

    FILE is a topology; without it, the one that the cluster was given last. Where no cluster is known yet, it is
    topology.toml.
    """
    about = subject(file, cluster)
    if host is not None and not about.topology.has_host(host):
        known = ", ".join(spec.name for spec in about.topology.hosts)
        message = f"no host named {host} in the topology"
        raise UsageError(message, hint=f"known: {known}")
    drawn = blueprints.draw(about.topology)
    chosen = [each for each in drawn.hosts if host in {None, each.host}]
    data = {each.host: {file.path: vars(file) | {"content": file.shown} for file in each.files} for each in chosen}
    if output_dir is not None:
        write_files(output_dir, chosen)
    common.emit(output, data, lambda: None if output_dir else print_files(data))


def print_files(data: dict[str, dict[str, Any]]) -> None:
    """Print files behind a line that says where they belong."""
    for host, files in data.items():
        for path, file in files.items():
            access = f"{file['mode']:04o} {file['owner']} {file['group']}"
            sys.stdout.write(f"### {host}:{path} ({access})\n{file['content'].rstrip()}\n\n")


def write_files(directory: Path, drawn: Sequence[HostBlueprint]) -> None:
    """Write files below a directory, a directory for each host."""
    for host in drawn:
        for file in host.files:
            target = directory / host.host / file.path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content if isinstance(file.content, bytes) else file.content.encode())
    common.err().print(f"{sum(len(host.files) for host in drawn)} files written below {directory}", markup=False)


@click.command(epilog="Example: pgbaton plan topology.toml --save change.json")
@file_argument
@click.option(
    "--detailed-exitcode", is_flag=True, help="Exit with 0 when nothing would change, 2 when something would."
)
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), metavar="PLAN", help="Save the plan, for apply PLAN."
)
@common.file_cluster_option
@common.output_option
def plan(file: Path | None, save: Path | None, cluster: str | None, output: str, *, detailed_exitcode: bool) -> None:
    """Show what apply would change on each host, and what that costs; nothing is changed, here or there.

    FILE is a topology; without it, the one that the cluster was given last. Where no cluster is known yet, it is
    topology.toml.
    """
    about = subject(file, cluster)
    drafted = common.run(engine.draft(about.state, about.text, about.topology, about.hosts(), report=reporter()))
    if save is not None:
        states.write_private(save, json.dumps(drafted.plan.to_json(), indent=1) + "\n")
    common.emit(output, drafted.plan.to_json(), lambda: show(drafted.plan))
    if detailed_exitcode and drafted.plan.changes:
        sys.exit(CHANGES)


def show(made: Plan, *, diffs: bool = True, error: bool = False) -> None:
    """Print a plan on standard output, or on standard error."""
    console = common.err() if error else common.out()
    for line in planview.lines(made, diffs=diffs):
        console.print(line)


@click.command(epilog="Example: pgbaton apply topology.toml")
@file_argument
@timeout_option
@common.yes_option
@common.file_cluster_option
@common.output_option
def apply(file: Path | None, ready_seconds: float, cluster: str | None, output: str, *, yes: bool) -> None:
    """Make a cluster what its topology says, wave by wave.

    FILE is a topology; without it, the one that the cluster was given last. Where no cluster is known yet, it is
    topology.toml. It may also be a plan that `pgbaton plan --save` wrote: exactly that plan is then carried out,
    unless a host has changed since. An apply that was interrupted goes on when it is run again.
    """
    report = reporter()
    saved = journal.load_plan(file) if file is not None and is_plan(file) else None
    about = planned(saved, cluster) if saved else subject(file, cluster)
    with about.state.lock("apply"):
        for what in journal.unfinished(about.state):
            report(f"the last apply did not finish: {what}")
        hosts = about.hosts()
        if saved:
            drafted = engine.saved_draft(about.state, saved)
        else:
            drafted = common.run(engine.draft(about.state, about.text, about.topology, hosts, report=report))
        settle(about.state, drafted, hosts, report, output, yes=yes, ready_seconds=ready_seconds)


def is_plan(file: Path) -> bool:
    """Tell a saved plan from a topology."""
    with file.open("rb") as content:
        return content.read(64).lstrip().startswith(b"{")


def planned(saved: Plan, cluster: str | None) -> Subject:
    """Return what a saved plan is about."""
    topology = load.loads(saved.topology, source=f"plan {saved.id}")
    return Subject(states.cluster(cluster or saved.cluster), saved.topology, topology)


def settle(
    state: ClusterState,
    drafted: Draft,
    hosts: Mapping[str, Host],
    report: Callable[[str], None],
    output: str,
    *,
    yes: bool,
    ready_seconds: float,
) -> None:
    """Show a plan, ask, carry it out, and tell what was done."""
    if drafted.plan.changes:
        show(drafted.plan, diffs=not yes, error=True)
        common.confirm("Carry out this plan?", yes=yes)
    procedures = ClusterProcedures(Operation(drafted.topology, hosts, report))
    work = engine.carry_out(state, drafted, hosts, procedures=procedures, report=report, ready_seconds=ready_seconds)
    outcome = interruptible(work)
    common.emit(output, outcome.to_json() | {"cluster": drafted.plan.cluster}, lambda: tell(outcome))


def tell(outcome: Outcome) -> None:
    """Print what an apply did."""
    done = f"{outcome.steps} steps done" if outcome.steps else "nothing to change"
    common.out().print(f"{done}, everything works, in {outcome.seconds:.1f} s", markup=False)


@click.command(epilog="Example: pgbaton rollback --cluster shop")
@timeout_option
@common.yes_option
@common.cluster_option
@common.output_option
def rollback(ready_seconds: float, cluster: str | None, output: str, *, yes: bool) -> None:
    """Take back the configuration that the last apply changed: files, units and Patroni's dynamic configuration.

    Packages, certificates, roles and databases stay as they are.
    """
    report = reporter()
    state = states.select(cluster)
    with state.lock("rollback"):
        hosts = connect(load.load(state.topology_file), state)
        drafted = common.run(engine.draft_rollback(state, hosts, report=report))
        settle(state, drafted, hosts, report, output, yes=yes, ready_seconds=ready_seconds)
