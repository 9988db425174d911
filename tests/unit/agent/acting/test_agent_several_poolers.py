"""A balancer with several PgBouncer processes on a port: each is held, let go, watched and judged, none alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import PRIMARY, Seen, cluster, until

from pgbaton.agent.acting import balancer, judge, keeper, pool
from pgbaton.agent.acting.balancer import Balancer
from pgbaton.agent.acting.pool import NotHeldError
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.processes import Process
from pgbaton.agent.protocols.connections import AbsentError, ServiceError, SilentError
from pgbaton.agent.services import haproxy, pgbouncer
from pgbaton.agent.services.haproxy import CheckResult, Operational
from pgbaton.agent.settings import PgbouncerSockets, Pooler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pgbaton.agent.protocols.connections import UnixSocket

NAMES = ("write", "write-2", "read", "read-2")


def poolers(directory: Path) -> PgbouncerSockets:
    made = {name: Pooler(name, directory / name) for name in NAMES}
    return PgbouncerSockets((made["write"], made["write-2"]), (made["read"], made["read-2"]), ())


class Host:
    """lb1's agent with two processes on each port; what they are told is noted with their names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.seen = Seen("lb1", directory=directory)
        self.seen.settings = replace(self.seen.settings, pgbouncer_sockets=poolers(directory))
        self.told: list[str] = []
        self.paused: set[str] = set()
        self.busy: set[str] = set()
        self.silent: dict[str, ServiceError] = {}
        self.living = set(NAMES)
        self.up = {"db1"}
        #: So many heartbeats pass with each question while a hold waits.
        self.heartbeats = 0
        for module in (balancer, judge, pool):
            monkeypatch.setattr(module, "clock", lambda: self.seen.now)
        for name in ("servers", "set_health", "shutdown_sessions"):
            monkeypatch.setattr(haproxy, name, getattr(self, name))
        for name in ("state", "is_paused", "pause", "resume"):
            monkeypatch.setattr(pgbouncer, name, getattr(self, name))
        monkeypatch.setattr(processes, "main", self.main)
        monkeypatch.setattr(processes, "members", lambda _: ())
        monkeypatch.setattr(judge, "of_unit", lambda *_: ())
        monkeypatch.setattr(pool, "QUIET_SECONDS", 0.0)
        tracked = directory / "tracked"
        self.balancer = Balancer(self.seen.settings, self.seen.sight, Complaints(), tracked=tracked)

    def main(self, unit: str, program: str) -> Process | None:
        """Find a pooler that lives, but none that could be followed."""
        assert program in {"pgbouncer", "haproxy"}
        name = unit.removeprefix("pgbouncer@").removesuffix(".service")
        return Process(2**22, 1) if name in self.living else None

    async def servers(self, *_: object, deadline_seconds: float) -> tuple[haproxy.Server, ...]:
        del deadline_seconds

        def made(backend: str, name: str, *, up: bool) -> haproxy.Server:
            state = Operational.RUNNING if up else Operational.STOPPED
            return haproxy.Server(backend, name, "10.0.0.1", 5432, state, 0, CheckResult.PASSED, 3, 10)

        pooled = (made("pooled_write", "lb2", up=True), made("pooled_read", "lb2", up=True))
        return (*(made("primary", name, up=name in self.up) for name in ("db1", "db2", "db3")), *pooled)

    async def set_health(self, _: object, backend: str, name: str, health: str, *, deadline_seconds: float) -> None:
        del deadline_seconds
        self.told.append(f"{backend}/{name} {health}")
        if backend == "primary":
            self.up = self.up | {name} if health == "up" else self.up - {name}

    async def shutdown_sessions(self, *_: object, deadline_seconds: float) -> None:
        del deadline_seconds

    def asked(self, where: UnixSocket) -> str:
        """Return whom a question is for; raise what that one does instead of answering."""
        name = where.path.parent.name
        self.seen.run(self.heartbeats)
        if name in self.silent:
            raise self.silent[name]
        return name

    async def state(
        self, where: UnixSocket, _: object, *, deadline_seconds: float, ordered: bool | None = None
    ) -> pgbouncer.State:
        del deadline_seconds, ordered
        name = self.asked(where)
        return pgbouncer.State((1, 24), name in self.paused, (), False, 0, 0, int(name in self.busy), 0.0)  # noqa: FBT003 - a table's row

    async def is_paused(
        self, where: UnixSocket, _: object, *, deadline_seconds: float, ordered: bool | None = None
    ) -> bool:
        del deadline_seconds, ordered
        return self.asked(where) in self.paused

    async def pause(self, where: UnixSocket, _: object, *, deadline_seconds: float) -> bool:
        del deadline_seconds
        name = self.asked(where)
        self.told.append(f"pause {name}")
        self.paused.add(name)
        return name not in self.busy

    async def resume(self, where: UnixSocket, _: object, *, deadline_seconds: float) -> None:
        del deadline_seconds
        name = self.asked(where)
        self.told.append(f"resume {name}")
        self.paused.discard(name)

    async def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.seen.run()
            await self.balancer._turn()

    async def hold(self, seconds: float = 1.0) -> None:
        """Hold clients while turns are taken, as they are in the agent."""
        holding = asyncio.ensure_future(self.balancer.hold(seconds))
        await asyncio.sleep(0)
        await self.turn(3)
        self.heartbeats = 2
        try:
            await holding
        finally:
            self.heartbeats = 0


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(monkeypatch, tmp_path)
    await made.turn(3)  # it finds db1, and lets go whom one before it may have held
    made.told.clear()
    yield made
    made.balancer.close()


