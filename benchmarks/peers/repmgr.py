"""repmgr: a daemon beside every server, no quorum and no fence; clients find the primary themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from peer import Peer, PeerTarget, every_host

from lab import DATABASES, SUBNET, machines
from pgbaton.errors import Error

if TYPE_CHECKING:
    from pgbaton.proof.target import Roles
    from pgbaton.topology.model import Topology

DIRECTORY = "/var/lib/postgresql/17/main"
MANUAL = "https://www.repmgr.org/docs/current"
CONFIG = "/etc/repmgr.conf"
FIRST = "db1"


class Repmgr(Peer):
    """Three nodes, all settings at their defaults, failover=automatic."""

    name: ClassVar[str] = "repmgr"
    package: ClassVar[str] = "repmgr-common"
    title: ClassVar[str] = "repmgr"
    documentation: ClassVar[tuple[str, ...]] = (
        f"{MANUAL}/quickstart.html",
        f"{MANUAL}/repmgrd-basic-configuration.html",
        f"{MANUAL}/configuration-file-service-commands.html",
        f"{MANUAL}/repmgr-standby-switchover.html",
        f"{MANUAL}/repmgr-node-rejoin.html",
    )
    durability: ClassVar[str] = "asynchronous (PostgreSQL's default; its manual recommends nothing else)"
    path: ClassVar[str] = "every host in the connection string, target_session_attrs=read-write"

    def topology(self, cluster: str) -> Topology:
        """Return three database machines."""
        return machines(cluster, data_directory=DIRECTORY)

    async def deploy(self, target: PeerTarget) -> None:
        """Make the primary, clone the standbys from it, start the daemons."""
        key = (await target.script(FIRST, "repmgr-key.sh")).stdout
        names = tuple(DATABASES)
        await asyncio.gather(*(self._prepare(target, name, key) for name in names))
        await target.script(FIRST, "repmgr-primary.sh")
        for name in names:
            if name != FIRST:
                await target.script(name, "repmgr-standby.sh", target.addresses[FIRST])
        await asyncio.gather(*(target.hosts[name].run("systemctl", "restart", "repmgrd") for name in names))

    async def _prepare(self, target: PeerTarget, name: str, key: str) -> None:
        number = str(tuple(DATABASES).index(name) + 1)
        await target.hosts[name].run("install", "-d", "-o", "postgres", "-m", "0700", "/var/lib/postgresql/.ssh")
        keep = 'umask 077; cat > "$1"; chown postgres "$1"'
        await target.hosts[name].run("sh", "-c", keep, "sh", "/var/lib/postgresql/.ssh/id_ed25519", input=key)
        await target.script(name, "repmgr-node.sh", name, number, target.addresses[name], str(SUBNET))

    async def switch_over(self, target: PeerTarget, before: Roles) -> None:
        """Run the switchover on the standby that is to be primary."""
        argv = ("repmgr", "-f", CONFIG, "standby", "switchover", "--siblings-follow")
        await target.as_postgres(before.standbys[0], *argv)

    def conninfo(self, target: PeerTarget, *, writes: bool) -> dict[str, str | int]:
        """Return a connection string that names every host."""
        return every_host(target, writes=writes, dbname="app", user="app")

    async def repair(self, target: PeerTarget, hosts: tuple[str, ...]) -> str | None:
        """Have servers that are down rejoin the primary, or be it again: repmgr leaves that to its operator."""
        primaries = [name for name, said in (await target.look()).items() if not said["recovery"]]
        primary = target.addresses[primaries[0]] if primaries else ""
        done = [await self._rejoin(target, name, primary) for name in hosts if not await self._runs(target, name)]
        return "; ".join(done) or None

    async def _runs(self, target: PeerTarget, name: str) -> bool:
        try:
            await target.as_postgres(name, "pg_isready", "-q", seconds=5.0)
        except Error:
            return False
        return True

    async def _rejoin(self, target: PeerTarget, name: str, primary: str) -> str:
        return (await target.script(name, "repmgr-rejoin.sh", primary)).stdout.strip().splitlines()[-1]
