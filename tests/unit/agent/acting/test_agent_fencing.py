"""Fences at work: in the order in which they were decided, and none rested upon before the disk has it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from small_cluster import Seen, until

from pgbaton.agent.acting import fencing
from pgbaton.agent.acting.fencing import Fencing
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.decisions.terms import Fence, Unfence
from pgbaton.agent.kernel.fence_rules import Fence as Standing
from pgbaton.agent.kernel.fences import FenceError
from pgbaton.agent.kernel.sockets import Cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADDRESSES = {"db1": ("10.77.0.21",), "db3": ("10.77.0.23",), "db2": ("10.77.0.22", "10.78.0.22")}


class Kernel:
    """What stands, what the disk has, and what goes wrong."""

    def __init__(self) -> None:
        self.hosts = dict(ADDRESSES)
        self.stands: dict[str, Standing] = {}
        self.written: set[str] = set()
        self.order: list[str] = []
        self.disk_full = False
        self.deaf = False
        self.slow = asyncio.Event()
        self.slow.set()

    def raise_fence(self, host: str, called: str = "") -> None:
        for address in self.hosts[host]:
            self.stands[address] = Standing(called or host, address, "silent")

    async def install(self) -> tuple[Standing, ...]:
        await self.persist()
        return self.standing()

    async def fence(self, host: str, reason: str) -> Cut:
        self.order.append(f"fence {host}: {reason}")
        self.raise_fence(host)
        await self.slow.wait()
        await self.persist()
        return Cut(1)

    async def unfence(self, host: str) -> None:
        self.order.append(f"unfence {host}")
        for address in self.hosts[host]:
            self.stands.pop(address, None)
        await self.persist()

    async def persist(self) -> None:
        if self.disk_full:
            message = "no space left on device"
            raise FenceError(message)
        self.written = set(self.stands)

    def standing(self) -> tuple[Standing, ...]:
        if self.deaf:
            message = "netlink does not answer"
            raise OSError(message)
        return tuple(self.stands.values())

    async def mend(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        pass


class Work:
    """Fencing with a made-up kernel, and what was told of its ends."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.seen = Seen()
        self.ends: list[object] = []
        self.shown: list[frozenset[str]] = []
        self.complaints = Complaints()
        self.fencing = Fencing(
            self.kernel,  # type: ignore[arg-type]
            self.seen.sight,
            self.complaints,
            on_end=self.ends.append,
            on_change=lambda: self.shown.append(self.seen.sight.fenced),
        )

    async def ended(self, number: int) -> list[object]:
        await until(lambda: len(self.ends) >= number)
        return self.ends


