"""Fences in the kernel: two hosts that are no more than a network namespace each, and what really goes between them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.kernel import fences, nftables, sockets, stand_in
from pgbaton.agent.kernel.fence_rules import GONE_SECONDS, TABLE, Serving
from pgbaton.agent.kernel.fences import FenceError, Fences
from pgbaton.agent.settings import Ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.lab

PORTS = Ports(
    heartbeat=7790,
    health=7791,
    postgresql=5432,
    rest=8008,
    etcd=2379,
    etcd_peer=2380,
    pool_write=6432,
    pool_read=6433,
    pool_synchronous=6434,
)
CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")
#: So long is waited for what is to come, and for what must not.
SOON_SECONDS = 5.0
NOT_SECONDS = 0.3

#: What is to be closed after a test.
ACCEPTED: list[socket.socket] = []

ADDRESSES = {
    "IPv4": "10.99.7.1",
    "IPv6": "fd99:7::1",
    "IPv4 through a socket of IPv6": "::ffff:10.99.7.1",
}


@dataclass
class Host:
    """A network namespace, and what was opened in it."""

    namespace: str
    addresses: tuple[str, str]
    opened: list[socket.socket] = field(default_factory=list)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread, and what it starts, be in the namespace."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(NAMESPACES / self.namespace, os.O_RDONLY)
        try:
            enter(there)
            yield
        finally:
            enter(before)
            os.close(before)
            os.close(there)

    def serve(self, port: int, address: str = "") -> socket.socket:
        """Listen on an address, or on all addresses."""
        family = socket.AF_INET if "." in address else socket.AF_INET6
        with self.inside():
            made = socket.create_server((address or "::", port), family=family, dualstack_ipv6=not address)
        made.settimeout(SOON_SECONDS)
        self.opened.append(made)
        return made

    def connect(self, address: str, port: int) -> socket.socket:
        """Connect to another host, or to this one."""
        with self.inside():
            made = socket.create_connection((address, port), SOON_SECONDS)
        self.opened.append(made)
        return made

    def begin_to_connect(self, address: str, port: int) -> socket.socket:
        """Begin to connect, and return while it is under way."""
        with self.inside():
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(0)
        with suppress(BlockingIOError):
            made.connect((address, port))
        made.settimeout(SOON_SECONDS)
        self.opened.append(made)
        return made

    def close(self) -> None:
        """Close everything."""
        for each in self.opened:
            each.close()


def accepted(server: socket.socket) -> socket.socket:
    """Return the next connection to a server."""
    made = server.accept()[0]
    ACCEPTED.append(made)
    return made


def enter(namespace: int) -> None:
    """Move this thread into a network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def ip(*arguments: str) -> None:
    """Run ip to its end."""
    subprocess.run(["/usr/sbin/ip", *arguments], check=True, timeout=30)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Make P, which is to be fenced, and V, which fences it; nothing outside of their namespaces is touched."""
    p, v = (
        Host(f"pgb-fence-{os.getpid()}-{name}", (f"10.99.7.{number}", f"fd99:7::{number}"))
        for name, number in (("p", 1), ("v", 2))
    )
    try:
        for host in (p, v):
            ip("netns", "add", host.namespace)
            ip("-n", host.namespace, "link", "set", "lo", "up")
        ip("-n", p.namespace, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", v.namespace)
        for host in (p, v):
            ip("-n", host.namespace, "address", "add", f"{host.addresses[0]}/24", "dev", "wire")
            ip("-n", host.namespace, "address", "add", f"{host.addresses[1]}/64", "dev", "wire", "nodad")
            ip("-n", host.namespace, "link", "set", "wire", "up")
        yield p, v
    finally:
        while ACCEPTED:
            ACCEPTED.pop().close()
        for host in (p, v):
            host.close()
            if (NAMESPACES / host.namespace).exists():
                ip("netns", "delete", host.namespace)


@pytest.fixture
async def here(hosts: tuple[Host, Host], tmp_path: Path) -> AsyncIterator[Fences]:
    """Let the test, and its threads, be on V, with the rules loaded there."""
    p, v = hosts
    with v.inside():
        made = Fences(hosts={"p": p.addresses[:1], "p6": p.addresses[1:]}, ports=PORTS, directory=tmp_path)
        await made.install()
        yield made
        made.close()


def says(connection: socket.socket) -> bytes | type[OSError]:
    """Return what comes on a connection, or how it ended."""
    connection.settimeout(SOON_SECONDS)
    try:
        return connection.recv(100)
    except OSError as error:
        return type(error)


def is_quiet(connection: socket.socket) -> bool:
    """Tell whether nothing comes on a connection, not even its end."""
    connection.settimeout(NOT_SECONDS)
    try:
        connection.recv(100)
    except TimeoutError:
        return True
    return False


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.parametrize("port", [5432, 6432, 6433, 8008])
async def test_who_only_reads_from_a_fenced_host_loses_the_connection_too(
    hosts: tuple[Host, Host], here: Fences, address: str, port: int
) -> None:
    p, v = hosts
    server = p.serve(port)
    reader = v.connect(address, port)
    sender = accepted(server)
    cut = await here.fence("p6" if address == p.addresses[1] else "p", "silent")
    assert (cut.ended, cut.left, cut.why) == (1, 0, "")
    assert says(reader) is ConnectionAbortedError
    sender.sendall(b"more")
    assert is_quiet(sender)


async def test_who_writes_to_a_fenced_host_is_reset_by_the_rule_alone(hosts: tuple[Host, Host], here: Fences) -> None:
    p, v = hosts
    server = p.serve(5432)
    writer = v.connect(p.addresses[0], 5432)
    sender = accepted(server)
    fence = nftables.Element(socket.inet_aton(p.addresses[0]))
    nftables.apply(TABLE, nftables.Change("fenced4", (fence,)))
    writer.sendall(b"flushed up to here")
    assert says(writer) is ConnectionResetError
    assert is_quiet(sender)
    assert [fence.host for fence in here.standing()] == [p.addresses[0]]


async def test_no_packet_leaves_for_a_fenced_host_not_even_an_acknowledgement_or_a_reset(
    hosts: tuple[Host, Host], here: Fences
) -> None:
    p, v = hosts
    server = p.serve(5432)
    reader, writer = (v.connect(p.addresses[0], 5432) for _ in range(2))
    senders = [accepted(server) for _ in range(2)]
    seen = Seen(p, v)
    for sender in senders:
        sender.sendall(b"wal")
    assert {says(reader), says(writer)} == {b"wal"}
    assert seen.next() > 0
    fence = nftables.Element(socket.inet_aton(p.addresses[0]))
    nftables.apply(TABLE, nftables.Change("fenced4", (fence,)))
    for sender in senders:
        sender.sendall(b"more wal")
    writer.sendall(b"flushed up to here")
    assert is_quiet(reader)
    await here.fence("p", "silent")
    assert says(reader) is ConnectionAbortedError
    assert seen.next() == 0


async def test_a_host_that_replicates_over_another_network_is_fenced_there_as_well(
    hosts: tuple[Host, Host], here: Fences
) -> None:
    p, v = hosts
    ip("-n", p.namespace, "address", "add", "10.99.8.1/24", "dev", "wire")
    ip("-n", v.namespace, "address", "add", "10.99.8.2/24", "dev", "wire")
    here.hosts = {"p": (p.addresses[0], "10.99.8.1")}
    server = p.serve(5432)
    readers = [v.connect(address, 5432) for address in here.hosts["p"]]
    senders = [accepted(server) for _ in readers]
    assert (await here.fence("p", "silent")).ended == 2
    for reader, sender in zip(readers, senders, strict=True):
        assert says(reader) is ConnectionAbortedError
        sender.sendall(b"more wal")
        assert is_quiet(sender)
    for address in here.hosts["p"]:
        with pytest.raises(ConnectionRefusedError):
            v.connect(address, 5432)
    follower_server = v.serve(5432)
    connection = p.connect("10.99.8.2", 5432)
    accepted(follower_server).sendall(b"well")
    assert says(connection) == b"well", "it must be able to follow"
    await here.unfence("p")
    for address in here.hosts["p"]:
        v.connect(address, 5432)


async def test_a_fenced_host_is_refused_at_once(hosts: tuple[Host, Host], here: Fences) -> None:
    p, v = hosts
    p.serve(8008)
    await here.fence("p", "silent")
    await here.fence("p6", "silent")
    for address in p.addresses:
        with pytest.raises(ConnectionRefusedError):
            v.connect(address, 8008)


async def test_an_attempt_to_connect_to_a_dead_host_ends_with_its_fence(hosts: tuple[Host, Host], here: Fences) -> None:
    p, v = hosts
    ip("-n", v.namespace, "neighbour", "add", p.addresses[0], "lladdr", "02:00:00:00:00:99", "dev", "wire")
    attempt = v.begin_to_connect(p.addresses[0], 8008)
    assert is_quiet(attempt)
    assert (await here.fence("p", "silent")).ended == 1
    assert says(attempt) is ConnectionAbortedError


async def test_a_fenced_host_can_follow_and_etcd_stays(hosts: tuple[Host, Host], here: Fences) -> None:
    p, v = hosts
    follower_server, etcd = v.serve(5432), p.serve(2379)
    await here.fence("p", "silent")
    for server, connection in (
        (follower_server, p.connect(v.addresses[0], 5432)),
        (etcd, v.connect(p.addresses[0], 2379)),
    ):
        peer = accepted(server)
        peer.sendall(b"well")
        assert says(connection) == b"well"


async def test_nobody_waits_for_the_etcd_of_a_host_that_is_gone_until_a_moment_has_passed(
    hosts: tuple[Host, Host], here: Fences
) -> None:
    p, v = hosts
    for port in (2379, 2380, 5432):
        p.serve(port)
    here.shun("p", "p6")
    here.shun("p", "p6")
    for address in p.addresses:
        for port in (2379, 2380):
            with pytest.raises(ConnectionRefusedError):
                v.connect(address, port)
        v.connect(address, 5432)
    await asyncio.sleep(GONE_SECONDS + 0.2)
    for address in p.addresses:
        v.connect(address, 2379)
    assert here.standing() == ()


async def test_saying_again_that_a_host_is_gone_makes_it_last(hosts: tuple[Host, Host], here: Fences) -> None:
    p, v = hosts
    p.serve(2380)
    for _ in range(3):
        here.shun("p")
        await asyncio.sleep(0.45 * GONE_SECONDS)
    with pytest.raises(ConnectionRefusedError):
        v.connect(p.addresses[0], 2380)


@pytest.mark.parametrize(("family", "newest"), [(0, "10.99.7.100/24"), (1, "fd99:7::100/128 nodad")])
async def test_who_asks_for_a_patroni_that_is_gone_reaches_the_agent_for_a_moment(
    hosts: tuple[Host, Host], family: int, newest: str
) -> None:
    p, v = hosts
    address = p.addresses[family]
    # The agent listens at its host's own address, and the interface may get others later.
    ip("-n", p.namespace, "address", "add", *newest.split(), "dev", "wire")
    agent = p.serve(7791, address)
    with p.inside():
        await stand_in.install(PORTS, address)
        for _ in range(2):
            stand_in.begin(PORTS)
    connection = v.connect(address, 8008)
    accepted(agent).sendall(b"well")
    assert says(connection) == b"well"
    with pytest.raises(ConnectionRefusedError):
        p.connect(address, 8008)
    with p.inside():
        stand_in.end()
    with pytest.raises(ConnectionRefusedError):
        v.connect(address, 8008)
    with p.inside():
        stand_in.begin(PORTS)
    await asyncio.sleep(stand_in.SECONDS + 0.2)
    with pytest.raises(ConnectionRefusedError):
        v.connect(address, 8008)


async def test_a_host_is_served_again_when_its_fence_has_fallen(hosts: tuple[Host, Host], here: Fences) -> None:
    p, v = hosts
    server = p.serve(5432)
    await here.fence("p", "silent")
    await here.unfence("p")
    connection = v.connect(p.addresses[0], 5432)
    accepted(server).sendall(b"well")
    assert says(connection) == b"well"
    assert here.standing() == ()


async def test_a_fence_is_shown_by_nft_with_its_reason(hosts: tuple[Host, Host], here: Fences) -> None:
    del hosts
    await here.fence("p", "silent for 0.25 s")
    pipe = asyncio.subprocess.PIPE
    nft = await asyncio.create_subprocess_exec(fences.NFT, "list", "ruleset", stdout=pipe)
    shown = (await asyncio.wait_for(nft.communicate(), 30))[0].decode()
    assert 'elements = { 10.99.7.1 comment "p silent for 0.25 s" }' in shown


async def test_a_reload_of_the_firewall_leaves_fences_alone(hosts: tuple[Host, Host], here: Fences) -> None:
    del hosts
    await here.fence("p", "silent")
    await fences.load("table inet pgbaton\ndelete table inet pgbaton\ntable inet pgbaton {\n}\n")
    assert await here.mend() == ()
    assert [fence.host for fence in here.standing()] == ["p"]


async def test_a_fence_that_was_flushed_with_all_rules_is_put_back(hosts: tuple[Host, Host], here: Fences) -> None:
    p, v = hosts
    p.serve(5432)
    await here.fence("p", "silent")
    await fences.load("flush ruleset\n")
    assert here.standing() == ()
    assert await here.mend() == ("p",)
    with pytest.raises(ConnectionRefusedError):
        v.connect(p.addresses[0], 5432)


async def test_fences_and_their_reasons_outlive_a_reboot(hosts: tuple[Host, Host], here: Fences) -> None:
    del hosts
    await here.fence("p", "silent")
    await here.fence("p6", "silent too")
    before = here.standing()
    await fences.load("flush ruleset\n")
    assert await fences.restore(here.file.parent) == before == here.standing()


async def test_new_rules_keep_what_stands(hosts: tuple[Host, Host], here: Fences, tmp_path: Path) -> None:
    p, _ = hosts
    await here.fence("p", "silent")
    await here.serve(Serving.HELD)
    later = Fences(hosts={"p": p.addresses[:1]}, ports=PORTS, directory=tmp_path)
    assert [fence.host for fence in await later.install()] == ["p"]
    assert later.serving == Serving.HELD
    later.close()


async def test_rules_that_are_wrong_change_nothing(hosts: tuple[Host, Host], here: Fences) -> None:
    del hosts
    await here.fence("p", "silent")
    with pytest.raises(FenceError, match="the rules are as they were"):
        await fences.load("flush ruleset\ntable inet pgbaton_fence { nonsense }\n")
    assert await here.mend() == ()


@pytest.mark.parametrize("who", ["another host", "this host itself"])
async def test_a_held_client_hears_nothing_and_goes_on_later(hosts: tuple[Host, Host], here: Fences, who: str) -> None:
    p, v = hosts
    server = v.serve(5432)
    client = (p if who == "another host" else v).connect(v.addresses[0], 5432)
    backend = accepted(server)
    await here.serve(Serving.HELD)
    backend.sendall(b"committed")
    assert is_quiet(client)
    client.sendall(b"select")
    assert is_quiet(backend)
    await here.serve(Serving.OPEN)
    assert (says(client), says(backend)) == (b"committed", b"select")


@pytest.mark.parametrize("who", ["another host", "this host itself"])
async def test_a_refused_client_is_told_at_once(hosts: tuple[Host, Host], here: Fences, who: str) -> None:
    p, v = hosts
    server = v.serve(6432)
    host = p if who == "another host" else v
    client = host.connect(v.addresses[0], 6432)
    backend = accepted(server)
    await here.serve(Serving.HELD)
    backend.sendall(b"committed")
    assert is_quiet(client)
    assert (await here.serve(Serving.REFUSED)).ended >= 1
    assert says(client) is ConnectionResetError
    assert says(backend) is ConnectionAbortedError
    with pytest.raises(ConnectionRefusedError):
        host.connect(v.addresses[0], 6432)


async def test_a_host_that_refuses_its_clients_can_follow_another(hosts: tuple[Host, Host], here: Fences) -> None:
    p, v = hosts
    server, rest = p.serve(5432), v.serve(8008)
    await here.serve(Serving.REFUSED)
    follower, question = v.connect(p.addresses[0], 5432), p.connect(v.addresses[0], 8008)
    accepted(server).sendall(b"wal")
    accepted(rest).sendall(b"well")
    assert (says(follower), says(question)) == (b"wal", b"well")


async def test_a_thousand_connections_are_ended_and_the_agent_goes_on_meanwhile(
    hosts: tuple[Host, Host], here: Fences
) -> None:
    p, v = hosts
    server = p.serve(6432)
    server.listen(1000)
    clients = [v.connect(p.addresses[0], 6432) for _ in range(1000)]
    fencing = asyncio.create_task(here.fence("p", "silent"))
    turns = 0
    while not fencing.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await fencing).ended == 1000
    assert turns > 10
    assert {says(client) for client in clients} == {ConnectionAbortedError}


def test_other_connections_are_left_alone(hosts: tuple[Host, Host]) -> None:
    p, v = hosts
    server, other = p.serve(5432), p.serve(5433)
    kept, cut = v.connect(p.addresses[0], 5433), v.connect(p.addresses[0], 5432)
    for listener in (server, other):
        accepted(listener)
    with v.inside():
        ended = sockets.cut_to(fences.ipaddress.ip_address(p.addresses[0]), frozenset({5432, 8008}))
    assert ended.ended == 1
    assert says(cut) is ConnectionAbortedError
    assert is_quiet(kept)


class Seen:
    """What comes to P's PostgreSQL from V, as P's wire has it."""

    MARK_PORT = 9

    def __init__(self, p: Host, v: Host) -> None:
        with p.inside():
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
            self.wire.bind(("wire", 0x0800))
        with v.inside():
            self.marks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.wire.settimeout(SOON_SECONDS)
        self.v, self.p = v.addresses[0], p.addresses[0]
        p.opened += [self.wire, self.marks]

    def next(self) -> int:
        """Return how many packets for PostgreSQL came since the last time: those before a mark that is sent now."""
        self.marks.sendto(b"", (self.p, self.MARK_PORT))
        count = 0
        while (packet := self.packet()) != (socket.IPPROTO_UDP, self.MARK_PORT):
            count += packet == (socket.IPPROTO_TCP, 5432)
        return count

    def packet(self) -> tuple[int, int] | None:
        """Return protocol and port of the next packet, None when it does not come from V."""
        data = self.wire.recv(2000)
        header = (data[0] & 15) * 4
        port: int = struct.unpack_from("!H", data, header + 2)[0]
        return (data[9], port) if data[12:16] == socket.inet_aton(self.v) else None
