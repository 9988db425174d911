"""Addresses of either family, as hosts have them and as files, URLs and rules write them. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Subnet: TypeAlias = IPv4Network | IPv6Network
#: An address with the prefix length of its network.
Interface: TypeAlias = IPv4Interface | IPv6Interface

IPV4 = 4
IPV6 = 6
#: What each family is called.
NAMES = {IPV4: "IPv4", IPV6: "IPv6"}


def bracketed(address: Address | str) -> str:
    """Return an address as it stands before a port: one of IPv6 has brackets, since it is full of colons itself."""
    text = str(address)
    return f"[{text}]" if ":" in text else text


def at_port(address: Address | str, port: int) -> str:
    """Return an address with a port, as in URLs."""
    return f"{bracketed(address)}:{port}"


def alone(address: Address) -> str:
    """Return the network of one address, as ``10.77.0.11/32``."""
    return f"{address}/{address.max_prefixlen}"


def floating_prefix(address: Address, subnet: Subnet) -> int:
    """Return the prefix length with which a VIP is put on an interface.

    That of IPv6 is 128, which Keepalived makes a deprecated address of: nothing on its host takes it as the source of
    a connection of its own (RFC 6724), which servers and firewalls would refuse. With IPv4 the host's own comes first.
    """
    return address.max_prefixlen if address.version == IPV6 else subnet.prefixlen
