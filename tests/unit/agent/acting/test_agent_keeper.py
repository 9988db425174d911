"""Services beside the server: judged by their answers and their processes, and ended when they hang."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import Seen, cluster, until
from wire_server import LOGGED_IN, READY, columns, message, row, serving

from pgbaton.agent.acting import judge, keeper
from pgbaton.agent.acting.judge import Judge, of_unit, together
from pgbaton.agent.acting.keeper import Keeper
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.decisions.hung import Outcome, Verdict, table
from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.processes import Condition, Look, Process, Stat
from pgbaton.agent.protocols import wire
from pgbaton.agent.protocols.connections import AbsentError, RefusedError, ServiceError, SilentError
from pgbaton.agent.protocols.https import (
    BrokenError,
    ConnectError,
    DeadlineError,
    HttpsError,
    SlowConnectError,
    TlsError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wire_server import Peer

ONE, TWO = Process(10, 1), Process(11, 2)


class Host:
    """A service that answers as a test likes, and signals that are noted instead of sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = Seen("lb1")
        self.killed: list[tuple[Process, signal.Signals]] = []
        self.outcome = Outcome.ANSWERED
        self.condition = Condition.RUNNING
        self.asked = 0
        monkeypatch.setattr(judge, "clock", lambda: self.seen.now)
        monkeypatch.setattr(processes, "look", lambda _: Look(self.condition))
        monkeypatch.setattr(processes, "runnable_per_processor", lambda: 0.1)
        monkeypatch.setattr(processes, "kill", lambda *what: self.killed.append(what))
        patience = table(self.seen.settings.timings)
        self.judge = Judge("PgBouncer write", lambda: (ONE, TWO), next(iter(patience.values())), self.seen.sight)

    async def ask(self) -> Outcome:
        self.asked += 1
        if self.outcome is Outcome.SILENT:
            self.seen.run(10)
        return self.outcome

    def keeper(self, may_end: Callable[[], bool] = lambda: True) -> Keeper:
        return Keeper(self.judge, self.ask, Complaints(), every_seconds=0.0, may_end=may_end)

    def hang(self) -> None:
        self.outcome, self.condition = Outcome.SILENT, Condition.STOPPED


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


async def test_a_hung_service_is_ended_with_all_its_processes(host: Host) -> None:
    kept = host.keeper()
    host.hang()
    for _ in range(2):
        await kept.look()
    assert host.killed == []
    await kept.look()
    assert host.killed == [(ONE, signal.SIGKILL), (TWO, signal.SIGKILL)]
    assert host.judge.verdict is Verdict.GONE


async def test_a_service_that_was_ended_has_all_its_patience_again(host: Host) -> None:
    kept = host.keeper()
    host.hang()
    for _ in range(5):
        await kept.look()
    assert len(host.killed) == 2
    await kept.look()
    assert len(host.killed) == 4


async def test_a_service_that_may_not_be_ended_is_told_of(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    kept = host.keeper(may_end=lambda: False)
    host.hang()
    for _ in range(5):
        await kept.look()
    assert host.killed == []
    assert caplog.text.count("is left alone") == 1
    assert host.judge.verdict is Verdict.HUNG


async def test_an_agent_that_may_not_kill_goes_on(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def kill(*_: object) -> bool:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(processes, "kill", kill)
    kept = host.keeper()
    host.hang()
    for _ in range(4):
        await kept.look()
    assert "CAP_KILL" in caplog.text


async def test_a_service_that_is_not_installed_is_gone_and_nobody_is_ended(host: Host) -> None:
    host.outcome, host.condition = Outcome.ABSENT, Condition.GONE
    kept = host.keeper()
    for _ in range(10):
        await kept.look()
    assert host.judge.verdict is Verdict.GONE
    assert host.killed == []


async def test_an_agent_that_overslept_blames_nobody(host: Host) -> None:
    kept = host.keeper()
    host.hang()
    for _ in range(6):
        question = host.judge.ask()
        host.seen.sleep(2.0)
        host.judge.hear(question, Outcome.SILENT)
    assert host.killed == []
    assert kept.judge.verdict is not Verdict.HUNG


async def test_a_verdict_is_told_when_it_changes(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    kept = host.keeper()
    caplog.set_level("INFO")
    await kept.look()
    host.outcome = Outcome.REFUSED
    for _ in range(3):
        await kept.look()
    assert caplog.messages == ["PgBouncer write: busy, before well"]


async def test_it_asks_again_and_again(host: Host) -> None:
    running = asyncio.ensure_future(host.keeper().run())
    await until(lambda: host.asked >= 3)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.ANSWERED),
        (SlowConnectError("there", "no connection in time"), Outcome.SILENT),
        (DeadlineError("there", "no answer in time"), Outcome.SILENT),
        (ConnectError("there", "refused"), Outcome.ABSENT),
        (TlsError("there", "expired"), Outcome.REFUSED),
        (BrokenError("there", "nonsense"), Outcome.REFUSED),
    ],
)
async def test_only_silence_of_patroni_is_silence(error: HttpsError | None, outcome: Outcome) -> None:
    class Patroni:
        async def is_alive(self, *, deadline_seconds: float) -> bool:
            assert deadline_seconds == 2.0
            if error:
                raise error
            return False  # its loop is slow, and it says so

    seen = Seen()
    kept = keeper.patroni(Patroni(), seen.settings, seen.sight, Complaints())  # type: ignore[arg-type]
    assert await kept._ask() is outcome


def test_patroni_is_ended_only_in_a_cluster_that_is_known_not_to_be_paused() -> None:
    seen = Seen()
    kept = keeper.patroni(None, seen.settings, seen.sight, Complaints())  # type: ignore[arg-type]
    assert kept._may_end()
    seen.sight.cluster = replace(cluster(), paused=True)
    assert not kept._may_end()
    seen.sight.cluster = None
    assert not kept._may_end()


