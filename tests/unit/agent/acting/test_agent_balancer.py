"""A balancer's HAProxy, pooler and Keepalived: asked, decided, done, in this order, whatever does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import NONE, PRIMARY, Seen, cluster, until

from pgbaton.agent.acting import balancer, judge, pool
from pgbaton.agent.acting.balancer import Balancer
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.decisions.hung import Verdict
from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.kernel.processes import Condition, Look, Process
from pgbaton.agent.protocols.connections import AbsentError, RefusedError, ServiceError, SilentError
from pgbaton.agent.services import haproxy, pgbouncer
from pgbaton.agent.services.haproxy import CheckResult, Operational
from pgbaton.agent.settings import Pooler

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pgbaton.agent.settings import Placement

BACKENDS = ("pooled_write", "pooled_read", "pooled_synchronous")

GIVE_UP, WELL = "-254\n", "0\n"


def server(name: str, *, up: bool, backend: str = "primary", administrative: int = 0) -> haproxy.Server:
    state = Operational.RUNNING if up else Operational.STOPPED
    return haproxy.Server(backend, name, "10.0.0.1", 5432, state, administrative, CheckResult.PASSED, 3, 10)


class Host:
    """A host's agent, with HAProxy and the pooler made up; what they are told is noted in order."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        directory: Path,
        *,
        me: str = "lb1",
        placement: Placement = "balancer",
    ) -> None:
        self.seen = Seen(me, directory=directory, placement=placement)
        self.up = {"db1"}
        self.administrative = 0
        self.peer_pools = True
        self.haproxy: ServiceError | None = None
        self.pooler: ServiceError | None = None
        self.pooler_answers = asyncio.Event()
        self.pooler_answers.set()
        self.paused = False
        self.ordered: list[bool | None] = []
        self.told: list[str] = []
        self.questions = 0
        self.condition = Condition.RUNNING
        self.tracked = directory / "tracked"
        for module in (balancer, judge, pool):
            monkeypatch.setattr(module, "clock", lambda: self.seen.now)
        for module, names in {
            haproxy: ("servers", "set_health", "shutdown_sessions"),
            pgbouncer: ("state", "is_paused"),
        }.items():
            for name in names:
                monkeypatch.setattr(module, name, getattr(self, name))
        monkeypatch.setattr(pgbouncer, "pause", self.pause)
        monkeypatch.setattr(pgbouncer, "resume", self.resume)
        monkeypatch.setattr(processes, "members", lambda unit: (Process(10, 1),) if unit == "haproxy.service" else ())
        self.followed: list[tuple[str, ...]] = []
        monkeypatch.setattr(processes, "main", lambda *of: self.followed.append(of))
        monkeypatch.setattr(judge, "of_unit", lambda unit, program: (Process(10, 1),) if program in unit else ())
        monkeypatch.setattr(processes, "look", lambda _: Look(self.condition))
        monkeypatch.setattr(processes, "runnable_per_processor", lambda: 0.1)
        monkeypatch.setattr(processes, "kill", self.kill)
        self.balancer = Balancer(self.seen.settings, self.seen.sight, Complaints(), tracked=self.tracked)

    async def servers(self, *_: object, deadline_seconds: float) -> tuple[haproxy.Server, ...]:
        self.questions += 1
        if isinstance(self.haproxy, SilentError):
            self.seen.run(round(deadline_seconds / 0.05))
        if self.haproxy:
            raise self.haproxy
        found = [server(name, up=name in self.up, administrative=self.administrative) for name in ("db1", "db2", "db3")]
        pooled = [server("lb2", up=self.peer_pools, backend=backend) for backend in BACKENDS]
        return (*found, server("db3", up=True, backend="standbys"), *pooled)

    async def set_health(self, _: object, backend: str, name: str, health: str, *, deadline_seconds: float) -> None:
        del deadline_seconds
        if backend != "primary":
            if self.haproxy:
                raise self.haproxy
            self.told.append(f"{backend}/{name} {health}")
            return
        self.told.append(f"{name} {health}")
        self.up = self.up | {name} if health == "up" else self.up - {name}

    async def shutdown_sessions(self, _: object, backend: str, name: str, *, deadline_seconds: float) -> None:
        del deadline_seconds, backend
        self.told.append(f"cut {name}")

    async def state(self, *_: object, deadline_seconds: float, ordered: bool | None = None) -> pgbouncer.State:
        del deadline_seconds
        self.ordered.append(ordered)
        await self.pooler_answers.wait()
        if self.pooler:
            raise self.pooler
        return pgbouncer.State((1, 24), self.paused, (), False, 0, 0, 0, 0.0)  # noqa: FBT003 - a table's row

    async def is_paused(self, *_: object, deadline_seconds: float, ordered: bool | None = None) -> bool:
        return (await self.state(deadline_seconds=deadline_seconds, ordered=ordered)).paused

    async def pause(self, *_: object, deadline_seconds: float) -> bool:
        del deadline_seconds
        self.told.append("pause")
        self.paused = True
        return True

    async def resume(self, *_: object, deadline_seconds: float) -> None:
        del deadline_seconds
        if self.pooler:
            raise self.pooler
        self.told.append("resume")
        self.paused = False

    def kill(self, process: Process, number: signal.Signals) -> bool:
        self.told.append(f"{number.name} {process.pid}, Keepalived has {self.tracked.read_text().strip()}")
        return True

    async def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.seen.run()
            await self.balancer._turn()

    def fail_over(self) -> None:
        """Let db1 be fenced here, and db2 take writes on the next timeline."""
        self.seen.sight.fenced = frozenset({"db1"})
        self.seen.sight.cluster = cluster("db2", leader_revision=200)
        self.seen.sight.hear("db2", replace(PRIMARY, timeline=5))


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(monkeypatch, tmp_path)
    await made.turn(3)  # it finds db1, and lets go whom one before it may have held
    made.told.clear()
    yield made
    made.balancer.close()


