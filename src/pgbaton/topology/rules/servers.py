"""Rules about PostgreSQL's settings, users and databases, and about replication."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from pgbaton.topology import capacity
from pgbaton.topology.model import ReplicationMode, Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning
from pgbaton.topology.rules.managed import INSTEAD, MANAGED, RESERVED_DATABASES, RESERVED_USERS
from pgbaton.topology.rules.naming import named_apart, owned_by_users

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.model import Topology

#: What postgresql.conf, YAML and a shell's error messages all carry unchanged within quotes.
_CARRIED = re.compile(r"^[^'\"\\\x00-\x1f\x7f]*$")
FEWEST_SETTLED = 2
QUORUM_VERSION = 17


@rule("postgresql")
def settings_are_free(topology: Topology) -> Iterator[Objection]:
    """No setting is one that the cluster depends on."""
    for name in topology.postgresql.settings:
        if name in MANAGED:
            reason = "is managed: replication, failover or access would break under another value"
            fix = f"take it out and set {INSTEAD[name]}" if name in INSTEAD else "take it out"
            yield Objection(("postgresql", "settings", name), reason, fix)


@rule("postgresql")
def settings_can_be_written(topology: Topology) -> Iterator[Objection]:
    """Every setting's value survives the way into postgresql.conf."""
    for name, value in topology.postgresql.settings.items():
        place = ("postgresql", "settings", name)
        if isinstance(value, str) and not _CARRIED.match(value):
            reason = "holds a quote, backslash, newline or control character, which could end the value it stands in"
            yield Objection(place, reason, "write the value without it")
        if isinstance(value, float) and not math.isfinite(value):
            yield Objection(place, "is no finite number", 'write a number, or text with a unit as "64MB"')


@rule("postgresql", "hosts")
def enough_wal_senders(topology: Topology) -> Iterator[Objection]:
    """There are WAL senders for every standby and a clone."""
    needed = capacity.needed_wal_senders(topology)
    if topology.postgresql.max_wal_senders < needed:
        reason = f"is too few: every other database needs one, and cloning takes two: {needed}"
        yield Objection(("postgresql", "max_wal_senders"), reason, f"set at least {needed}")


@rule("postgresql", "hosts")
def enough_slots(topology: Topology) -> Iterator[Objection]:
    """There are replication slots for every other database and a spare."""
    needed = capacity.needed_slots(topology)
    if topology.postgresql.max_replication_slots < needed:
        reason = f"is too few: every other database needs one, and a host being replaced one more: {needed}"
        yield Objection(("postgresql", "max_replication_slots"), reason, f"set at least {needed}")


@rule("postgresql")
def reserved_leave_room(topology: Topology) -> Iterator[Objection]:
    """Fewer connections are reserved than there are."""
    if topology.postgresql.reserved_connections >= topology.postgresql.max_connections:
        reason = f"leaves none of the {topology.postgresql.max_connections} connections to anybody else"
        yield Objection(("postgresql", "reserved_connections"), reason, "reserve fewer: 3 is usual")


@rule("users")
def users_differ(topology: Topology) -> Iterator[Objection]:
    """Every user has a name of its own, that nothing in PostgreSQL or PgBouncer has."""
    names = [user.name for user in topology.users]
    why = "PostgreSQL, PgBouncer, pg_hba.conf or this cluster's own services use it"
    yield from named_apart("users", names, is_reserved=is_others_role, why=why)


def is_others_role(name: str) -> bool:
    """Tell whether a role is PostgreSQL's or this cluster's own, or its name means something else to a program."""
    return name in RESERVED_USERS or name.startswith("pg_")


@rule("databases")
def databases_differ(topology: Topology) -> Iterator[Objection]:
    """Every database has a name of its own, that nothing in PostgreSQL or PgBouncer has."""
    names = [database.name for database in topology.databases]
    why = "it means something else to PostgreSQL, PgBouncer or pg_hba.conf"
    yield from named_apart("databases", names, is_reserved=RESERVED_DATABASES.__contains__, why=why)


@rule("users", "databases")
def owners_exist(topology: Topology) -> Iterator[Objection]:
    """Every database's owner is one of the users."""
    yield from owned_by_users("databases", (database.owner for database in topology.databases), topology)


@rule("replication", "hosts")
def standbys_can_confirm(topology: Topology) -> Iterator[Objection]:
    """There are as many standbys as must confirm a commit."""
    replication, able = topology.replication, len(topology.confirmers)
    leaders = [host for host in topology.with_role(Role.DATABASE) if host.failover]
    if replication.mode == ReplicationMode.ASYNCHRONOUS or len(leaders) < FEWEST_SETTLED:
        return
    most = max(able - 1, 0)
    if replication.count > most:
        reason = f"is more than the {most} standbys that may confirm, of {able} databases with a say"
        fix = f"set at most {most}, or add databases" if most else "let two databases or more have synchronous = true"
        yield Objection(("replication", "count"), reason, fix)


@rule("replication", "hosts")
def strict_can_lose_a_standby(topology: Topology) -> Iterator[Objection]:
    """Strict replication has a standby to spare."""
    able = len(topology.confirmers)
    if topology.replication.mode == ReplicationMode.STRICT and topology.replication.count >= able - 1:
        reason = "with every standby needed for a commit, losing any database host stops all writes until it is back"
        yield warning(("replication", "mode"), reason, "add a database, or use synchronous")


@rule("replication")
def acknowledged_is_durable(topology: Topology) -> Iterator[Objection]:
    """An acknowledged commit outlives its primary."""
    if topology.replication.mode == ReplicationMode.ASYNCHRONOUS:
        reason = "commits are acknowledged before a standby has them: a failover may lose some"
        yield warning(("replication", "mode"), reason, 'use "synchronous" unless that loss is acceptable')
        if topology.replication.count > 1:
            reason = "has no effect: no standby confirms commits in asynchronous mode"
            yield warning(("replication", "count"), reason, "take it out")


@rule("replication", "postgresql", "orchestration")
def quorum_is_known(topology: Topology) -> Iterator[Objection]:
    """Quorum replication is asked of a Patroni that knows it."""
    if topology.is_manual:
        return
    if topology.replication.mode == ReplicationMode.QUORUM and topology.postgresql.version < QUORUM_VERSION:
        reason = f"needs Patroni 4: the release with PostgreSQL {topology.postgresql.version} has Patroni 3.0"
        yield Objection(("replication", "mode"), reason, 'use "synchronous", or postgresql.version = 17')


RULES: tuple[Rule, ...] = (
    settings_are_free,
    settings_can_be_written,
    enough_wal_senders,
    enough_slots,
    reserved_leave_room,
    users_differ,
    databases_differ,
    owners_exist,
    standbys_can_confirm,
    strict_can_lose_a_standby,
    acknowledged_is_durable,
    quorum_is_known,
)
