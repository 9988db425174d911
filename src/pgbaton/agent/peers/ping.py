"""ICMP echo: the second way to learn that a host is alive, when its agent may be dead or its datagrams lost.

Where the kernel allows a socket for echoes alone (net.ipv4.ping_group_range) that is used, otherwise a raw one, which
takes CAP_NET_RAW. RFC 792, RFC 4443; icmp(7), raw(7), ipv6(7).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LOGGER = logging.getLogger(__name__)

ECHO = struct.Struct(">BBHHH")
NONCE_BYTES = 16
#: Answers that are still waited for; hosts that are dead leave theirs behind.
MOST_WAITING = 256
#: How many packets one turn of the loop reads: a flood shall not stop the agent.
MOST_READ = 64
LONGEST_BYTES = 1500


class Protocol(NamedTuple):
    """What differs between ICMP and ICMPv6: numbers, and how a raw socket is told to pass nothing but answers."""

    family: socket.AddressFamily
    number: int
    request: int
    answer: int
    filter: tuple[int, int, bytes]


# linux/icmp.h: SOL_RAW, ICMP_FILTER, a mask of types to drop. linux/icmpv6.h: ICMPV6_FILTER, a mask of 256 of them.
# The bits are in words of 32: the answer's 129 is bit 1 of the fifth.
DROPPED = 0xFFFFFFFF
V4_MASK = struct.pack("=I", DROPPED ^ 1 << 0)
V6_MASK = struct.pack("=8I", *[DROPPED] * 4, DROPPED ^ 1 << 1, *[DROPPED] * 3)
V4 = Protocol(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0, (255, 1, V4_MASK))
V6 = Protocol(socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129, (socket.IPPROTO_ICMPV6, 1, V6_MASK))


class Pinger:
    """Ask hosts for an echo, and say which answered; where that is not allowed, say so once and do nothing."""

    def __init__(self, on_answer: Callable[[str], None]) -> None:
        self._on_answer = on_answer
        self._channels: dict[Protocol, _Channel | None] = {}
        self._waiting: dict[bytes, str] = {}
        self._sequence = 0

    def send(self, host: str, address: str) -> None:
        """Ask a host; returns at once, and the answer comes through the running loop. No answer is all that fails."""
        protocol = V4 if isinstance(ipaddress.ip_address(address), ipaddress.IPv4Address) else V6
        if protocol not in self._channels:
            self._channels[protocol] = self._opened(protocol)
        channel = self._channels[protocol]
        if channel is None:
            return
        nonce = self._remembered(host)
        self._sequence = (self._sequence + 1) & 0xFFFF
        try:
            channel.socket.sendto(request(protocol, self._sequence, nonce), (address, 0))
        except OSError as error:
            # No route, a full buffer: the host stays unheard, which is all that anybody asked.
            LOGGER.debug("no echo to %s at %s: %s", host, address, error)

    def close(self) -> None:
        """Close the sockets; nothing is answered after that."""
        for channel in self._channels.values():
            if channel is not None:
                channel.loop.remove_reader(channel.socket)
                channel.socket.close()
        self._channels.clear()

    def _remembered(self, host: str) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._waiting[nonce] = host
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        return nonce

    def _opened(self, protocol: Protocol) -> _Channel | None:
        try:
            channel = _Channel(_socket(protocol), asyncio.get_running_loop())
        except OSError as error:
            right = "set net.ipv4.ping_group_range or give CAP_NET_RAW"
            LOGGER.warning("no echoes over %s: %s; fix: %s. Goes on without", protocol.family.name, error, right)
            return None
        channel.loop.add_reader(channel.socket, self._read, protocol, channel.socket)
        return channel

    def _read(self, protocol: Protocol, receiver: socket.socket) -> None:
        for _ in range(MOST_READ):
            try:
                packet = receiver.recv(LONGEST_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                # Somebody said that a host cannot be reached. That is no answer either.
                LOGGER.debug("an error instead of an echo: %s", error)
                continue
            host = self._waiting.pop(answered(protocol, packet, raw=receiver.type == socket.SOCK_RAW), None)
            if host is not None:
                self._on_answer(host)


class _Channel(NamedTuple):
    socket: socket.socket
    loop: asyncio.AbstractEventLoop


def request(protocol: Protocol, sequence: int, nonce: bytes) -> bytes:
    """Return an echo request; its checksum is right for IPv4, and the kernel's work for IPv6."""
    # The identifier is 0, or the kernel's: it has 16 bits, and the nonce tells whose answer it is.
    bare = ECHO.pack(protocol.request, 0, 0, 0, sequence) + nonce
    return ECHO.pack(protocol.request, 0, checksum(bare), 0, sequence) + nonce


def answered(protocol: Protocol, packet: bytes, *, raw: bool) -> bytes:
    """Return the nonce of an echo answer; nothing for all that is none. Raw IPv4 sockets deliver the IP header too."""
    if raw and protocol is V4:
        packet = packet[4 * (packet[0] & 0x0F) :] if packet else b""
    if len(packet) != ECHO.size + NONCE_BYTES or packet[0] != protocol.answer:
        return b""
    return packet[ECHO.size :]


def checksum(content: bytes) -> int:
    """Return the Internet checksum of an even number of bytes (RFC 1071)."""
    total = sum(int.from_bytes(content[at : at + 2], "big") for at in range(0, len(content), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _socket(protocol: Protocol) -> socket.socket:
    """Open the less powerful kind of socket that is allowed; raises OSError when none is."""
    try:
        opened = socket.socket(protocol.family, socket.SOCK_DGRAM, protocol.number)
    except OSError:
        opened = socket.socket(protocol.family, socket.SOCK_RAW, protocol.number)
        opened.setsockopt(*protocol.filter)
    opened.settimeout(0)
    return opened
