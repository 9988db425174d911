"""Standing in for a Patroni that is gone: when, with what right, and until when."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import PRIMARY, STANDBY, Seen, cluster, until

from pgbaton.agent.acting import stand_in
from pgbaton.agent.acting.report import Report
from pgbaton.agent.acting.stand_in import StandIn
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.kernel.fences import FenceError
from pgbaton.agent.kernel.processes import Process
from pgbaton.agent.protocols.https import ConnectError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pgbaton.agent.peers.messages import Heartbeat

PATRONI = Process(4711, 99)


class Host:
    """db1's agent; its Patroni's process, its answers, the kernel and the time are made up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = Seen("db1")
        self.seen.sight.cluster = cluster()
        self.seen.sight.quorum_seconds = self.seen.now
        self.mine: Heartbeat = replace(PRIMARY)
        self.process: Process | None = PATRONI
        self.yes: bool | None = None
        self.asked: list[str] = []
        self.led: list[str] = []
        self.refusal: OSError | None = None
        self.cannot = ""
        monkeypatch.setattr(stand_in, "clock", lambda: self.seen.now)
        monkeypatch.setattr(stand_in, "Follower", self.follower)
        monkeypatch.setattr(stand_in, "QUICK_SECONDS", 0.0)
        for name in ("install", "begin", "end"):
            monkeypatch.setattr(stand_in.stand_in, name, getattr(self, name))
        report = Report(self.seen.sight, lambda _: self.mine, dict)
        self.stand_in = StandIn(self.seen.settings, self.seen.sight, self, Complaints(), told=report.health)  # type: ignore[arg-type]

    def follower(self, _: object, on_end: Callable[[Process], None]) -> Host:
        self.on_end = on_end
        return self

    def look(self) -> Process | None:
        return self.process

    def close(self) -> None:
        self.led.append("closed")

    async def install(self, *_: object) -> None:
        if self.cannot:
            raise FenceError(self.cannot)

    def begin(self, _: object) -> None:
        if self.refusal:
            raise self.refusal
        self.led.append("agent")

    def end(self) -> None:
        self.led.append("Patroni")

    async def says_yes(self, question: str, *, deadline_seconds: float) -> bool:
        del deadline_seconds
        self.asked.append(question)
        if self.yes is None:
            where, why = "10.77.0.21:8008", "refused"
            raise ConnectError(where, why)
        return self.yes

    def kill(self) -> None:
        self.process = None
        self.on_end(PATRONI)


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    made = Host(monkeypatch)
    running = asyncio.ensure_future(made.stand_in.run())
    await asyncio.sleep(0)
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_primary_is_answered_for_until_patroni_says_yes_by_itself(host: Host) -> None:
    host.kill()
    await until(lambda: host.led.count("agent") >= 3)
    assert host.asked == [], "there is nobody to be asked yet"
    host.process = Process(4712, 199)
    host.yes = False
    await until(lambda: len(host.asked) >= 3)
    assert "Patroni" not in host.led, "a Patroni that starts does not know yet who it is"
    host.yes = True
    await until(lambda: "Patroni" in host.led)
    assert host.led[-1] == "Patroni"
    assert set(host.asked) == {"/primary"}


async def test_a_standby_is_answered_for_as_a_standby(host: Host) -> None:
    host.mine = replace(STANDBY)
    host.kill()
    await until(lambda: host.led.count("agent") >= 2)
    host.process, host.yes = PATRONI, True
    await until(lambda: host.led[-1] == "Patroni")
    assert set(host.asked) == {"/replica"}


def lose_the_lock(host: Host) -> None:
    host.mine = replace(PRIMARY, lock=False)


def be_told_nothing_by_etcd(host: Host) -> None:
    host.seen.sight.quorum_seconds = host.seen.now - stand_in.QUORUM_SECONDS - 0.1


def know_nothing_of_etcd(host: Host) -> None:
    host.seen.sight.quorum_seconds = None


def oversleep(host: Host) -> None:
    host.seen.sleep(2.0)
    host.seen.sight.quorum_seconds = host.seen.now


def fence_somebody(host: Host) -> None:
    host.seen.sight.fenced = frozenset({"db2"})


def have_no_server(host: Host) -> None:
    host.mine = replace(STANDBY, role="none", following=False)


TROUBLES = [lose_the_lock, be_told_nothing_by_etcd, know_nothing_of_etcd, oversleep, fence_somebody, have_no_server]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_nobody_is_answered_for_without_good_reason(host: Host, trouble: Callable[[Host], None]) -> None:
    trouble(host)
    host.kill()
    await until(lambda: host.led.count("Patroni") >= 2)
    assert "agent" not in host.led


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_the_answers_end_with_their_reason(host: Host, trouble: Callable[[Host], None]) -> None:
    host.kill()
    await until(lambda: "agent" in host.led)
    trouble(host)
    await until(lambda: host.led[-1] == "Patroni")
    assert host.asked == []


async def test_one_that_does_not_come_back_is_not_answered_for_as_long_as_a_lock_lives(host: Host) -> None:
    host.kill()
    await until(lambda: "agent" in host.led)
    while host.led[-1] == "agent":
        host.seen.run(20)
        host.seen.sight.quorum_seconds = host.seen.now
        await asyncio.sleep(0)
        assert host.seen.now < 1000.0 + stand_in.LONGEST_SECONDS + 3.0
    count = host.led.count("agent")
    for _ in range(20):
        await asyncio.sleep(0)
    assert host.led.count("agent") == count


async def test_a_second_end_is_stood_in_for_as_well(host: Host) -> None:
    for _ in range(2):
        host.kill()
        await until(lambda: host.led[-1:] == ["agent"])
        host.process, host.yes = PATRONI, True
        await until(lambda: host.led[-1] == "Patroni")
        host.yes = None


async def test_a_kernel_that_does_not_translate_is_told_of_once_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(monkeypatch)
    host.cannot = "nft: no such chain type"
    running = asyncio.ensure_future(host.stand_in.run())
    await until(lambda: "cannot be done here: nft: no such chain type" in caplog.text)
    host.kill()
    for _ in range(20):
        await asyncio.sleep(0)
    assert host.led == []
    running.cancel()


async def test_a_table_that_is_gone_is_complained_of_and_is_no_end(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.refusal = FileNotFoundError(2, "No such file or directory")
    host.kill()
    await until(lambda: "what removed its table" in caplog.text)
    host.refusal = None
    await until(lambda: "agent" in host.led)
