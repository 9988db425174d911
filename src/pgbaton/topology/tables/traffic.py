"""The clients' way: pools and balancers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pgbaton.topology.tables.base import Port, Section
from pgbaton.topology.tables.servers import Feature, PoolMode


class Placement(StrEnum):
    """The hosts PgBouncer runs on."""

    BALANCER = "balancer"
    POOLER = "pooler"
    DATABASE = "database"
    APPLICATION = "application"
    NONE = "none"


class Pooling(Section):
    """PgBouncer."""

    placement: Placement = Field(
        default=Placement.BALANCER,
        description=(
            "Where PgBouncer runs. balancer: beside HAProxy; pooler: on hosts of its own, with the role pooler; "
            "database: beside each server; application: beside each application, on hosts with the role application; "
            "none: nowhere."
        ),
    )
    mode: PoolMode = Field(default=PoolMode.TRANSACTION, description="When a server connection returns to its pool.")
    size: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=20,
        description="Server connections per database, user, pooler and port (writes, reads); processes share them.",
    )
    reserve: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=5, description="More of them under pressure; processes share them."
    )
    max_clients: Annotated[int, Field(ge=10, le=100_000)] = Field(
        default=3_000, description="Clients per pooler and port; each process may have them all."
    )
    processes: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description="PgBouncer processes on each pooler and port, among which the kernel spreads clients (PgBouncer "
        "1.21 or later): one uses one processor.",
    )
    write_port: Port = Field(default=6432, description="PgBouncer's port for writes.")
    read_port: Port = Field(default=6433, description="PgBouncer's port for reads.")
    synchronous_port: Port = Field(default=6434, description="PgBouncer's port for reads of synchronous standbys.")
    prepared_statements: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=200, description="Protocol-level prepared statements kept per connection (PgBouncer 1.21 or later)."
    )
    features: tuple[Feature, ...] = Field(
        default=(), description="Session features that the applications use; refused where the pool mode breaks them."
    )
    application_name_add_host: bool = Field(
        default=False,
        description="Add the address and port that PgBouncer sees, HAProxy's, to each client's application_name: the "
        "server's log and pg_stat_activity then lead to the client. Costs a SET whenever a server changes clients.",
    )


class ReadPolicy(StrEnum):
    """Where the read port leads when no standby is fit."""

    PRIMARY_FALLBACK = "primary-fallback"
    STANDBY_ONLY = "standby-only"


class PrimaryCheck(StrEnum):
    """How HAProxy finds out what a server is, where no Patroni tells it."""

    QUERY = "query"
    SCRIPT = "script"
    AGENT = "agent"


class Balancing(Section):
    """HAProxy."""

    write_port: Port = Field(default=5000, description="Clients' port for writes.")
    read_port: Port = Field(default=5001, description="Clients' port for reads.")
    synchronous_port: Port | None = Field(
        default=None,
        description="Clients' port for reads of synchronous standbys alone, as 5002; by default there is none.",
    )
    statistics_port: Port = Field(default=8404, description="Statistics, on the loopback address only.")
    primary_port: Port = Field(default=6000, description="Loopback port where PgBouncer finds the primary.")
    standby_port: Port = Field(default=6001, description="Loopback port where PgBouncer finds the standbys.")
    synchronous_standby_port: Port = Field(
        default=6002, description="Loopback port where PgBouncer finds the synchronous standbys."
    )
    read_policy: ReadPolicy = Field(default=ReadPolicy.PRIMARY_FALLBACK, description="When no standby is fit.")
    max_lag_mb: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=16, description="A standby further behind takes no reads, in MiB of WAL."
    )
    max_connections: Annotated[int, Field(ge=10, le=100_000)] = Field(
        default=3_000, description="Client connections per balancer and port."
    )
    file_limit: Annotated[int, Field(ge=256, le=500_000)] = Field(
        default=20_000, description="Files that one program on a balancer can open: the hosts' hard limit."
    )
    log_connections: bool = Field(
        default=False,
        description="Log each client's connection: its address and port, and those by which PgBouncer knows it.",
    )
    check: PrimaryCheck | None = Field(
        default=None,
        description=(
            'How HAProxy finds the primary where orchestration.kind is "manual". query: it asks PostgreSQL itself; '
            "script: a program that it starts for each check does; agent: it asks the agents of the databases' hosts. "
            "By default query, with PostgreSQL 15 script."
        ),
    )