def test_of_patronis_unit_only_patroni_is_asked_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    monkeypatch.setattr(processes, "main", lambda *of: ONE if of == ("patroni.service", "patroni") else None)
    kept = keeper.patroni(None, seen.settings, seen.sight, Complaints())  # type: ignore[arg-type]
    assert tuple(kept.judge._find()) == (ONE,)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.ANSWERED),
        (AbsentError("none"), Outcome.ABSENT),
        (RefusedError("no"), Outcome.REFUSED),
        (SilentError("silent"), Outcome.SILENT),
    ],
)
@pytest.mark.parametrize("name", ["write", "read"])
async def test_each_pooler_is_asked_at_its_own_console(
    name: str, error: ServiceError | None, outcome: Outcome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def ask(where: object, login: wire.Login, statement: str, *, deadline_seconds: float) -> None:
        port = {"write": 6432, "read": 6433}[name]
        assert str(where) == str(tmp_path / name / f".s.PGSQL.{port}")
        assert (login.user, login.database, statement, deadline_seconds) == (
            "pgbouncer",
            "pgbouncer",
            "SHOW VERSION",
            0.5,
        )
        if error:
            raise error

    monkeypatch.setattr(wire, "ask", ask)
    seen = Seen("lb1", directory=tmp_path)
    assert await keeper.pooler(name, seen.settings, seen.sight, Complaints())._ask() is outcome


async def test_a_console_that_answers_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: Peer) -> None:
        await peer.start()
        peer.say(LOGGED_IN)
        assert await peer.hear() == ("Q", b"SHOW VERSION\0")
        peer.say(columns("version"), row("PgBouncer 1.24.1"), message("C", b"SHOW\0"), READY)
        await peer.gone()

    monkeypatch.setattr(keeper, "uid", lambda _: None)
    seen = Seen("lb1", directory=tmp_path)
    (tmp_path / "write").mkdir()
    async with serving(tmp_path / "write" / ".s.PGSQL.6432", script):
        assert await keeper.pooler("write", seen.settings, seen.sight, Complaints())._ask() is Outcome.ANSWERED


def test_a_user_who_comes_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, int] = {}

    class User:
        pw_uid = 117

    def getpwnam(name: str) -> User:
        found[name]
        return User()

    monkeypatch.setattr(keeper.pwd, "getpwnam", getpwnam)
    assert keeper.uid("a-user-of-tomorrow") is None
    found["a-user-of-tomorrow"] = 117
    assert keeper.uid("a-user-of-tomorrow") == 117


@pytest.mark.parametrize(
    ("looks", "whole"),
    [
        ([], Look(Condition.GONE)),
        ([Look(Condition.GONE), Look(Condition.GONE)], Look(Condition.GONE)),
        ([Look(Condition.RUNNING, 1.0, 2.0), Look(Condition.GONE)], Look(Condition.RUNNING, 1.0, 2.0)),
        (
            [Look(Condition.RUNNING, 1.0, 2.0, is_runnable=True), Look(Condition.STOPPED, 0.5)],
            Look(Condition.STOPPED, 1.5, 2.0, is_runnable=True),
        ),
    ],
)
def test_several_processes_make_one_service(looks: list[Look], whole: Look) -> None:
    assert together(looks) == whole


def test_of_a_unit_those_by_the_name_are_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {10: "haproxy", 11: "haproxy", 12: "sh"}
    monkeypatch.setattr(
        processes, "members", lambda unit: (ONE, TWO, Process(12, 3)) if unit == "haproxy.service" else ()
    )
    monkeypatch.setattr(processes, "stat", lambda pid: Stat(names[pid], "S", 1, 0.0, 1))
    assert of_unit("haproxy.service", "haproxy") == (ONE, TWO)


def test_a_service_is_stopped_when_one_of_its_processes_of_the_last_question_is(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = {TWO}
    monkeypatch.setattr(processes, "is_stopped", lambda each: each in stopped)
    assert not host.judge.is_stopped
    host.judge.ask()
    assert host.judge.is_stopped
    stopped.clear()
    assert not host.judge.is_stopped


def test_of_a_service_that_is_gone_nothing_is_stopped(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "is_stopped", lambda _: True)
    host.judge.ask()
    host.judge.gone()
    assert not host.judge.is_stopped


async def test_a_stopped_service_hangs_and_is_ended_without_a_question(host: Host) -> None:
    kept = host.keeper()
    await kept.end_stopped()
    assert host.killed == [(ONE, signal.SIGKILL), (TWO, signal.SIGKILL)]
    assert host.judge.verdict is Verdict.GONE
    assert host.asked == 0


async def test_a_stopped_service_that_may_not_be_ended_hangs(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    kept = host.keeper(may_end=lambda: False)
    await kept.end_stopped()
    assert host.killed == []
    assert host.judge.verdict is Verdict.HUNG
    assert "is left alone" in caplog.text


async def test_keepalived_is_asked_nothing_and_ended_when_it_was_stopped(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "members", lambda unit: (ONE, TWO) if unit == "keepalived.service" else ())
    kept = keeper.keepalived(host.seen.settings, host.seen.sight, Complaints())
    for _ in range(5):
        assert await kept.look() is Outcome.ANSWERED
    assert (kept.judge.name, kept.judge.verdict, host.killed) == ("Keepalived", Verdict.WELL, [])
    monkeypatch.setattr(processes, "is_stopped", lambda each: each == TWO)
    assert kept.judge.is_stopped
    await kept.end_stopped()
    assert [each for each, _ in host.killed] == [ONE, TWO]
