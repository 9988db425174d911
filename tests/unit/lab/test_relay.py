from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from pgbaton.lab import relay
from pgbaton.lab.relay import Direction

if TYPE_CHECKING:
    from collections.abc import Iterator

DELAY_SECONDS = 0.05


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket, socket.socket, socket.socket]]:
    """Yield the ends of two links: a host's, the relay's; the relay's, another host's."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for pair in pairs:
        for each in pair:
            each.settimeout(0)
    yield (*pairs[0], *pairs[1])
    for pair in pairs:
        for each in pair:
            each.close()


def test_a_frame_goes_out_after_its_time_and_not_before(
    ends: tuple[socket.socket, socket.socket, socket.socket, socket.socket],
) -> None:
    host, inner, outer, other = ends
    way = Direction(inner, outer, DELAY_SECONDS)
    host.send(b"first")
    host.send(b"second")
    begin = time.monotonic()
    way.take()
    while (wait := way.give()) is not None:
        with pytest.raises(BlockingIOError):
            other.recv(100)
        assert 0 <= wait <= DELAY_SECONDS
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            pass
    assert time.monotonic() - begin >= DELAY_SECONDS
    assert [other.recv(100), other.recv(100)] == [b"first", b"second"]


def test_nothing_is_owed_when_nothing_came(
    ends: tuple[socket.socket, socket.socket, socket.socket, socket.socket],
) -> None:
    _, inner, outer, _ = ends
    way = Direction(inner, outer, DELAY_SECONDS)
    way.take()
    assert way.give() is None


def test_what_is_beyond_the_longest_queue_is_lost(
    ends: tuple[socket.socket, socket.socket, socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, inner, outer, other = ends
    monkeypatch.setattr(relay, "LONGEST_QUEUE", 1)
    way = Direction(inner, outer, 0.0)
    host.send(b"first")
    host.send(b"second")
    way.take()
    assert way.give() is None
    assert other.recv(100) == b"first"
    with pytest.raises(BlockingIOError):
        other.recv(100)
