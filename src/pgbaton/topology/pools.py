"""What the pools of a topology come to: their modes, their sizes, and each process's share of them.

A size is that of one pool, of a database and a user, on one pooler host and port, whatever the number of processes
there. PgBouncer's own settings are each process's, so the number is divided among the processes: what is left over
goes to the first of them, and all shares together make the number again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgbaton.topology.model import Database, PoolMode, Topology, User


def instances(purpose: str, processes: int) -> tuple[str, ...]:
    """Return the names of the processes on one port: ``write``, then ``write-2`` and so on."""
    return (purpose, *(f"{purpose}-{number}" for number in range(2, processes + 1)))


def share(total: int, processes: int, number: int) -> int:
    """Return what the process of a number, from 1 on, has of a total."""
    return total // processes + (number <= total % processes)


def mode(topology: Topology, database: Database, user: User) -> PoolMode:
    """Return the mode of a pool: the user's own comes before the database's, as in PgBouncer."""
    return user.pool_mode or database.pool_mode or topology.pooling.mode


def size(topology: Topology, database: Database, user: User) -> int:
    """Return the size of a pool without its reserve: the user's own comes before the database's, as in PgBouncer."""
    return user.pool_size or database.pool_size or topology.pooling.size


def largest(topology: Topology, database: Database, user: User) -> int:
    """Return what a pool can grow to: its size and its reserve, within the limits of its user and its database."""
    grown = size(topology, database, user) + topology.pooling.reserve
    return min(grown, *(limit for limit in (user.max_user_connections, database.max_db_connections, grown) if limit))


def of_user(topology: Topology, user: User) -> int:
    """Return the server connections that one pooler host and port can hold for a user, over all databases."""
    total = sum(largest(topology, database, user) for database in topology.databases)
    return min(total, user.max_user_connections or total)


def of_database(topology: Topology, database: Database) -> int:
    """Return the server connections that one pooler host and port can hold to a database, over all users."""
    total = sum(largest(topology, database, user) for user in topology.users)
    return min(total, database.max_db_connections or total)


def of_port(topology: Topology) -> int:
    """Return the server connections that one pooler host and port can hold for all users."""
    by_user = sum(of_user(topology, user) for user in topology.users)
    return min(by_user, sum(of_database(topology, database) for database in topology.databases))
