"""Services that were stopped: ended without being asked, when three looks in a row find them so."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
from small_cluster import Seen, until

from pgbaton.agent.acting import stopped
from pgbaton.agent.acting.stopped import LOOKS, Stopped


class Service:
    """A service whose processes are stopped as a test likes; how often it was ended is noted."""

    def __init__(self) -> None:
        self.judge: Any = SimpleNamespace(is_stopped=False)
        self.ended = 0
        self.lingers = asyncio.Event()
        self.lingers.set()
        self.trouble: Exception | None = None

    async def end_stopped(self) -> None:
        self.ended += 1
        await self.lingers.wait()
        if self.trouble:
            raise self.trouble


class Host:
    """An agent with two services, and time that goes by at will."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = Seen("lb1")
        self.one, self.two = Service(), Service()
        monkeypatch.setattr(stopped, "clock", lambda: self.seen.now)
        self.stopped = Stopped(self.seen.sight, (self.one, self.two))

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.seen.run(2)
            self.stopped.look()
            await asyncio.sleep(0)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


async def test_three_looks_in_a_row_end_a_service_and_no_other(host: Host) -> None:
    host.two.judge.is_stopped = True
    await host.look(LOOKS - 1)
    assert host.two.ended == 0
    await host.look()
    assert (host.one.ended, host.two.ended) == (0, 1)


async def test_a_service_that_ran_in_between_has_all_its_looks_again(host: Host) -> None:
    host.one.judge.is_stopped = True
    await host.look(LOOKS - 1)
    host.one.judge.is_stopped = False
    await host.look()
    host.one.judge.is_stopped = True
    await host.look(LOOKS - 1)
    assert host.one.ended == 0
    await host.look()
    assert host.one.ended == 1


async def test_a_service_that_stays_stopped_is_ended_again_after_as_many_looks(host: Host) -> None:
    host.one.judge.is_stopped = True
    await host.look(2 * LOOKS - 1)
    assert host.one.ended == 1
    await host.look()
    assert host.one.ended == 2


async def test_an_agent_that_overslept_counts_anew(host: Host) -> None:
    host.one.judge.is_stopped = True
    await host.look(LOOKS - 1)
    host.seen.sleep(2.0)
    host.stopped.look()
    await asyncio.sleep(0)
    assert host.one.ended == 0
    host.seen.run(20)  # after so long it can tell again
    await host.look(LOOKS - 1)
    assert host.one.ended == 0
    await host.look()
    assert host.one.ended == 1


async def test_it_looks_again_and_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopped, "LOOK_SECONDS", 0.0)
    host.one.judge.is_stopped = True
    running = asyncio.ensure_future(host.stopped.run())
    await until(lambda: host.one.ended >= 2)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_one_whose_end_takes_long_keeps_no_other_waiting_and_is_not_ended_twice(host: Host) -> None:
    host.one.judge.is_stopped = host.two.judge.is_stopped = True
    host.one.lingers.clear()
    await host.look(LOOKS)
    assert (host.one.ended, host.two.ended) == (1, 1)
    await host.look(2 * LOOKS)
    assert host.one.ended == 1
    assert host.two.ended >= 2
    host.one.lingers.set()
    await host.look(LOOKS + 1)
    assert host.one.ended == 2


async def test_what_goes_wrong_in_an_end_is_not_hidden(host: Host) -> None:
    host.one.judge.is_stopped = True
    host.one.trouble = OSError("not permitted")
    with pytest.raises(OSError, match="not permitted"):
        await host.look(LOOKS + 1)
