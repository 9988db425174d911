"""Where each balancer sends writes: HAProxy's own opinion, asked over its runtime socket."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import TYPE_CHECKING

from pgbaton.errors import Error
from pgbaton.topology import placement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import Topology

# Runs on the balancer; /run/haproxy/admin.sock is readable by root alone.
PROGRAM = """
import socket
with socket.socket(socket.AF_UNIX) as channel:
    channel.settimeout(3)
    channel.connect("/run/haproxy/admin.sock")
    channel.sendall(b"show stat\\n")
    while part := channel.recv(65536):
        print(part.decode(), end="")
"""

#: The servers a balancer holds for the primary (several, none), or why it could not be asked.
Route = frozenset[str] | str


def parse(output: str) -> frozenset[str]:
    """Return the database hosts that HAProxy holds for the primary, from its statistics as CSV."""
    rows = csv.DictReader(io.StringIO(output.removeprefix("# ")))
    servers = (row for row in rows if row["pxname"] == "primary" and row["svname"] not in {"FRONTEND", "BACKEND"})
    return frozenset(row["svname"] for row in servers if row["status"].startswith("UP"))


async def look(topology: Topology, hosts: Mapping[str, Host]) -> dict[str, Route]:
    """Ask every host at once whose HAProxy leads to the servers."""
    names = [host.name for host in placement.routers(topology)]
    routes = await asyncio.gather(*(ask(hosts[name]) for name in names))
    return dict(zip(names, routes, strict=True))


async def ask(host: Host) -> Route:
    """Ask one balancer."""
    try:
        result = await host.run("python3", "-c", PROGRAM, timeout=6)
    except Error as error:
        return error.message.strip().splitlines()[-1]
    return parse(result.stdout)
