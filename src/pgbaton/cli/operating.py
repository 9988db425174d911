"""What commands that operate a cluster share: how long they wait, and a first look at the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgbaton.cli import common
from pgbaton.cli.opened import open_cluster
from pgbaton.operate.members import require_reached
from pgbaton.operate.operation import Operation

if TYPE_CHECKING:
    from pgbaton.operate.members import View
    from pgbaton.state import ClusterState


timeout_option = click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Deadline of each single wait.",
)


def open_operation(cluster: str | None, timeout_seconds: float) -> tuple[ClusterState, Operation]:
    """Return the cluster a command is about, and an operation on it that reports on standard error."""
    found, console = open_cluster(cluster), common.err()

    def report(line: str) -> None:
        common.tell(console, line, markup=False)

    return found.state, Operation(found.topology, found.hosts(), report, timeout_seconds)


def seen(operation: Operation, action: str) -> View:
    """Return the cluster as it is now; raises UnreachableError when no database host was reached."""
    view = common.run(operation.look())
    require_reached(view, action)
    return view
