"""Which Debian the parts come from, where its age shows in a configuration file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

#: The PostgreSQL of Debian 13. Debian 12 has 15, and with it Patroni 3.0, PgBouncer 1.18 and Keepalived 2.2.
TRIXIE_POSTGRESQL = 17


def is_bookworm(topology: Topology) -> bool:
    """Tell whether the hosts run Debian 12, as the version of PostgreSQL that they bring says."""
    return topology.postgresql.version < TRIXIE_POSTGRESQL
