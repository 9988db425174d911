"""pg_auto_failover: a monitor decides, a keeper on every machine obeys, clients find the primary themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from peer import Peer, PeerTarget, every_host

from lab import DATABASES, address, host, machines
from pgbaton.errors import Error
from pgbaton.operate.waiting import until
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.target import Roles
    from pgbaton.topology.model import Topology

MONITOR = "monitor"
MONITOR_NUMBER = 11
DIRECTORY = "/var/lib/postgresql/ha"
MANUAL = "https://pg-auto-failover.readthedocs.io/en/v2.2"
READY_SECONDS = 120.0


class PgAutoFailover(Peer):
    """Three nodes and a monitor, all settings at their defaults."""

    name: ClassVar[str] = "pg_auto_failover"
    package: ClassVar[str] = "pg-auto-failover-cli"
    title: ClassVar[str] = "pg_auto_failover"
    documentation: ClassVar[tuple[str, ...]] = (
        f"{MANUAL}/install.html",
        f"{MANUAL}/tutorial.html",
        f"{MANUAL}/architecture-multi-standby.html",
        f"{MANUAL}/architecture.html",
    )
    durability: ClassVar[str] = "synchronous: any one of the two standbys (number_sync_standbys 1, set by the monitor)"
    path: ClassVar[str] = "every host in the connection string, target_session_attrs=read-write, sslmode=require"

    def topology(self, cluster: str) -> Topology:
        """Return three database machines and the monitor's."""
        return machines(cluster, host(MONITOR, MONITOR_NUMBER, Role.DCS), data_directory=DIRECTORY)

    async def deploy(self, target: PeerTarget) -> None:
        """Make the monitor, then a node on each machine, one after the other."""
        monitor = str(address(MONITOR_NUMBER))
        await target.script(MONITOR, "pg_auto_failover-monitor.sh", monitor)
        for name, number in DATABASES.items():
            await target.script(name, "pg_auto_failover-node.sh", name, str(address(number)), monitor, DIRECTORY)
            await until(f"{name} is a node at rest", lambda: self.unsettled(target), seconds=READY_SECONDS)

    async def switch_over(self, target: PeerTarget, before: Roles) -> None:
        """Ask the monitor; it chooses the standby."""
        del before
        await self._monitor(target, "perform", "switchover")

    def conninfo(self, target: PeerTarget, *, writes: bool) -> dict[str, str | int]:
        """Return the formation's connection string, as `pg_autoctl show uri` prints it."""
        return every_host(target, writes=writes, dbname="app", user="app", sslmode="require")

    async def unsettled(self, target: PeerTarget) -> str | None:
        """Return the first node that is not in the state assigned to it, or is assigned a passing one."""
        try:
            nodes = json.loads(await self._monitor(target, "show", "state", "--json"))
        except Error as error:
            return error.message
        for node in nodes:
            now, goal = node["current_group_state"], node["assigned_group_state"]
            if now != goal or goal not in {"single", "primary", "secondary"}:
                return f"{node['nodename']} is {now}, to be {goal}"
        return None

    async def _monitor(self, target: PeerTarget, *arguments: str) -> str:
        argv = ("pg_autoctl", *arguments, "--pgdata", "/var/lib/postgresql/monitor")
        return (await target.as_postgres(MONITOR, "env", "PATH=/usr/lib/postgresql/17/bin:/usr/bin:/bin", *argv)).stdout
