"""Rules about hosts and their roles."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from pgbaton.topology import placement
from pgbaton.topology.model import Placement, Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning
from pgbaton.topology.rules.network import is_last, stranger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.addresses import Address, Subnet
    from pgbaton.topology.model import HostSpec, Network, Topology

FEWEST_ETCD_MEMBERS = 3
MOST_ETCD_MEMBERS = 7
LIMITED_BROADCAST = IPv4Address("255.255.255.255")


def repeated(values: list[object]) -> Iterator[tuple[int, int]]:
    """Yield the index of each value that stood before, with the index of its first place."""
    first: dict[object, int] = {}
    for index, value in enumerate(values):
        if first.setdefault(value, index) != index:
            yield index, first[value]


@rule("hosts")
def names_differ(topology: Topology) -> Iterator[Objection]:
    """Every host has a name of its own."""
    for index, first in repeated([host.name for host in topology.hosts]):
        reason = f"is the name of hosts[{first}] too"
        yield Objection(("hosts", index, "name"), reason, "give each host a name of its own")


@rule("hosts")
def names_are_free(topology: Topology) -> Iterator[Objection]:
    """No host is called localhost."""
    for index, host in enumerate(topology.hosts):
        if host.name == "localhost":
            reason = "is every machine's name for itself"
            yield Objection(("hosts", index, "name"), reason, "use the name the other hosts know it by")


@rule("hosts")
def addresses_differ(topology: Topology) -> Iterator[Objection]:
    """Every host has an address of its own."""
    for index, first in repeated([host.address for host in topology.hosts]):
        reason = f"is the address of {topology.hosts[first].name} too"
        yield Objection(("hosts", index, "address"), reason, "give each host an address of its own")


@rule("hosts", "network")
def addresses_are_usable(topology: Topology) -> Iterator[Objection]:
    """Every address is one that a host of the subnet, or of another site's, can have."""
    for index, host in enumerate(topology.hosts):
        if reason := unusable(host, topology):
            fix = f"use one of {subnet_of(host, topology)} that nothing else has, or mend network.subnet"
            yield Objection(("hosts", index, "address"), reason, fix)


def unusable(host: HostSpec, topology: Topology) -> str | None:
    """Return why a host cannot have its address; None when it can."""
    address, network, subnet = host.address, topology.network, subnet_of(host, topology)
    reasons = (
        (address.is_loopback, "is a loopback address: no other host can reach it"),
        (address.is_multicast, "is a multicast address"),
        (address.is_unspecified, "is the address that means any"),
        (address == LIMITED_BROADCAST, "is the broadcast address"),
        (is_link_local(address), "is link-local: it means nothing without an interface, and no certificate names it"),
        (is_mapped(address), "is IPv4 in IPv6's clothes: write the IPv4 address itself, in a network of IPv4"),
        (address.version != subnet.version, stranger(address, subnet)),
        (address not in subnet, f"is outside network.subnet, {network.subnet}{elsewhere(network)}"),
        (address == subnet.network_address, f"is the network address of {subnet}"),
        (is_last(address, subnet), f"is the broadcast address of {subnet}"),
        (address == network.gateway, "is the gateway's address"),
    )
    return next((reason for applies, reason in reasons if applies), None)


def is_link_local(address: Address) -> bool:
    """Tell whether an address of IPv6 is good on one link only, or says of which interface it is."""
    return isinstance(address, IPv6Address) and (address.is_link_local or address.scope_id is not None)


def is_mapped(address: Address) -> bool:
    """Tell whether an address is IPv4's as IPv6 writes it."""
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


def subnet_of(host: HostSpec, topology: Topology) -> Subnet:
    """Return the network that a host is in, of those that are known; the cluster's own when it is in none."""
    network = topology.network
    return next((subnet for subnet in network.other_subnets if host.address in subnet), network.subnet)


def elsewhere(network: Network) -> str:
    """Return in words which other networks a host might be in."""
    others = ", ".join(map(str, network.other_subnets))
    return f", and in none of network.other_subnets: {others}" if others else ""


@rule("hosts")
def roles_differ(topology: Topology) -> Iterator[Objection]:
    """No host has a role twice."""
    for index, host in enumerate(topology.hosts):
        for role, _ in repeated(list(host.roles)):
            reason = f"is a role that {host.name} already has"
            yield Objection(("hosts", index, "roles", role), reason, "name each role once")


@rule("hosts", "pooling")
def poolers_pool(topology: Topology) -> Iterator[Objection]:
    """Hosts have the role pooler where PgBouncer has hosts of its own."""
    where = topology.pooling.placement
    for index, host in enumerate(topology.hosts):
        if host.has(Role.POOLER) and not host.has(Role.BALANCER) and where is not Placement.POOLER:
            reason = f"has no effect: {host.name} would pool, and pooling.placement is {where}"
            fix = 'set pooling.placement = "pooler", or take the role out'
            yield warning(("hosts", index, "roles"), reason, fix)


@rule("hosts", "pooling")
def pools_have_hosts(topology: Topology) -> Iterator[Objection]:
    """There are hosts where PgBouncer is placed, and more than one pooler."""
    where = topology.pooling.placement
    role = placement.POOLED[where]
    if role not in {Role.POOLER, Role.APPLICATION}:
        return
    count, place = len(topology.with_role(role)), ("pooling", "placement")
    if not count:
        yield Objection(place, f"no host has the role {role}", f'give it to a host, or set "{Placement.BALANCER}"')
    elif role is Role.POOLER and count == 1:
        reason = "one host has the role pooler: without it, no client reaches a server"
        yield warning(place, reason, "give the role to a second host")


