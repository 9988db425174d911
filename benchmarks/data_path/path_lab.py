"""The lab of the benchmark: the preset `standard`, with room for as many clients as this machine's files allow."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from pgbaton import state as states
from pgbaton.lab import recipe
from pgbaton.proof.ground import OwnLab
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.topology.model import Topology

#: So many clients log in to PostgreSQL itself, beside the pools and what keeps the cluster going.
DIRECT_CLIENTS = 2_000
SERVER_CONNECTIONS = DIRECT_CLIENTS + 200
#: Files of a program that are no connections.
SPARE_FILES = 400
MOST_FILES = 60_000


def files() -> int:
    """Return how many files a program in a lab can open: this machine's own hard limit, or enough."""
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], MOST_FILES)


def entrances() -> int:
    """Return how many clients a balancer can be told to let in on each port.

    HAProxy has two files for each connection, and the connections of clients on two ports and of pools on two more.
    """
    return (files() - SPARE_FILES) // 4 - SERVER_CONNECTIONS


def topology(cluster: str) -> Topology:
    """Return the cluster; raises ConfigurationError where this machine's files do not do."""
    text = presets.text("standard", cluster=cluster)
    for default, chosen in (
        ("# max_connections = 200 ", f"max_connections = {SERVER_CONNECTIONS} "),
        ("# max_clients = 3000", f"max_clients = {entrances()}"),
        ("# write_port = 5000", f"file_limit = {files()}\nmax_connections = {entrances()}"),
    ):
        if default not in text:
            message = f"the preset has no line {default!r} any more"
            raise ValueError(message)
        text = text.replace(default, chosen)
    return load.loads(text)


def ground(cluster: str, tell: Callable[[str], None]) -> OwnLab:
    """Return the lab, which is not there yet."""
    wanted = topology(cluster)
    system = recipe.system_for(wanted.postgresql.version)
    return OwnLab(states.cluster(cluster), wanted, system, tell, purpose="data-path")
