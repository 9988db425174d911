"""Datagrams between agents: what waits in the socket is read before anybody is judged by what is missing."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

from pgbaton.agent.messages import Received

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgbaton.agent.messages import Codec, Foreign, Message, Rejected

#: How many datagrams a single turn reads: a flood must not keep the loop from everything else.
AT_ONCE = 256
LARGEST_BYTES = 2048


class Post:
    """Send messages to the other agents, and take theirs.

    ``addresses`` are the other hosts' by name. ``on_message`` is called with the sender and what it said, only for what
    a host said that is proved to live now; ``on_rejected`` with everything else.
    """

    def __init__(
        self,
        codec: Codec,
        addresses: Mapping[str, str],
        *,
        bind: tuple[str, int],
        on_message: Callable[[str, Message | Foreign], None],
        on_rejected: Callable[[Rejected], None] = lambda _: None,
    ) -> None:
        self._codec = codec
        self._addresses = {name: (address, bind[1]) for name, address in addresses.items()}
        self._on_message = on_message
        self._on_rejected = on_rejected
        is_ipv4 = isinstance(ipaddress.ip_address(bind[0]), ipaddress.IPv4Address)
        family = socket.AF_INET if is_ipv4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(bind)

    def open(self) -> None:
        """Begin to take datagrams as they come."""
        asyncio.get_running_loop().add_reader(self._socket, self.drain)

    def close(self) -> None:
        """Take no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def send(self, message: Message, to: str) -> None:
        """Send to one host; what the kernel does not take is as lost as a datagram on its way may be."""
        try:
            self._socket.sendto(self._codec.encode(message, to), self._addresses[to])
        except OSError:
            return

    def tell_all(self, message: Message) -> None:
        """Send to every other host."""
        for name in self._addresses:
            self.send(message, name)

    def drain(self) -> None:
        """Read what waits, up to a limit."""
        for _ in range(AT_ONCE):
            try:
                datagram = self._socket.recv(LARGEST_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # An earlier datagram's ICMP error: nobody listens there.
                continue
            self._take(datagram)

    def _take(self, datagram: bytes) -> None:
        opened = self._codec.decode(datagram)
        if opened.reply is not None and opened.sender is not None:
            self.send(opened.reply, opened.sender)
        if isinstance(opened, Received):
            self._on_message(opened.sender, opened.message)
        else:
            self._on_rejected(opened)
