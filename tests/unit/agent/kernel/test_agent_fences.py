"""Fences without a kernel: the rules as text, what the kernel is asked for, and in what order things are done."""

from __future__ import annotations

import errno
import ipaddress
import re
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgbaton.agent.kernel import fence_rules, fences, netlink, nftables, sockets
from pgbaton.agent.kernel.fence_rules import Fence, Serving, ruleset
from pgbaton.agent.kernel.fences import FenceError, Fences
from pgbaton.agent.kernel.netlink import Message, NetlinkError
from pgbaton.agent.kernel.nftables import Change, Element
from pgbaton.agent.kernel.sockets import Cut
from pgbaton.agent.settings import Ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
HOSTS = {"db1": ("10.77.0.21",), "db2": ("fd77::22",)}
#: One that replicates over a network of its own: what confirms its commits goes to the second address.
APART = HOSTS | {"db3": ("10.77.0.23", "10.78.0.23")}

GOLDEN = """\
# Written by pgbaton's agent: the hosts that this one has promised to have nothing to do with.
table inet pgbaton_fence
delete table inet pgbaton_fence
table inet pgbaton_fence {
  set fenced4 {
    type ipv4_addr
    elements = {
      10.77.0.21 comment "db1 silent",
      10.77.0.23 comment "db3 silent, and so says db2",
    }
  }
  set fenced6 {
    type ipv6_addr
    elements = {
      fd77::22 comment "db2",
    }
  }
  set held {
    type inet_service
    elements = {
      5432,
      6432,
      6433,
      6434,
    }
  }
  set refused {
    type inet_service
  }
  set resigned {
    type inet_service
    flags timeout
    timeout 1s
  }
  set gone4 {
    type ipv4_addr
    flags timeout
    timeout 2s
  }
  set gone6 {
    type ipv6_addr
    flags timeout
    timeout 2s
  }
  chain input {
    type filter hook input priority filter - 5; policy accept;
    iif != "lo" tcp dport @resigned reject with tcp reset
    tcp dport @refused reject with tcp reset
    tcp dport @held drop
    # Over lo come the resets of the chain below, in the name of the fenced host.
    iif != "lo" ip saddr @fenced4 tcp sport { 5432, 6432, 6433, 6434, 8008 } drop
    iif != "lo" ip6 saddr @fenced6 tcp sport { 5432, 6432, 6433, 6434, 8008 } drop
  }
  chain output {
    type filter hook output priority filter - 5; policy accept;
    # A reset acknowledges nothing.
    tcp sport @held tcp flags & rst == 0 drop
    ip daddr @fenced4 tcp dport { 5432, 6432, 6433, 6434, 8008 } reject with tcp reset
    ip6 daddr @fenced6 tcp dport { 5432, 6432, 6433, 6434, 8008 } reject with tcp reset
    ip daddr @gone4 tcp dport { 2379, 2380 } reject with tcp reset
    ip6 daddr @gone6 tcp dport { 2379, 2380 } reject with tcp reset
  }
}
"""
STANDING = (
    Fence("db2", "fd77::22", ""),
    Fence("db3", "10.77.0.23", "silent, and so says db2"),
    Fence("db1", "10.77.0.21", "silent"),
)


