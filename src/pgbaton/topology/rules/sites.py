"""Rules about standbys that are not like the others: in another site, without a say, behind another standby."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from pgbaton.topology.model import ReplicationMode, Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning
from pgbaton.topology.rules.network import stranger, unusable_subnet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.model import Topology

#: Keys of a host that only its server has a use for, and that are said of databases alone.
OF_DATABASES = ("synchronous", "reads", "replicate_from", "replication_address")
#: Roles whose hosts share the cluster's own subnet, and why.
NEAR: tuple[tuple[Role, str], ...] = (
    (Role.BALANCER, "the VIP can float within one network only"),
    (Role.DCS, "etcd's members have to hear each other within milliseconds, and a cut line must not cost a majority"),
)


@rule("network")
def other_subnets_are_usable(topology: Topology) -> Iterator[Objection]:
    """Networks of other sites are ones that hosts can share, and overlap with no other."""
    network = topology.network
    for index, subnet in enumerate(network.other_subnets):
        if why := unusable_subnet(subnet):
            yield Objection(("network", "other_subnets", index), *why)
        if subnet.version != network.subnet.version:
            fix = "write the site's network of that family, which its hosts need besides"
            yield Objection(("network", "other_subnets", index), stranger(subnet, network.subnet), fix)
    every = [network.subnet, *network.other_subnets]
    for (_, first), (index, second) in combinations(enumerate(every), 2):
        if first.overlaps(second):
            reason = f"overlaps with {first}: nobody could tell in which site a host is"
            yield Objection(("network", "other_subnets", index - 1), reason, "list each site's network once")


@rule("network", "hosts", "orchestration")
def other_sites_only_follow(topology: Topology) -> Iterator[Objection]:
    """Balancers and etcd members are in the cluster's own subnet, and databases in another never become primary."""
    for index, host in enumerate(topology.hosts):
        if not any(host.address in subnet for subnet in topology.network.other_subnets):
            continue
        for role, why in NEAR:
            if host.has(role):
                reason = f"{host.name} is outside network.subnet, {topology.network.subnet}: {why}"
                fix = f'take "{role}" out, or give the host an address in network.subnet'
                yield Objection(("hosts", index, "roles"), reason, fix)
        if host.has(Role.DATABASE) and host.failover:
            why = (
                "where no balancer is: cut off there, it would be primary and out of reach"
                if topology.is_manual
                else "where neither agents nor etcd are: it cannot be told whether it may lead"
            )
            reason = f"{host.name} is outside network.subnet, {why}"
            yield Objection(("hosts", index, "failover"), reason, f"set failover = false for {host.name}")


@rule("hosts")
def standbys_are_databases(topology: Topology) -> Iterator[Objection]:
    """What is said of a standby is said of a database."""
    for index, host in enumerate(topology.hosts):
        for key in OF_DATABASES:
            if key in host.model_fields_set and not host.has(Role.DATABASE):
                yield warning(("hosts", index, key), f"has no effect: {host.name} is no database", "take it out")


@rule("hosts")
def confirming_means_leading(topology: Topology) -> Iterator[Objection]:
    """Who confirms commits may become primary."""
    for index, host in enumerate(topology.hosts):
        if "synchronous" in host.model_fields_set and host.synchronous and not host.failover:
            reason = f"has no effect: {host.name} may never become primary, so no commit may rest on it"
            yield warning(("hosts", index, "synchronous"), reason, "take it out, or let it have failover = true")


@rule("hosts")
def upstreams_exist(topology: Topology) -> Iterator[Objection]:
    """A standby behind another names a database, and the way ends at one that receives from the primary."""
    databases = {host.name: host for host in topology.with_role(Role.DATABASE)}
    for index, host in enumerate(topology.hosts):
        place = ("hosts", index, "replicate_from")
        if host.replicate_from is None or host.name not in databases:
            continue
        if host.replicate_from not in databases:
            reason = f"is none of the databases: {', '.join(databases)}"
            yield Objection(place, reason, "name the database that it receives from")
        elif comes_round(host.name, {name: each.replicate_from for name, each in databases.items()}):
            reason = f"leads from {host.name} back to itself: nobody there would receive from the primary"
            yield Objection(place, reason, "let one of them receive from the primary")


def comes_round(name: str, upstreams: dict[str, str | None]) -> bool:
    """Tell whether the way up from a standby leads to itself again."""
    seen: set[str] = set()
    above = upstreams.get(name)
    while above is not None and above not in seen:
        if above == name:
            return True
        seen.add(above)
        above = upstreams.get(above)
    return False


@rule("hosts", "replication")
def confirming_is_direct(topology: Topology) -> Iterator[Objection]:
    """A standby behind another confirms no commits."""
    if topology.replication.mode == ReplicationMode.ASYNCHRONOUS:
        return
    for index, host in enumerate(topology.hosts):
        if host.has(Role.DATABASE) and host.replicate_from is not None and host.confirms:
            reason = "the primary does not hear a standby behind another, so that one can confirm nothing"
            yield Objection(("hosts", index, "replicate_from"), reason, f"set synchronous = false for {host.name}")


@rule("hosts")
def somebody_takes_reads(topology: Topology) -> Iterator[Objection]:
    """Some database takes reads while it is a standby."""
    databases = topology.with_role(Role.DATABASE)
    if databases and not topology.readers:
        reason = "leaves no standby for reads: no other database takes any either"
        place = ("hosts", topology.hosts.index(databases[0]), "reads")
        yield Objection(place, reason, "let at least one database have reads = true")


@rule("hosts", "replication", "orchestration")
def strict_takes_anybody(topology: Topology) -> Iterator[Objection]:
    """Strict replication under Patroni has only standbys that confirm."""
    if topology.replication.mode != ReplicationMode.STRICT or topology.is_manual:
        return
    for index, host in enumerate(topology.hosts):
        if host.has(Role.DATABASE) and not host.confirms:
            reason = (
                f"in strict mode Patroni lets whoever streams confirm when no other standby is left, {host.name} too: "
                "writes go on as long as it is there, and nobody is promoted for them"
            )
            key = "synchronous" if host.failover else "failover"
            yield warning(("hosts", index, key), reason, "know it, or use synchronous")


RULES: tuple[Rule, ...] = (
    other_subnets_are_usable,
    other_sites_only_follow,
    standbys_are_databases,
    confirming_means_leading,
    upstreams_exist,
    confirming_is_direct,
    somebody_takes_reads,
    strict_takes_anybody,
)
