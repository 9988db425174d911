"""What every operation works with: the cluster's description, its hosts, where to tell progress, how long to wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgbaton.operate import dcs, members, patroni_api, routing, servers
from pgbaton.operate.checks import listing
from pgbaton.operate.servers import Absence, Server
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.operate.members import View
    from pgbaton.operate.patroni_api import Patroni
    from pgbaton.operate.waiting import Report
    from pgbaton.topology.model import Topology


@dataclass(frozen=True)
class Operation:
    """One operation on one cluster; ``timeout_seconds`` limits every single wait."""

    topology: Topology
    hosts: Mapping[str, Host]
    report: Report
    timeout_seconds: float = 60

    def within(self, seconds: float) -> Operation:
        """Return the same operation with another limit of every single wait."""
        return replace(self, timeout_seconds=seconds)

    async def look(self) -> View:
        """Look at the whole cluster."""
        return await members.look(self.topology, self.hosts)

    async def server(self, host: str) -> Server | Absence:
        """Look at one server."""
        return await servers.look(self.topology, self.hosts[host])

    async def upstreams(self, standby: str, primary: str) -> tuple[Server | Absence, ...]:
        """Look at the servers that a standby may receive from: the primary's, and the one that it is put behind."""
        above = self.topology.host(standby).replicate_from
        names = dict.fromkeys((primary, *((above,) if above else ())))
        return tuple(await asyncio.gather(*map(self.server, names)))

    async def sql(self, host: str, statement: str, *, seconds: float = 6) -> str:
        """Run one statement as the superuser on one server."""
        return await servers.sql(self.topology, self.hosts[host], statement, seconds=seconds)

    def patroni(self, host: str) -> Patroni:
        """Return the Patroni of one database host."""
        return patroni_api.of(self.topology, self.hosts[host])

    async def until_routed(self, primary: str) -> float:
        """Wait until every balancer that answers sends writes to ``primary`` alone; return the seconds."""

        async def look() -> str | None:
            routes = await routing.look(self.topology, self.hosts)
            astray = {name: route for name, route in routes.items() if route != frozenset({primary})}
            heard = {name: listing(sorted(route)) for name, route in astray.items() if not isinstance(route, str)}
            return "; ".join(f"{name} sends them to {servers}" for name, servers in heard.items()) or None

        return await until(f"every balancer sends writes to {primary}", look, seconds=self.timeout_seconds)

    async def until_streaming(self, standby: str, primary: str, *, restarted_after: float | None = None) -> float:
        """Wait until ``standby`` streams from ``primary``; return the seconds.

        With ``restarted_after``, the start time its server had before, only a server that started since counts.
        """

        async def look() -> str | None:
            own, served = await asyncio.gather(self.server(standby), self.upstreams(standby, primary))
            if isinstance(own, Server) and own.started == restarted_after:
                return "not restarted yet"
            return not_streaming(standby, own, *served)

        what = f"{standby} streams from {primary}"
        return await until(what, look, seconds=self.timeout_seconds, interval_seconds=0.3)

    async def until_synchronous(self) -> float:
        """Wait until Patroni's record names a synchronous standby, where there should be one; return the seconds.

        A standby streams some loops before Patroni relies on it; until then nobody may take over.
        """

        async def look() -> str | None:
            record = (await dcs.read(self.topology, self.hosts)).dcs
            if record is None:
                return "etcd does not answer"
            return None if record.sync_standbys or not record.synchronous else "none"

        what = "a synchronous standby is recorded"
        return await until(what, look, seconds=self.timeout_seconds, interval_seconds=0.3)


def not_streaming(standby: str, own: Server | Absence, *served: Server | Absence) -> str | None:
    """Return what keeps a standby from streaming; None when it streams.

    Its own word counts, and that of the primary, or of the standby that it may receive from instead.
    """
    absent = [server.reason for server in served if isinstance(server, Absence)]
    if isinstance(own, Absence) or len(absent) == len(served):
        return own.reason if isinstance(own, Absence) else absent[0]
    if not own.in_recovery:
        return "out of recovery"
    names = frozenset(name for server in served if isinstance(server, Server) for name in server.streaming_to)
    return None if own.receiving and standby in names else "in recovery, not streaming"
