"""A host's own server as its agent sees it: what is said of it, how soon it is looked at, and when it is ended."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import Seen, cluster, until

from pgbaton.agent.acting import judge, server
from pgbaton.agent.acting.promoters import ByPatroni
from pgbaton.agent.acting.server import Server
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.decisions.flushing import PATIENCE_SECONDS
from pgbaton.agent.decisions.hung import Outcome, Verdict
from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.kernel.processes import Condition, Look, Process
from pgbaton.agent.protocols.connections import AbsentError, RefusedError, SilentError
from pgbaton.agent.protocols.https import ConnectError
from pgbaton.agent.services import postgres
from pgbaton.agent.services.postgres import Reading
from pgbaton.agent.sight import QUORUM_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

POSTMASTER = Process(4711, 99)
STANDBY = Reading(
    in_recovery=True,
    timeline=4,
    position=1000,
    replayed=900,
    flush_awaited=False,
    receiving=True,
    heard_seconds_ago=0.1,
    from_host="10.77.0.21",
    connections=3,
    max_connections=100,
)
PRIMARY = replace(STANDBY, in_recovery=False, receiving=False, from_host=None)


class Postmaster:
    """The process that is followed, without a process."""

    def __init__(self) -> None:
        self.process: Process | None = POSTMASTER
        self.error: OSError | None = None

    def look(self) -> Process | None:
        if self.error:
            raise self.error
        return self.process

    def close(self) -> None:
        pass


class Host:
    """An agent's view of its server, with the server, its process and Patroni made up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = Seen("db2")
        self.changes = 0
        self.nudges = 0
        self.patroni_is_there = True
        self.answer: Reading | Exception = STANDBY
        self.condition = Condition.RUNNING
        self.ended: list[Process] = []
        self.left: tuple[Process, ...] = ()
        self.seconds_for_a_look = 0.0
        self.promoted = asyncio.Event()
        self.waits = 0
        for module in (server, judge):
            monkeypatch.setattr(module, "clock", lambda: self.seen.now)
        monkeypatch.setattr(postgres, "read", self.read)
        monkeypatch.setattr(postgres, "read_after_recovery", self.read_after_recovery)
        monkeypatch.setattr(processes, "look", lambda _: Look(self.condition))
        monkeypatch.setattr(processes, "runnable_per_processor", lambda: 0.1)
        monkeypatch.setattr(processes, "end_server", self.end)
        self.server = Server(
            self.seen.settings,
            self.seen.sight,
            ByPatroni(self.seen.sight, self),
            Complaints(),
            on_change=self.change,
        )
        self.postmaster = self.server._postmaster = Postmaster()  # type: ignore[assignment]

    def change(self) -> None:
        self.changes += 1

    async def nudge(self) -> None:
        self.nudges += 1
        if not self.patroni_is_there:
            where = "10.77.0.22:8008"
            raise ConnectError(where, "no connection")

    async def read(self, *_: object, deadline_seconds: float) -> Reading:
        assert deadline_seconds == 0.5
        self.seen.run(round(self.seconds_for_a_look / 0.05))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def read_after_recovery(self, *_: object, within_seconds: float, deadline_seconds: float) -> Reading:
        assert (within_seconds, deadline_seconds) == (server.RECOVERY_SECONDS, 0.5)
        self.waits += 1
        await self.promoted.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def end(self, process: Process, deadline_seconds: float) -> tuple[Process, ...]:
        assert deadline_seconds == server.END_SECONDS
        self.ended.append(process)
        return self.left

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.server._look()

    def hang(self) -> None:
        self.answer, self.condition, self.seconds_for_a_look = SilentError("no answer"), Condition.STOPPED, 0.5


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:  # type: ignore[misc]
    made = Host(monkeypatch)
    yield made
    made.server.close()


async def test_what_the_server_says_is_what_the_host_says_of_itself(host: Host) -> None:
    await host.look()
    said = host.server.heartbeat()
    assert (said.role, said.writable, said.following, said.timeline, said.position) == ("standby", False, True, 4, 1000)
    assert host.server.recovers
    assert not host.server.was_primary
    host.answer = PRIMARY
    host.seen.sight.cluster = cluster("db2")
    await host.look()
    said = host.server.heartbeat()
    assert (said.role, said.writable, said.following, said.lock) == ("primary", True, False, True)
    assert host.server.was_primary


