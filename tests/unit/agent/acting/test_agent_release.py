"""What the verdict decides, carried out: in its order, each end told once, and nothing before the fences are known."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from small_cluster import DATABASES, STANDBY, Seen, cluster

from pgbaton.agent.acting import release
from pgbaton.agent.acting.release import Releases
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.decisions import terms, verdict
from pgbaton.agent.decisions.terms import Case, Fence, Unfence
from pgbaton.agent.peers.messages import Ask, Vote
from pgbaton.agent.services.etcd import NoLeaderError, OutcomeUnknownError, RejectedError
from pgbaton.agent.services.keys import Delete, ModRevision, Put, TransactionResult

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "/service/orders/"
CASE = Case("db2", "db1", leader_revision=100, sync_revision=90, config_revision=5, verdict_revision=7)


class Etcd:
    """Answers to transactions and revocations, in order, and what was asked."""

    def __init__(self) -> None:
        self.answers: list[TransactionResult | Exception] = []
        self.asked: list[tuple[list[ModRevision], list[Put | Delete]]] = []
        self.revoked: list[int] = []

    async def transaction(
        self, compare: list[ModRevision], success: list[Put | Delete], *, deadline_seconds: float
    ) -> TransactionResult:
        del deadline_seconds
        self.asked.append((compare, success))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def revoke(self, lease: int) -> bool:
        self.revoked.append(lease)
        return True


class Agent:
    """One agent's part in a verdict, with everything around it made up; what it does is noted in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, me: str = "db2") -> None:
        self.seen = Seen(me)
        self.done: list[object] = []
        self.etcd = Etcd()
        self.flushed: frozenset[str] = frozenset()
        self.crashed = False
        voters = self.seen.settings.voters
        monkeypatch.setattr(release, "clock", lambda: self.seen.now)
        self.releases = Releases(
            self.seen.sight,
            Complaints(),
            rules=terms.Rules(me, voters, may_lead=me in DATABASES),
            post=self,
            fence=self.done.append,
            stands=self.stands,
            etcd=self.etcd,  # type: ignore[arg-type]
            prefix=PREFIX,
            position=lambda: 42,
            crashed=lambda: self.crashed,
            resign=lambda: self.done.append("resign"),
        )
        self.releases.begin()

    def stands(self, host: str) -> bool:
        self.seen.sight.fenced -= self.flushed
        return host in self.seen.sight.fenced

    def send(self, message: object, to: str) -> None:
        self.done.append((message, to))

    def tell_all(self, message: object) -> None:
        self.done.append(message)

    def lose(self, host: str) -> None:
        """Let a host be silent, here and for the others."""
        self.seen.run(6, without=[host])
        for other in ("db3", "lb1"):
            self.seen.sight.hear(other, replace(STANDBY, silent=frozenset({host})))

    def stand(self, *hosts: str) -> None:
        self.seen.sight.fenced = frozenset(hosts)
        for host in hosts:
            self.releases.ended(Fence(host))

    async def settle(self) -> None:
        """Let what is under way come to its end."""
        async with asyncio.timeout(5):
            while self.releases._tasks:
                await asyncio.wait(self.releases._tasks)
                await asyncio.sleep(0)

    def win(self) -> None:
        """Bring an own case to its majority."""
        self.lose("db1")
        self.releases.tell(terms.Tick())
        self.stand("db1")
        for voter in ("db3", "lb1"):
            self.releases.tell(terms.Voted(voter, CASE))


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setattr(release, "RETRY_SECONDS", 0.0)
    made = Agent(monkeypatch)
    yield made
    made.releases.close()


@pytest.fixture
def voter(monkeypatch: pytest.MonkeyPatch) -> Agent:
    return Agent(monkeypatch, "lb1")


def test_nothing_is_decided_before_the_fences_of_before_are_known(agent: Agent) -> None:
    agent.releases._state = None
    agent.lose("db1")
    agent.releases.tell(terms.Tick())
    agent.releases.ended(Fence("db1"))
    assert agent.done == []
    assert agent.releases.is_busy
    agent.releases.begin()
    agent.releases.tell(terms.Tick())
    assert agent.done == [Fence("db1")]


def test_a_vote_leaves_only_when_its_fence_stands(voter: Agent) -> None:
    voter.seen.run(6, without=["db1"])
    voter.releases.tell(terms.Asked(CASE))
    voter.releases.tell(terms.Asked(CASE))
    assert voter.done == [Fence("db1"), Fence("db1")]
    voter.releases.ended(Fence("db1"))
    assert voter.done == [Fence("db1"), Fence("db1")]
    voter.releases.tell(terms.Asked(CASE))
    voter.done.clear()
    voter.stand("db1")
    assert voter.done == [(Vote(CASE, 42), "db2")]


def test_a_vote_that_is_repeated_is_told_once(voter: Agent, caplog: pytest.LogCaptureFixture) -> None:
    voter.seen.run(6, without=["db1"])
    voter.stand("db1")
    for _ in range(3):
        voter.releases.tell(terms.Asked(CASE))
    assert voter.done == [(Vote(CASE, 42), "db2")] * 3
    assert caplog.text.count("vote:") == 1