class Kernel:
    """What the real one keeps, and in what order it was asked; ``table`` is whether the rules are there."""

    def __init__(self) -> None:
        self.table = True
        names = ("fenced4", "fenced6", "held", "refused", "resigned", "gone4", "gone6")
        self.sets: dict[str, dict[bytes, Element]] = {name: {} for name in names}
        self.order: list[str] = []
        self.refusal: NetlinkError | None = None

    def apply(self, table: str, *changes: Change) -> None:
        assert table == fence_rules.TABLE
        if self.refusal:
            raise self.refusal
        if not self.table and any(change.elements for change in changes):
            raise NetlinkError(errno.ENOENT, "no table")
        for change in changes:
            for element in change.elements:
                if change.delete:
                    del self.sets[change.set_name][element.key]
                else:
                    self.sets[change.set_name].setdefault(element.key, element)
        self.order.append("kernel")

    def elements(self, table: str, set_name: str) -> tuple[Element, ...]:
        assert table == fence_rules.TABLE
        return tuple(sorted(self.sets[set_name].values()))

    async def load(self, text: str) -> None:
        self.flush()
        self.table = True
        for fence in fence_rules.parse(text):
            self.sets[fence.set_name][fence.ip.packed] = fence.element()
        for name, body in re.findall(r"set (held|refused) {(.*?)\n  }", text, re.DOTALL):
            keys = [int(port).to_bytes(2, "big") for port in re.findall(r"^ +(\d+),$", body, re.MULTILINE)]
            self.sets[name] = {key: Element(key) for key in keys}
        self.order.append("load")

    def flush(self) -> None:
        self.table = False
        for members in self.sets.values():
            members.clear()

    def cut_to(self, address: sockets.Address, ports: frozenset[int]) -> Cut:
        assert ports in ({2379, 2380, 5432, 6432, 6433, 6434, 8008}, {2379, 2380})
        self.order.append(f"cut {address}" if 5432 in ports else f"cut etcd of {address}")
        return Cut(2)

    def cut_of(self, address: sockets.Address, ports: frozenset[int]) -> Cut:
        assert ports == {5432}
        self.order.append(f"cut of {address}")
        return Cut(1)

    def cut_from(self, ports: frozenset[int]) -> Cut:
        assert ports == {5432, 6432, 6433, 6434}
        self.order.append("cut clients")
        return Cut(3)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(nftables, "apply", made.apply)
    monkeypatch.setattr(nftables, "elements", made.elements)
    monkeypatch.setattr(sockets, "cut_to", made.cut_to)
    monkeypatch.setattr(sockets, "cut_of", made.cut_of)
    monkeypatch.setattr(sockets, "cut_from", made.cut_from)
    monkeypatch.setattr(sockets, "prepare", lambda: made.order.append("prepare"))
    monkeypatch.setattr(fences, "load", made.load)
    return made


@pytest.fixture
def here(kernel: Kernel, tmp_path: Path) -> Iterator[Fences]:
    del kernel
    made = Fences(hosts=HOSTS, ports=PORTS, directory=tmp_path / "state")
    yield made
    made.close()


def test_the_rules_are_written_once_and_hosts_are_members_of_sets() -> None:
    assert ruleset(PORTS, STANDING, Serving.HELD) == GOLDEN


def test_a_set_is_empty_unless_somebody_is_in_it() -> None:
    assert "elements" not in ruleset(PORTS)
    assert ruleset(PORTS, (), Serving.REFUSED).count("5432,\n") == 2


def test_what_was_written_is_read_again() -> None:
    assert sorted(fence_rules.parse(ruleset(PORTS, STANDING, Serving.REFUSED))) == sorted(STANDING)


@given(st.text())
def test_no_reason_breaks_the_rules(reason: str) -> None:
    fence = Fence("db1", "10.77.0.21", reason)
    (read,) = fence_rules.parse(ruleset(PORTS, (fence,)))
    assert (read.host, read.address, read.comment) == ("db1", "10.77.0.21", fence.comment)
    assert len(fence.comment) <= nftables.LONGEST_COMMENT


def test_an_element_without_a_comment_is_a_fence_that_is_named_by_its_address() -> None:
    assert fence_rules.fence("10.77.0.29", "") == Fence("10.77.0.29", "10.77.0.29", "")


def test_an_element_is_packed_as_the_kernel_returns_it() -> None:
    element = Element(b"\x0a\x4d\x00\x15", "db1 silent")
    sent = nftables.request("t", Change("s", (element, Element(b"\0\0\0\1"))))
    assert nftables.unpacked(sent.payload[nftables.FAMILY_HEADER.size :]) == (element, Element(b"\0\0\0\1"))


def test_a_change_is_one_transaction_and_each_part_of_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Message] = []
    monkeypatch.setattr(netlink, "carry_out", lambda _, *requests: sent.extend(requests))
    nftables.apply("t", Change("s", (Element(b"1"),)), Change("empty", ()), Change("r", (Element(b"2"),), delete=True))
    assert [message.kind for message in sent] == [
        nftables.BATCH_BEGIN,
        nftables.NEW_ELEMENT,
        nftables.DELETE_ELEMENT,
        nftables.BATCH_END,
    ]
    assert [bool(message.flags & netlink.ACKNOWLEDGE) for message in sent] == [False, True, True, False]


def test_a_listing_of_a_table_that_is_not_there_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    def listing(protocol: int, request: Message) -> tuple[bytes, ...]:
        raise NetlinkError(errno.ENOENT, f"{protocol} {request.kind}")

    monkeypatch.setattr(netlink, "listing", listing)
    assert nftables.elements("t", "s") == ()


def test_a_listing_that_changed_meanwhile_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([((b"half",), False), ((b"all", b"of it"), True)])
    monkeypatch.setattr(netlink, "listed", lambda *_: next(readings))
    assert netlink.listing(netlink.NETFILTER, Message(1, b"")) == (b"all", b"of it")