async def test_a_lock_that_may_be_gone_is_claimed_by_a_primary_alone(host: Host) -> None:
    host.seen.sight.cluster = cluster("db2")
    for answer, asked_seconds_ago, claims in (
        (STANDBY, None, False),
        (STANDBY, QUORUM_SECONDS + 0.1, False),
        (STANDBY, QUORUM_SECONDS - 0.1, True),
        (PRIMARY, QUORUM_SECONDS + 0.1, True),
    ):
        host.answer = answer
        host.seen.sight.quorum_seconds = None if asked_seconds_ago is None else host.seen.now - asked_seconds_ago
        await host.look()
        assert host.server.heartbeat().lock == claims, (answer, asked_seconds_ago)


async def test_a_word_is_believed_for_a_short_time(host: Host) -> None:
    await host.look()
    host.seen.sleep(server.BELIEVED_SECONDS + 0.01)
    assert host.server.reading is None
    assert host.server.heartbeat().role == "unknown"
    assert host.server.position == 0


async def test_a_host_without_a_server_says_so_and_one_that_refuses_is_not_known(host: Host) -> None:
    host.answer = AbsentError("nobody there")
    await host.look()
    assert host.server.heartbeat().role == "none"
    host.answer = RefusedError("too many connections", sqlstate="53300")
    await host.look()
    assert host.server.heartbeat().role == "unknown"
    assert host.server.verdict is Verdict.BUSY


async def test_a_primary_that_was_is_one_until_the_server_says_otherwise(host: Host) -> None:
    host.answer = PRIMARY
    await host.look()
    host.answer = AbsentError("nobody there")
    await host.look()
    assert host.server.was_primary
    host.answer = STANDBY
    await host.look()
    assert not host.server.was_primary


async def test_a_primary_that_refuses_its_clients_says_that_it_takes_no_writes(host: Host) -> None:
    host.answer = PRIMARY
    await host.look()
    for serving, writable in ((Serving.HELD, True), (Serving.REFUSED, False)):
        host.seen.sight.serving = serving
        assert host.server.heartbeat().writable == writable


async def test_only_what_matters_at_once_is_a_change(host: Host) -> None:
    await host.look()
    assert host.changes == 1
    host.answer = replace(STANDBY, position=2000, replayed=2000, connections=9)
    await host.look()
    assert host.changes == 1
    for number, answer in enumerate((replace(STANDBY, receiving=False), PRIMARY, AbsentError("gone"))):
        host.answer = answer
        await host.look()
        assert host.changes == 2 + number


def pace(host: Host) -> float:
    return host.server._pace_seconds(host.seen.now)


async def test_a_server_is_looked_at_seldom_while_nothing_happens(host: Host) -> None:
    await host.look()
    assert pace(host) == server.USUAL_SECONDS
    host.seen.sight.cluster = None
    assert pace(host) == server.USUAL_SECONDS


@pytest.mark.parametrize(
    ("leader", "answer"),
    [(None, STANDBY), ("db2", STANDBY), ("db2", AbsentError("starts")), ("db1", PRIMARY)],
    ids=[
        "nobody leads",
        "it leads and is in recovery",
        "it leads and is not there",
        "another leads and it takes writes",
    ],
)
async def test_a_server_is_looked_at_often_while_the_lock_moves_but_not_for_ever(
    host: Host, leader: str | None, answer: Reading | Exception
) -> None:
    host.seen.sight.cluster, host.answer = cluster(leader), answer
    await host.look()
    assert pace(host) == server.QUICK_SECONDS
    host.seen.now += server.QUICK_FOR_SECONDS
    await host.look()
    assert pace(host) == server.USUAL_SECONDS
    host.seen.sight.cluster, host.answer = cluster("db1"), STANDBY
    await host.look()
    assert pace(host) == server.USUAL_SECONDS
    host.seen.sight.cluster = cluster(None)
    assert pace(host) == server.QUICK_SECONDS


async def test_a_silent_server_is_asked_again_without_a_pause(host: Host) -> None:
    host.hang()
    await host.look()
    assert pace(host) == 0.0


async def test_a_hung_server_is_ended_and_patroni_is_woken(host: Host) -> None:
    host.hang()
    await host.look(2)
    assert host.ended == []
    await host.look()
    assert host.ended == [POSTMASTER]
    assert host.server.verdict is Verdict.GONE
    await until(lambda: host.nudges == 1)


async def test_a_hung_server_is_left_alone_while_the_cluster_is_paused(host: Host) -> None:
    host.hang()
    host.seen.sight.cluster = replace(cluster(), paused=True)
    await host.look(5)
    assert host.ended == []
    assert host.server.verdict is Verdict.HUNG
    assert host.server.heartbeat().state == "hung"


