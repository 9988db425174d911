"""Rules about pools, ports and what the balancers can carry."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pgbaton.topology import capacity
from pgbaton.topology.model import PoolMode, Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.lines import Path
    from pgbaton.topology.model import HostSpec, Topology

SSH_PORT = 22
FIRST_FREE_PORT = 1024
#: Where each port is set, and on hosts of which role it is bound.
PORTS: tuple[tuple[str, str, Role], ...] = (
    ("postgresql", "port", Role.DATABASE),
    ("orchestration", "rest_port", Role.DATABASE),
    ("orchestration", "etcd_client_port", Role.DCS),
    ("orchestration", "etcd_peer_port", Role.DCS),
    ("balancing", "write_port", Role.BALANCER),
    ("balancing", "read_port", Role.BALANCER),
    ("balancing", "statistics_port", Role.BALANCER),
    ("balancing", "primary_port", Role.BALANCER),
    ("balancing", "standby_port", Role.BALANCER),
    ("pooling", "write_port", Role.BALANCER),
    ("pooling", "read_port", Role.BALANCER),
)
#: The same of agents, on every host that has one. The first is UDP's: one number is still one program's.
AGENT_PORTS: tuple[tuple[str, str], ...] = (("orchestration", "heartbeat_port"), ("orchestration", "health_port"))
SSH: Path = ("ssh", "port")


def ports(topology: Topology, host: HostSpec) -> Iterator[tuple[str, str]]:
    """Yield where each port is set that is bound on a host."""
    bound = (place for *place, role in PORTS if host.has(role))
    # The only ports of orchestration here are Patroni's and etcd's.
    yield from ((section, key) for section, key in bound if not (topology.is_manual and section == "orchestration"))
    if host in topology.voters:
        yield from AGENT_PORTS


@rule("hosts", "postgresql", "orchestration", "balancing", "pooling", "ssh")
def ports_are_free(topology: Topology) -> Iterator[Objection]:
    """No two programs of a host have the same port."""
    clashes: dict[tuple[Path, Path], list[str]] = defaultdict(list)
    for host in topology.hosts:
        taken: dict[int, Path] = {topology.ssh.port or SSH_PORT: SSH}
        for section, key in ports(topology, host):
            port = getattr(getattr(topology, section), key)
            if taken.setdefault(port, (section, key)) != (section, key):
                clashes[(section, key), taken[port]].append(host.name)
    for (place, other), hosts in clashes.items():
        owner = "sshd" if other == SSH else ".".join(map(str, other))
        reason = f"is {owner}'s port too, on {', '.join(hosts)}"
        yield Objection(place, reason, "choose a port that nothing else on those hosts has")


@rule("postgresql", "orchestration", "pooling", "balancing")
def ports_need_no_privilege(topology: Topology) -> Iterator[Objection]:
    """Ports of programs that may not bind a privileged one are 1024 or higher."""
    for section, key in (*((section, key) for section, key, _ in PORTS), *AGENT_PORTS):
        port = getattr(getattr(topology, section), key)
        if section != "balancing" and port < FIRST_FREE_PORT:
            reason = "is below 1024: listening there is a privilege, and this program does not have it"
            yield Objection((section, key), reason, "choose a port from 1024 to 65535")


@rule("hosts", "postgresql", "pooling", "users", "databases", "orchestration")
def pools_fit(topology: Topology) -> Iterator[Objection]:
    """All pools together leave the server what it needs for itself."""
    servers = topology.postgresql
    free = servers.max_connections - servers.reserved_connections
    needed = capacity.needed_connections(topology)
    if needed <= free:
        return
    pooled = capacity.pooled_connections(topology)
    others = "Patroni, pg_rewind, agents" if topology.has_agents else "Patroni, pg_rewind"
    others = "pg_rewind, HAProxy's checks" if topology.is_manual else others
    reason = (
        f"{capacity.poolers(topology)} poolers x {capacity.PORTS_PER_POOLER} ports x {len(topology.users)} users x "
        f"{capacity.pool_per_user(topology)} connections (size and reserve, over all databases) make up to "
        f"{pooled}; with {needed - pooled} for {others} and look-ups that is {needed}, and the server has {free} that "
        "are not reserved"
    )
    fix = f"set postgresql.max_connections to {needed + servers.reserved_connections} or more, or lower pooling.size"
    yield Objection(("pooling", "size"), reason, fix)


@rule("hosts", "pooling", "users", "databases")
def limits_cover_pools(topology: Topology) -> Iterator[Objection]:
    """A user's own limit is not below what its pools may open."""
    share = capacity.pools_a_user(topology)
    for index, user in enumerate(topology.users):
        if 0 <= user.connection_limit < share:
            reason = f"is below the {share} connections that the pools may open for {user.name}: they would see errors"
            fix = "raise it, or lower pooling.size"
            yield warning(("users", index, "connection_limit"), reason, fix)


