"""What a system must answer to be compared: how it is deployed, how clients reach it, and when it is whole."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from asyncio import gather
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pgbaton.errors import Error, UnhealthyError
from pgbaton.operate.waiting import until
from pgbaton.proof.target import LOOK_INTERVAL_SECONDS, Roles, Target
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.process import Result
    from pgbaton.operate.waiting import Report
    from pgbaton.topology.model import Topology

SCRIPTS = Path(__file__).parent / "scripts"
#: A step of a deployment: it may copy a whole server.
STEP_SECONDS = 180.0

#: What a server says of itself and of those that follow it.
LOOK = """
SELECT json_build_object('recovery', pg_is_in_recovery(), 'followers', (
  SELECT coalesce(json_agg(json_build_object('address', host(client_addr), 'confirms', sync_state <> 'async')), '[]')
  FROM pg_stat_replication WHERE state = 'streaming'))
"""


class Peer(ABC):
    """A system that is compared.

    ``documentation`` are the pages that its configuration follows, ``durability`` says what an acknowledged commit
    means there, ``path`` how clients reach the primary, ``package`` has its version.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    documentation: ClassVar[tuple[str, ...]]
    durability: ClassVar[str]
    path: ClassVar[str]
    package: ClassVar[str]

    @abstractmethod
    def topology(self, cluster: str) -> Topology:
        """Return the machines."""

    @abstractmethod
    async def deploy(self, target: PeerTarget) -> None:
        """Make the machines a cluster."""

    @abstractmethod
    async def switch_over(self, target: PeerTarget, before: Roles) -> None:
        """Move the primary to a standby, as its documentation tells operators to."""

    @abstractmethod
    def conninfo(self, target: PeerTarget, *, writes: bool) -> dict[str, str | int]:
        """Return how applications connect."""

    async def roles(self, target: PeerTarget) -> Roles:
        """Return who has which part; here what the servers alone can say: who is primary, and who follows it."""
        return roles(target.addresses, await target.look())

    async def until_whole(self, target: PeerTarget, *, seconds: float) -> float:
        """Wait until everything is in place again; here until all servers are. Returns how long that took."""
        return await target.until_streaming(seconds=seconds)

    async def repair(self, target: PeerTarget, hosts: tuple[str, ...]) -> str | None:
        """Do what its documentation asks of an operator after a failure; return what, None when there is nothing."""
        del target, hosts
        return None

    async def unsettled(self, target: PeerTarget) -> str | None:
        """Return what the system itself still has under way, None when it has come to rest."""
        del target
        return None


@dataclass(frozen=True)
class PeerTarget(Target):
    """A peer's cluster, in the terms of a proof."""

    peer: Peer

    async def roles(self) -> Roles:
        """Return who is primary; raises UnhealthyError unless exactly one server that answers is."""
        return await self.peer.roles(self)

    async def until_whole(self, *, seconds: float, tell: Report | None = None) -> float:
        """Wait until the system is fit for another trial."""
        del tell
        return await self.peer.until_whole(self, seconds=seconds)

    async def until_streaming(self, *, seconds: float) -> float:
        """Wait until one server is primary, all others stream from it, and the system has come to rest."""

        async def look() -> str | None:
            try:
                now = await self.roles()
            except UnhealthyError as error:
                return error.message
            missing = self.addresses.keys() - {now.primary, *now.standbys}
            if missing:
                return f"no standby that streams: {', '.join(sorted(missing))}"
            return await self.peer.unsettled(self)

        return await until("the cluster is whole", look, seconds=seconds, interval_seconds=LOOK_INTERVAL_SECONDS)

    def conninfo(self, *, reads: bool = False) -> dict[str, str | int]:
        """Return how applications connect, as the peer's documentation says."""
        return self.peer.conninfo(self, writes=not reads)

    @property
    def addresses(self) -> dict[str, str]:
        """Return the addresses of the database machines by name."""
        return {host.name: str(host.address) for host in self.topology.with_role(Role.DATABASE)}

    async def look(self) -> dict[str, dict[str, Any]]:
        """Return what every server that answers says of itself."""
        names = tuple(self.addresses)
        seen = await gather(*map(self._ask, names))
        return {name: said for name, said in zip(names, seen, strict=True) if said is not None}

    async def _ask(self, name: str) -> dict[str, Any] | None:
        try:
            said = await self.sql(name, LOOK)
        except Error:
            return None
        answer: dict[str, Any] = json.loads(said)
        return answer

    async def sql(self, name: str, statement: str, *, database: str = "postgres") -> str:
        """Run a statement as superuser over the machine's Unix socket."""
        argv = ("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement)
        return (await self.as_postgres(name, *argv, seconds=10.0)).stdout.strip()

    async def as_postgres(self, name: str, *argv: str, seconds: float = STEP_SECONDS) -> Result:
        """Run a program as the user that owns the server."""
        return await self.hosts[name].run("runuser", "-u", "postgres", "--", *argv, timeout=seconds)

    async def script(self, name: str, script: str, *arguments: str) -> Result:
        """Run one of the scripts beside this module on a machine, as root."""
        self.report(f"{name}: {script} {' '.join(arguments)}")
        text = (SCRIPTS / script).read_text(encoding="utf-8")
        return await self.hosts[name].run(
            "bash", "-euo", "pipefail", "-c", text, script, *arguments, timeout=STEP_SECONDS
        )


def roles(addresses: Mapping[str, str], seen: Mapping[str, Mapping[str, Any]]) -> Roles:
    """Read the roles from what servers say; raises UnhealthyError unless exactly one is primary. Pure."""
    primaries = [name for name, said in seen.items() if not said["recovery"]]
    if len(primaries) != 1:
        message = f"primaries: {', '.join(primaries) or 'none'}"
        raise UnhealthyError(message, hint="its journals tell why: pgbaton lab logs")
    followers = {each["address"]: each["confirms"] for each in seen[primaries[0]]["followers"]}
    standbys = tuple(name for name, address in addresses.items() if address in followers)
    return Roles(
        primary=primaries[0],
        vip=None,
        standbys=standbys,
        synchronous=tuple(name for name in standbys if followers[addresses[name]]),
    )


def every_host(target: PeerTarget, *, writes: bool, **parameters: str | int) -> dict[str, str | int]:
    """Return a multi-host connection string's parameters: the primary is whichever server takes writes."""
    names = target.addresses.values()
    return {
        "host": ",".join(names),
        "port": ",".join("5432" for _ in names),
        "target_session_attrs": "read-write" if writes else "prefer-standby",
        **parameters,
    }
