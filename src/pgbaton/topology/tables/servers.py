"""PostgreSQL: its servers, who and what is in them, and what an acknowledged commit means."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from pgbaton.topology.tables.base import EXTENSION, LOCALE, Identifier, Port, Section, SettingName

Feature = Literal["listen", "session-variables", "advisory-locks", "temporary-tables", "with-hold-cursors"]
Encoding = Literal["UTF8", "LATIN1", "LATIN9", "WIN1252", "SQL_ASCII"]


class PoolMode(StrEnum):
    """When a server connection returns to its pool."""

    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"


class Postgresql(Section):
    """The servers."""

    version: Literal[15, 17] = Field(default=17, description="Major version, the same on every database host.")
    port: Port = Field(default=5432, description="Port of every server.")
    data_directory: str | None = Field(default=None, description="By default /var/lib/postgresql/VERSION/CLUSTER.")
    wal_directory: str | None = Field(
        default=None,
        description="A directory for WAL alone, in one of its own that becomes the server's; by default in "
        "data_directory.",
    )
    wal_segment_size_mb: Literal[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] = Field(
        default=16,
        description="Size of a file of WAL, in MiB, for ever: set when the cluster is made. A failover copies one and "
        "has standbys read one twice, so small ones shorten it.",
    )
    max_connections: Annotated[int, Field(ge=25, le=10_000)] = Field(default=200, description="Server limit.")
    reserved_connections: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="Kept back for superusers, out of max_connections."
    )
    max_wal_senders: Annotated[int, Field(ge=3, le=100)] = Field(default=10, description="Replication connections.")
    max_replication_slots: Annotated[int, Field(ge=4, le=100)] = Field(default=10, description="Replication slots.")
    max_slot_wal_keep_size_mb: Annotated[int, Field(ge=256, le=1_000_000_000)] = Field(
        default=10_240, description="WAL a slot may hold back, in MiB; a standby further behind is cloned anew."
    )
    settings: dict[SettingName, str | int | float | bool] = Field(
        default_factory=dict, description="Further postgresql.conf settings, passed as they are."
    )


class User(Section):
    """A role that can log in; pgbaton generates its password."""

    name: Identifier = Field(description="Role name.")
    connection_limit: Annotated[int, Field(ge=-1, le=10_000)] = Field(
        default=-1, description="Connections at once; -1: no limit."
    )
    roles: tuple[Identifier, ...] | None = Field(
        default=None,
        description="Roles that it is a member of, and no others, as pg_read_all_data; by default they are left alone.",
    )
    pool_mode: PoolMode | None = Field(
        default=None, description="Mode of its pools (PgBouncer 1.23 or later); by default the database's."
    )
    pool_size: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Server connections of each of its pools (1.23 or later); by default the database's."
    )
    max_user_connections: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="Server connections of all its pools on one pooler and port, reserve included (PgBouncer 1.23 or "
        "later); by default no limit.",
    )


class Database(Section):
    """A database and the role that owns it."""

    name: Identifier = Field(description="Database name.")
    owner: Identifier = Field(description="A role named in [[users]].")
    pool_size: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Server connections for this database; by default pooling.size."
    )
    pool_mode: PoolMode | None = Field(default=None, description="Mode of its pools; by default pooling.mode.")
    max_db_connections: Annotated[int, Field(ge=2, le=10_000)] | None = Field(
        default=None,
        description="Server connections to it from one pooler and port, over all users, reserve and look-ups included; "
        "by default no limit.",
    )
    features: tuple[Feature, ...] = Field(
        default=(), description="Session features that its applications use, besides pooling.features."
    )
    connection_limit: Annotated[int, Field(ge=-1, le=10_000)] = Field(
        default=-1, description="Connections to it at once, on the server; -1: no limit."
    )
    encoding: Encoding | None = Field(
        default=None, description="Set when it is created, and never changed; by default the server's, UTF8."
    )
    locale: Annotated[str, Field(pattern=LOCALE)] | None = Field(
        default=None, description="Set when it is created, and never changed; by default the server's, C.UTF-8."
    )
    extensions: tuple[Annotated[str, Field(pattern=EXTENSION)], ...] = Field(
        default=(), description='Extensions that it has, as "pg_stat_statements"; others are left alone.'
    )


class Tablespace(Section):
    """A directory outside of the data directory that tables can be put in, the same on every database host."""

    name: Identifier = Field(description="Tablespace name.")
    location: str = Field(description="Its directory, on every database host.")
    owner: Identifier = Field(description="A role named in [[users]].")


class ReplicationMode(StrEnum):
    """What an acknowledged commit means."""

    ASYNCHRONOUS = "asynchronous"
    SYNCHRONOUS = "synchronous"
    STRICT = "strict"
    QUORUM = "quorum"


class Replication(Section):
    """How commits reach the standbys."""

    mode: ReplicationMode = Field(
        default=ReplicationMode.SYNCHRONOUS,
        description=(
            "asynchronous: an acknowledged write may be lost; synchronous: it is on a standby, and the primary goes on "
            "alone when none is left; strict: writes wait when none is left; quorum: any `count` of the standbys."
        ),
    )
    count: Annotated[int, Field(ge=1, le=8)] = Field(default=1, description="Standbys that confirm a commit.")
    apply: bool = Field(
        default=False,
        description="Whether a standby has applied a commit before it confirms it (synchronous_commit = remote_apply), "
        "and not only written it to its disk, so that reads of it see it; commits wait for that.",
    )
    accept_loss: bool = Field(
        default=False,
        description=(
            "In asynchronous mode, let agents replace a silent primary before its lock expires, by a standby that may "
            "lack its last commits: those are lost, although they were acknowledged."
        ),
    )
