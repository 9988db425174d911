"""The cluster as an operation sees it: every database host, Patroni's record, every balancer's route, at one moment."""

from __future__ import annotations

import asyncio
import re
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgbaton.errors import RefusedError, UnreachableError, UsageError
from pgbaton.operate import dcs, fences, routing, servers
from pgbaton.operate.checks import listing
from pgbaton.operate.servers import Absence, Server
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.operate.dcs import Dcs, Reading
    from pgbaton.operate.fences import Fences
    from pgbaton.operate.routing import Route
    from pgbaton.topology.model import Topology


@dataclass(frozen=True)
class View:
    """One look at the cluster; ``servers`` holds every database host in the topology's order."""

    servers: Mapping[str, Server | Absence]
    reading: Reading
    routes: Mapping[str, Route] = field(default_factory=dict)
    fences: Fences = None

    @property
    def dcs(self) -> Dcs | None:
        """Return Patroni's record; None when etcd has no majority that answers."""
        return self.reading.dcs

    @property
    def running(self) -> dict[str, Server]:
        """Return the servers that answer."""
        return {name: server for name, server in self.servers.items() if isinstance(server, Server)}

    @property
    def primaries(self) -> tuple[str, ...]:
        """Return the hosts whose server is out of recovery: exactly one in a healthy cluster."""
        return tuple(name for name, server in self.running.items() if not server.in_recovery)

    @property
    def primary(self) -> str | None:
        """Return the primary; None when there is none, or more than one."""
        return self.primaries[0] if len(self.primaries) == 1 else None

    @property
    def streaming(self) -> frozenset[str]:
        """Return the standbys that receive from the primary, by their own word and by the primary's.

        So do those that receive from one of them.
        """
        if self.primary is None:
            return frozenset()
        receiving = {name for name, server in self.running.items() if server.receiving}
        found, last = frozenset[str](), frozenset({self.primary})
        while last:
            last = frozenset(name for above in last for name in self.running[above].streaming_to & receiving) - found
            found |= last
        return found

    @property
    def synchronous(self) -> frozenset[str]:
        """Return the standbys that Patroni has recorded as safe to promote."""
        return self.dcs.sync_standbys if self.dcs and self.dcs.synchronous else frozenset()

    def said(self, host: str) -> str:
        """Describe one server in a few words."""
        server = self.servers[host]
        if isinstance(server, Absence):
            return server.reason
        if not server.in_recovery:
            return "primary"
        return "streaming standby" if host in self.streaming else "standby that does not stream"


async def look(topology: Topology, hosts: Mapping[str, Host]) -> View:
    """Ask every database host, every etcd member, every balancer and every host with an agent at once."""
    names = database_names(topology)
    found, reading, routes, fenced = await asyncio.gather(
        asyncio.gather(*(servers.look(topology, hosts[name]) for name in names)),
        dcs.read(topology, hosts),
        routing.look(topology, hosts),
        fences.look(topology, hosts),
    )
    return View(dict(zip(names, found, strict=True)), reading, routes, fenced)


def database_names(topology: Topology) -> tuple[str, ...]:
    """Return the database hosts in the topology's order."""
    return tuple(host.name for host in topology.with_role(Role.DATABASE))


def known(topology: Topology, host: str) -> str:
    """Return the name of a database host; raises UsageError when there is none of that name."""
    names = database_names(topology)
    if host not in names:
        message = f"{host} is no database host of cluster {topology.name}"
        raise UsageError(message, hint=f"its database hosts: {', '.join(names)}")
    return host


def require_reached(view: View, action: str) -> None:
    """Raise UnreachableError when no database host answers at all: whether there is a primary is not known then."""
    absent = {name: server for name, server in view.servers.items() if isinstance(server, Absence)}
    if len(absent) < len(view.servers) or any(server.host_answers for server in absent.values()):
        return
    reasons = [f"{name}: {brief(server.reason)}" for name, server in absent.items()]
    message = "\n  ".join([f"{action} refused, nothing was changed: no database host was reached:", *reasons])
    hint = "see that they are on and that this machine reaches them; pgbaton status shows every host"
    raise UnreachableError(message, hint=hint)


def brief(reason: str) -> str:
    """Return why a host did not answer, in one short line: without the command line that had no end."""
    return textwrap.shorten(re.sub(r"^(no end after [^:]*): .*", r"\1", reason, flags=re.DOTALL), 90, placeholder=" …")


def only_primary(view: View, action: str) -> str:
    """Return the one primary; raises RefusedError when there is none, or more than one.

    Raises UnreachableError when no host was reached, so that nobody knows.
    """
    require_reached(view, action)
    if view.primary is None:
        found = listing(view.primaries)
        message = f"{action} refused, nothing was changed: servers out of recovery: {found}; wanted: exactly one"
        hint = (
            "when none comes back: pgbaton failover"
            if not view.primaries
            else "pgbaton status shows who is primary, and by what right"
        )
        raise RefusedError(message, hint=hint)
    return view.primary
