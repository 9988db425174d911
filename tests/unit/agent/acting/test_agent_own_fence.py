"""An isolated primary holds its clients by itself, and lets them in again; asking etcd for it costs little else."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import BEAT, DETECTION, NONE, PRIMARY, STANDBY, Seen, cluster, until

from pgbaton.agent.acting import own_fence
from pgbaton.agent.acting.own_fence import OwnFence
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.kernel.fences import FenceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OTHERS = ("db2", "db3", "lb1", "lb2")


class Kernel:
    """How far the kernel lets clients in."""

    def __init__(self, serving: Serving = Serving.OPEN) -> None:
        self.serving = serving
        self.turned: list[Serving] = []
        self.failures = 0

    async def serve(self, wanted: Serving) -> None:
        if self.failures:
            self.failures -= 1
            message = "the kernel says no"
            raise FenceError(message)
        self.serving = wanted
        self.turned.append(wanted)


class Primary:
    """The agent of db1, which leads, and what goes on around it."""

    was_primary = True
    recovers = False

    def __init__(self, serving: Serving = Serving.OPEN) -> None:
        self.seen = Seen("db1")
        self.seen.sight.mine = PRIMARY
        self.kernel = Kernel(serving)
        self.paces: list[float] = []
        self.own = OwnFence(
            self.seen.sight,
            self.kernel,  # type: ignore[arg-type]
            Complaints(),
            server=self,
            ask_every=self.paces.append,
        )
        self.own.begin(self.seen.now)
        self.etcd_answers = True

    @property
    def serving(self) -> Serving:
        return self.seen.sight.serving

    def run(self, turns: int, *, without: tuple[str, ...] = (), echoing: tuple[str, ...] = ()) -> None:
        for _ in range(turns):
            self.seen.run(1, without=without, echoing=echoing)
            if self.etcd_answers:
                self.seen.sight.quorum_seconds = self.seen.now - 0.001
            self.own.turn(self.seen.now)


@pytest.fixture
async def primary(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Primary]:
    monkeypatch.setattr(own_fence, "RETRY_SECONDS", 0.0)
    made = Primary()
    running = asyncio.ensure_future(made.own.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_who_has_lost_hosts_and_etcd_holds_its_clients_then_refuses_them(primary: Primary) -> None:
    primary.run(2)
    primary.etcd_answers = False
    primary.run(5, without=OTHERS)
    assert primary.serving is Serving.OPEN
    primary.run(2, without=OTHERS)
    assert primary.serving is Serving.HELD
    primary.run(round(4 * DETECTION / BEAT), without=OTHERS)
    assert primary.serving is Serving.REFUSED
    await until(lambda: primary.kernel.serving is Serving.REFUSED)


async def test_etcds_majority_is_proof_enough(primary: Primary) -> None:
    primary.run(20, without=OTHERS)
    assert primary.serving is Serving.OPEN


async def test_etcd_that_both_sides_reach_is_no_proof_once_the_others_had_the_lock_released(primary: Primary) -> None:
    primary.run(20, without=OTHERS)
    assert primary.serving is Serving.OPEN
    primary.seen.sight.cluster = cluster(leader=None)
    primary.run(1, without=OTHERS)
    assert primary.serving is Serving.HELD
    await until(lambda: primary.kernel.serving is Serving.HELD)


async def test_a_lock_that_is_gone_while_the_others_are_heard_is_patronis_affair(primary: Primary) -> None:
    primary.seen.sight.cluster = cluster(leader=None)
    primary.run(20)
    assert primary.serving is Serving.OPEN


async def test_the_other_agents_are_proof_enough(primary: Primary) -> None:
    primary.etcd_answers = False
    primary.run(100, without=("lb1", "lb2"))
    assert primary.serving is Serving.OPEN


async def test_clients_are_let_in_when_the_majority_is_back_and_etcd_has_confirmed_the_lock(primary: Primary) -> None:
    primary.etcd_answers = False
    primary.run(12, without=OTHERS)
    await until(lambda: primary.kernel.serving is Serving.HELD)
    primary.run(5)
    assert primary.serving is Serving.HELD
    primary.etcd_answers = True
    primary.run(1)
    assert primary.serving is Serving.HELD  # it counts when the kernel has done it
    await until(lambda: primary.serving is Serving.OPEN)
    assert primary.kernel.turned == [Serving.HELD, Serving.OPEN]


async def test_a_standby_is_never_held(primary: Primary) -> None:
    primary.recovers, primary.was_primary, primary.etcd_answers = True, False, False
    primary.seen.sight.cluster = None
    primary.run(20, without=OTHERS)
    assert primary.serving is Serving.OPEN


async def test_etcd_is_asked_often_only_while_it_could_matter(primary: Primary) -> None:
    primary.run(3)
    assert set(primary.paces) == {1.0}
    primary.run(1, without=OTHERS)
    assert primary.paces[-1] == 1.0
    primary.run(2, without=OTHERS)  # two heartbeats are missing, nobody is silent yet
    assert not primary.seen.hearing.silent(primary.seen.now)
    assert primary.paces[-1] == DETECTION / 4
    primary.run(1)
    assert primary.paces[-1] == 1.0
    primary.was_primary, primary.seen.sight.cluster = False, None
    primary.run(4, without=OTHERS)
    assert primary.paces[-1] == 1.0


def say_deaf(primary: Primary, *hosts: str) -> None:
    for host in OTHERS:
        word = STANDBY if host.startswith("db") else NONE
        primary.seen.sight.hear(host, replace(word, silent=frozenset({"db1"} if host in hosts else ())))


async def test_who_is_no_longer_heard_by_a_majority_is_cut_off_though_it_hears_them(primary: Primary) -> None:
    primary.run(2)
    primary.etcd_answers = False
    primary.run(5)
    say_deaf(primary, "db2", "db3", "lb1")
    primary.run(1)
    assert primary.serving is Serving.OPEN
    assert primary.paces[-1] == DETECTION / 4
    primary.run(4)
    assert primary.serving is Serving.HELD
    say_deaf(primary)
    primary.etcd_answers = True
    primary.run(2)
    await until(lambda: primary.serving is Serving.OPEN)


async def test_etcd_can_be_asked_before_the_words_of_deaf_hosts_count(primary: Primary) -> None:
    primary.run(2)
    primary.etcd_answers = False
    primary.run(10)
    say_deaf(primary, *OTHERS)
    primary.run(1)
    primary.etcd_answers = True
    primary.run(20)
    assert primary.serving is Serving.OPEN


async def test_an_agent_that_starts_on_a_held_host_lets_nobody_in_without_proof() -> None:
    primary = Primary(Serving.REFUSED)
    assert primary.serving is Serving.REFUSED
    primary.etcd_answers = False
    primary.run(1)
    assert primary.serving is Serving.HELD  # held anew, since nobody knows for how long it was
    primary.etcd_answers = True
    primary.run(2)
    assert primary.own._wanted is Serving.OPEN


async def test_what_the_kernel_refuses_is_tried_again(primary: Primary) -> None:
    primary.kernel.failures = 2
    primary.etcd_answers = False
    primary.run(12, without=OTHERS)
    await until(lambda: primary.kernel.serving is Serving.HELD)
    assert primary.kernel.turned == [Serving.HELD]


async def test_an_agent_that_stops_leaves_nobody_waiting(primary: Primary) -> None:
    primary.etcd_answers = False
    primary.run(12, without=OTHERS)
    await until(lambda: primary.kernel.serving is Serving.HELD)
    await primary.own.let_in()
    primary.run(5, without=OTHERS)
    assert primary.kernel.serving is primary.serving is Serving.OPEN


def test_what_was_decided_is_not_forgotten_when_it_begins_again() -> None:
    primary = Primary()
    primary.etcd_answers = False
    primary.run(12, without=OTHERS)
    assert primary.serving is Serving.HELD
    primary.own.begin(primary.seen.now)
    primary.run(1, without=OTHERS)
    assert primary.serving is Serving.HELD


def test_nothing_is_decided_before_it_is_known_how_far_clients_are_served() -> None:
    primary = Primary()
    primary.own._state = None
    primary.etcd_answers = False
    primary.run(20, without=OTHERS)
    assert primary.serving is Serving.OPEN
    assert primary.paces == []
