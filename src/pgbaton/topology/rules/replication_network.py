"""Rules about a network for replication alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.model import Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning
from pgbaton.topology.rules.hosts import is_link_local, is_mapped, repeated
from pgbaton.topology.rules.network import is_last, unusable_subnet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.addresses import Address, Subnet
    from pgbaton.topology.model import Network, Topology

#: What is said of the network for replication, and of no other.
OF_THE_NETWORK = ("replication_interface", "use_replication_subnet")


@rule("network")
def replication_subnet_is_its_own(topology: Topology) -> Iterator[Objection]:
    """The network for replication is one that hosts can share, and overlaps with no other."""
    network, place = topology.network, ("network", "replication_subnet")
    subnet = network.replication_subnet
    if subnet is None:
        return
    if why := unusable_subnet(subnet):
        yield Objection(place, *why)
        return
    others = (network.subnet, *network.other_subnets, *(twin.network for twin in network.twin_vips))
    taken = next((each for each in others if each.overlaps(subnet)), None)
    if taken is not None:
        reason = f"overlaps with {taken}: nobody could tell which way a packet takes"
        yield Objection(place, reason, "write the network of the second interfaces, as 10.78.0.0/24")


@rule("network")
def replication_interface_is_another(topology: Topology) -> Iterator[Objection]:
    """The network for replication has an interface of its own."""
    network, place = topology.network, ("network", "replication_interface")
    if network.replication_subnet is None:
        return
    if network.replication_interface == "lo":
        reason = "is the loopback interface: no other server could be reached"
        yield Objection(place, reason, "write the interface of the replication addresses, as eth1")
    elif network.replication_interface == network.interface:
        reason = "carries the hosts' addresses too: replication would share its line with clients after all"
        yield Objection(place, reason, "write the interface of the replication addresses, as eth1")


@rule("network")
def replication_network_is_there(topology: Topology) -> Iterator[Objection]:
    """What is said of the network for replication is said of one that there is."""
    for key in OF_THE_NETWORK:
        if topology.network.replication_subnet is None and key in topology.network.model_fields_set:
            reason = "has no effect: there is no network.replication_subnet"
            yield warning(("network", key), reason, "take it out, or add network.replication_subnet")


@rule("hosts", "network")
def all_databases_are_on_it_or_none(topology: Topology) -> Iterator[Objection]:
    """Every database has an address in the network for replication, wherever it is, or none has."""
    subnet = topology.network.replication_subnet
    for index, host in enumerate(topology.hosts):
        if not host.has(Role.DATABASE):
            continue
        if subnet is None and host.replication_address is not None:
            reason = "is in no network that is known: there is no network.replication_subnet"
            fix = "add network.replication_subnet, with an address in it for every database; or take this one out"
            yield Objection(("hosts", index, "replication_address"), reason, fix)
        elif subnet is not None and host.replication_address is None:
            reason = f"{host.name} is a database without replication_address: no other server would reach it"
            fix = f"give {host.name} an address in {subnet}, or take network.replication_subnet out"
            yield Objection(("hosts", index), reason, fix)


@rule("hosts", "network")
def replication_addresses_are_usable(topology: Topology) -> Iterator[Objection]:
    """Every replication address is one that a host of that network can have, and no two are the same."""
    network, subnet = topology.network, topology.network.replication_subnet
    given = [(index, host.replication_address) for index, host in enumerate(topology.hosts)]
    found = [(index, address) for index, address in given if address is not None]
    for later, first in repeated([address for _, address in found]):
        owner = topology.hosts[found[first][0]].name
        reason = f"is the replication address of {owner} too"
        place = ("hosts", found[later][0], "replication_address")
        yield Objection(place, reason, "give each database an address of its own")
    for index, address in found:
        if subnet is not None and (why := unfit(address, subnet, network)):
            fix = f"use one of {subnet} that nothing else has, or mend network.replication_subnet"
            yield Objection(("hosts", index, "replication_address"), why, fix)


def unfit(address: Address, subnet: Subnet, network: Network) -> str | None:
    """Return why a host cannot have an address in the network for replication; None when it can."""
    near = next((each for each in (network.subnet, *network.other_subnets) if address in each), None)
    reasons = (
        (near is not None, f"is in {near}, the network that clients come by"),
        (is_link_local(address), "is link-local: it means nothing without an interface, and no certificate names it"),
        (is_mapped(address), "is IPv4 in IPv6's clothes: write the IPv4 address itself, in a network of IPv4"),
        (address not in subnet, f"is outside network.replication_subnet, {subnet}"),
        (address == subnet.network_address, f"is the network address of {subnet}"),
        (is_last(address, subnet), f"is the broadcast address of {subnet}"),
    )
    return next((reason for applies, reason in reasons if applies), None)


RULES: tuple[Rule, ...] = (
    replication_subnet_is_its_own,
    replication_interface_is_another,
    replication_network_is_there,
    all_databases_are_on_it_or_none,
    replication_addresses_are_usable,
)
