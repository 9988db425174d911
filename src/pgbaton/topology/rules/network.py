"""Rules about the network and the VIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Network

    from pgbaton.topology.model import Topology

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
    """The VIP is an address of the subnet that nothing else has."""
    vip, subnet = topology.network.vip, topology.network.subnet
    if vip is None:
        return
    owner = next((host.name for host in topology.hosts if host.address == vip), None)
    reasons = (
        (vip not in subnet, f"is outside network.subnet, {subnet}: no client would find it"),
        (vip == subnet.network_address, f"is the network address of {subnet}"),
        (vip == subnet.broadcast_address, f"is the broadcast address of {subnet}"),
        (vip == topology.network.gateway, "is the gateway's address: every host would lose its way out"),
        (owner is not None, f"is the address of host {owner}, and must float"),
    )
    for reason in [reason for applies, reason in reasons if applies][:1]:
        yield Objection(("network", "vip"), reason, f"choose one of {subnet} that nothing else has")


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
    """Nobody else on the segment has the VRRP identity."""
    network = topology.network
    if network.virtual_router_id in network.taken_router_ids:
        reason = f"{network.virtual_router_id} is listed in network.taken_router_ids: both would fight for their VIPs"
        yield Objection(("network", "virtual_router_id"), reason, "choose another from 1 to 255")


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
    gateway_is_a_host,
    router_id_is_free,
    interface_is_shared,
    there_is_a_vip,
)