@pytest.fixture
async def work(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Work]:
    monkeypatch.setattr(fencing, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(fencing, "MEND_SECONDS", 0.0)
    made = Work()
    running = asyncio.ensure_future(made.fencing.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    made.fencing.close()


async def test_a_fence_is_shown_before_its_end_is_told(work: Work) -> None:
    work.fencing.put(Fence("db1"))
    assert await work.ended(1) == [Fence("db1")]
    assert work.seen.sight.fenced == {"db1"}
    assert work.shown == [{"db1"}]
    assert work.kernel.order == ["fence db1: silent, lock of revision 100"]


async def test_a_fence_that_the_disk_does_not_have_yet_is_not_rested_upon(work: Work) -> None:
    work.kernel.slow.clear()
    work.fencing.put(Fence("db1"))
    await until(lambda: work.kernel.stands)
    await work.fencing._mend()
    assert work.seen.sight.fenced == frozenset()
    work.kernel.slow.set()
    await work.ended(1)
    assert work.seen.sight.fenced == {"db1"}


async def test_a_full_disk_ends_an_order_without_a_fence_to_rest_upon(work: Work) -> None:
    work.kernel.disk_full = True
    work.fencing.put(Fence("db1"))
    assert await work.ended(1) == [Fence("db1")]
    assert work.seen.sight.fenced == frozenset()
    with pytest.raises(FenceError):
        await work.fencing._mend()
    assert work.seen.sight.fenced == frozenset()


async def test_a_fence_is_written_down_as_soon_as_the_disk_can(work: Work) -> None:
    work.kernel.disk_full = True
    work.fencing.put(Fence("db1"))
    await work.ended(1)
    work.kernel.disk_full = False
    await work.fencing._mend()
    assert work.kernel.written == {"10.77.0.21"}
    assert work.seen.sight.fenced == {"db1"}


async def test_what_somebody_put_up_by_hand_counts_when_it_is_written_down(work: Work) -> None:
    work.kernel.raise_fence("db3", called="10.77.0.23")
    await work.fencing._mend()
    assert work.kernel.written == {"10.77.0.23"}
    assert work.seen.sight.fenced == {"db3"}


async def test_fences_of_before_a_restart_stand_from_the_first_moment(work: Work) -> None:
    work.kernel.raise_fence("db1")
    await work.fencing.begin()
    assert work.seen.sight.fenced == {"db1"}


async def test_a_fenced_host_that_was_renamed_is_fenced_under_its_new_name(work: Work) -> None:
    work.kernel.raise_fence("db1", called="old")
    await work.fencing.begin()
    assert work.seen.sight.fenced == {"db1"}


async def test_a_host_that_can_be_met_at_another_address_still_is_not_fenced(work: Work) -> None:
    work.fencing.put(Fence("db2"))
    await work.ended(1)
    assert work.fencing.stands("db2")
    for address in ADDRESSES["db2"]:
        taken = work.kernel.stands.pop(address)
        assert not work.fencing.stands("db2"), f"{address} is open"
        work.kernel.stands[address] = taken
    assert work.fencing.stands("db2")


async def test_what_is_left_at_an_address_that_a_host_had_once_is_no_fence(work: Work) -> None:
    work.kernel.stands["10.78.0.99"] = Standing("db2", "10.78.0.99", "silent")
    await work.fencing.begin()
    assert work.seen.sight.fenced == frozenset()


async def test_a_fence_of_a_host_that_left_is_told_of(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    work.kernel.stands["10.77.0.99"] = Standing("gone", "10.77.0.99", "silent")
    await work.fencing.begin()
    assert "gone" in caplog.text


async def test_whether_a_fence_stands_is_asked_of_the_kernel_when_it_matters(work: Work) -> None:
    work.fencing.put(Fence("db1"))
    await work.ended(1)
    assert work.fencing.stands("db1")
    work.kernel.stands.clear()
    assert "db1" in work.seen.sight.fenced
    assert not work.fencing.stands("db1")
    assert "db1" not in work.seen.sight.fenced
    work.fencing.put(Fence("db1"))
    await work.ended(2)
    assert work.fencing.stands("db1")


async def test_orders_are_carried_out_as_they_came_and_none_of_them_twice(work: Work) -> None:
    work.kernel.slow.clear()
    for order in (Fence("db1"), Fence("db1"), Fence("db3"), Unfence("db1"), Unfence("db1"), Fence("db1")):
        work.fencing.put(order)
    work.kernel.slow.set()
    assert await work.ended(4) == [Fence("db1"), Fence("db3"), Unfence("db1"), Fence("db1")]
    reason = "silent, lock of revision 100"
    assert work.kernel.order == [f"fence db1: {reason}", f"fence db3: {reason}", "unfence db1", f"fence db1: {reason}"]


async def test_a_fence_that_fell_in_the_kernel_and_not_on_the_disk_is_gone(work: Work) -> None:
    work.fencing.put(Fence("db1"))
    await work.ended(1)
    work.kernel.disk_full = True
    work.fencing.put(Unfence("db1"))
    assert await work.ended(2) == [Fence("db1"), Unfence("db1")]
    assert work.seen.sight.fenced == frozenset()


async def test_a_kernel_that_does_not_answer_shows_no_fence_and_stops_nobody(work: Work) -> None:
    work.fencing.put(Fence("db1"))
    await work.ended(1)
    work.kernel.deaf = True
    work.fencing.put(Fence("db3"))
    await work.ended(2)
    assert work.seen.sight.fenced == frozenset()
    work.kernel.deaf = False
    await work.fencing._mend()
    assert work.seen.sight.fenced == {"db1", "db3"}


async def test_mending_goes_on_after_a_failure(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    work.kernel.deaf = True
    mending = asyncio.ensure_future(work.fencing.mend())
    await until(lambda: "netlink does not answer" in caplog.text)
    work.kernel.raise_fence("db1")
    work.kernel.deaf = False
    await until(lambda: work.seen.sight.fenced)
    mending.cancel()
    assert caplog.text.count("netlink does not answer") == 1
    assert "fences: well again" in caplog.text


async def test_nothing_is_told_after_the_end(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "RETRY_SECONDS", 60.0)
    work.kernel.disk_full = True
    work.fencing.put(Fence("db1"))
    await until(lambda: work.fencing._later)
    work.fencing.close()
    assert all(timer.cancelled() for timer in work.fencing._later)
    assert work.ends == []
