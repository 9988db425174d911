"""From machines to a healthy cluster: the deployment that real clusters get, without a question in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.deploy import engine
from pgbaton.hosts.connect import connect
from pgbaton.operate.operation import Operation
from pgbaton.operate.procedures import ClusterProcedures

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.deploy.apply import Outcome
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology


async def bring_up(state: ClusterState, topology: Topology, *, report: Callable[[str], None]) -> Outcome:
    """Deploy the topology that the cluster's state remembers; what is there already is left alone.

    An earlier run that was interrupted is completed. Raises Error when a component does not become ready.
    """
    with state.lock("bring-up"):
        hosts = connect(topology, state)
        text = state.topology_file.read_text(encoding="utf-8")
        procedures = ClusterProcedures(Operation(topology, hosts, report))
        return await engine.deploy(state, text, topology, hosts, procedures=procedures, report=report)
