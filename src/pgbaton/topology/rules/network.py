"""Rules about the network and the VIPs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology import vips
from pgbaton.topology.model import Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address, IPv4Network

    from pgbaton.topology.model import Network, Topology

LONGEST_PREFIX = 29
SHORTEST_PREFIX = 8


@rule("network")
def subnet_is_usable(topology: Topology) -> Iterator[Objection]:
    """The subnet is one that hosts can share."""
    if why := unusable_subnet(topology.network.subnet):
        yield Objection(("network", "subnet"), *why)


def unusable_subnet(subnet: IPv4Network) -> tuple[str, str] | None:
    """Return why hosts cannot share a network, and what to do about it; None when they can."""
    if subnet.is_loopback or subnet.is_multicast or subnet.network_address.is_unspecified:
        reason = "is no network that several hosts can share"
        return reason, "write the network of the hosts' addresses, as 10.77.0.0/24"
    if not SHORTEST_PREFIX <= subnet.prefixlen <= LONGEST_PREFIX:
        reason = f"has {subnet.num_addresses} addresses: too {'few' if subnet.prefixlen > LONGEST_PREFIX else 'many'}"
        return reason, f"use a prefix from /{SHORTEST_PREFIX} to /{LONGEST_PREFIX}"
    return None


@rule("network", "hosts")
def vip_is_free(topology: Topology) -> Iterator[Objection]:
    """Each VIP is an address of the subnet that nothing else has."""
    subnet = topology.network.subnet
    for place, vip in placed(topology.network):
        owner = next((host.name for host in topology.hosts if host.address == vip), None)
        reasons = (
            (vip not in subnet, f"is outside network.subnet, {subnet}: no client would find it"),
            (vip == subnet.network_address, f"is the network address of {subnet}"),
            (vip == subnet.broadcast_address, f"is the broadcast address of {subnet}"),
            (vip == topology.network.gateway, "is the gateway's address: every host would lose its way out"),
            (owner is not None, f"is the address of host {owner}, and must float"),
        )
        for reason in [reason for applies, reason in reasons if applies][:1]:
            yield Objection(place, reason, f"choose one of {subnet} that nothing else has")


def placed(network: Network) -> Iterator[tuple[tuple[str | int, ...], IPv4Address]]:
    """Yield every floating address with its place in the file."""
    if network.vip is not None:
        yield ("network", "vip"), network.vip
    for index, address in enumerate(network.more_vips):
        yield ("network", "more_vips", index), address


@rule("network")
def more_vips_follow_one(topology: Topology) -> Iterator[Objection]:
    """Further VIPs come after a first one, and are all different."""
    network = topology.network
    if network.more_vips and network.vip is None:
        reason = "there are further VIPs, and no first one"
        yield Objection(("network", "more_vips"), reason, "write the first of them as network.vip")
    seen: set[IPv4Address] = set()
    for place, address in placed(network):
        if address in seen:
            yield Objection(place, f"{address} is listed twice", "write another one, or take it out")
        seen.add(address)


@rule("network", "hosts")
def vips_have_balancers(topology: Topology) -> Iterator[Objection]:
    """There are no more VIPs than balancers."""
    addresses, balancers = topology.network.vips, topology.with_role(Role.BALANCER)
    if 1 < len(balancers) < len(addresses):
        counts = f"{len(addresses)} VIPs and {len(balancers)} balancers"
        reason = f"there are {counts}: a second one on a balancer gives clients nothing"
        yield Objection(("network", "more_vips"), reason, "take some out, or add balancers")


@rule("network")
def gateway_is_a_host(topology: Topology) -> Iterator[Objection]:
    """The gateway is an address of the subnet."""
    gateway, subnet = topology.network.gateway, topology.network.subnet
    edges = {subnet.network_address, subnet.broadcast_address}
    if gateway is not None and (gateway not in subnet or gateway in edges):
        reason = f"is no address that a router of {subnet} can have"
        yield Objection(("network", "gateway"), reason, f"write the router's address in {subnet}, or take it out")


@rule("network")
def router_id_is_free(topology: Topology) -> Iterator[Objection]:
    """Nobody else on the segment has the VRRP identity of a VIP."""
    network = topology.network
    if network.virtual_router_id in network.taken_router_ids:
        reason = f"{network.virtual_router_id} is listed in network.taken_router_ids: both would fight for their VIPs"
        yield Objection(("network", "virtual_router_id"), reason, "choose another from 1 to 255")
    for index, address in enumerate(network.vips[1:]):
        identity = vips.router_id(network, address)
        if identity in network.taken_router_ids:
            reason = f"its VRRP identity would be {identity}, which is listed in network.taken_router_ids"
            fix = f"choose another address: as far as it is from {network.vip}, so far is its identity from the VIP's"
            yield Objection(("network", "more_vips", index), reason, fix)


@rule("network")
def router_ids_differ(topology: Topology) -> Iterator[Objection]:
    """Each VIP has a VRRP identity of its own."""
    network = topology.network
    owners: dict[int, IPv4Address] = {}
    for index, address in enumerate(network.vips):
        identity = vips.router_id(network, address)
        owner = owners.setdefault(identity, address)
        if owner != address:
            reason = f"its VRRP identity would be {identity}, as that of {owner}: their distance is a multiple of 255"
            yield Objection(("network", "more_vips", index - 1), reason, "choose another address for one of them")


@rule("network")
def interface_is_shared(topology: Topology) -> Iterator[Objection]:
    """The interface is not the loopback one."""
    if topology.network.interface == "lo":
        reason = "is the loopback interface: nobody outside would see the VIP"
        yield Objection(("network", "interface"), reason, "write the interface of the hosts' addresses, as eth0")


@rule("network")
def there_is_a_vip(topology: Topology) -> Iterator[Objection]:
    """There is a VIP."""
    if topology.network.vip is None:
        reason = "there is no VIP: clients use the first balancer's address, and losing that host cuts them off"
        yield warning(("network",), reason, "add network.vip, an address of the subnet that nothing else has")


RULES: tuple[Rule, ...] = (
    subnet_is_usable,
    vip_is_free,
    more_vips_follow_one,
    vips_have_balancers,
    gateway_is_a_host,
    router_id_is_free,
    router_ids_differ,
    interface_is_shared,
    there_is_a_vip,
)
