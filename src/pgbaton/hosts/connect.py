"""From a cluster's description to its hosts' transports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.hosts.machine import MachineHost
from pgbaton.hosts.ssh import SshHost
from pgbaton.state import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology


def connect(topology: Topology, state: ClusterState) -> Mapping[str, Host]:
    """Return every host of a cluster by name: lab machines where the cluster is a lab, else over SSH."""
    if state.lab_file.exists():
        machines = read_json(state.lab_file)["hosts"]
        return {machine["name"]: MachineHost(machine["name"], living(machine["leader_pid"])) for machine in machines}
    return {host.name: SshHost.of(host, topology.ssh, state) for host in topology.hosts}


def living(pid: int | None) -> int | None:
    """Return the process id when such a process still runs, else None."""
    return pid if pid is not None and Path(f"/proc/{pid}/ns/mnt").exists() else None
