"""A balancer that is asked to hold its clients: when it says that it does, and when nobody is held."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import Seen, until

from pgbaton.agent.acting import balancer, judge, pool
from pgbaton.agent.acting.balancer import Balancer
from pgbaton.agent.acting.pool import NotHeldError
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.protocols.connections import AbsentError, ServiceError
from pgbaton.agent.services import pgbouncer
from pgbaton.agent.services.pgbouncer import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY = State(
    version=(1, 24),
    paused=True,
    paused_databases=(),
    session_pooling=False,
    waiting=5,
    active=3,
    busy_servers=3,
    longest_wait_seconds=0.1,
)
QUIET = replace(BUSY, busy_servers=0)
RUNNING = replace(QUIET, paused=False)
SECONDS = 2.0


class Host:
    """lb1's agent with a pooler that is made up: what it says, one after the other, the last for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.seen = Seen("lb1", directory=directory)
        self.answers: list[State | ServiceError] = [RUNNING, BUSY, QUIET]
        self.questions = 0
        self.seconds_for_an_answer = 0.0
        self.planned: list[bool] = []
        for module in (balancer, judge, pool):
            monkeypatch.setattr(module, "clock", lambda: self.seen.now)
        monkeypatch.setattr(pool, "QUIET_SECONDS", 0.0)
        monkeypatch.setattr(pgbouncer, "state", self.state)
        monkeypatch.setattr(pgbouncer, "is_paused", self.is_paused)
        self.balancer = Balancer(self.seen.settings, self.seen.sight, Complaints(), tracked=directory / "tracked")

    async def state(self, *_: object, deadline_seconds: float, ordered: bool | None = None) -> State:
        del deadline_seconds, ordered
        self.questions += 1
        self.seen.run(round(self.seconds_for_an_answer / 0.05))
        self.planned.append(self.is_planned)
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, ServiceError):
            raise said
        return said

    async def is_paused(self, *_: object, deadline_seconds: float, ordered: bool | None = None) -> bool:
        return (await self.state(deadline_seconds=deadline_seconds, ordered=ordered)).paused

    @property
    def is_planned(self) -> bool:
        """Tell what the balancer's next decision is made with."""
        return self.balancer._view(None, {}).planned


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:  # type: ignore[misc]
    made = Host(monkeypatch, tmp_path)
    yield made
    made.balancer.close()


async def test_clients_are_held_when_the_pooler_is_paused_and_no_client_has_a_server(host: Host) -> None:
    await host.balancer.hold(SECONDS)
    assert host.questions == 3
    assert host.planned == [True, True, True]
    assert host.is_planned
    assert host.balancer._soon.is_set()


async def test_a_hold_ends_by_itself_when_nobody_takes_it_back(host: Host) -> None:
    await host.balancer.hold(SECONDS)
    host.seen.run(round(SECONDS / 0.05) - 1)
    assert host.is_planned
    host.seen.run(2)
    assert not host.is_planned


async def test_who_is_let_go_is_not_held_any_more(host: Host) -> None:
    await host.balancer.hold(SECONDS)
    host.balancer._soon.clear()
    host.balancer.let_go()
    assert not host.is_planned
    assert host.balancer._soon.is_set()


async def test_in_session_pooling_nobody_is_held(host: Host) -> None:
    host.answers = [replace(QUIET, session_pooling=True)]
    with pytest.raises(NotHeldError, match="in session pooling a client keeps its server, and cannot be held"):
        await host.balancer.hold(SECONDS)
    assert host.questions == 1
    assert not host.is_planned


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (BUSY, "3 transactions are under way"),
        (RUNNING, "it is not paused"),
        (AbsentError("/run/pgbouncer: nobody listens"), "/run/pgbouncer: nobody listens"),
    ],
    ids=["busy", "not paused", "not there"],
)
async def test_nobody_is_held_where_it_takes_too_long(host: Host, said: State | ServiceError, why: str) -> None:
    host.answers, host.seconds_for_an_answer = [said], 0.3
    with pytest.raises(NotHeldError, match=f"^PgBouncer write: {why}"):
        await host.balancer.hold(SECONDS)
    assert host.questions == 4, "half of the time is for what comes after"
    assert not host.is_planned
    assert host.balancer._soon.is_set()


async def test_a_pooler_that_does_not_answer_once_may_answer_the_next_time(host: Host) -> None:
    host.answers = [AbsentError("it starts"), QUIET]
    await host.balancer.hold(SECONDS)
    assert host.is_planned


async def test_a_hold_that_is_given_up_holds_nobody(host: Host) -> None:
    host.answers = [BUSY]
    holding = asyncio.ensure_future(host.balancer.hold(SECONDS))
    await until(lambda: host.questions > 2)
    assert host.is_planned
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    assert not host.is_planned
