"""How many connections and files a topology can come to need, at worst.

The size of a pool is that of all processes of a port together. Each process has look-ups and agents' pools of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology import placement, pools
from pgbaton.topology.model import Placement, Role

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology, User

#: Connections that are nobody's pool: Patroni's loop and REST (3), pg_rewind (1), an administrator (1).
OWN_CONNECTIONS = 5
#: Connections of a host's agent to its own server: one that asks, and one that is still being closed.
AGENT_CONNECTIONS = 2
#: Connections of a balancer's agent by the clients' own way that are still being closed.
CLOSING = 1
#: Connections of a router's checks: three backends ask, and each again before the server has closed the one before.
CHECK_CONNECTIONS = 6
#: Files of a program besides its connections: listeners, logs, libraries, checks in flight.
OWN_FILES = 100


def ports_per_pooler(topology: Topology) -> int:
    """Return the ports of each pooler host: for writes, for reads, and for reads of synchronous standbys."""
    return len(placement.pool_ports(topology))


def poolers(topology: Topology) -> int:
    """Return the number of hosts whose PgBouncer can have connections to one server."""
    return 1 if topology.pooling.placement is Placement.DATABASE else len(placement.poolers(topology))


def room(topology: Topology) -> int:
    """Return how many connections of clients a server has room for."""
    own = own_connections(topology) + lookup_connections(topology)
    return max(1, topology.postgresql.max_connections - topology.postgresql.reserved_connections - own)


def processes(topology: Topology) -> int:
    """Return the number of PgBouncer processes on all pooler hosts."""
    return poolers(topology) * ports_per_pooler(topology) * topology.pooling.processes


def pools_a_user(topology: Topology, user: User) -> int:
    """Return the connections that all poolers can hold for one user on one server.

    Reads count too: they go to the primary when no standby is left.
    """
    return poolers(topology) * ports_per_pooler(topology) * pools.of_user(topology, user)


def pooled_connections(topology: Topology) -> int:
    """Return the connections that all pools can hold on one server; a user's own limit bounds its share."""
    shares = {user: pools_a_user(topology, user) for user in topology.users}
    by_user = sum(
        share if user.connection_limit < 0 else min(share, user.connection_limit) for user, share in shares.items()
    )
    return min(by_user, poolers(topology) * ports_per_pooler(topology) * pools.of_port(topology))


def lookup_connections(topology: Topology) -> int:
    """Return the connections that PgBouncer's look-ups of passwords hold: one a database and process."""
    return processes(topology) * len(topology.databases)


def agent_connections(topology: Topology) -> int:
    """Return the connections for agents on one server: its own host's, and of each process a pool and a look-up."""
    return AGENT_CONNECTIONS + 2 * processes(topology) if topology.has_agents else 0


def probe_connections(topology: Topology) -> int:
    """Return the connections of the balancers' agents on one server, by the clients' way.

    Each process for writes may come to pool one, and on each balancer one is still being closed.
    """
    pooled, balancers = topology.pooling.processes * poolers(topology), len(topology.with_role(Role.BALANCER))
    return max(pooled, balancers) + CLOSING * balancers if topology.has_agents else 0


def check_connections(topology: Topology) -> int:
    """Return the connections of HAProxy's own questions to one server, where no Patroni answers them.

    All that could be routers count: while pools move to another placement, those of both ask.
    """
    return CHECK_CONNECTIONS * len(placement.proxied_from(topology)) if topology.is_manual else 0


def own_connections(topology: Topology) -> int:
    """Return the connections to one server that are neither clients' nor poolers'."""
    return OWN_CONNECTIONS + agent_connections(topology) + probe_connections(topology) + check_connections(topology)


def needed_connections(topology: Topology) -> int:
    """Return what max_connections must cover besides the reserved ones."""
    return pooled_connections(topology) + lookup_connections(topology) + own_connections(topology)


def needed_wal_senders(topology: Topology) -> int:
    """Return the replication connections at worst: each standby, and two of a pg_basebackup."""
    return len(topology.with_role(Role.DATABASE)) - 1 + 2


def needed_slots(topology: Topology) -> int:
    """Return the slots at worst: one for each other member, and a spare for one being replaced."""
    return len(topology.with_role(Role.DATABASE)) - 1 + 1


def pgbouncer_files(topology: Topology) -> int:
    """Return the files one PgBouncer can have open: one a connection, and its share of pools taken as all."""
    return topology.pooling.max_clients + pools.of_port(topology) + len(topology.databases) + OWN_FILES


def haproxy_connections(topology: Topology) -> int:
    """Return the connections of all of HAProxy's listeners: clients on each port, and each port's pool to servers."""
    each = topology.balancing.max_connections + topology.postgresql.max_connections
    return len(placement.client_ports(topology)) * each


def haproxy_files(topology: Topology) -> int:
    """Return the files HAProxy can have open: two a connection, and its own."""
    return 2 * haproxy_connections(topology) + 2 * OWN_FILES
