"""The standbys of a primary: who is let go of, when, and how often."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import STANDBY, Seen, cluster, until

from pgbaton.agent.acting.followers import Followers
from pgbaton.agent.kernel.fences import FenceError
from pgbaton.agent.kernel.sockets import Cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


class Host:
    """The agent of db1, which has the leader lock; connections and Patroni are made up."""

    def __init__(self) -> None:
        self.seen = Seen("db1")
        self.done: list[str] = []
        self.shunned: list[tuple[str, ...]] = []
        self.followers = Followers(self.seen.sight, drop=self.drop, shun=self.shun, nudge=self.nudge)

    async def drop(self, host: str) -> Cut:
        self.done.append(host)
        return Cut(ended=2, left=1, why="not permitted")

    def shun(self, *hosts: str) -> None:
        self.shunned.append(hosts)

    def nudge(self) -> None:
        self.done.append("nudge")

    def silence(self, *hosts: str, by: Iterable[str] | None = None) -> None:
        """Let hosts be silent, by the word of some or of all others, for a turn more than it takes."""
        heartbeats = self.seen.sight.heartbeats
        for host in set(heartbeats) - set(hosts) if by is None else set(by):
            self.seen.sight.hear(host, replace(heartbeats[host], silent=frozenset(hosts)))
        self.turn(7, without=hosts)

    def turn(self, times: int = 1, *, without: Iterable[str] = ()) -> None:
        for _ in range(times):
            self.seen.run(without=without)
            self.followers.turn(self.seen.now)

    async def settle(self) -> list[str]:
        """Let everything run that is about to, and return what was done since."""
        for _ in range(20):
            await asyncio.sleep(0)
        done, self.done = self.done, []
        return done


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    running = asyncio.ensure_future(made.followers.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_silent_standby_is_let_go_once_and_patroni_looks(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.silence("db2")
    await until(lambda: "nudge" in host.done)
    host.turn(20, without=["db2"])
    assert await host.settle() == ["db2", "nudge"]
    assert "db2 is silent: 2 of its connections ended, 1 left not permitted" in caplog.text


async def test_one_that_was_heard_again_and_is_silent_once_more_is_let_go_again(host: Host) -> None:
    host.silence("db2")
    assert await host.settle() == ["db2", "nudge"]
    host.turn()
    assert await host.settle() == []
    host.silence("db2")
    assert await host.settle() == ["db2", "nudge"]


async def test_two_that_fall_silent_together_are_let_go_before_patroni_looks(host: Host) -> None:
    host.silence("db2", "db3", by=["lb1", "lb2"])
    assert await host.settle() == ["db2", "db3", "nudge"]


async def test_the_primarys_own_word_lets_go_of_a_standby_that_all_others_hear(host: Host) -> None:
    host.silence("db2", by=[])
    assert await host.settle() == ["db2", "nudge"]


async def test_anywhere_else_the_word_of_a_minority_lets_nobody_go(host: Host) -> None:
    host.seen.sight.cluster = cluster("db3")
    host.silence("db2", by=["lb1"])
    assert await host.settle() == []
    host.silence("db2", by=["lb1", "lb2"])
    assert await host.settle() == ["db2"]


@pytest.mark.parametrize("leader", ["db3", None])
async def test_nobody_has_patroni_look_while_the_lock_is_not_here(host: Host, leader: str | None) -> None:
    host.seen.sight.cluster = cluster(leader)
    host.silence("db2")
    assert await host.settle() == ["db2"], "its etcd is not waited for all the same"


async def test_nobody_has_patroni_look_while_etcd_is_not_known(host: Host) -> None:
    host.seen.sight.cluster = None
    host.silence("db2")
    assert await host.settle() == ["db2"]


async def test_a_balancer_is_nobodys_standby(host: Host) -> None:
    host.silence("lb2")
    assert await host.settle() == []


async def test_an_agent_that_overslept_lets_nobody_go(host: Host) -> None:
    for other in ("db3", "lb1", "lb2"):
        said = host.seen.sight.heartbeats[other]
        host.seen.sight.hear(other, replace(said, silent=frozenset({"db2"})))
    host.seen.run(without=["db2"])
    host.seen.sleep(3.0)
    host.followers.turn(host.seen.now)
    assert await host.settle() == []
    host.turn(12, without=["db2"])
    assert await host.settle() == ["db2", "nudge"]


async def test_the_etcd_of_a_silent_host_is_shunned_again_and_again_while_it_is_silent(host: Host) -> None:
    host.silence("db2")
    assert host.shunned == [("db2",)]
    before = host.seen.now
    while host.seen.now < before + 2.0:
        host.turn(without=["db2"])
    assert set(host.shunned) == {("db2",)}
    assert 4 <= len(host.shunned) <= 6, "every half second or so: each is for two"
    count = len(host.shunned)
    host.turn(40)
    assert len(host.shunned) == count


async def test_the_second_silent_host_is_shunned_at_once(host: Host) -> None:
    host.silence("db2")
    host.silence("db2", "db3", by=["lb1", "lb2"])
    assert host.shunned[-1] == ("db2", "db3")
    assert len(host.shunned) == 2


async def test_a_kernel_that_shuns_nobody_is_told_of_and_no_end(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: str) -> None:
        message = "not permitted"
        raise FenceError(message)

    host.followers._shun = refuse
    host.silence("db2")
    assert await host.settle() == ["db2", "nudge"]
    assert "may wait for db2: not permitted" in caplog.text


def say_none(host: Host, name: str) -> None:
    host.seen.sight.hear(name, replace(host.seen.sight.heartbeats[name], role="none", following=False))


async def test_patroni_is_woken_when_a_synchronous_standbys_server_has_ended_and_not_for_ever(host: Host) -> None:
    say_none(host, "db2")
    host.turn()
    assert host.done == ["nudge"]
    host.turn(100)
    assert 4 <= len(host.done) <= 7, "for a second, five times in it"
    host.done.clear()
    host.seen.sight.hear("db2", STANDBY)
    host.turn(10)
    assert host.done == []
    say_none(host, "db2")
    host.turn()
    assert host.done == ["nudge"], "its next end is another one"


@pytest.mark.parametrize(("leader", "ended"), [("db1", "db3"), ("db3", "db2"), (None, "db2")])
async def test_patroni_is_left_alone_when_nobody_waits_for_what_ended(
    host: Host, leader: str | None, ended: str
) -> None:
    host.seen.sight.cluster = cluster(leader)
    say_none(host, ended)
    host.turn(20)
    assert host.done == []


async def test_where_no_host_has_a_member_of_etcd_there_is_none_to_shun() -> None:
    host = Host()
    host.followers = Followers(host.seen.sight, drop=host.drop, shun=None, nudge=host.nudge)
    running = asyncio.ensure_future(host.followers.run())
    host.silence("db2")
    assert await host.settle() == ["db2", "nudge"]
    assert host.shunned == []
    running.cancel()
