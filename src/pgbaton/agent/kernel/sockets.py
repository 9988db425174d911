"""End TCP connections of this host from outside of the programs that have them, through the kernel's sock_diag.

A rule that rejects what goes out resets the connection of whoever sends. One who only reads, such as a walreceiver
whose primary has died, sends nothing and would wait for its timeout: its socket has to be ended. A kernel with
CONFIG_INET_DIAG_DESTROY does that, which is what ``ss --kill`` uses; with any other, the rule has to do.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pgbaton.agent.kernel import netlink
from pgbaton.agent.kernel.netlink import REQUEST, SOCK_DIAG, Message

if TYPE_CHECKING:
    from collections.abc import Iterator

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

FAMILIES = (socket.AF_INET, socket.AF_INET6)
BY_FAMILY = 20
DESTROY = 21
BYTECODE = 1
PEER_CONDITION = 8  # INET_DIAG_BC_D_COND

#: struct inet_diag_req_v2 up to the socket's identity, which is two ports, two addresses, an interface and a cookie.
QUESTION = struct.Struct("=BBBBI")
PORTS = struct.Struct("!HH")
IDENTITY_BYTES = 48
#: Where the identity stands in struct inet_diag_msg.
IDENTITY_OFFSET = 4
ANY_PORT = -1

#: Connections that a program may still have: not those that listen, and not what is left of ended ones.
STATES = sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11))
ALL_STATES = 0xFFFFFFFF
#: So many are ended with one message to the kernel.
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Cut:
    """What became of connections: how many were ended and how many were not, and the reason for the latter."""

    ended: int = 0
    left: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as the kernel names it."""

    family: int
    identity: bytes

    @property
    def own_port(self) -> int:
        """Return the port on this host."""
        port: int = PORTS.unpack_from(self.identity)[0]
        return port

    @property
    def peer_port(self) -> int:
        """Return the port on the other host."""
        port: int = PORTS.unpack_from(self.identity)[1]
        return port


def cut_to(address: Address, ports: frozenset[int]) -> Cut:
    """End all connections from here to these ports of a host."""
    families = FAMILIES if isinstance(address, ipaddress.IPv4Address) else (socket.AF_INET6,)
    found = (each for family in families for each in connections(family, address))
    return cut(each for each in found if each.peer_port in ports)


def cut_of(address: Address, ports: frozenset[int]) -> Cut:
    """End all connections that a host made to these ports of this one."""
    families = FAMILIES if isinstance(address, ipaddress.IPv4Address) else (socket.AF_INET6,)
    found = (each for family in families for each in connections(family, address))
    return cut(each for each in found if each.own_port in ports)


def cut_from(ports: frozenset[int]) -> Cut:
    """End all connections that others made to these ports of this host; the kernel tells them with a reset."""
    return cut(each for family in FAMILIES for port in sorted(ports) for each in connections(family, port=port))


def cut(wanted: Iterator[Connection]) -> Cut:
    """End what is found; a kernel that cannot is no error, since the rules hold without it."""
    try:
        found = list(wanted)
        errors = [number for number in end(found) if number != errno.ENOENT]
    except OSError as error:
        return Cut(why=f"sock_diag: {error}")
    reasons = {f"SOCK_DESTROY: {os.strerror(number)}" for number in errors}
    return Cut(len(found) - len(errors), len(errors), ", ".join(sorted(reasons)))


def prepare() -> None:
    """Have the kernel load what lists connections: that takes long, but only once."""
    with suppress(OSError):
        connections(socket.AF_INET, port=1)


def connections(family: int, peer: Address | None = None, *, port: int = 0) -> tuple[Connection, ...]:
    """Return the connections with a host, or with a port of this one; IPv4 in IPv6's clothes counts as both."""
    question = QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, STATES)
    identity = PORTS.pack(port, 0).ljust(IDENTITY_BYTES, b"\0")
    condition = netlink.attribute(BYTECODE, is_with(peer)) if peer else b""
    answers = netlink.listing(SOCK_DIAG, Message(BY_FAMILY, question + identity + condition))
    end_of_identity = IDENTITY_OFFSET + IDENTITY_BYTES
    return tuple(Connection(answer[0], answer[IDENTITY_OFFSET:end_of_identity]) for answer in answers)


def is_with(peer: Address) -> bytes:
    """Return the kernel's filter for connections with one host."""
    family = socket.AF_INET if isinstance(peer, ipaddress.IPv4Address) else socket.AF_INET6
    host = struct.pack("=BBxxi", family, peer.max_prefixlen, ANY_PORT) + peer.packed
    length = 4 + len(host)
    # True leads to the end of the filter, which accepts; false leads beyond it, which refuses.
    return struct.pack("=BBH", PEER_CONDITION, length, length + 4) + host


def end(found: list[Connection]) -> Iterator[int]:
    """End connections, and yield the error of each that was not; one that ended by itself meanwhile is absent."""
    for start in range(0, len(found), AT_ONCE):
        yield from netlink.send(SOCK_DIAG, *map(request, found[start : start + AT_ONCE]))


def request(connection: Connection) -> Message:
    """Return the request to end a connection."""
    question = QUESTION.pack(connection.family, socket.IPPROTO_TCP, 0, 0, ALL_STATES)
    return Message(DESTROY, question + connection.identity, REQUEST)
