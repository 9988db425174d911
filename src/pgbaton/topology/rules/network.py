"""Rules about the network and the VIPs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology import vips
from pgbaton.topology.addresses import IPV4, IPV6, NAMES
from pgbaton.topology.model import Role
from pgbaton.topology.objections import Objection
from pgbaton.topology.rules.base import Rule, rule, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.topology.addresses import Address, Subnet
    from pgbaton.topology.model import Network, Topology

#: The shortest and the longest prefix of a network that hosts share, by family, and how to write one.
PREFIXES = {IPV4: (8, 29), IPV6: (32, 125)}
EXAMPLES = {IPV4: "10.77.0.0/24", IPV6: "fd00:77::/64"}


@rule("network")
def subnet_is_usable(topology: Topology) -> Iterator[Objection]:
    """The subnet is one that hosts can share."""
    if why := unusable_subnet(topology.network.subnet):
        yield Objection(("network", "subnet"), *why)


def unusable_subnet(subnet: Subnet) -> tuple[str, str] | None:
    """Return why hosts cannot share a network, and what to do about it; None when they can."""
    if subnet.is_loopback or subnet.is_multicast or subnet.network_address.is_unspecified:
        reason = "is no network that several hosts can share"
        return reason, f"write the network of the hosts' addresses, as {EXAMPLES[subnet.version]}"
    if subnet.version == IPV6 and subnet.is_link_local:
        reason = "is link-local: such an address means nothing without an interface, and no certificate names one"
        return reason, f"give the hosts global or unique local addresses (RFC 4193), as of {EXAMPLES[IPV6]}"
    shortest, longest = PREFIXES[subnet.version]
    if not shortest <= subnet.prefixlen <= longest:
        reason = f"has {subnet.num_addresses} addresses: too {'few' if subnet.prefixlen > longest else 'many'}"
        return reason, f"use a prefix from /{shortest} to /{longest}"
    return None


def stranger(address: Address | Subnet, subnet: Subnet) -> str:
    """Return what is wrong with an address of the other family."""
    families = f"is {NAMES[address.version]}, and network.subnet, {subnet}, is {NAMES[subnet.version]}"
    return f"{families}: hosts, VIPs and sites are of one family"


def is_last(address: Address, subnet: Subnet) -> bool:
    """Tell whether an address is a network's broadcast address, which IPv6 has not."""
    return subnet.version == IPV4 and address == subnet.broadcast_address


@rule("network", "hosts")
def vip_is_free(topology: Topology) -> Iterator[Objection]:
    """Each VIP is an address of the subnet that nothing else has."""
    subnet = topology.network.subnet
    for place, vip in placed(topology.network):
        owner = next((host.name for host in topology.hosts if host.address == vip), None)
        reasons = (
            (vip.version != subnet.version, stranger(vip, subnet)),
            (vip not in subnet, f"is outside network.subnet, {subnet}: no client would find it"),
            (vip == subnet.network_address, f"is the network address of {subnet}"),
            (is_last(vip, subnet), f"is the broadcast address of {subnet}"),
            (vip == topology.network.gateway, "is the gateway's address: every host would lose its way out"),
            (owner is not None, f"is the address of host {owner}, and must float"),
        )
        for reason in [reason for applies, reason in reasons if applies][:1]:
            yield Objection(place, reason, f"choose one of {subnet} that nothing else has")


def placed(network: Network) -> Iterator[tuple[tuple[str | int, ...], Address]]:
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
    seen: set[Address] = set()
    for place, address in placed(network):
        if address in seen:
            yield Objection(place, f"{address} is listed twice", "write another one, or take it out")
        seen.add(address)


@rule("network", "hosts")
def twins_follow_vips(topology: Topology) -> Iterator[Objection]:
    """Twins are addresses of the other family that nothing else has, one for each VIP."""
    network = topology.network
    twins, own = network.twin_vips, network.subnet.version
    if twins and len(twins) != len(network.vips):
        reason = f"there are {len(network.vips)} VIPs and {len(twins)} twins of them"
        yield Objection(("network", "twin_vips"), reason, "list one for each VIP, in the order of the VIPs, or none")
    for index, twin in enumerate(twins):
        place, subnet, family = ("network", "twin_vips", index), twin.network, NAMES[twin.version]
        is_single = subnet.prefixlen == subnet.max_prefixlen
        reasons = (
            (twin.version == own, f"is {family}, as the VIPs are: a twin is for clients of the other family"),
            (unusable_subnet(subnet) is not None and not is_single, f"is in {subnet}, which clients cannot share"),
            (not is_single and twin.ip == subnet.network_address, f"is the network address of {subnet}"),
            (not is_single and is_last(twin.ip, subnet), f"is the broadcast address of {subnet}"),
            (twin.ip in {other.ip for other in twins[:index]}, "is listed twice"),
        )
        for reason in [reason for applies, reason in reasons if applies][:1]:
            fix = (
                f"write an {NAMES[IPV4 if own == IPV6 else IPV6]} address that nothing else has, with its prefix length"
            )
            yield Objection(place, reason, fix)


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
    if gateway is None:
        return
    if gateway not in subnet or gateway == subnet.network_address or is_last(gateway, subnet):
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
    owners: dict[int, Address] = {}
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
    twins_follow_vips,
    vips_have_balancers,
    gateway_is_a_host,
    router_id_is_free,
    router_ids_differ,
    interface_is_shared,
    there_is_a_vip,
)