def test_messages_and_attributes_are_read_as_they_were_packed() -> None:
    payload = netlink.attribute(1, b"abc") + netlink.nest(2, netlink.attribute(3, b"four"))
    packed = Message(7, payload).packed(1) + Message(8, b"", 0).packed(2)
    assert list(netlink.messages(packed)) == [Message(7, payload), Message(8, b"", 0)]
    assert list(netlink.attributes(payload)) == [(1, b"abc"), (2, netlink.attribute(3, b"four"))]


def test_a_kernel_that_cannot_end_connections_is_said_and_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (sockets.Connection(2, bytes(48)),)
    monkeypatch.setattr(netlink, "send", lambda *_: (errno.EOPNOTSUPP,))
    assert sockets.cut(iter(found)) == Cut(0, 1, "SOCK_DESTROY: Operation not supported")


def test_a_connection_that_ends_by_itself_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "send", lambda *_: (errno.ENOENT,))
    assert sockets.cut(iter((sockets.Connection(2, bytes(48)),))) == Cut(1)


async def test_no_acknowledgement_can_leave_before_a_connection_is_touched(here: Fences, kernel: Kernel) -> None:
    assert await here.fence("db1", "silent") == Cut(2)
    assert kernel.order == ["kernel", "cut 10.77.0.21"]


async def test_a_fence_that_has_returned_is_in_the_kernel_and_in_the_file(here: Fences) -> None:
    await here.fence("db1", "silent")
    await here.fence("db2", "silent too")
    both = (Fence("db1", "10.77.0.21", "silent"), Fence("db2", "fd77::22", "silent too"))
    assert here.standing() == both
    assert fences.read(here.file) == both
    assert here.file.stat().st_mode & 0o077 == 0


async def test_a_fence_that_cannot_be_written_down_is_none_to_rest_a_promise_on(here: Fences) -> None:
    here.file.parent.touch()
    with pytest.raises(FenceError, match="a reboot would not keep it so"):
        await here.fence("db1", "silent")
    assert [fence.host for fence in here.standing()] == ["db1"]