def test_a_fence_that_somebody_has_just_flushed_is_put_up_again_before_a_vote(voter: Agent) -> None:
    voter.seen.run(6, without=["db1"])
    voter.stand("db1")
    voter.flushed = frozenset({"db1"})
    for _ in range(2):
        voter.releases.tell(terms.Asked(CASE))
    assert voter.done == [Fence("db1")]
    voter.flushed = frozenset()
    voter.stand("db1")
    assert voter.done == [Fence("db1"), (Vote(CASE, 42), "db2")]


async def test_a_candidate_whose_own_fence_was_flushed_releases_nothing(agent: Agent) -> None:
    agent.lose("db1")
    agent.stand("db1")
    agent.flushed = frozenset({"db1"})
    for name in ("db3", "lb1"):
        agent.releases.tell(terms.Voted(name, CASE))
    await agent.settle()
    assert agent.etcd.asked == []
    agent.done.clear()
    agent.releases.tell(terms.Tick())
    assert agent.done == [Fence("db1")]


def test_the_candidate_fences_before_it_asks(agent: Agent) -> None:
    agent.lose("db1")
    agent.releases.tell(terms.Tick())
    assert agent.done == [Fence("db1")]
    agent.stand("db1")
    assert agent.done == [Fence("db1"), Ask(CASE)]
    assert agent.releases.is_busy


async def test_a_majority_releases_the_lock_in_one_guarded_step(agent: Agent) -> None:
    agent.etcd.answers = [TransactionResult(succeeded=True, revision=120)]
    agent.win()
    await agent.settle()
    compare, changes = agent.etcd.asked[0]
    assert {each.key.removeprefix(PREFIX): each.revision for each in compare} == {
        "leader": 100,
        "sync": 90,
        "config": 5,
        "pgbaton-verdict": 7,
    }
    assert changes == [
        Delete(PREFIX + "leader"),
        Put(PREFIX + "sync", b'{"leader": "db1", "sync_standby": "db2"}'),
        Put(PREFIX + "pgbaton-verdict", b"db2"),
    ]
    assert len(agent.etcd.asked) == 1
    assert agent.etcd.revoked == []


async def test_the_old_lease_ends_once_another_leads(agent: Agent) -> None:
    agent.etcd.answers = [TransactionResult(succeeded=True, revision=120)]
    agent.win()
    await agent.settle()
    agent.seen.sight.cluster = cluster(None)
    agent.releases.tell(terms.Tick())
    await agent.settle()
    assert agent.etcd.revoked == []
    agent.seen.sight.cluster = cluster("db3", leader_revision=130)
    for _ in range(2):
        agent.releases.tell(terms.Tick())
    await agent.settle()
    assert agent.etcd.revoked == [0x1234]


async def test_a_lease_of_another_case_is_left_alone(agent: Agent) -> None:
    agent.releases._lease = (replace(CASE, leader_revision=99), 0x99)
    await agent.releases._revoke(CASE)
    agent.releases._lease = (CASE, 0)
    await agent.releases._revoke(CASE)
    assert agent.etcd.revoked == []


@pytest.mark.parametrize(
    "error",
    [OutcomeUnknownError("no answer"), NoLeaderError("no leader"), RejectedError("denied", 7), RuntimeError("a bug")],
    ids=["no answer", "etcd without a leader", "refused", "a bug of ours"],
)
async def test_a_release_without_an_answer_is_tried_again(agent: Agent, error: Exception) -> None:
    agent.etcd.answers = [error, TransactionResult(succeeded=True, revision=120)]
    agent.win()
    await agent.settle()
    assert len(agent.etcd.asked) == 1
    agent.releases.tell(terms.Tick())
    await agent.settle()
    assert len(agent.etcd.asked) == 2
    assert agent.etcd.asked[0] == agent.etcd.asked[1]


async def test_what_is_kept_is_what_was_compared_and_nothing_newer(agent: Agent) -> None:
    agent.win()
    assert agent.seen.sight.cluster
    agent.seen.sight.cluster = replace(agent.seen.sight.cluster, sync_revision=91, sync_value=b"newer")
    await agent.settle()
    assert agent.etcd.asked == []


async def test_a_key_that_is_not_there_is_not_made_by_keeping_it(agent: Agent) -> None:
    assert agent.seen.sight.cluster
    agent.seen.sight.cluster = replace(agent.seen.sight.cluster, sync_revision=0, sync_value=b"")
    agent.etcd.answers = [TransactionResult(succeeded=True, revision=120)]
    await agent.releases._transact(verdict.transaction(replace(CASE, sync_revision=0)), "db2")
    compare, changes = agent.etcd.asked[0]
    assert ModRevision(PREFIX + "sync", 0) in compare
    assert [change.key for change in changes] == [PREFIX + "leader", PREFIX + "pgbaton-verdict"]