async def test_an_agent_that_starts_lets_everybody_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(monkeypatch, tmp_path)
    host.paused = True
    await host.turn(3)
    assert host.told == ["resume"]


async def test_nothing_is_done_while_nothing_happens(host: Host) -> None:
    await host.turn(5)
    assert host.told == []
    assert host.balancer.leads
    assert host.tracked.read_text() == WELL


async def test_a_fenced_primary_loses_its_sessions_and_clients_wait_for_the_next(host: Host) -> None:
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn()
    assert host.told == ["pause", "db1 down", "cut db1"]
    await host.turn()
    assert not host.balancer.leads


async def test_a_new_primary_is_hinted_and_clients_go_on(host: Host) -> None:
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn(2)
    host.told.clear()
    host.fail_over()
    await host.turn(4)
    assert host.told == ["db2 up", "resume"]
    assert host.balancer.leads
    assert [each.ordered for each in host.balancer._pools] == [False]


async def test_a_pooler_is_told_what_its_last_order_was(host: Host) -> None:
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn(2)
    assert host.ordered[-1] is True
    host.pooler = AbsentError("it was restarted")
    await host.turn()
    host.pooler = None
    await host.turn()
    assert host.ordered[-1] is None


async def test_the_word_of_a_dead_agent_is_no_claim(host: Host) -> None:
    host.seen.run(6, echoing=["db1"])
    databases = {each.name: each for each in host.balancer._view(None, {}).databases}
    assert databases["db1"].says is None
    assert databases["db2"].says is not None


async def test_an_agent_that_overslept_does_nothing_to_anybody(host: Host) -> None:
    host.fail_over()
    host.seen.sleep(3.0)
    await host.balancer._turn()
    assert host.told == []


