"""Datagrams over the loopback interface: what is passed on, and when."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest
from small_cluster import PRIMARY, STANDBY

from pgbaton.agent.peers import udp
from pgbaton.agent.peers.codec import Codec
from pgbaton.agent.peers.messages import Heartbeat
from pgbaton.agent.peers.udp import Post

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgbaton.agent.peers.udp import Heard

KEY = b"k" * 32


class Host:
    """An agent's datagrams at an address of the loopback interface, and what came."""

    def __init__(self, name: str, boot: int, *, port: int, others: dict[str, str], address: str) -> None:
        self.batches: list[list[Heard]] = []
        self.came = asyncio.Event()
        codec = Codec(name, [KEY], boot, peers=others)
        self.post = Post(codec, others, bind=(address, port), on_messages=self.take)

    def take(self, heard: Sequence[Heard]) -> None:
        self.batches.append(list(heard))
        self.came.set()

    def said(self) -> list[object]:
        return [message for batch in self.batches for _, message in batch if isinstance(message, Heartbeat)]


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.7.7.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
async def pair(port: int) -> Iterator[tuple[Host, Host]]:  # type: ignore[misc]
    one = Host("one", 1, port=port, others={"two": "127.7.7.2"}, address="127.7.7.1")
    two = Host("two", 2, port=port, others={"one": "127.7.7.1"}, address="127.7.7.2")
    yield one, two
    for host in (one, two):
        host.post.close()


async def proved(one: Host, two: Host) -> None:
    """Let each believe that the other lives."""
    for _ in range(3):
        for host, other in ((one, "two"), (two, "one")):
            host.post.send(STANDBY, other)
        for host in (one, two, one, two):
            host.post.drain()
    for host in (one, two):
        host.batches.clear()


async def test_who_is_new_is_believed_only_after_the_challenge(pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.post.open()
    two.post.open()
    one.post.send(STANDBY, "two")
    two.post.drain()
    assert two.batches == []
    for host in (one, two):  # the challenge, and the answer to it
        host.post.drain()
    one.post.send(PRIMARY, "two")
    two.post.drain()
    assert two.said() == [PRIMARY]


async def test_all_that_waits_is_passed_on_in_one_piece(pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.post.open()
    two.post.open()
    await proved(one, two)
    for _ in range(5):
        one.post.tell_all(PRIMARY)
    two.post.drain()
    assert two.batches == [[("one", PRIMARY)] * 5]


async def test_what_comes_is_taken_without_being_asked_for(pair: tuple[Host, Host]) -> None:
    one, two = pair
    one.post.open()
    two.post.open()
    await proved(one, two)
    two.came.clear()
    one.post.tell_all(PRIMARY)
    async with asyncio.timeout(5):
        await two.came.wait()
    assert two.said() == [PRIMARY]


async def test_a_flood_of_nonsense_is_read_in_portions(
    pair: tuple[Host, Host], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "AT_ONCE", 8)
    _, two = pair
    two.post.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(11):
            stranger.sendto(b"nonsense" * 10, ("127.7.7.2", port))
        two.post.drain()
        assert len(two.post._waiting()) == 3
    assert two.batches == []


async def test_nothing_is_sent_or_taken_before_it_is_open_and_after_it_was_closed(pair: tuple[Host, Host]) -> None:
    one, two = pair
    two.post.open()
    one.post.tell_all(STANDBY)
    one.post.drain()
    one.post.open()
    one.post.close()
    one.post.close()
    one.post.tell_all(STANDBY)
    assert two.post._waiting() == []


async def test_a_host_that_cannot_be_sent_to_is_no_error(port: int) -> None:
    host = Host("one", 1, port=port, others={"two": "255.255.255.255"}, address="127.7.7.1")
    host.post.open()
    host.post.tell_all(STANDBY)
    host.post.close()


async def test_an_address_that_is_not_there_yet_can_be_waited_on(port: int) -> None:
    host = Host("one", 1, port=port, others={}, address="192.0.2.77")
    host.post.open()
    host.post.close()


async def test_a_port_that_somebody_has_is_named(pair: tuple[Host, Host], port: int) -> None:
    one, _ = pair
    one.post.open()
    other = Host("one", 3, port=port, others={}, address="127.7.7.1")
    with pytest.raises(OSError, match=rf"UDP port {port} of 127\.7\.7\.1: .*; fix: another port") as refused:
        other.post.open()
    assert refused.value.errno == errno.EADDRINUSE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have more than the host allows")
async def test_what_waits_for_a_dead_host_leaves_room_for_the_living(pair: tuple[Host, Host]) -> None:
    one, _ = pair
    one.post.open()
    assert one.post._socket
    # The kernel counts double, for its own bookkeeping.
    assert one.post._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * udp.SEND_BYTES
