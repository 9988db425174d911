"""Rules about clusters that a person fails over: what Patroni and etcd would need has no place there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.model import DIRECT_TLS_SINCE, PrimaryCheck, Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.model import Topology

#: What only Patroni or etcd reads.
ONLY_PATRONI: tuple[tuple[str, str], ...] = (
    ("orchestration", "rest_port"),
    ("orchestration", "etcd_client_port"),
    ("orchestration", "etcd_peer_port"),
    ("orchestration", "watchdog"),
    ("timings", "ttl"),
    ("timings", "loop_wait"),
    ("timings", "retry_timeout"),
    ("timings", "primary_start_timeout"),
    ("timings", "etcd_election"),
)
#: What only a cluster that a person fails over reads.
ONLY_HAND: tuple[tuple[str, str], ...] = (("orchestration", "primary"), ("balancing", "check"))


@rule("hosts", "orchestration")
def nobody_votes(topology: Topology) -> Iterator[Objection]:
    """No host of a cluster that a person fails over has the role dcs."""
    for index, host in enumerate(topology.hosts):
        if topology.is_manual and host.has(Role.DCS):
            reason = f'{host.name} would run etcd, and with orchestration.kind = "manual" nobody elects a primary'
            fix = 'take "dcs" out, or set orchestration.kind = "patroni"'
            yield Objection(("hosts", index, "roles"), reason, fix)


@rule("balancing", "orchestration", "hosts", "network", "postgresql")
def agents_that_are_asked_are_there(topology: Topology) -> Iterator[Objection]:
    """HAProxy asks agents only where every database's host has one."""
    if not topology.asks_agents:
        return
    place = ("balancing", "check")
    without = [host.name for host in topology.with_role(Role.DATABASE) if host not in topology.voters]
    if not topology.has_agents:
        yield Objection(place, "asks agents, and no host has one", 'set orchestration.agent = true, or check = "query"')
    elif without:
        reason = f"asks the agent of each database, and hosts of other sites have none: {', '.join(without)}"
        yield Objection(place, reason, 'set "query"')


@rule("hosts", "orchestration")
def first_primary_is_a_database(topology: Topology) -> Iterator[Objection]:
    """The first primary is a database that may be primary."""
    named, place = topology.orchestration.primary, ("orchestration", "primary")
    databases = {host.name: host for host in topology.with_role(Role.DATABASE)}
    if not topology.is_manual or not databases:
        return
    if named is not None and named not in databases:
        yield Objection(place, f"is none of the databases: {', '.join(databases)}", "name one of them")
    elif not topology.first_primary.failover:
        reason = f"{topology.first_primary.name} has failover = false, so it may never be primary"
        yield Objection(place, reason, "name another database")


@rule("balancing", "postgresql", "orchestration")
def checks_can_ask(topology: Topology) -> Iterator[Objection]:
    """HAProxy's own question needs a server that takes TLS from the first byte on."""
    version = topology.postgresql.version
    if topology.is_manual and topology.balancing.check is PrimaryCheck.QUERY and version < DIRECT_TLS_SINCE:
        reason = f"needs PostgreSQL {DIRECT_TLS_SINCE}: HAProxy cannot begin TLS as PostgreSQL {version} wants it"
        yield Objection(("balancing", "check"), reason, 'set "script"')


@rule("balancing", "orchestration")
def nobody_names_synchronous_standbys(topology: Topology) -> Iterator[Objection]:
    """Reads of synchronous standbys need somebody who names those."""
    if topology.is_manual and topology.balancing.synchronous_port is not None:
        reason = "leads to the standbys that Patroni names, and no standby knows by itself whether commits wait for it"
        fix = 'take it out, or set orchestration.kind = "patroni"'
        yield Objection(("balancing", "synchronous_port"), reason, fix)


@rule("hosts", "orchestration")
def everybody_follows_the_primary(topology: Topology) -> Iterator[Objection]:
    """No standby of a cluster that a person fails over is behind another."""
    for index, host in enumerate(topology.hosts):
        if topology.is_manual and host.has(Role.DATABASE) and host.replicate_from is not None:
            reason = 'with orchestration.kind = "manual" every standby receives from the primary'
            fix = 'take it out, or set orchestration.kind = "patroni"'
            yield Objection(("hosts", index, "replicate_from"), reason, fix)


@rule("orchestration", "timings", "balancing")
def each_kind_has_what_is_its(topology: Topology) -> Iterator[Objection]:
    """What only one kind of orchestration reads is set with that kind."""
    idle = ONLY_PATRONI if topology.is_manual else ONLY_HAND
    kind = topology.orchestration.kind
    for section, key in idle:
        if key in getattr(topology, section).model_fields_set:
            yield warning((section, key), f'has no effect with orchestration.kind = "{kind}"', "take it out")


RULES: tuple[Rule, ...] = (
    nobody_votes,
    agents_that_are_asked_are_there,
    first_primary_is_a_database,
    checks_can_ask,
    nobody_names_synchronous_standbys,
    everybody_follows_the_primary,
    each_kind_has_what_is_its,
)
