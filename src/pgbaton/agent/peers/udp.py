"""Datagrams between agents: all that waits in the socket is read before anybody is judged by what is missing."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from pgbaton.agent.peers.codec import Received

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgbaton.agent.peers.codec import Codec
    from pgbaton.agent.peers.messages import Foreign, Message

    Heard: TypeAlias = tuple[str, Message | Foreign]

#: How many datagrams a single turn reads: a flood must not keep the loop from everything else.
AT_ONCE = 256
LARGEST_BYTES = 2048
#: An address that a host has not got yet may be bound all the same (ip(7), ipv6(7)); Python has no names for these.
FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
#: What is meant for a dead host waits for its link address, seconds long, and counts as unsent all that time: without
#: room for it, nothing would be sent to the living either. More than the host allows takes CAP_NET_ADMIN (socket(7)).
SEND_BYTES = 1 << 22
SO_SNDBUFFORCE = 32


class Post:
    """Send messages to the other agents, and take theirs.

    ``addresses`` are the other hosts' by name. ``on_messages`` is called with all that waited: senders, and what they
    said, only of hosts that are proved to live now.
    """

    def __init__(
        self,
        codec: Codec,
        addresses: Mapping[str, str],
        *,
        bind: tuple[str, int],
        on_messages: Callable[[Sequence[Heard]], None],
    ) -> None:
        self._codec = codec
        self._addresses = {name: (address, bind[1]) for name, address in addresses.items()}
        self._bind = bind
        self._on_messages = on_messages
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Begin to take datagrams as they come; raises OSError when the port cannot be had."""
        if self._socket is None:
            self._socket = _bound(self._bind)
            asyncio.get_running_loop().add_reader(self._socket, self.drain)

    def close(self) -> None:
        """Take no more, and send none."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def send(self, message: Message, to: str) -> None:
        """Send to one host; what the kernel does not take is as lost as a datagram on its way may be."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto(self._codec.encode(message, to), self._addresses[to])

    def tell_all(self, message: Message) -> None:
        """Send to every other host."""
        for name in self._addresses:
            self.send(message, name)

    def drain(self) -> None:
        """Read what waits, up to a limit, and pass it on in one piece."""
        heard: list[Heard] = []
        for datagram in self._waiting():
            opened = self._codec.decode(datagram)
            if opened.reply is not None and opened.sender is not None:
                self.send(opened.reply, opened.sender)
            if isinstance(opened, Received):
                heard.append((opened.sender, opened.message))
        if heard:
            self._on_messages(heard)

    def _waiting(self) -> list[bytes]:
        found: list[bytes] = []
        if self._socket is None:
            return found
        for _ in range(AT_ONCE):
            try:
                found.append(self._socket.recv(LARGEST_BYTES))
            except BlockingIOError:
                break
            except OSError:
                # What became of an earlier datagram, such as that nobody listens there.
                continue
        return found


def _bound(where: tuple[str, int]) -> socket.socket:
    """Return the socket of this host's own address; raises OSError saying which, and what to do."""
    is_ipv4 = isinstance(ipaddress.ip_address(where[0]), ipaddress.IPv4Address)
    family = socket.AF_INET if is_ipv4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(*FREEBIND[family], 1)
        with suppress(PermissionError):
            made.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SEND_BYTES)
        made.bind(where)
    except OSError as error:
        made.close()
        message = (
            f"UDP port {where[1]} of {where[0]}: {error.strerror}; fix: another port, or end who has it (ss -lunp)"
        )
        raise OSError(error.errno, message) from error
    return made