async def test_a_disk_that_hangs_does_not_stop_the_agent(here: Fences, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(fences, "PERSIST_SECONDS", 0.02)
    monkeypatch.setattr(fences, "write", lambda *_: hangs.wait(10))
    try:
        with pytest.raises(FenceError, match=r"not written within 0\.02 s"):
            await here.fence("db1", "silent")
    finally:
        hangs.set()


async def test_a_kernel_that_refuses_leaves_no_promise_behind(here: Fences, kernel: Kernel) -> None:
    kernel.refusal = NetlinkError(errno.EPERM, "Operation not permitted")
    with pytest.raises(FenceError, match="CAP_NET_ADMIN"):
        await here.fence("db1", "silent")
    kernel.refusal = None
    assert await here.mend() == ()
    assert not here.file.exists()


async def test_a_fence_is_put_up_even_where_somebody_has_flushed_the_rules(here: Fences, kernel: Kernel) -> None:
    await here.fence("db1", "silent")
    kernel.flush()
    await here.fence("db2", "silent too")
    assert [fence.host for fence in here.standing()] == ["db1", "db2"]


async def test_a_host_is_fenced_once_for_its_first_reason(here: Fences) -> None:
    await here.fence("db1", "the first")
    await here.fence("db1", "the second")
    assert here.standing() == fences.read(here.file) == (Fence("db1", "10.77.0.21", "the first"),)


@pytest.fixture
def apart(kernel: Kernel, tmp_path: Path) -> Iterator[Fences]:
    del kernel
    made = Fences(hosts=APART, ports=PORTS, directory=tmp_path / "apart")
    yield made
    made.close()


async def test_a_host_is_fenced_at_all_its_addresses_in_one_transaction(apart: Fences, kernel: Kernel) -> None:
    assert await apart.fence("db3", "silent") == Cut(4)
    assert kernel.order == ["kernel", "cut 10.77.0.23", "cut 10.78.0.23"]
    both = (Fence("db3", "10.77.0.23", "silent"), Fence("db3", "10.78.0.23", "silent"))
    assert apart.standing() == fences.read(apart.file) == both
    del kernel.sets["fenced4"][both[1].ip.packed]
    assert await apart.mend() == ("db3",)
    assert apart.standing() == both
    await apart.unfence("db3")
    assert apart.standing() == fences.read(apart.file) == ()
    assert await apart.mend() == ()


async def test_a_fence_of_before_a_second_address_closes_that_too(here: Fences, kernel: Kernel) -> None:
    before = Fences(hosts={"db3": APART["db3"][:1]}, ports=PORTS, directory=here.file.parent)
    await before.fence("db3", "silent")
    before.close()
    later = Fences(hosts=APART, ports=PORTS, directory=here.file.parent)
    assert [fence.address for fence in await later.install()] == list(APART["db3"])
    assert [fence.address for fence in fences.read(later.file)] == list(APART["db3"])
    assert "load" in kernel.order
    later.close()


async def test_a_silent_standby_loses_what_it_has_by_either_address_and_its_etcd_is_at_the_first(
    apart: Fences, kernel: Kernel
) -> None:
    assert await apart.drop("db3") == Cut(2)
    assert kernel.order == ["cut etcd of 10.77.0.23", "cut of 10.77.0.23", "cut of 10.78.0.23"]
    apart.shun("db3")
    assert [ipaddress.ip_address(key) for key in kernel.sets["gone4"]] == [ipaddress.ip_address("10.77.0.23")]


async def test_a_fence_falls_in_the_kernel_and_then_in_the_file(
    here: Fences, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.fence("db1", "silent")
    seen: list[tuple[Fence, ...]] = []
    write = fences.write
    monkeypatch.setattr(fences, "write", lambda *to: (seen.append(fences.standing()), write(*to)))
    await here.unfence("db1")
    assert seen == [()]
    assert fences.read(here.file) == here.standing() == ()
    assert await here.mend() == ()
    assert not any(kernel.sets.values())


async def test_a_fence_that_does_not_stand_falls_without_ado(here: Fences) -> None:
    await here.unfence("db1")
    assert here.standing() == ()


async def test_a_fence_of_a_host_that_is_no_longer_known_can_fall(here: Fences) -> None:
    await here.fence("db1", "silent")
    later = Fences(hosts={"db2": HOSTS["db2"]}, ports=PORTS, directory=here.file.parent)
    (left,) = await later.install()
    await later.unfence(left.host)
    assert await later.mend() == later.standing() == fences.read(here.file) == ()
    later.close()


async def test_a_host_that_was_renamed_keeps_its_fence_and_can_lose_it(here: Fences) -> None:
    await here.fence("db2", "silent")
    later = Fences(hosts={"new": ("fd77:0::0022",)}, ports=PORTS, directory=here.file.parent)
    await later.install()
    await later.unfence("new")
    assert later.standing() == ()
    later.close()


async def test_a_kernel_that_does_not_say_what_stands_is_an_error(
    here: Fences, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elements(table: str, set_name: str) -> tuple[Element, ...]:
        raise NetlinkError(errno.EPERM, f"{table} {set_name}")

    monkeypatch.setattr(nftables, "elements", elements)
    with pytest.raises(FenceError, match="CAP_NET_ADMIN"):
        here.standing()


async def test_nobody_fences_himself_or_a_stranger(here: Fences) -> None:
    with pytest.raises(FenceError, match="known: db1, db2"):
        await here.fence("db3", "silent")


async def test_what_was_promised_before_a_restart_is_put_back(here: Fences, kernel: Kernel) -> None:
    await here.fence("db1", "silent")
    kernel.flush()
    kernel.sets["fenced6"][Fence("db2", "fd77::22", "").ip.packed] = Fence("db2", "fd77::22", "by hand").element()
    later = Fences(hosts=HOSTS, ports=PORTS, directory=here.file.parent)
    assert [fence.host for fence in await later.install()] == ["db1", "db2"]
    assert [fence.host for fence in fences.read(here.file)] == ["db1", "db2"]
    later.close()


async def test_what_somebody_took_away_is_put_back_and_named(here: Fences, kernel: Kernel) -> None:
    await here.fence("db1", "silent")
    await here.serve(Serving.HELD)
    kernel.flush()
    assert await here.mend() == ("db1", "own clients held")
    assert [fence.host for fence in here.standing()] == ["db1"]
    assert fences.serving() == Serving.HELD
    assert await here.mend() == ()


async def test_clients_are_held_then_refused_then_served(here: Fences, kernel: Kernel) -> None:
    assert await here.serve(Serving.HELD) == Cut()
    assert fences.serving() == Serving.HELD
    assert await here.serve(Serving.REFUSED) == Cut(3)
    assert fences.serving() == Serving.REFUSED
    assert await here.serve(Serving.OPEN) == Cut()
    assert fences.serving() == Serving.OPEN
    assert kernel.order.count("cut clients") == 1


async def test_whoever_asks_the_patroni_of_a_crashed_server_is_reset(here: Fences, kernel: Kernel) -> None:
    here.resign()
    here.resign()
    assert list(kernel.sets["resigned"]) == [(8008).to_bytes(2, "big")]
    assert fences.serving() == Serving.OPEN
    assert await here.mend() == ()


def test_only_the_kernel_remembers_that_a_lock_was_given_up_and_not_for_long(here: Fences, kernel: Kernel) -> None:
    here.resign()
    assert kernel.order == ["kernel"]
    assert not here.file.exists()
    assert "8008,\n" not in ruleset(PORTS, STANDING, Serving.REFUSED)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOENT], ids=["not permitted", "no table"])
def test_a_kernel_that_does_not_reset_for_a_crashed_server_is_an_error(
    here: Fences, kernel: Kernel, number: int
) -> None:
    kernel.refusal = NetlinkError(number, "no")
    with pytest.raises(FenceError, match=fence_rules.TABLE):
        here.resign()


async def test_a_host_is_dropped_from_the_server_nobody_waits_for_its_etcd_and_it_is_not_fenced(
    here: Fences, kernel: Kernel
) -> None:
    assert await here.drop("db1") == Cut(1)
    assert kernel.order == ["cut etcd of 10.77.0.21", "cut of 10.77.0.21"]
    assert here.standing() == ()


async def test_hosts_whose_etcd_nobody_waits_for_are_not_fenced_and_nothing_is_written(
    here: Fences, kernel: Kernel
) -> None:
    here.shun("db1", "db2")
    here.shun("db1", "db2")
    addresses = [ipaddress.ip_address(HOSTS[name][0]).packed for name in ("db1", "db2")]
    assert [list(kernel.sets[name]) for name in ("gone4", "gone6")] == [[addresses[0]], [addresses[1]]]
    assert here.standing() == ()
    assert await here.mend() == ()
    assert not here.file.exists()


def test_a_kernel_that_does_not_shun_is_an_error(here: Fences, kernel: Kernel) -> None:
    kernel.refusal = NetlinkError(errno.EPERM, "no")
    with pytest.raises(FenceError, match=fence_rules.TABLE):
        here.shun("db1")


async def test_holding_clients_is_not_for_after_a_reboot(here: Fences) -> None:
    await here.serve(Serving.REFUSED)
    await here.fence("db1", "silent")
    assert "elements" not in here.file.read_text().partition("set held")[2]


async def test_an_agent_that_starts_finds_its_clients_as_they_were(here: Fences, kernel: Kernel) -> None:
    await here.serve(Serving.HELD)
    later = Fences(hosts=HOSTS, ports=PORTS, directory=here.file.parent)
    await later.install()
    assert later.serving == fences.serving() == Serving.HELD
    later.close()
    assert kernel.order[-2:] == ["load", "prepare"]


async def test_a_boot_puts_up_what_stood_before(here: Fences, kernel: Kernel) -> None:
    await here.fence("db1", "silent")
    kernel.flush()
    assert await fences.restore(here.file.parent) == here.standing() == (Fence("db1", "10.77.0.21", "silent"),)


async def test_a_boot_without_a_file_has_nothing_to_put_up(kernel: Kernel, tmp_path: Path) -> None:
    assert await fences.restore(tmp_path) == ()
    assert kernel.order == []


async def test_a_boot_that_puts_up_less_than_was_promised_fails(
    here: Fences, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load(text: str) -> None:
        del text

    await here.fence("db1", "silent")
    kernel.flush()
    monkeypatch.setattr(fences, "load", load)
    with pytest.raises(FenceError, match=r"no fence of 10\.77\.0\.21"):
        await fences.restore(here.file.parent)


def test_a_file_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    file = tmp_path / fences.FILE
    file.write_bytes(b"\xff")
    with pytest.raises(FenceError, match="what was promised is not known"):
        fences.read(file)


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / fences.FILE
    fences.write(file, "old")
    with file.open() as reader:
        fences.write(file, "new")
        assert reader.read() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


async def test_rules_that_nft_does_not_take_are_an_error_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fences, "NFT", "/bin/false")
    with pytest.raises(FenceError, match="the rules are as they were"):
        await fences.load("table")
    monkeypatch.setattr(fences, "NFT", "/nowhere/nft")
    with pytest.raises(FenceError, match="install nftables"):
        await fences.load("table")
