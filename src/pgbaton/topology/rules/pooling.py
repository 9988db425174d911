"""Rules about the modes of pools, and about the processes that share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology import capacity, pools
from pgbaton.topology.model import Placement, PoolMode
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.lines import Path
    from pgbaton.topology.model import Database, Topology

#: The PostgreSQL of Debian 12, whose PgBouncer is 1.18.
OLDER = 15
#: A user's keys that PgBouncer reads in its [users] section.
OF_USERS = ("pool_mode", "pool_size", "max_user_connections")
#: A database's limit leaves a process one connection for look-ups of passwords, and one for work.
LEAST_OF_DATABASE = 2


@rule("pooling", "users", "databases")
def features_survive_pooling(topology: Topology) -> Iterator[Objection]:
    """Features that need one session are not pooled by transaction."""
    if topology.pooling.placement is Placement.NONE:
        return
    for index in range(len(topology.pooling.features)):
        yield from _broken(topology, ("pooling", "features", index), topology.databases)
    for number, database in enumerate(topology.databases):
        for index in range(len(database.features)):
            yield from _broken(topology, ("databases", number, "features", index), (database,))


def _broken(topology: Topology, place: Path, databases: tuple[Database, ...]) -> Iterator[Objection]:
    """Object to a feature where a pool of these databases gives clients one server after another."""
    pairs = ((database, user) for database in databases for user in topology.users)
    modes = {(database.name, user.name): pools.mode(topology, database, user) for database, user in pairs}
    found = next((item for item in modes.items() if item[1] != PoolMode.SESSION), None)
    if found is None:
        return
    (database_name, user_name), mode = found
    reason = (
        f"needs one server session throughout, and pools are by {mode} for {user_name} in {database_name}: "
        "each transaction may get another"
    )
    fix = 'set pooling.mode, or pool_mode of that database or user, to "session", or do without the feature'
    yield Objection(place, reason, fix)


@rule("pooling", "users", "databases")
def statements_are_few(topology: Topology) -> Iterator[Objection]:
    """Pooling by statement is meant."""
    places: list[tuple[Path, PoolMode | None]] = [(("pooling", "mode"), topology.pooling.mode)]
    places += [(("databases", index, "pool_mode"), each.pool_mode) for index, each in enumerate(topology.databases)]
    places += [(("users", index, "pool_mode"), each.pool_mode) for index, each in enumerate(topology.users)]
    for place, mode in places:
        if mode == PoolMode.STATEMENT:
            reason = "refuses every transaction of more than one statement"
            yield warning(place, reason, 'use "transaction" unless all work is autocommitted')


@rule("pooling", "postgresql")
def prepared_statements_are_known(topology: Topology) -> Iterator[Objection]:
    """Prepared statements are asked of a PgBouncer that knows them."""
    pooling, version = topology.pooling, topology.postgresql.version
    if "prepared_statements" in pooling.model_fields_set and pooling.prepared_statements and version == OLDER:
        reason = "has no effect: the release with PostgreSQL 15 has PgBouncer 1.18, and they came with 1.21"
        yield warning(("pooling", "prepared_statements"), reason, "take it out, or use postgresql.version = 17")


@rule("pooling", "postgresql")
def processes_have_peers(topology: Topology) -> Iterator[Objection]:
    """Several processes are asked of a PgBouncer whose processes pass cancel requests on."""
    if topology.pooling.processes > 1 and topology.postgresql.version == OLDER:
        reason = (
            "needs PgBouncer 1.21: the release with PostgreSQL 15 has 1.18, where a cancel request that comes to "
            "another process than its query is lost"
        )
        yield Objection(("pooling", "processes"), reason, "set 1, or use postgresql.version = 17")


@rule("pooling", "postgresql", "users")
def pools_of_users_are_known(topology: Topology) -> Iterator[Objection]:
    """Users' own pools are asked of a PgBouncer that looks up passwords of such users."""
    if topology.postgresql.version != OLDER:
        return
    for index, user in enumerate(topology.users):
        for key in OF_USERS:
            if getattr(user, key) is not None:
                reason = (
                    "needs PgBouncer 1.23: the release with PostgreSQL 15 has 1.18, which looks up no password of a "
                    "user that has settings of its own"
                )
                fix = "take it out and set it for a database, or use postgresql.version = 17"
                yield Objection(("users", index, key), reason, fix)


@rule("pooling", "users", "databases")
def sizes_can_be_shared(topology: Topology) -> Iterator[Objection]:
    """Every process has a share of every pool."""
    processes = topology.pooling.processes
    for place, size, least in _sizes(topology):
        if size is not None and size < processes * least:
            each = f"{least} connections" if least > 1 else "one connection"
            reason = f"is too few for {processes} processes on each port, each of which needs {each} at least"
            yield Objection(place, reason, f"set at least {processes * least}, or lower pooling.processes")


def _sizes(topology: Topology) -> Iterator[tuple[Path, int | None, int]]:
    """Yield where each number is set that processes share, the number, and the least that a process needs of it."""
    yield ("pooling", "size"), topology.pooling.size, 1
    for index, database in enumerate(topology.databases):
        yield ("databases", index, "pool_size"), database.pool_size, 1
        yield ("databases", index, "max_db_connections"), database.max_db_connections, LEAST_OF_DATABASE
    for index, user in enumerate(topology.users):
        yield ("users", index, "pool_size"), user.pool_size, 1
        yield ("users", index, "max_user_connections"), user.max_user_connections, 1


@rule("hosts", "network", "pooling", "postgresql", "orchestration")
def processes_are_watched(topology: Topology) -> Iterator[Objection]:
    """Somebody notices when one of several processes hangs."""
    if topology.pooling.processes > 1 and capacity.poolers(topology) and not topology.has_agents:
        reason = (
            "means that nobody notices one that hangs: HAProxy's check comes to any of them, and only agents ask each"
        )
        yield warning(("pooling", "processes"), reason, "use agents (orchestration.agent), or one process")


@rule("hosts", "pooling", "users", "databases", "balancing")
def database_limits_cover_pools(topology: Topology) -> Iterator[Objection]:
    """A database's own limit is not below what its pools may open."""
    ports = capacity.poolers(topology) * capacity.ports_per_pooler(topology)
    for index, database in enumerate(topology.databases):
        share = ports * pools.of_database(topology, database) + capacity.processes(topology)
        if 0 <= database.connection_limit < share:
            reason = f"is below the {share} connections that the pools and look-ups may open to {database.name}"
            fix = "raise it, or set max_db_connections below it, divided by poolers and ports"
            yield warning(("databases", index, "connection_limit"), reason, fix)


RULES: tuple[Rule, ...] = (
    features_survive_pooling,
    statements_are_few,
    prepared_statements_are_known,
    processes_have_peers,
    pools_of_users_are_known,
    sizes_can_be_shared,
    processes_are_watched,
    database_limits_cover_pools,
)
