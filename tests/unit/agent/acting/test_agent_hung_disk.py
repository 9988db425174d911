"""A primary whose disk hangs: when it is ended for that, and what is said where it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import PRIMARY, Seen, cluster

from pgbaton.agent import complaints
from pgbaton.agent.acting.flushing import Flushing
from pgbaton.agent.acting.promoters import ByPatroni
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.services.postgres import Reading

if TYPE_CHECKING:
    from pgbaton.agent.decisions.cluster import Cluster

#: What a primary says whose disk hangs.
STUCK = Reading(
    in_recovery=False,
    timeline=4,
    position=1000,
    replayed=1000,
    flush_awaited=True,
    receiving=False,
    heard_seconds_ago=None,
    from_host=None,
    connections=12,
    max_connections=100,
)
MINE = replace(cluster("db1"), fails_over=True)
TURNS_BETWEEN_LOOKS = 10
#: One more than the patience has, since times are no round numbers here.
LOOKS = 22


class Host:
    """db1's agent, whose server is looked at each half second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = Seen("db1")
        self.seen.sight.cluster = MINE
        self.seen.sight.mine = PRIMARY
        monkeypatch.setattr(complaints, "clock", lambda: self.seen.now)
        self.flushing = Flushing(self.seen.sight, Complaints(), ByPatroni(self.seen.sight, self))

    async def nudge(self) -> None:
        """Nobody is woken here."""

    def look(self, times: int, said: Reading = STUCK) -> None:
        for _ in range(times):
            self.seen.run(TURNS_BETWEEN_LOOKS)
            self.flushing.see(said, self.seen.now)

    @property
    def is_to_be_ended(self) -> bool:
        return self.flushing.is_to_be_ended(self.seen.now)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_a_primary_is_ended_when_nothing_was_flushed_for_ten_seconds_while_somebody_waited(host: Host) -> None:
    host.look(LOOKS - 2)
    assert not host.is_to_be_ended
    host.look(2)
    assert host.is_to_be_ended


@pytest.mark.parametrize(
    "better",
    [replace(STUCK, position=1001), replace(STUCK, flush_awaited=False)],
    ids=["a byte was flushed", "nobody waits"],
)
def test_a_server_that_does_better_once_has_all_the_time_again(host: Host, better: Reading) -> None:
    host.look(LOOKS - 2)
    host.look(1, better)
    host.look(LOOKS - 2)
    assert not host.is_to_be_ended


def test_an_agent_that_slept_does_not_know_what_was_flushed_meanwhile(host: Host) -> None:
    host.look(LOOKS - 2)
    host.seen.sleep(1.0)
    host.flushing.see(STUCK, host.seen.now)
    host.look(LOOKS - 2)
    assert not host.is_to_be_ended


def test_a_server_that_ended_is_no_longer_stuck(host: Host) -> None:
    host.look(LOOKS)
    host.flushing.forget()
    host.look(1)
    assert not host.is_to_be_ended


def test_a_lock_that_has_run_out_meanwhile_is_no_reason_to_let_the_server_be(host: Host) -> None:
    host.seen.sight.cluster = replace(cluster(None), fails_over=True)
    host.look(LOOKS)
    assert host.is_to_be_ended


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (None, "etcd does not say who leads"),
        (replace(MINE, paused=True), "the cluster is paused"),
        (replace(MINE, leader="db2"), "db2 has the leader lock"),
        (replace(MINE, fails_over=False), "start it again here first"),
        (replace(MINE, sync=()), "no synchronous standby says that it is one"),
        (replace(MINE, sync=("db1",)), "no synchronous standby says that it is one"),
    ],
    ids=["nobody knows", "paused", "another leads", "restarts in place", "nobody is synchronous", "only this one is"],
)
def test_a_server_is_left_alone_where_to_end_it_helps_nobody_and_that_is_said_with_what_to_do(
    host: Host, caplog: pytest.LogCaptureFixture, known: Cluster | None, why: str
) -> None:
    host.seen.sight.cluster = known
    for _ in range(3):
        host.look(LOOKS)
        assert not host.is_to_be_ended
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("PostgreSQL's disk: not a byte of WAL was flushed for 10 s while somebody waited")
    assert why in said[0]
    assert "fix: its disk (dmesg)" in said[0]


def test_a_standby_that_is_not_heard_is_none_that_could_take_over(host: Host) -> None:
    host.seen.sight.forget("db2")
    host.look(LOOKS)
    assert not host.is_to_be_ended
    host.seen.sight.cluster = replace(MINE, sync=("db2", "db3"))
    assert host.is_to_be_ended


def test_nothing_is_said_of_a_server_that_is_well_and_once_that_it_is_so_again(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.seen.sight.cluster = replace(MINE, paused=True)
    host.look(LOOKS - 2)
    assert not host.is_to_be_ended
    assert caplog.text == ""
    host.look(2)
    assert not host.is_to_be_ended
    host.look(2, replace(STUCK, position=2000))
    assert [record.message for record in caplog.records][1:] == ["PostgreSQL's disk: well again"]
