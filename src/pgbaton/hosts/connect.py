"""From a cluster's description to its hosts' transports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgbaton.hosts.machine import MachineHost, is_living
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
        return {record["name"]: lab_machine(record) for record in read_json(state.lab_file)["hosts"]}
    return {host.name: SshHost.of(host, topology.ssh, state) for host in topology.hosts}


def lab_machine(record: dict[str, Any]) -> MachineHost:
    """Return the transport to a lab machine, off when the process recorded as its first has gone."""
    leader = record["leader_pid"]
    return MachineHost(record["name"], leader if is_living(leader, record.get("leader_started")) else None)
