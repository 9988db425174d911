"""Rules about ports, and about what servers and balancers can carry."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pgbaton.topology import capacity, pools, ports
from pgbaton.topology.model import ETCD_METRICS_PORT, Placement, Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.lines import Path
    from pgbaton.topology.model import Topology

SSH_PORT = 22
FIRST_FREE_PORT = 1024


SSH: Path = ("ssh", "port")
METRICS: Path = ("etcd", "metrics")
#: Whose a port is that no key of the topology has to be named for.
FENCED: Path = ("pooling", "synchronous_port")
OWNERS: dict[Path, str] = {SSH: "sshd's", METRICS: "etcd's own metrics"}


@rule("hosts", "network", "postgresql", "orchestration", "balancing", "pooling", "ssh")
def ports_are_free(topology: Topology) -> Iterator[Objection]:
    """No two programs of a host have the same port; an agent's fence cuts PgBouncer's off, used or not."""
    clashes: dict[tuple[Path, Path], list[str]] = defaultdict(list)
    for host in topology.hosts:
        taken: dict[int, Path] = {topology.ssh.port or SSH_PORT: SSH}
        if host.has(Role.DCS):
            taken[ETCD_METRICS_PORT] = METRICS
        if topology.has_agents:
            taken.setdefault(topology.pooling.synchronous_port, FENCED)
        for port, number in ports.bound(topology, host):
            place: Path = (port.section, port.key)
            if taken.setdefault(number, place) != place:
                clashes[place, taken[number]].append(host.name)
    for (place, other), hosts in clashes.items():
        owner = OWNERS.get(other) or f"{'.'.join(map(str, other))}'s"
        reason = f"is {owner} port too, on {', '.join(hosts)}"
        yield Objection(place, reason, "choose a port that nothing else on those hosts has")


@rule("postgresql", "orchestration", "pooling", "balancing")
def ports_need_no_privilege(topology: Topology) -> Iterator[Objection]:
    """Ports of programs that may not bind a privileged one are 1024 or higher."""
    for port in (*ports.PORTS, *ports.AGENT_PORTS):
        number = port.number(topology)
        if port.section != "balancing" and number is not None and number < FIRST_FREE_PORT:
            reason = "is below 1024: listening there is a privilege, and this program does not have it"
            yield Objection((port.section, port.key), reason, "choose a port from 1024 to 65535")


@rule("hosts", "network", "postgresql", "pooling", "users", "databases", "orchestration", "balancing")
def pools_fit(topology: Topology) -> Iterator[Objection]:
    """All pools together leave the server what it needs for itself."""
    servers = topology.postgresql
    free = servers.max_connections - servers.reserved_connections
    needed = capacity.needed_connections(topology)
    if needed <= free or topology.pooling.placement is Placement.NONE:
        return
    pooled = capacity.pooled_connections(topology)
    others = "pg_rewind, HAProxy's checks" if topology.is_manual else "Patroni, pg_rewind"
    others = f"{others}, agents" if topology.has_agents else others
    poolers, each = capacity.poolers(topology), capacity.ports_per_pooler(topology)
    reason = (
        f"{poolers} poolers x {each} ports x {pools.of_port(topology)} "
        "connections (size and reserve, of every user in every database, within their limits) make up to "
        f"{pooled}; with {needed - pooled} for {others} and look-ups that is {needed}, and the server has {free} that "
        "are not reserved"
    )
    fix = f"set postgresql.max_connections to {needed + servers.reserved_connections} or more, or lower pooling.size"
    yield Objection(("pooling", "size"), reason, fix)


@rule("hosts", "pooling", "users", "databases", "balancing")
def limits_cover_pools(topology: Topology) -> Iterator[Objection]:
    """A user's own limit is not below what its pools may open."""
    for index, user in enumerate(topology.users):
        share = capacity.pools_a_user(topology, user)
        if 0 <= user.connection_limit < share:
            reason = f"is below the {share} connections that the pools may open for {user.name}: they would see errors"
            fix = "raise it, or lower pooling.size"
            yield warning(("users", index, "connection_limit"), reason, fix)


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
    if room < clients and topology.pooling.placement not in {Placement.APPLICATION, Placement.NONE}:
        reason = f"HAProxy lets {clients} clients in on each port, and sends all to one PgBouncer, which takes {room}"
        yield warning(("pooling", "max_clients"), reason, f"set it to {clients}, or lower balancing.max_connections")


RULES: tuple[Rule, ...] = (
    ports_are_free,
    ports_need_no_privilege,
    pools_fit,
    limits_cover_pools,
    files_suffice,
    poolers_take_what_comes,
)
