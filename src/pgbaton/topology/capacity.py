"""How many connections and files a topology can come to need, at worst."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

#: PgBouncers on each pooler host: one for writes, one for reads.
PORTS_PER_POOLER = 2
#: Connections that are nobody's pool: Patroni's loop and REST (3), pg_rewind (1), an administrator (1).
OWN_CONNECTIONS = 5
#: Connections of a host's agent to its own server: one that asks, and one that is still being closed.
AGENT_CONNECTIONS = 2
#: Connections of a balancer's agent by the clients' own way: one that is pooled, and one that is still being closed.
PROBE_CONNECTIONS = 2
#: Connections of a balancer's checks: three backends ask, and each again before the server has closed the one before.
CHECK_CONNECTIONS = 6
#: Files of a program besides its connections: listeners, logs, libraries, checks in flight.
OWN_FILES = 100


def poolers(topology: Topology) -> int:
    """Return the number of hosts that run PgBouncer."""
    return len(topology.with_role(Role.BALANCER))


def pool_per_user(topology: Topology) -> int:
    """Return the server connections one PgBouncer can hold for one user, over all databases."""
    pooling = topology.pooling
    return sum((database.pool_size or pooling.size) + pooling.reserve for database in topology.databases)


def pools_a_user(topology: Topology) -> int:
    """Return the connections that all poolers can hold for one user on one server.

    Reads count too: they go to the primary when no standby is left.
    """
    return poolers(topology) * PORTS_PER_POOLER * pool_per_user(topology)


def pooled_connections(topology: Topology) -> int:
    """Return the connections that all pools can hold on one server; a user's own limit bounds its share."""
    share = pools_a_user(topology)
    limits = (user.connection_limit for user in topology.users)
    return sum(share if limit < 0 else min(share, limit) for limit in limits)


def lookup_connections(topology: Topology) -> int:
    """Return the connections that PgBouncer's look-ups of passwords hold: one a database and PgBouncer."""
    return poolers(topology) * PORTS_PER_POOLER * len(topology.databases)


def agent_connections(topology: Topology) -> int:
    """Return the connections for agents on one server: its own host's, and of each PgBouncer a pool and a look-up."""
    return AGENT_CONNECTIONS + 2 * poolers(topology) * PORTS_PER_POOLER if topology.has_agents else 0


def probe_connections(topology: Topology) -> int:
    """Return the connections of the agents' way through the poolers on one server: one each, and one being closed."""
    return PROBE_CONNECTIONS * poolers(topology) if topology.has_agents else 0


def check_connections(topology: Topology) -> int:
    """Return the connections of HAProxy's own questions to one server, where no Patroni answers them."""
    return CHECK_CONNECTIONS * poolers(topology) if topology.is_manual else 0


def needed_connections(topology: Topology) -> int:
    """Return what max_connections must cover besides the reserved ones."""
    own = OWN_CONNECTIONS + agent_connections(topology) + probe_connections(topology) + check_connections(topology)
    return pooled_connections(topology) + lookup_connections(topology) + own


def needed_wal_senders(topology: Topology) -> int:
    """Return the replication connections at worst: each standby, and two of a pg_basebackup."""
    return len(topology.with_role(Role.DATABASE)) - 1 + 2


def needed_slots(topology: Topology) -> int:
    """Return the slots at worst: one for each other member, and a spare for one being replaced."""
    return len(topology.with_role(Role.DATABASE)) - 1 + 1


def pgbouncer_files(topology: Topology) -> int:
    """Return the files one PgBouncer can have open: one a connection."""
    pools = pool_per_user(topology) * len(topology.users) + len(topology.databases)
    return topology.pooling.max_clients + pools + OWN_FILES


def haproxy_connections(topology: Topology) -> int:
    """Return the connections of all of HAProxy's listeners: clients on both ports, both poolers to the servers."""
    return 2 * topology.balancing.max_connections + 2 * topology.postgresql.max_connections


def haproxy_files(topology: Topology) -> int:
    """Return the files HAProxy can have open: two a connection, and its own."""
    return 2 * haproxy_connections(topology) + 2 * OWN_FILES
