"""What an agent does for a server that a person promotes: it looks and tells, and decides nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import NONE, PRIMARY, STANDBY, Seen

from pgbaton.agent.acting import judge, server
from pgbaton.agent.acting.promoters import ByHand
from pgbaton.agent.acting.report import Report
from pgbaton.agent.acting.server import QUICK_SECONDS, USUAL_SECONDS, Server
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.decisions.health import answer
from pgbaton.agent.decisions.hung import Verdict
from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.processes import Condition, Look, Process
from pgbaton.agent.protocols.connections import SilentError
from pgbaton.agent.services import postgres
from pgbaton.agent.services.postgres import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

LEADING = Reading(
    in_recovery=False,
    timeline=5,
    position=2000,
    replayed=2000,
    flush_awaited=False,
    receiving=False,
    heard_seconds_ago=None,
    from_host=None,
    connections=3,
    max_connections=100,
)
FOLLOWING = replace(LEADING, in_recovery=True, position=1900, replayed=1850, receiving=True)
#: What db2 says of itself in each test: nobody speaks against db1 then.
BEHIND = replace(STANDBY, timeline=5)
POSTMASTER = Process(4711, 99)


class Postmaster:
    """The process that is followed, without a process."""

    def look(self) -> Process:
        return POSTMASTER

    def close(self) -> None:
        pass


class Host:
    """db1's agent, in a cluster without Patroni; its server says what a test has it say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = Seen("db1")
        self.seen.settings = self.seen.sight.settings = replace(self.seen.settings, kind="manual")
        self.seen.sight.cluster = None
        for name in ("db2", "db3"):
            self.seen.sight.hear(name, BEHIND)
        self.answer: Reading | Exception = LEADING
        self.condition = Condition.RUNNING
        self.ended: list[Process] = []
        for module in (server, judge):
            monkeypatch.setattr(module, "clock", lambda: self.seen.now)
        monkeypatch.setattr(postgres, "read", self.read)
        monkeypatch.setattr(processes, "look", lambda _: Look(self.condition))
        monkeypatch.setattr(processes, "is_stopped", lambda _: self.condition is Condition.STOPPED)
        monkeypatch.setattr(processes, "runnable_per_processor", lambda: 0.1)
        monkeypatch.setattr(processes, "end_server", self.end)
        self.server = Server(
            self.seen.settings, self.seen.sight, ByHand(self.seen.sight), Complaints(), on_change=lambda: None
        )
        self.server._postmaster = Postmaster()  # type: ignore[assignment]
        self.report = Report(self.seen.sight, lambda _: self.server.heartbeat(), dict, server=self.server)

    async def read(self, *_: object, deadline_seconds: float) -> Reading:
        assert deadline_seconds == 0.5
        if isinstance(self.answer, Exception):
            self.seen.run(10)
            raise self.answer
        return self.answer

    async def end(self, process: Process, _: float) -> tuple[Process, ...]:
        self.ended.append(process)
        return ()

    async def status(self, path: str, query: str = "") -> int:
        await self.server._look()
        return int(answer(self.report.health(self.seen.now), path, query).status)


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:  # type: ignore[misc]
    made = Host(monkeypatch)
    yield made
    made.server.close()


async def test_who_takes_writes_by_right_is_the_primary_without_any_lock(host: Host) -> None:
    assert [await host.status(path) for path in ("/primary", "/read-only", "/health")] == [200, 200, 200]
    assert host.server.heartbeat().lock


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (replace(PRIMARY, timeline=5, lock=False), "db2 takes writes on timeline 5 too"),
        (replace(PRIMARY, timeline=6), "db2 is on timeline 6"),
        (replace(STANDBY, timeline=6), "db2 is on timeline 6"),
    ],
)
async def test_who_was_left_behind_is_none_and_says_why(host: Host, said: object, why: str) -> None:
    host.seen.sight.hear("db2", said)  # type: ignore[arg-type]
    assert [await host.status(path) for path in ("/primary", "/read-only")] == [503, 503]
    assert host.report.health(host.seen.now).rival.startswith(why)
    assert host.report.health(host.seen.now).writable, "it takes writes all the same: nobody stops it"
    assert not host.ended


async def test_an_older_primary_takes_nothing_from_a_newer_one(host: Host) -> None:
    host.seen.sight.hear("db2", replace(PRIMARY, timeline=4))
    assert await host.status("/primary") == 200


async def test_words_of_a_host_that_is_not_heard_any_more_count_for_nothing(host: Host) -> None:
    host.seen.sight.hear("db2", replace(PRIMARY, timeline=6))
    assert await host.status("/primary") == 503
    host.seen.run(6, without=["db2"])
    assert await host.status("/primary") == 200


async def test_a_standbys_lag_counts_what_it_has_not_received_and_what_it_has_not_replayed(host: Host) -> None:
    host.answer = FOLLOWING
    host.seen.sight.hear("db2", replace(PRIMARY, timeline=5, position=2000))
    host.seen.sight.mine = replace(STANDBY, timeline=5, position=1900)
    assert [await host.status("/replica", f"lag={most}") for most in (150, 149)] == [200, 503]
    assert await host.status("/primary") == 503


async def test_without_a_primary_reads_go_on_where_all_but_a_little_is_replayed(host: Host) -> None:
    host.answer = replace(FOLLOWING, receiving=False)
    assert await host.status("/replica", "lag=16MB") == 503
    assert [await host.status("/stranded", f"lag={most}") for most in (50, 49)] == [200, 503]
    host.answer = LEADING
    assert await host.status("/stranded", "lag=16MB") == 503


@pytest.mark.parametrize("how", ["stopped", "silent"])
async def test_a_server_that_hangs_is_told_of_and_left_alone(
    host: Host, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    await host.server._look()
    host.condition, host.answer = Condition.STOPPED, SilentError("no answer")
    if how == "stopped":
        await host.server.end_stopped()
    for _ in range(4):
        await host.server._look()
        await host.server.end_stopped() if how == "stopped" else None
    assert host.server.verdict is Verdict.HUNG
    assert caplog.text.count("its processes were stopped") == (how == "stopped")
    assert "is left alone: a person decides here: pgbaton failover" in caplog.text
    assert host.ended == []
    host.condition, host.answer = Condition.RUNNING, LEADING
    assert await host.status("/primary") == 200
    assert host.server.verdict is Verdict.WELL


async def test_a_primary_whose_disk_hangs_is_left_alone_as_well(host: Host) -> None:
    assert "a person decides here" in ByHand(host.seen.sight).spares_stuck(host.seen.now)


async def test_a_standby_is_looked_at_quickly_while_nobody_is_heard_to_take_writes(host: Host) -> None:
    host.answer = FOLLOWING
    host.seen.sight.mine = BEHIND
    host.seen.sight.hear("db2", replace(PRIMARY, timeline=5))
    await host.server._look()
    assert host.server._pace_seconds(host.seen.now) == USUAL_SECONDS
    host.seen.sight.hear("db2", NONE)
    assert host.server._pace_seconds(host.seen.now) == QUICK_SECONDS
    host.seen.now += server.QUICK_FOR_SECONDS
    await host.server._look()
    assert host.server._pace_seconds(host.seen.now) == USUAL_SECONDS