@rule("hosts")
def enough_databases(topology: Topology) -> Iterator[Objection]:
    """There are at least two databases."""
    count = len(topology.with_role(Role.DATABASE))
    if count < 2:  # noqa: PLR2004 - a primary and a standby
        reason = f"{count} host{' has' if count == 1 else 's have'} the role database: nothing could take over"
        yield Objection(("hosts",), reason, 'give at least two hosts the role "database"')


@rule("hosts")
def some_standby_may_lead(topology: Topology) -> Iterator[Objection]:
    """At least two databases may become primary."""
    databases = topology.with_role(Role.DATABASE)
    able = [host for host in databases if host.failover]
    if len(databases) > 1 >= len(able):
        index = next(index for index, host in enumerate(topology.hosts) if host in databases and not host.failover)
        reason = "leaves no standby that may become primary: every other database is excluded from failover too"
        yield Objection(("hosts", index, "failover"), reason, "let at least two databases have failover = true")


@rule("hosts")
def failover_is_for_databases(topology: Topology) -> Iterator[Objection]:
    """Only databases are excluded from failover."""
    for index, host in enumerate(topology.hosts):
        if not host.failover and not host.has(Role.DATABASE):
            reason = f"has no effect: {host.name} is no database"
            yield warning(("hosts", index, "failover"), reason, "take it out")


@rule("hosts", "orchestration", "etcd")
def etcd_is_odd(topology: Topology) -> Iterator[Objection]:
    """There are three etcd members or more, and an odd number of them, unless a person promotes or etcd is foreign."""
    if topology.is_manual or topology.foreign_etcd:
        return
    count = len(topology.with_role(Role.DCS))
    if count < FEWEST_ETCD_MEMBERS:
        reason = f"{count} of the hosts have the role dcs: etcd could not lose a member"
        more = "" if count else ", or name an etcd that exists already in etcd.endpoints"
        yield Objection(("hosts",), reason, f'give the role "dcs" to three hosts{more}')
    elif count % 2 == 0:
        reason = f"{count} hosts have the role dcs: an even number survives no more losses than {count - 1} would"
        yield Objection(("hosts",), reason, f'give the role "dcs" to {count - 1} or {count + 1} hosts')
    elif count > MOST_ETCD_MEMBERS:
        reason = f"{count} hosts have the role dcs: every write waits for a majority of them"
        yield warning(("hosts",), reason, "three or five members serve better")


@rule("hosts")
def quorum_spans_domains(topology: Topology) -> Iterator[Objection]:
    """No failure domain holds a majority of etcd."""
    members = topology.with_role(Role.DCS)
    domains = Counter(host.failure_domain for host in members if host.failure_domain)
    for domain, count in domains.items():
        if count > len(members) // 2:
            index = next(index for index, host in enumerate(topology.hosts) if host.failure_domain == domain)
            reason = f"{count} of {len(members)} etcd members are in {domain}: losing it stops every failover"
            fix = "spread the role dcs so that no failure domain has a majority"
            yield Objection(("hosts", index, "failure_domain"), reason, fix)


@rule("hosts")
def roles_span_domains(topology: Topology) -> Iterator[Objection]:
    """Databases, and balancers, do not all share a failure domain."""
    for role in (Role.DATABASE, Role.BALANCER):
        hosts = topology.with_role(role)
        domains = {host.failure_domain for host in hosts}
        if len(hosts) > 1 and len(domains) == 1 and None not in domains:
            index = topology.hosts.index(hosts[0])
            reason = f"every {role} is in {hosts[0].failure_domain}: they fail together"
            yield warning(("hosts", index, "failure_domain"), reason, f"move a {role} to another failure domain")


@rule("hosts", "network")
def enough_balancers(topology: Topology) -> Iterator[Objection]:
    """A VIP floats between two balancers or more; without a VIP there is at least one."""
    count = len(topology.with_role(Role.BALANCER))
    if count == 0:
        yield Objection(
            ("hosts",), "no host has the role balancer: clients would have no way in", "give it to two hosts"
        )
    elif count == 1 and topology.network.vip:
        reason = "has one balancer to be on, so it could not move"
        yield Objection(("network", "vip"), reason, 'give the role "balancer" to a second host')


@rule("hosts")
def priorities_differ(topology: Topology) -> Iterator[Objection]:
    """Balancers have priorities of their own."""
    balancers = topology.with_role(Role.BALANCER)
    priorities = [topology.priority(host) for host in balancers]
    for index, first in repeated(list(priorities)):
        reason = f"{balancers[index].name} and {balancers[first].name} have priority {priorities[index]} both"
        place = ("hosts", topology.hosts.index(balancers[index]), "priority")
        yield Objection(place, reason, "give each balancer a priority of its own")


@rule("hosts")
def priorities_are_for_balancers(topology: Topology) -> Iterator[Objection]:
    """Only balancers have a priority."""
    for index, host in enumerate(topology.hosts):
        if host.priority and not host.has(Role.BALANCER):
            reason = f"has no effect: {host.name} is no balancer"
            yield warning(("hosts", index, "priority"), reason, "take it out")


RULES: tuple[Rule, ...] = (
    names_differ,
    names_are_free,
    addresses_differ,
    addresses_are_usable,
    roles_differ,
    poolers_pool,
    pools_have_hosts,
    enough_databases,
    some_standby_may_lead,
    failover_is_for_databases,
    etcd_is_odd,
    quorum_spans_domains,
    roles_span_domains,
    enough_balancers,
    priorities_differ,
    priorities_are_for_balancers,
)