@rule("pooling")
def features_survive_pooling(topology: Topology) -> Iterator[Objection]:
    """Features that need one session are not pooled by transaction."""
    mode = topology.pooling.mode
    for index in range(len(topology.pooling.features)):
        if mode != PoolMode.SESSION:
            reason = (
                f"needs one server session throughout, and pooling.mode is {mode}: each transaction may get another"
            )
            fix = 'set pooling.mode = "session", or do without the feature'
            yield Objection(("pooling", "features", index), reason, fix)


@rule("pooling")
def statements_are_few(topology: Topology) -> Iterator[Objection]:
    """Pooling by statement is meant."""
    if topology.pooling.mode == PoolMode.STATEMENT:
        reason = "refuses every transaction of more than one statement"
        yield warning(("pooling", "mode"), reason, 'use "transaction" unless all work is autocommitted')


@rule("pooling", "postgresql")
def prepared_statements_are_known(topology: Topology) -> Iterator[Objection]:
    """Prepared statements are asked of a PgBouncer that knows them."""
    pooling, version = topology.pooling, topology.postgresql.version
    if "prepared_statements" in pooling.model_fields_set and pooling.prepared_statements and version == 15:  # noqa: PLR2004 - Debian 12's
        reason = "has no effect: the release with PostgreSQL 15 has PgBouncer 1.18, and they came with 1.21"
        yield warning(("pooling", "prepared_statements"), reason, "take it out, or use postgresql.version = 17")


@rule("balancing", "pooling", "postgresql", "users", "databases")
def files_suffice(topology: Topology) -> Iterator[Objection]:
    """HAProxy and PgBouncer need no more files than a program may open."""
    limit = topology.balancing.file_limit
    needs = (
        (("balancing", "max_connections"), "HAProxy", capacity.haproxy_files(topology)),
        (("pooling", "max_clients"), "each PgBouncer", capacity.pgbouncer_files(topology)),
    )
    for place, program, needed in needs:
        if needed > limit:
            reason = f"means up to {needed} open files for {program}, and balancing.file_limit is {limit}"
            fix = "lower it, or raise balancing.file_limit if the hosts' hard limit (`ulimit -Hn`) is that high"
            yield Objection(place, reason, fix)


@rule("balancing", "pooling")
def poolers_take_what_comes(topology: Topology) -> Iterator[Objection]:
    """One pooler takes no fewer clients than HAProxy sends."""
    clients, room = topology.balancing.max_connections, topology.pooling.max_clients
    if room < clients:
        reason = f"HAProxy lets {clients} clients in on each port, and sends all to one PgBouncer, which takes {room}"
        yield warning(("pooling", "max_clients"), reason, f"set it to {clients}, or lower balancing.max_connections")


RULES: tuple[Rule, ...] = (
    ports_are_free,
    ports_need_no_privilege,
    pools_fit,
    limits_cover_pools,
    features_survive_pooling,
    statements_are_few,
    prepared_statements_are_known,
    files_suffice,
    poolers_take_what_comes,
)
