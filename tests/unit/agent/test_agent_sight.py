"""What an agent knows, and what it must not take for knowledge."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import NONE, PRIMARY, STANDBY, Seen, cluster

from pgbaton.agent.decisions.cluster import Member
from pgbaton.agent.sight import ABDICATED_SECONDS

if TYPE_CHECKING:
    from pgbaton.agent.peers.messages import Heartbeat

ALL = ("db1", "db3", "lb1", "lb2")


def test_a_host_that_is_silent_says_nothing() -> None:
    seen = Seen()
    assert seen.sight.said("db1", seen.now) == PRIMARY
    seen.run(6, without=["db1"])
    assert seen.sight.said("db1", seen.now) is None


def test_the_last_word_of_an_agent_that_died_is_forgotten_though_its_host_lives() -> None:
    seen = Seen()
    seen.run(6, echoing=["db1"])
    assert "db1" not in seen.hearing.silent(seen.now)
    assert seen.sight.said("db1", seen.now) is None


def test_an_agent_that_overslept_believes_nobody_but_itself() -> None:
    seen = Seen()
    seen.sleep(2.0)
    assert [seen.sight.said(host, seen.now) for host in ALL] == [None] * 4
    assert seen.sight.said("db2", seen.now) == STANDBY
    assert seen.sight.view(seen.now).stalled


def test_a_host_whose_language_is_not_understood_says_nothing_any_more() -> None:
    seen = Seen()
    seen.sight.forget("db1")
    assert seen.sight.said("db1", seen.now) is None


def test_a_majority_of_all_hosts_has_to_hold_a_host_to_be_silent() -> None:
    seen = Seen()
    seen.run(6, without=["db1"])
    seen.sight.hear("db3", replace(STANDBY, silent=frozenset({"db1"})))
    assert seen.sight.view(seen.now).agreed == frozenset()
    seen.sight.hear("lb1", replace(STANDBY, silent=frozenset({"db1"})))
    assert seen.sight.view(seen.now).agreed == {"db1"}


def test_what_a_dead_agent_said_of_others_does_not_count() -> None:
    seen = Seen()
    for host in ("db3", "lb1"):
        seen.sight.hear(host, replace(STANDBY, silent=frozenset({"db1"})))
    seen.run(6, without=["db1"], echoing=["lb1"])
    assert seen.sight.view(seen.now).silent == {"db1"}
    assert seen.sight.view(seen.now).agreed == frozenset()


def stepped_down(seen: Seen, turns: int, *, said: Heartbeat = STANDBY) -> frozenset[str]:
    """Let the holder of the lock say something for some turns; return who is held to be silent."""
    silent: frozenset[str] = frozenset()
    for _ in range(turns):
        seen.sight.hear("db1", said)
        seen.run(1)
        silent = seen.sight.view(seen.now).silent
    return silent


#: As many turns as it takes to be believed, and one that is not enough.
BELIEVED = round(ABDICATED_SECONDS / 0.05) + 2


@pytest.mark.parametrize("said", [STANDBY, NONE], ids=["in recovery", "no server"])
def test_a_leader_that_is_no_primary_and_knows_of_no_lock_counts_as_silent(said: Heartbeat) -> None:
    seen = Seen()
    assert stepped_down(seen, BELIEVED - 4, said=said) == frozenset()
    assert stepped_down(seen, 4, said=said) == {"db1"}
    assert stepped_down(seen, 1, said=PRIMARY) == frozenset()
    assert stepped_down(seen, BELIEVED - 4, said=said) == frozenset(), "it begins anew"


@pytest.mark.parametrize(
    "said",
    [replace(STANDBY, lock=True), replace(NONE, lock=True), PRIMARY, replace(PRIMARY, lock=False, writable=False)],
    ids=["about to be promoted", "being started again", "primary", "cut off from etcd and not stepped down yet"],
)
def test_a_leader_that_may_serve_again_is_not_given_up(said: Heartbeat) -> None:
    assert stepped_down(Seen(), 2 * BELIEVED, said=said) == frozenset()


def test_what_was_said_under_another_lock_is_no_abdication() -> None:
    seen = Seen()
    seen.sight.cluster = cluster("db3", leader_revision=200)
    assert stepped_down(seen, BELIEVED) == frozenset()
    for _ in range(BELIEVED):
        seen.sight.cluster = cluster("db1", leader_revision=300)
        seen.run(1)
    assert seen.sight.view(seen.now).silent == frozenset(), "nothing was heard of it since it has taken the lock"
    assert stepped_down(seen, BELIEVED - 4) == frozenset()
    assert stepped_down(seen, 4) == {"db1"}


def test_an_agent_that_overslept_sees_no_abdication() -> None:
    seen = Seen()
    stepped_down(seen, BELIEVED)
    seen.sleep(2.0)
    assert seen.sight.view(seen.now).silent == frozenset()


def test_nobody_gives_up_himself() -> None:
    seen = Seen("db1")
    seen.sight.mine = STANDBY
    seen.run(BELIEVED)
    assert "db1" not in seen.sight.view(seen.now).silent


def after_a_failover() -> Seen:
    """Return the sight of one who has fenced db1, since when db3 leads on timeline 5."""
    seen = Seen()
    seen.sight.fenced = frozenset({"db1"})
    seen.sight.cluster = cluster("db3", leader_revision=200)
    seen.sight.hear("db3", replace(PRIMARY, timeline=5))
    return seen


def test_a_fenced_host_follows_once_it_is_on_the_timeline_of_the_present_leader() -> None:
    seen = after_a_failover()
    seen.sight.hear("db1", replace(STANDBY, timeline=4))
    assert seen.sight.view(seen.now).following == frozenset()
    seen.sight.hear("db1", replace(STANDBY, timeline=5))
    assert seen.sight.view(seen.now).following == {"db1"}


@pytest.mark.parametrize(
    "leader",
    [replace(STANDBY, timeline=5), replace(PRIMARY, writable=False, timeline=5), replace(PRIMARY, timeline=0)],
    ids=["in recovery yet", "takes no writes yet", "does not know its timeline"],
)
def test_nobody_follows_a_leader_that_is_not_promoted_yet(leader: object) -> None:
    seen = after_a_failover()
    seen.sight.hear("db3", leader)  # type: ignore[arg-type]
    seen.sight.hear("db1", replace(STANDBY, timeline=5))
    assert seen.sight.view(seen.now).following == frozenset()


def test_a_word_from_before_the_leaders_lock_is_no_proof() -> None:
    seen = after_a_failover()
    seen.sight.hear("db1", replace(STANDBY, timeline=5))
    seen.sight.cluster = cluster("db3", leader_revision=300)
    assert seen.sight.view(seen.now).following == frozenset()
    seen.sight.hear("db1", replace(STANDBY, timeline=5))
    assert seen.sight.view(seen.now).following == {"db1"}


@pytest.mark.parametrize(
    ("member", "follows"),
    [
        (Member("standby", "running", timeline=5, replication_state="streaming"), True),
        (Member("standby", "running", timeline=4, replication_state="streaming"), False),
        (Member("standby", "running", timeline=5, replication_state="in archive recovery"), False),
        (Member("primary", "running", timeline=5), False),
    ],
)
def test_patroni_speaks_for_a_host_without_an_agent(member: Member, follows: bool) -> None:  # noqa: FBT001 - a table's
    seen = after_a_failover()
    seen.run(6, echoing=["db1"])
    assert seen.sight.cluster
    seen.sight.cluster = replace(seen.sight.cluster, members={"db1": member})
    assert ("db1" in seen.sight.view(seen.now).following) == follows


def test_nobody_follows_while_nobody_leads_or_etcd_was_never_heard() -> None:
    seen = after_a_failover()
    seen.sight.hear("db1", replace(STANDBY, timeline=5))
    for nothing in (cluster(None), None):
        seen.sight.cluster = nothing
        assert seen.sight.view(seen.now).following == frozenset()


def test_the_leader_does_not_follow_itself() -> None:
    seen = after_a_failover()
    seen.sight.cluster = cluster("db1", leader_revision=400)
    seen.sight.hear("db1", replace(PRIMARY, timeline=6))
    assert seen.sight.view(seen.now).following == frozenset()


def test_the_verdict_sees_the_lock_as_etcd_had_it() -> None:
    seen = Seen()
    lock = seen.sight.view(seen.now).lock
    assert lock
    assert (lock.leader, lock.leader_revision, lock.sync, lock.sync_revision) == ("db1", 100, {"db2"}, 90)
    assert (lock.config_revision, lock.verdict_revision, lock.synchronous, lock.paused) == (5, 7, True, False)
    seen.sight.cluster = None
    assert seen.sight.view(seen.now).lock is None


@pytest.mark.parametrize(
    ("mode", "of_lock"), [("off", (False, False)), ("on", (True, False)), ("quorum", (True, True))]
)
def test_the_verdict_sees_the_mode_in_which_commits_are_confirmed(mode: str, of_lock: tuple[bool, bool]) -> None:
    seen = Seen()
    seen.sight.cluster = replace(cluster(), mode=mode)
    lock = seen.sight.view(seen.now).lock
    assert lock
    assert (lock.synchronous, lock.by_quorum) == of_lock


DEAF = replace(PRIMARY, writable=False, silent=frozenset({"db2", "db3", "lb1", "lb2"}))


def test_a_primary_that_hears_nobody_and_serves_nobody_counts_as_silent() -> None:
    seen = Seen()
    seen.sight.hear("db1", DEAF)
    assert seen.hearing.silent(seen.now) == frozenset()
    assert seen.sight.silent(seen.now) == seen.sight.view(seen.now).silent == {"db1"}
    assert seen.sight.view(seen.now).agreed == frozenset()
    for host in ("db3", "lb1"):
        seen.sight.hear(host, replace(STANDBY, silent=frozenset({"db1"})))
    assert seen.sight.view(seen.now).agreed == {"db1"}


@pytest.mark.parametrize(
    "said",
    [
        replace(DEAF, writable=True),
        replace(DEAF, role="standby"),
        replace(DEAF, silent=frozenset({"db2", "db3"})),
        replace(DEAF, silent=frozenset({"db3", "lb1", "lb2"})),
    ],
    ids=["serves clients", "is a standby", "hears a majority", "hears this host"],
)
def test_one_that_misses_others_and_is_of_use_is_not_silent(said: Heartbeat) -> None:
    seen = Seen()
    seen.sight.hear("db1", said)
    assert seen.sight.silent(seen.now) == frozenset()


def test_the_deaf_are_not_known_to_an_agent_that_overslept_nor_by_what_is_no_longer_said() -> None:
    seen = Seen()
    seen.sight.hear("db1", DEAF)
    seen.sleep(2.0)
    assert seen.sight.silent(seen.now) == frozenset()
    seen = Seen()
    seen.sight.hear("db1", DEAF)
    seen.run(6, echoing=["db1"])
    assert seen.sight.silent(seen.now) == frozenset()


def test_who_may_not_become_primary_is_no_successor() -> None:
    seen = Seen()
    named = replace(cluster(), sync=("db2", "db3"))
    seen.sight.cluster = replace(named, members={"db2": Member("standby", "running", nofailover=True)})
    seen.sight.mine = STANDBY
    seen.sight.hear("db3", STANDBY)
    assert seen.sight.view(seen.now).lock is not None
    assert seen.sight.view(seen.now).lock.barred == {"db2"}  # type: ignore[union-attr] - just looked at
    assert seen.sight.has_successor(seen.now)
    seen.sight.cluster = replace(seen.sight.cluster, sync=("db2",))
    assert not seen.sight.has_successor(seen.now)
    seen.sight.cluster = replace(seen.sight.cluster, members={})
    assert seen.sight.has_successor(seen.now)