async def test_clients_of_every_process_for_writes_are_held_and_let_go(host: Host) -> None:
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn()
    assert host.told[:2] == ["pause write", "pause write-2"]
    assert host.balancer.is_held
    host.seen.sight.cluster = cluster("db2", leader_revision=200)
    host.seen.sight.hear("db2", replace(PRIMARY, timeline=5))
    await host.turn(5)
    assert host.told[-2:] == ["resume write", "resume write-2"]
    assert not host.paused
    assert not any(word.endswith(("read", "read-2")) for word in host.told)


async def test_a_planned_hold_waits_until_no_process_has_a_busy_server(host: Host) -> None:
    host.busy = {"write-2"}
    with pytest.raises(NotHeldError, match=r"^PgBouncer write-2: 1 transactions are under way"):
        await host.hold()
    await host.turn(3)
    assert not host.paused
    host.busy = set()
    await host.hold()
    assert host.paused == {"write", "write-2"}


async def test_nobody_is_held_for_a_plan_where_one_process_does_not_answer(host: Host) -> None:
    host.silent["write-2"] = SilentError("write-2 is silent")
    with pytest.raises(NotHeldError, match=r"^PgBouncer write-2: write-2 is silent"):
        await host.hold()
    await host.turn(3)
    assert not host.paused


async def test_the_others_are_held_in_an_outage_though_one_is_gone(host: Host) -> None:
    host.silent["write"] = AbsentError("nobody listens")
    await host.turn()
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn()
    assert "pause write-2" in host.told


async def test_no_session_is_cut_when_one_process_of_several_ends(host: Host) -> None:
    host.living.discard("write-2")
    host.balancer._pooler_ended("write-2", Process(20, 1))
    await asyncio.sleep(0)
    assert not host.balancer._tasks
    assert host.told == []


@pytest.mark.parametrize(("ended", "backend"), [("write-2", "pooled_write"), ("read", "pooled_read")])
async def test_clients_are_led_around_when_the_last_process_of_a_port_ends(
    host: Host, ended: str, backend: str
) -> None:
    host.living -= {name for name in NAMES if name.startswith(ended.partition("-")[0])}
    host.balancer._pooler_ended(ended, Process(20, 1))
    await until(lambda: not host.balancer._tasks)
    assert host.told == [f"{backend}/lb1 down"]


async def test_an_agent_that_ends_lets_all_go_though_one_hangs(host: Host, tmp_path: Path) -> None:
    host.paused = {"write", "write-2"}
    host.silent["write"] = SilentError("silent")
    await balancer.let_go(host.seen.settings, tracked=tmp_path / "tracked")
    assert host.told == ["resume write-2"]


def test_every_process_is_kept_at_its_own_console(host: Host) -> None:
    settings = host.seen.settings
    assert keeper.pooler_names(settings) == NAMES
    places = {name: keeper.console(settings, name).path for name in NAMES}
    assert {name: path.parent.name for name, path in places.items()} == {name: name for name in NAMES}
    assert places["read-2"].name.endswith(f".{settings.ports.pool_read}")
    assert keeper.pooler("read-2", settings, host.seen.sight, Complaints()).judge.name == "PgBouncer read-2"
    with pytest.raises(KeyError):
        keeper.console(settings, "write-3")


async def test_where_no_pooler_is_nobody_can_be_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(monkeypatch, tmp_path)
    none = replace(host.seen.settings, pgbouncer_sockets=PgbouncerSockets((), (), ()))
    made = Balancer(none, host.seen.sight, Complaints(), tracked=tmp_path / "tracked")
    with pytest.raises(NotHeldError, match="no pooler of this host"):
        await made.hold(1.0)
    await made._turn()
    made.close()
