"""From a cluster's description to its hosts' transports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pgbaton.hosts.local import LocalHost
from pgbaton.hosts.machine import MachineHost, is_living
from pgbaton.hosts.ssh import SshHost
from pgbaton.state import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import HostSpec, Topology

#: What a host's ``ssh`` says when it is the machine that pgbaton runs on.
LOCAL = "local"


def connect(topology: Topology, state: ClusterState) -> Mapping[str, Host]:
    """Return every host of a cluster by name: lab machines where the cluster is a lab, else as its ``ssh`` says."""
    if state.lab_file.exists():
        return {record["name"]: lab_machine(record) for record in read_json(state.lab_file)["hosts"]}
    return {host.name: reach(host, topology, state) for host in topology.hosts}


def reach(host: HostSpec, topology: Topology, state: ClusterState) -> Host:
    """Return the transport to a real host: this machine where its ``ssh`` is "local", else OpenSSH."""
    if host.ssh == LOCAL:
        return LocalHost(host.name, sudo=os.geteuid() != 0)
    return SshHost.of(host, topology.ssh, state)


def lab_machine(record: dict[str, Any]) -> MachineHost:
    """Return the transport to a lab machine, off when the process recorded as its first has gone."""
    leader = record["leader_pid"]
    return MachineHost(record["name"], leader if is_living(leader, record.get("leader_started")) else None)