async def test_a_hung_server_is_left_alone_while_nobody_knows_whether_the_cluster_is_paused(host: Host) -> None:
    host.hang()
    host.seen.sight.cluster = None
    await host.look(5)
    assert host.ended == []


async def test_an_agent_that_may_not_end_the_server_says_so_and_goes_on(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refused(*_: object) -> tuple[Process, ...]:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(processes, "end_server", refused)
    host.hang()
    await host.look(5)
    assert "CAP_KILL" in caplog.text


async def test_processes_that_do_not_end_are_named(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.hang()
    host.left = (Process(5000, 1),)
    await host.look(3)
    assert "do not end: 5000" in caplog.text


async def leads_and_is_stuck(host: Host) -> None:
    """Let the host lead with a server whose disk hangs, until two more looks end it."""
    host.seen.sight.cluster = replace(cluster("db2", sync=["db3"]), fails_over=True)
    host.answer, host.seconds_for_a_look = replace(PRIMARY, flush_awaited=True), 0.5
    await host.look(round(PATIENCE_SECONDS / 0.5))
    assert host.ended == []


async def test_a_server_whose_disk_hangs_is_ended_though_it_answers(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await leads_and_is_stuck(host)
    assert host.server.verdict is not Verdict.HUNG
    await host.look(2)
    assert host.ended == [POSTMASTER]
    assert host.server.verdict is Verdict.GONE
    assert "the server hangs (not a byte of WAL was flushed for 10 s while somebody waited)" in caplog.text
    await until(lambda: host.nudges == 1)


async def test_a_server_that_does_not_end_is_not_ended_again_before_its_time(host: Host) -> None:
    await leads_and_is_stuck(host)
    host.left = (POSTMASTER,)
    await host.look(20)
    assert host.ended == [POSTMASTER]


async def test_a_server_whose_disk_hangs_is_left_alone_where_nobody_could_take_over(host: Host) -> None:
    await leads_and_is_stuck(host)
    host.seen.sight.forget("db3")
    await host.look(5)
    assert host.ended == []
    assert host.server.verdict is not Verdict.HUNG


async def test_another_server_has_all_the_time_that_the_one_before_it_had(host: Host) -> None:
    await leads_and_is_stuck(host)
    host.server._ended(POSTMASTER)
    await host.look(20)
    assert host.ended == []


async def test_the_end_of_the_postmaster_is_told_at_once_and_patroni_is_woken(host: Host) -> None:
    await host.look()
    host.server._ended(POSTMASTER)
    assert host.server.heartbeat().role == "none"
    assert host.changes == 2
    await until(lambda: host.nudges == 1)


async def test_an_answer_from_before_the_end_does_not_bring_the_server_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(*_: object, deadline_seconds: float) -> Reading:
        del deadline_seconds
        host.postmaster.process = None
        host.server._ended(POSTMASTER)
        return PRIMARY

    monkeypatch.setattr(postgres, "read", read)
    await host.look()
    assert host.server.seen.outcome is Outcome.ABSENT
    assert not host.server.was_primary


async def test_patroni_is_woken_once_and_not_for_every_sign_of_one_end(host: Host) -> None:
    host.server.nudge()
    host.server.nudge()
    await until(lambda: host.nudges == 1 and not host.server._tasks)
    host.seen.now += server.NUDGE_SECONDS
    host.patroni_is_there = False
    host.server.nudge()
    await until(lambda: host.nudges == 2 and not host.server._tasks)


async def test_a_postmaster_that_cannot_be_looked_for_stops_nobody(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.postmaster.error = PermissionError(13, "CAP_SYS_PTRACE")
    await host.look(2)
    assert host.server.heartbeat().role == "standby"
    assert caplog.text.count("CAP_SYS_PTRACE") == 1


async def test_news_bring_the_next_look_forward(host: Host) -> None:
    looks = asyncio.Event()
    host.server._on_change = looks.set
    async with running(host):
        await looks.wait()
        looks.clear()
        host.answer = PRIMARY
        host.server.look_soon()
        await looks.wait()
    assert host.server.heartbeat().role == "primary"


@contextlib.asynccontextmanager
async def running(host: Host) -> AsyncIterator[None]:
    task = asyncio.ensure_future(host.server.run())
    try:
        async with asyncio.timeout(5):
            yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_promotion_is_waited_for_and_told_in_the_moment_it_is_done(host: Host) -> None:
    host.seen.sight.cluster = cluster("db2")
    async with running(host):
        await until(lambda: host.waits == 1)
        assert host.server.heartbeat().role == "standby"
        host.answer = PRIMARY
        host.promoted.set()
        await until(lambda: host.server.heartbeat().role == "primary")
        assert host.waits == 1
        assert host.changes == 2


@pytest.mark.parametrize("leader", ["db1", "db2"])
async def test_nobody_waits_for_a_promotion_that_is_not_to_come(host: Host, leader: str) -> None:
    host.seen.sight.cluster, host.answer = cluster(leader), STANDBY if leader == "db1" else PRIMARY
    async with running(host):
        await until(lambda: host.server.reading is not None)
        await asyncio.sleep(0)
        assert host.waits == 0


async def test_a_server_that_says_no_while_it_is_waited_for_is_looked_at_again(host: Host) -> None:
    host.seen.sight.cluster = cluster("db2")
    async with running(host):
        await until(lambda: host.waits == 1)
        host.answer = RefusedError("conflict with recovery", sqlstate="40001")
        host.promoted.set()
        await until(lambda: host.server.heartbeat().role == "unknown")


async def test_a_word_from_before_the_end_does_not_bring_a_server_back_that_was_waited_for(host: Host) -> None:
    await host.look()
    waiting = asyncio.ensure_future(host.server._await_end_of_recovery())
    await until(lambda: host.waits == 1)
    host.postmaster.process, host.answer = None, PRIMARY
    host.server._ended(POSTMASTER)
    host.promoted.set()
    await waiting
    assert host.server.seen.outcome is Outcome.ABSENT
    assert not host.server.was_primary


def noted(host: Host, directory: Path, pid: int | None) -> None:
    """Let the postmaster's file name a process, or be gone."""
    file = host.server._pid_file = directory / "lock"
    file.unlink(missing_ok=True)
    if pid is not None:
        file.write_text(f"{pid}\n/data\n", encoding="ascii")


async def test_a_postmaster_that_leaves_its_file_behind_has_crashed(host: Host, tmp_path: Path) -> None:
    assert not host.server.crashed
    noted(host, tmp_path, POSTMASTER.pid)
    host.postmaster.process = None
    host.server._ended(POSTMASTER)
    assert host.server.crashed
    assert not host.server.handed_over


async def test_a_postmaster_that_takes_its_file_with_it_was_stopped(host: Host, tmp_path: Path) -> None:
    for pid in (None, POSTMASTER.pid + 1):
        noted(host, tmp_path, pid)
        host.server._ended(POSTMASTER)
        assert not host.server.crashed


async def test_a_crash_is_over_when_there_is_another_postmaster(host: Host, tmp_path: Path) -> None:
    noted(host, tmp_path, POSTMASTER.pid)
    host.server._ended(POSTMASTER)
    host.postmaster.process, host.answer = None, AbsentError("nobody there")
    await host.look()
    assert host.server.crashed
    host.postmaster.process = Process(4712, 100)
    await host.look()
    assert not host.server.crashed


async def test_a_postmaster_that_cannot_be_looked_for_is_no_other_one(host: Host, tmp_path: Path) -> None:
    noted(host, tmp_path, POSTMASTER.pid)
    host.server._ended(POSTMASTER)
    host.postmaster.error = PermissionError(13, "CAP_SYS_PTRACE")
    await host.look()
    assert host.server.crashed


async def test_a_stopped_server_is_ended_without_being_asked_and_patroni_is_woken(host: Host) -> None:
    await host.look()
    await host.server.end_stopped()
    assert host.ended == [POSTMASTER]
    assert host.server.verdict is Verdict.GONE
    await until(lambda: host.nudges == 1)


@pytest.mark.parametrize("known", [True, False], ids=["the cluster is paused", "nobody knows whether it is"])
async def test_a_stopped_server_is_left_alone_while_somebody_may_be_at_work_on_it(
    host: Host,
    known: bool,  # noqa: FBT001 - a table's row
) -> None:
    host.seen.sight.cluster = replace(cluster(), paused=True) if known else None
    await host.server.end_stopped()
    assert host.ended == []
    assert host.server.verdict is Verdict.HUNG


async def test_where_no_server_is_none_is_ended(host: Host) -> None:
    host.postmaster.process = None
    await host.server.end_stopped()
    assert host.ended == []
