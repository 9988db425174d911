"""What cannot be measured without harm: more clients than a way has room for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.observe import connections
from pgbaton.topology import capacity
from pgbaton.topology.model import PoolMode

if TYPE_CHECKING:
    from pgbaton.measure.plan import Case
    from pgbaton.measure.ways import Way
    from pgbaton.topology.model import Topology

#: What a server lets ordinary users have, and how many connections there are now.
CONNECTIONS = (
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
    "- coalesce(current_setting('reserved_connections', true), '0')::int, "
    "(SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')"
)


@dataclass(frozen=True)
class Connections:
    """A server's connections: how many ordinary users may have, and how many there are."""

    most: int
    used: int


def parse(answer: str) -> Connections:
    """Read the answer to CONNECTIONS."""
    most, used = answer.split("|")
    return Connections(int(most), int(used))


def beyond_poolers(topology: Topology, case: Case) -> str | None:
    """Tell why a case cannot be measured through the poolers; None when it can."""
    pooling, balancing = topology.pooling, topology.balancing
    entry, _ = connections.endpoints(topology, authority="", user=None, database=None)
    if case.protocol == "prepared" and not entry.prepared:
        return "the poolers keep no prepared statements"
    most = min(pooling.max_clients, balancing.max_connections)
    if case.clients > most:
        return f"the topology lets {most:,} clients in: pooling.max_clients, balancing.max_connections"
    servers = (topology.databases[0].pool_size or pooling.size) + pooling.reserve
    if pooling.mode is PoolMode.SESSION and case.clients > servers:
        return f"pools of sessions serve as many clients as they have connections, which are {servers}"
    return None


def beyond_server(topology: Topology, case: Case, seen: Connections, *, lab: bool) -> str | None:
    """Tell why a case cannot be measured at PostgreSQL itself; None when it can.

    On a cluster in use, what the pools may come to need is left to them.
    """
    kept = seen.used if lab else max(seen.used, capacity.needed_connections(topology))
    owner = next(user for user in topology.users if user.name == topology.databases[0].owner)
    if case.clients > seen.most - kept:
        whose = "are in use" if kept == seen.used else "may be needed by the pools"
        return f"the server lets {seen.most} in, of which {kept} {whose}: there is room for {max(seen.most - kept, 0)}"
    if 0 <= owner.connection_limit < case.clients:
        return f"the user {owner.name} may have {owner.connection_limit} connections"
    return None


def beyond_firewall(topology: Topology, way: Way, client: str) -> str | None:
    """Tell why a host's clients are not let in by a way; None when they are. To poolers, balancers always are."""
    if not topology.security.firewall or way.loopback or way.name not in {"balancer", "vip"}:
        return None
    own = topology.has_host(client) and topology.host(client).address
    if not own or any(own in network for network in topology.client_networks):
        return None
    return f"the firewall lets no client in from {client}: security.client_networks; --path pooler is open to it"


def obstacle(topology: Topology, case: Case, way: Way, client: str, seen: Connections, *, lab: bool) -> str | None:
    """Tell why a case cannot be measured by a way from a host; None when it can."""
    if not way.pooled:
        return beyond_server(topology, case, seen, lab=lab)
    return beyond_firewall(topology, way, client) or beyond_poolers(topology, case)
