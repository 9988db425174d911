"""A cluster as most commands need it: what is remembered of it, its topology, its hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton import state
from pgbaton.hosts.connect import connect
from pgbaton.secrets import Vault
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology


@dataclass(frozen=True)
class Opened:
    """A cluster that a command is about."""

    state: ClusterState
    topology: Topology

    def hosts(self) -> Mapping[str, Host]:
        """Return the hosts as they are now: a lab machine that was powered on again is another process."""
        return connect(self.topology, self.state)

    @property
    def vault(self) -> Vault:
        """Return the cluster's secrets."""
        return Vault(self.state.vault_directory)

    @property
    def is_lab(self) -> bool:
        """Tell whether the cluster is a lab on this machine."""
        return self.state.lab_file.exists()


def open_cluster(name: str | None) -> Opened:
    """Return the cluster named, or the only one known; raises UsageError when there is none to choose."""
    selected = state.select(name)
    return Opened(selected, load(selected.topology_file))
