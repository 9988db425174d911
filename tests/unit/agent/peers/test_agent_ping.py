from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.peers import ping
from pgbaton.agent.peers.ping import V4, V6, Pinger, Protocol, answered, checksum, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: The kernel sends nothing there, unless a socket asks for the right to. (An address of nobody may be answered for by
#: a router.)
NOWHERE = "255.255.255.255"
NONCE = bytes(range(16))
LOCALS = ((V4, "127.0.0.1"), (V6, "::1"))


def may_ping(protocol: Protocol) -> bool:
    try:
        ping._socket(protocol).close()
    except OSError:
        return False
    return True


class Answers:
    """What a pinger said, and a wait for it that has a deadline."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.pinger = Pinger(self.take)
        self._more = asyncio.Event()

    def take(self, host: str) -> None:
        self.hosts.append(host)
        self._more.set()

    async def wait(self, count: int) -> list[str]:
        async with asyncio.timeout(5):
            while len(self.hosts) < count:
                self._more.clear()
                await self._more.wait()
        return sorted(self.hosts)


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    made = Answers()
    yield made
    made.pinger.close()


@pytest.mark.parametrize(("protocol", "address"), LOCALS, ids=["IPv4", "IPv6"])
async def test_a_host_that_lives_answers(answers: Answers, protocol: Protocol, address: str) -> None:
    if not may_ping(protocol):
        pytest.skip("this user may not send echoes")
    for host in ("db1", "db2", "db3"):
        answers.pinger.send(host, address)
    assert await answers.wait(3) == ["db1", "db2", "db3"]
    assert answers.pinger._waiting == {}


@pytest.mark.parametrize(("protocol", "address"), LOCALS, ids=["IPv4", "IPv6"])
async def test_nobody_takes_the_answers_of_another_pinger(answers: Answers, protocol: Protocol, address: str) -> None:
    if not may_ping(protocol):
        pytest.skip("this user may not send echoes")
    other = Answers()
    other.pinger.send("other", address)
    answers.pinger.send("own", address)
    assert await answers.wait(1) == ["own"]
    assert await other.wait(1) == ["other"]
    # Both sockets have seen everything by now; what follows on the first comes after all that.
    answers.pinger.send("last", address)
    assert await answers.wait(2) == ["last", "own"]
    other.pinger.close()


async def test_what_cannot_be_sent_is_only_not_answered(answers: Answers) -> None:
    if not may_ping(V4):
        pytest.skip("this user may not send echoes")
    answers.pinger.send("dead", NOWHERE)
    answers.pinger.send("alive", "127.0.0.1")
    assert await answers.wait(1) == ["alive"]


async def test_what_dead_hosts_leave_behind_is_bounded(answers: Answers) -> None:
    if not may_ping(V4):
        pytest.skip("this user may not send echoes")
    for _ in range(3 * ping.MOST_WAITING):
        answers.pinger._remembered("dead")
    answers.pinger.send("alive", "127.0.0.1")
    assert len(answers.pinger._waiting) == ping.MOST_WAITING
    assert await answers.wait(1) == ["alive"]


class Refused(socket.socket):
    """A kernel that allows neither kind of socket."""

    def __init__(self, *_: object) -> None:
        raise PermissionError(1, "Operation not permitted")


async def test_without_the_right_that_is_said_once_and_the_agent_goes_on(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ping.socket, "socket", Refused)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            answers.pinger.send("db1", "127.0.0.1")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("no echoes over AF_INET: [Errno 1] Operation not permitted; fix: set net.ipv4.ping")
    answers.pinger.close()


def test_a_request_has_the_form_of_rfc_792() -> None:
    packet = request(V4, 7, NONCE)
    assert packet[:2] == b"\x08\x00"
    assert packet[6:8] == b"\x00\x07"
    assert packet[8:] == NONCE
    assert checksum(packet) == 0
    assert request(V6, 7, NONCE)[0] == 128


def test_the_checksum_is_the_one_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert checksum(b"\xff\xff" * 40) == 0
    assert checksum(b"") == 0xFFFF


HEADER = bytes(8)
ANSWER = bytes(8) + NONCE


@pytest.mark.parametrize(
    ("protocol", "packet", "raw", "nonce"),
    [
        (V4, ANSWER, False, NONCE),
        (V4, b"\x45" + bytes(19) + ANSWER, True, NONCE),
        (V4, b"\x46" + bytes(23) + ANSWER, True, NONCE),
        (V6, b"\x81" + ANSWER[1:], True, NONCE),
        (V6, b"\x81" + ANSWER[1:], False, NONCE),
        (V4, b"\x08" + ANSWER[1:], False, b""),
        (V6, b"\x80" + ANSWER[1:], True, b""),
        (V4, b"\x03" + ANSWER[1:], False, b""),
        (V4, ANSWER[:-1], False, b""),
        (V4, ANSWER + b"\x00", False, b""),
        (V4, b"", False, b""),
        (V4, b"", True, b""),
        (V4, b"\x4f", True, b""),
    ],
)
def test_an_answer_is_known_from_everything_else(*, protocol: Protocol, packet: bytes, raw: bool, nonce: bytes) -> None:
    assert answered(protocol, packet, raw=raw) == nonce


def test_a_raw_socket_is_given_nothing_but_answers() -> None:
    # ICMP_FILTER and ICMPV6_FILTER have a bit for each type that is dropped.
    mask = int.from_bytes(V4.filter[2], "little")
    assert [kind for kind in range(32) if not mask >> kind & 1] == [0]
    mask6 = int.from_bytes(V6.filter[2], "little")
    assert [kind for kind in range(256) if not mask6 >> kind & 1] == [129]