async def test_a_fence_falls_only_after_the_promise_was_broken_in_etcd(agent: Agent) -> None:
    agent.win()
    agent.etcd.answers = [TransactionResult(succeeded=False, revision=119)]
    await agent.settle()
    agent.done.clear()
    agent.seen.run(2)  # db1 is heard again
    agent.etcd.answers = [OutcomeUnknownError("no answer"), TransactionResult(succeeded=True, revision=121)]
    for _ in range(2):
        agent.releases.tell(terms.Tick())
        assert Unfence("db1") not in agent.done
        await agent.settle()
    compare, changes = agent.etcd.asked[-1]
    assert compare == [ModRevision(PREFIX + "leader", 100)]
    assert changes == [Put(PREFIX + "pgbaton-verdict", b"db2")]
    assert agent.done == [Unfence("db1")]
    agent.seen.sight.fenced = frozenset()
    agent.releases.ended(Unfence("db1"))
    assert agent.done == [Unfence("db1")]


async def test_every_end_of_a_transaction_is_told_however_it_ended(agent: Agent) -> None:
    answers: list[Any] = [OutcomeUnknownError("no answer"), RuntimeError("a bug"), TransactionResult(False, 1)]  # noqa: FBT003 - a table's row
    told: list[object] = []
    for answer, number in zip(answers, itertools.count()):
        agent.etcd.answers = [answer]
        agent.releases.tell = told.append  # type: ignore[method-assign]
        await agent.releases._break(terms.Break(f"db{number}", 100))
    assert told == [terms.Broken(f"db{number}", None) for number in range(3)]


@pytest.fixture
def crashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """Return the agent of a primary whose server has crashed."""
    monkeypatch.setattr(release, "RETRY_SECONDS", 0.0)
    made = Agent(monkeypatch, "db1")
    made.crashed = True
    yield made
    made.releases.close()


async def test_the_lock_of_a_crashed_server_is_given_up_without_a_fence(crashed: Agent) -> None:
    crashed.etcd.answers = [TransactionResult(succeeded=True, revision=120)]
    crashed.releases.tell(terms.Tick())
    await crashed.settle()
    ((compare, changes),) = crashed.etcd.asked
    assert {each.key.removeprefix(PREFIX): each.revision for each in compare} == {
        "leader": 100,
        "sync": 90,
        "config": 5,
        "pgbaton-verdict": 7,
    }
    assert changes == [
        Delete(PREFIX + "leader"),
        Put(PREFIX + "sync", b'{"leader": "db1", "sync_standby": "db2"}'),
        Put(PREFIX + "pgbaton-verdict", b"db1"),
    ]
    assert crashed.done == ["resign"]


async def test_nobody_waits_for_a_crashed_servers_patroni_from_before_the_lock_is_given_up(crashed: Agent) -> None:
    crashed.etcd.answers = [TransactionResult(succeeded=True, revision=120)]
    crashed.releases.tell(terms.Tick())
    assert (crashed.done, crashed.etcd.asked) == (["resign"], [])
    await crashed.settle()
    assert len(crashed.etcd.asked) == 1


async def test_an_agent_is_busy_until_it_knows_what_became_of_its_lock(crashed: Agent) -> None:
    assert not crashed.releases.is_busy
    crashed.etcd.answers = [TransactionResult(succeeded=False, revision=120)]
    crashed.releases.tell(terms.Tick())
    assert crashed.releases.is_busy
    await crashed.settle()
    assert not crashed.releases.is_busy


async def test_a_lock_that_was_given_up_is_not_given_up_again_before_that_is_seen(crashed: Agent) -> None:
    crashed.etcd.answers = [TransactionResult(succeeded=True, revision=120)]
    crashed.releases.tell(terms.Tick())
    await crashed.settle()
    crashed.releases.tell(terms.Tick())
    await crashed.settle()
    assert (crashed.releases.is_busy, len(crashed.etcd.asked)) == (True, 1)


async def test_a_lock_whose_end_nobody_knows_is_given_up_again(crashed: Agent) -> None:
    crashed.etcd.answers = [OutcomeUnknownError("no answer"), TransactionResult(succeeded=False, revision=121)]
    for _ in range(2):
        crashed.releases.tell(terms.Tick())
        await crashed.settle()
    assert crashed.etcd.asked[0] == crashed.etcd.asked[1]


async def test_the_lease_of_a_patroni_that_lives_is_left_to_it(crashed: Agent) -> None:
    crashed.etcd.answers = [TransactionResult(succeeded=True, revision=120)]
    crashed.releases.tell(terms.Tick())
    await crashed.settle()
    crashed.seen.sight.cluster = cluster("db2", leader_revision=130)
    crashed.releases.tell(terms.Tick())
    await crashed.settle()
    assert crashed.etcd.revoked == []
    assert len(crashed.etcd.asked) == 1


async def test_the_lock_of_a_server_that_runs_is_kept(crashed: Agent) -> None:
    crashed.crashed = False
    crashed.releases.tell(terms.Tick())
    assert (crashed.done, crashed.releases.is_busy) == ([], False)
