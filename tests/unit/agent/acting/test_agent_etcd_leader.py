"""etcd's leadership, kept off the host of the primary while all is quiet."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from small_cluster import BEAT, DATABASES, Seen, cluster, until

from pgbaton.agent.acting import etcd_leader
from pgbaton.agent.acting.etcd_leader import EtcdLeader
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.services.etcd import Member, NoLeaderError
from pgbaton.agent.settings import Host

if TYPE_CHECKING:
    from collections.abc import Callable


class Primary:
    """db1's agent, whose host has the leader lock and etcd's leader."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = Seen("db1")
        self.leader: str | None = "db1"
        self.busy = False
        self.moved: list[str] = []
        self.asked = 0
        self.meanwhile: Callable[[], None] = lambda: None
        monkeypatch.setattr(etcd_leader, "clock", lambda: self.seen.now)
        self.mover = EtcdLeader(self.seen.sight, self, Complaints(), is_busy=lambda: self.busy)  # type: ignore[arg-type]
        self.mover._quiet_since = self.seen.now - etcd_leader.QUIET_SECONDS

    async def leader_of_cluster(self) -> Member | None:
        self.asked += 1
        self.meanwhile()
        return None if self.leader is None else Member(1, self.leader)

    async def move_leader(self, to: str, *, deadline_seconds: float) -> None:
        del deadline_seconds
        if to == "nobody":
            message = "no leader"
            raise NoLeaderError(message)
        self.moved.append(to)


@pytest.fixture
def primary(monkeypatch: pytest.MonkeyPatch) -> Primary:
    return Primary(monkeypatch)


async def test_it_moves_from_the_primarys_host_to_one_that_speaks(primary: Primary) -> None:
    await primary.mover.look()
    assert primary.moved == ["db3"], "db2 is the synchronous standby: commits would wait for etcd when it dies"


async def test_it_stays_until_all_has_been_quiet_for_a_while(primary: Primary) -> None:
    primary.seen.run(6, without=["lb1"])
    await primary.mover.look()
    primary.seen.run(2)
    await primary.mover.look()
    assert primary.asked == 0
    primary.seen.run(round(etcd_leader.QUIET_SECONDS / BEAT) - 1)
    await primary.mover.look()
    assert primary.asked == 0
    primary.seen.run(2)
    await primary.mover.look()
    assert primary.moved == ["db3"]


async def test_it_moves_from_a_synchronous_standbys_host_to_one_that_nobody_waits_for(primary: Primary) -> None:
    primary.seen.sight.cluster = cluster("db3", sync=["db1"])
    await primary.mover.look()
    assert primary.moved == ["db2"]


async def test_it_stays_with_a_synchronous_standby_where_no_other_host_is_better(primary: Primary) -> None:
    primary.seen.sight.cluster = cluster("db3", sync=["db1", "db2"])
    await primary.mover.look()
    assert primary.moved == []
    assert primary.asked == 0, "there was nothing to be asked for"


async def test_a_host_without_a_server_is_better_than_one_that_may_be_primary_next(primary: Primary) -> None:
    hosts = tuple(
        Host(host.name, host.address, (*host.roles, "dcs")) if host.name == "lb2" else host
        for host in primary.seen.settings.hosts
    )
    object.__setattr__(primary.seen.settings, "hosts", hosts)
    await primary.mover.look()
    assert primary.moved == ["lb2"]


@pytest.mark.parametrize("leader", ["db2", None])
async def test_it_stays_where_it_does_no_harm(primary: Primary, leader: str | None) -> None:
    primary.leader = leader
    await primary.mover.look()
    assert primary.moved == []


def lead_elsewhere(primary: Primary) -> None:
    primary.seen.sight.cluster = cluster("db2")


def know_nothing(primary: Primary) -> None:
    primary.seen.sight.cluster = None


def be_busy(primary: Primary) -> None:
    primary.busy = True


def have_a_fence(primary: Primary) -> None:
    primary.seen.sight.fenced = frozenset({"db3"})


def miss_a_host(primary: Primary) -> None:
    primary.seen.run(6, without=["lb1"])


def oversleep(primary: Primary) -> None:
    primary.seen.sleep(2.0)


TROUBLES = [lead_elsewhere, know_nothing, be_busy, have_a_fence, miss_a_host, oversleep]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_nothing_is_even_asked_unless_the_lock_is_here_and_all_is_quiet(
    primary: Primary, trouble: Callable[[Primary], None]
) -> None:
    trouble(primary)
    await primary.mover.look()
    assert primary.asked == 0
    assert primary.moved == []


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_what_begins_while_etcd_is_asked_keeps_it_from_being_moved(
    primary: Primary, trouble: Callable[[Primary], None]
) -> None:
    primary.meanwhile = lambda: trouble(primary)
    await primary.mover.look()
    assert primary.asked == 1
    assert primary.moved == []


async def test_nobody_is_given_it_whose_heartbeats_are_missing(primary: Primary) -> None:
    primary.seen.run(3, without=["db3"])
    await primary.mover.look()
    assert primary.moved == ["db2"]
    primary.seen.run(3)
    primary.seen.run(3, without=DATABASES)
    await primary.mover.look()
    assert primary.moved == ["db2"]


async def test_it_looks_every_so_often_and_a_failure_is_no_end(
    primary: Primary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(etcd_leader, "LOOK_SECONDS", 0.0)

    async def fails() -> Member | None:
        primary.asked += 1
        message = "etcd has no leader"
        raise NoLeaderError(message)

    primary.leader_of_cluster = fails  # type: ignore[method-assign]
    running = asyncio.ensure_future(primary.mover.run())
    await until(lambda: primary.asked >= 3)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert caplog.text.count("stays where it is: etcd has no leader") == 1