async def test_haproxy_is_told_though_the_pooler_hangs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "POOLING_SECONDS", 0.001)
    host.pooler_answers.clear()
    host.seen.run(round(pool.BELIEVED_SECONDS / 0.05) + 1)
    host.seen.sight.fenced = frozenset({"db1"})
    async with asyncio.timeout(5):
        await host.turn()
    assert host.told == ["db1 down", "cut db1"]


async def test_nobody_waits_for_a_pooler_that_has_said_how_it_fares(host: Host) -> None:
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn(2)
    host.told.clear()
    host.pooler_answers.clear()
    host.fail_over()
    async with asyncio.timeout(balancer.POOLING_SECONDS / 2):
        await host.turn(2)
    assert host.told == ["db2 up", "resume"]


async def test_a_poolers_tables_are_asked_for_once_in_a_second(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    state = host.state

    async def noted(*where: object, deadline_seconds: float, ordered: bool | None = None) -> pgbouncer.State:
        asked.append(host.seen.now)
        return await state(*where, deadline_seconds=deadline_seconds, ordered=ordered)

    monkeypatch.setattr(pgbouncer, "state", noted)
    before = len(host.ordered)
    await host.turn(40)
    assert len(host.ordered) - before > len(asked) > 1
    assert all(later - earlier >= pool.TABLES_SECONDS for earlier, later in itertools.pairwise(asked))


async def test_a_question_to_a_slow_pooler_is_not_asked_twice(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "POOLING_SECONDS", 0.001)
    host.pooler_answers.clear()
    before = len(host.ordered)
    await host.turn(3)
    assert len(host.ordered) == before + 1
    host.pooler_answers.set()
    await host.turn(2)
    assert len(host.ordered) > before + 1


async def test_a_hold_returns_in_the_moment_in_which_nobody_has_a_server(host: Host) -> None:
    running = asyncio.ensure_future(host.balancer.run())
    await until(lambda: len(host.ordered) >= 4)
    host.pooler_answers.clear()  # the pooler need not be asked
    async with asyncio.timeout(balancer.HELD_SECONDS / 2):
        await host.balancer.hold(1.0)
    assert host.told == ["pause"]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("error", [AbsentError("none"), RefusedError("no"), SilentError("silent")])
async def test_a_balancer_without_haproxy_goes_on(host: Host, error: ServiceError) -> None:
    host.haproxy = error
    await host.turn(2)
    assert not host.balancer.leads
    host.haproxy = None
    await host.turn()
    assert host.balancer.leads


async def test_a_balancer_where_nothing_is_installed_yet_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Host(monkeypatch, tmp_path)
    host.haproxy, host.pooler, host.condition = AbsentError("none"), AbsentError("none"), Condition.GONE
    await host.turn(5)
    assert host.balancer.verdict is Verdict.GONE
    assert host.tracked.read_text() == GIVE_UP
    assert host.told == []


async def test_a_hung_haproxy_is_ended_after_keepalived_was_told(host: Host) -> None:
    host.haproxy, host.condition = SilentError("silent"), Condition.STOPPED
    await host.turn(2)
    assert host.told == []
    await host.turn()
    assert host.told == ["SIGKILL 10, Keepalived has -254"]


async def test_a_haproxy_that_cannot_be_ended_stops_nobody(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def kill(*_: object) -> bool:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(processes, "kill", kill)
    host.haproxy, host.condition = SilentError("silent"), Condition.STOPPED
    await host.turn(4)
    assert "CAP_KILL" in caplog.text


async def test_a_file_that_cannot_be_written_stops_nobody(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.tracked.unlink()
    host.tracked.mkdir()
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn(2)
    assert host.told[-1] == "cut db1"
    assert caplog.text.count("Keepalived: cannot be told") == 1


async def test_the_vip_is_given_up_where_only_another_balancer_leads(host: Host) -> None:
    host.up = set()
    host.seen.sight.hear("lb2", replace(NONE, poolers=True))
    await host.turn()
    assert host.tracked.read_text() == WELL
    await host.turn(41)
    assert host.tracked.read_text() == GIVE_UP
    host.up = {"db1"}
    await host.turn()
    assert host.tracked.read_text() == WELL


async def test_a_balancer_whose_path_is_broken_gives_up_the_vip_to_one_whose_leads(host: Host) -> None:
    host.seen.sight.hear("lb2", replace(NONE, poolers=True))
    host.balancer.is_cut_off = lambda: True
    await host.turn()
    assert (host.balancer.leads_to, host.balancer.leads) == ("db1", False)
    assert host.tracked.read_text() == WELL
    await host.turn(41)
    assert host.tracked.read_text() == GIVE_UP
    host.balancer.is_cut_off = lambda: False
    await host.turn()
    assert host.tracked.read_text() == WELL
    assert host.told == []


async def test_balancers_whose_paths_are_both_broken_leave_the_vip_where_it_is(host: Host) -> None:
    host.balancer.is_cut_off = lambda: True
    for _ in range(3):
        host.seen.sight.hear("lb2", replace(NONE, poolers=True))  # it finds out a little later each time
        await host.turn(20)
        host.seen.sight.hear("lb2", replace(NONE, poolers=False))
        await host.turn(60)
    assert host.tracked.read_text() == WELL


async def test_clients_are_held_whoever_holds_them(host: Host) -> None:
    assert not host.balancer.is_held
    host.seen.sight.serving = Serving.HELD
    assert host.balancer.is_held
    host.seen.sight.serving = Serving.OPEN
    host.paused = True  # by an operator
    await host.turn(2)
    assert host.balancer.is_held


async def test_clients_are_held_while_the_primary_is_away_and_no_longer(host: Host) -> None:
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn()
    assert host.balancer.is_held
    host.fail_over()
    await host.turn(4)
    assert not host.balancer.is_held
    assert host.balancer.leads_to == "db2"


async def test_a_server_that_was_taken_out_by_hand_is_no_way(host: Host) -> None:
    host.administrative = 1
    await host.turn()
    assert not host.balancer.leads


async def test_an_order_that_fails_is_no_end(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, deadline_seconds: float) -> None:
        del deadline_seconds
        message = "no such server"
        raise haproxy.HaproxyError(message)

    monkeypatch.setattr(haproxy, "set_health", fails)
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn()
    assert host.told == ["pause", "cut db1"]


async def test_two_primaries_on_one_timeline_are_told_of_once(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.seen.sight.hear("db2", PRIMARY)
    await host.turn(5)
    assert sum("more than one primary" in message for message in caplog.messages) == 1
    assert host.told == []


async def test_news_bring_the_next_turn_forward(host: Host) -> None:
    running = asyncio.ensure_future(host.balancer.run())
    await until(lambda: len(host.ordered) >= 4)
    host.seen.sight.fenced = frozenset({"db1"})
    host.balancer.turn_soon()
    await until(lambda: "cut db1" in host.told)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_an_agent_that_ends_leaves_nobody_waiting(host: Host) -> None:
    host.paused = True
    host.tracked.write_text(GIVE_UP)
    await balancer.let_go(host.seen.settings, tracked=host.tracked)
    assert host.told == ["resume"]
    assert host.tracked.read_text() == WELL


async def test_keepalived_gets_its_vip_back_though_the_pooler_hangs(host: Host) -> None:
    host.pooler = SilentError("silent")
    host.tracked.write_text(GIVE_UP)
    await balancer.let_go(host.seen.settings, tracked=host.tracked)
    assert host.tracked.read_text() == WELL


async def test_the_vip_is_given_up_once_the_processes_of_an_ended_haproxy_are_gone(host: Host) -> None:
    host.balancer._ended(Process(10, 1))
    assert (host.balancer.verdict, host.balancer.leads) == (Verdict.GONE, False)
    for _ in range(3):
        await asyncio.sleep(processes.LOOK_SECONDS)
    assert host.tracked.read_text() == WELL
    host.condition = Condition.GONE
    await until(lambda: host.tracked.read_text() == GIVE_UP)
    assert host.balancer._soon.is_set()


async def test_the_vip_waits_only_so_long_for_connections_to_end(host: Host) -> None:
    host.balancer._ended(Process(10, 1))
    await asyncio.sleep(0)
    host.seen.now += balancer.CLOSING_SECONDS - 0.01
    for _ in range(3):
        await asyncio.sleep(processes.LOOK_SECONDS)
    assert host.tracked.read_text() == WELL
    host.seen.now += 0.02
    await until(lambda: host.tracked.read_text() == GIVE_UP)


async def test_the_vip_stays_when_haproxy_is_back_before_the_old_ones_connections_are_gone(host: Host) -> None:
    host.balancer._ended(Process(10, 1))
    await host.turn()
    host.condition = Condition.GONE
    await until(lambda: not host.balancer._tasks)
    assert host.tracked.read_text() == WELL


async def test_the_vip_stays_until_the_last_who_waits_for_the_end_has_seen_it(host: Host) -> None:
    host.balancer.judge.gone()
    first = asyncio.ensure_future(host.balancer._give_up((Process(10, 1),)))
    await asyncio.sleep(0)
    await host.balancer._give_up(())
    assert host.tracked.read_text() == WELL
    host.condition = Condition.GONE
    await first
    assert host.tracked.read_text() == GIVE_UP


@pytest.mark.parametrize(("name", "backend"), [("write", "pooled_write"), ("read", "pooled_read")])
async def test_clients_are_led_around_a_pooler_in_the_moment_in_which_it_ends(
    host: Host, name: str, backend: str
) -> None:
    host.balancer._pooler_ended(name, Process(20, 1))
    await until(lambda: not host.balancer._tasks)
    assert host.told == [f"{backend}/lb1 down"]


async def test_the_pooler_of_synchronous_standbys_is_not_taken_for_that_of_reads(host: Host) -> None:
    settings = host.balancer._settings
    synchronous = (Pooler("synchronous", settings.runtime_directory),)
    sockets = replace(settings.pgbouncer_sockets, synchronous=synchronous)
    host.balancer._settings = replace(settings, pgbouncer_sockets=sockets)
    host.peer_pools = True
    host.balancer._pooler_ended("synchronous", Process(20, 1))
    await until(lambda: not host.balancer._tasks)
    assert host.told == ["pooled_synchronous/lb1 down"]


async def test_a_pooler_and_haproxy_that_end_together_stop_nobody(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.haproxy = AbsentError("none")
    host.balancer._pooler_ended("write", Process(20, 1))
    await until(lambda: not host.balancer._tasks)
    assert "finds out by itself that lb1 is down in pooled_write" in caplog.text


async def test_the_processes_of_haproxy_and_of_both_poolers_are_followed(host: Host) -> None:
    host.followed.clear()
    await host.turn()
    assert host.followed == [
        ("haproxy.service", "haproxy"),
        ("pgbouncer@write.service", "pgbouncer"),
        ("pgbouncer@read.service", "pgbouncer"),
    ]


async def test_a_stopped_haproxy_is_ended_without_being_asked_and_the_vip_goes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(process: Process, number: signal.Signals) -> bool:
        host.condition = Condition.GONE
        return host.kill(process, number)

    monkeypatch.setattr(processes, "kill", kill)
    host.condition = Condition.STOPPED
    await host.balancer.end_stopped()
    assert host.told == ["SIGKILL 10, Keepalived has 0"]
    assert host.tracked.read_text() == GIVE_UP


async def test_what_was_done_is_looked_at_without_waiting_for_the_usual_time(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancer, "USUAL_SECONDS", 1000.0)
    await host.turn()
    assert not host.balancer._soon.is_set()
    before = host.questions
    host.fail_over()
    running = asyncio.ensure_future(host.balancer.run())
    await until(lambda: host.questions == before + 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert host.questions == before + 2
    assert host.told == ["db1 down", "cut db1", "db2 up"]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
