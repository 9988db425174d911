"""Routing, told as what happens to a cluster of three and what its balancer's agent does about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from pgbaton.agent.decisions.routing import (
    RETRY_SECONDS,
    Action,
    CutSessions,
    Database,
    Decision,
    Mark,
    Memory,
    Pause,
    Pooling,
    Resume,
    Says,
    Server,
    Servers,
    View,
    decide,
    due_seconds,
)

PAUSE_SECONDS = 5.0
STEP_SECONDS = 0.05
STANDBY = Says("standby", writable=False, timeline=1)
PRIMARY = Says("primary", writable=True, timeline=1)
PROMOTED = Says("primary", writable=True, timeline=2)
FOLLOWING = Says("standby", writable=False, timeline=2)
NONE = Says("none", writable=False, timeline=1)
UNKNOWN = Says("unknown", writable=False, timeline=0)


class Balancer:
    """A balancer with HAProxy, a pooler and an agent, which sees three database hosts; db1 is primary, found so."""

    def __init__(self) -> None:
        self.now_seconds = 100.0
        self.says: dict[str, Says | None] = {"db1": PRIMARY, "db2": STANDBY, "db3": STANDBY}
        self.fenced: set[str] = set()
        self.leader: str | None = "db1"
        self.up = {"db1": True, "db2": False, "db3": False}
        self.in_service = dict.fromkeys(self.up, True)
        self.haproxy_answers = True
        self.pooler_answers = True
        self.paused = False
        self.session = False
        self.memory = Memory()
        self.alarms: tuple[str, ...] = ()
        self.step(times=2)

    def view(self) -> View:
        databases = tuple(Database(name, says, name in self.fenced) for name, says in self.says.items())
        servers = tuple(Server(name, up, self.in_service[name]) for name, up in self.up.items())
        pooling = Pooling(self.now_seconds, self.paused, self.session)
        return View(
            databases,
            self.leader,
            Servers(self.now_seconds, servers) if self.haproxy_answers else None,
            {"write": pooling if self.pooler_answers else None},
        )

    def step(self, *, seconds: float = STEP_SECONDS, times: int = 1) -> list[Action]:
        """Let time pass, look, decide and do; return what was done."""
        done: list[Action] = []
        for _ in range(times):
            self.now_seconds += seconds
            decision = self.decide(self.view())
            for action in decision.actions:
                self.do(action)
            done.extend(decision.actions)
        return done

    def decide(self, view: View) -> Decision:
        decision = decide(self.memory, view, now_seconds=self.now_seconds, pause_seconds=PAUSE_SECONDS)
        self.memory, self.alarms = decision.memory, decision.alarms
        return decision

    def do(self, action: Action) -> None:
        match action:
            case Mark(server, health):
                self.up[server] = health == "up"
            case Pause():
                self.paused = True
            case Resume():
                self.paused = False
            case CutSessions():
                pass

    def die(self, name: str) -> None:
        self.says[name] = None
        self.fenced.add(name)

    def promote(self, name: str) -> None:
        self.leader = name
        self.says = {it: (FOLLOWING if says == STANDBY else says) for it, says in self.says.items()}
        self.says[name] = PROMOTED


@pytest.fixture
def balancer() -> Balancer:
    return Balancer()


def down(name: str) -> list[Action]:
    return [Mark(name, "down"), CutSessions(name)]


def test_a_quiet_cluster_is_left_alone(balancer: Balancer) -> None:
    assert balancer.step(times=100) == []


def test_a_dead_primary_is_held_cut_and_replaced(balancer: Balancer) -> None:
    balancer.die("db1")
    assert balancer.step() == [Pause("write"), *down("db1")]
    assert balancer.step(times=10) == []
    balancer.promote("db2")
    assert balancer.step() == [Mark("db2", "up")]
    assert balancer.step() == [Resume("write")]
    assert balancer.step(times=100) == []


def test_silence_alone_does_nothing(balancer: Balancer) -> None:
    balancer.says["db1"] = None
    assert balancer.step(times=100) == []


@pytest.mark.parametrize("word", [UNKNOWN, replace(UNKNOWN, role="unknown", timeline=1)])
def test_an_agent_that_does_not_know_does_nothing(balancer: Balancer, word: Says) -> None:
    balancer.says["db1"] = word
    assert balancer.step(times=100) == []


@pytest.mark.parametrize("word", [NONE, STANDBY, replace(PRIMARY, writable=False)])
def test_a_primary_that_says_it_takes_no_writes_is_believed_at_once(balancer: Balancer, word: Says) -> None:
    balancer.says["db1"] = word
    assert balancer.step() == [Pause("write"), *down("db1")]


def test_a_primary_that_comes_back_is_led_to_again(balancer: Balancer) -> None:
    balancer.says["db1"] = NONE
    balancer.step(times=3)
    balancer.says["db1"] = PRIMARY
    assert balancer.step(times=2) == [Mark("db1", "up"), Resume("write")]


def test_a_false_alarm_without_a_fence_cuts_nothing(balancer: Balancer) -> None:
    balancer.says["db1"] = None
    balancer.step(times=10)
    balancer.says["db1"] = PRIMARY
    assert balancer.step(times=10) == []


def test_a_false_alarm_with_a_fence_ends_with_the_fence(balancer: Balancer) -> None:
    balancer.fenced.add("db1")
    assert balancer.step() == [Pause("write"), *down("db1")]
    balancer.fenced.clear()
    assert balancer.step(times=2) == [Mark("db1", "up"), Resume("write")]


def test_a_fenced_server_stays_down_whatever_its_checks_find(balancer: Balancer) -> None:
    balancer.die("db1")
    balancer.step(times=3)
    balancer.up["db1"] = True
    assert balancer.step() == down("db1")


def test_what_the_checks_find_after_a_loss_may_be_newer_than_what_the_agent_said(balancer: Balancer) -> None:
    balancer.says["db1"] = NONE
    balancer.step(times=3)
    balancer.up["db1"] = True
    assert balancer.step(times=10) == []


def test_a_standby_that_the_checks_find_first_is_not_cut(balancer: Balancer) -> None:
    balancer.die("db1")
    balancer.step(times=3)
    balancer.leader = "db2"
    balancer.up["db2"] = True
    assert balancer.step(times=3) == []
    balancer.promote("db2")
    assert balancer.step(times=3) == [Resume("write")]


def test_a_hint_that_the_checks_undo_is_not_repeated(balancer: Balancer) -> None:
    balancer.die("db1")
    balancer.step(times=3)
    balancer.promote("db2")
    balancer.step(times=3)
    balancer.up["db2"] = False
    assert balancer.step(times=100) == []


def test_an_old_primary_that_still_says_so_is_cut_once_another_is_primary(balancer: Balancer) -> None:
    balancer.promote("db2")
    assert balancer.step() == [*down("db1"), Mark("db2", "up")]
    balancer.step()
    balancer.up["db1"] = True
    assert balancer.step() == down("db1")


def test_an_old_primary_that_is_silent_is_cut_once_another_is_primary(balancer: Balancer) -> None:
    balancer.says["db1"] = None
    balancer.step(times=3)
    balancer.promote("db2")
    assert balancer.step() == [*down("db1"), Mark("db2", "up")]
    assert balancer.step(times=10) == []


def test_where_there_is_no_lock_the_one_that_was_promoted_last_is_led_to_again_and_again(balancer: Balancer) -> None:
    balancer.promote("db2")
    balancer.leader = None
    assert balancer.step() == [*down("db1"), Mark("db2", "up")]
    for _ in range(3):
        assert balancer.step() == []
        balancer.up["db1"] = True  # a check that asks the server alone
        assert balancer.step() == down("db1")
    assert balancer.alarms == ()


def test_where_there_is_no_lock_neither_of_two_on_one_timeline_is_led_to_by_a_hint(balancer: Balancer) -> None:
    balancer.says["db2"] = PRIMARY
    balancer.leader = None
    assert balancer.step(times=10) == []
    assert balancer.alarms[0].endswith("db1, db2; stop all but the one that is to be kept")


def test_two_primaries_on_one_timeline_are_an_alarm_and_no_hint(balancer: Balancer) -> None:
    balancer.says["db2"] = PRIMARY
    assert balancer.step(times=10) == []
    assert "timeline 1 has more than one primary: db1, db2" in balancer.alarms[0]
    balancer.says["db2"] = STANDBY
    balancer.step()
    assert balancer.alarms == ()


def test_another_on_the_timeline_of_a_silent_primary_is_an_alarm_and_no_hint(balancer: Balancer) -> None:
    balancer.says |= {"db1": None, "db2": PRIMARY}
    balancer.leader = "db2"
    assert balancer.step(times=10) == []
    assert len(balancer.alarms) == 1


def test_a_primary_is_not_believed_on_a_timeline_that_others_have_left(balancer: Balancer) -> None:
    balancer.says["db1"] = NONE
    balancer.step(times=3)
    balancer.says |= {"db1": PRIMARY, "db3": FOLLOWING}
    assert balancer.step(times=10) == []


def test_who_lost_the_leader_lock_is_not_hinted(balancer: Balancer) -> None:
    balancer.says["db1"] = NONE
    balancer.step(times=3)
    balancer.says["db1"] = PRIMARY
    balancer.leader = "db2"
    assert balancer.step(times=10) == []


def test_a_lock_seen_too_long_ago_does_not_speak_against_a_promoted_standby(balancer: Balancer) -> None:
    balancer.says["db1"] = None
    balancer.step()
    balancer.promote("db2")
    balancer.leader = "db1"
    assert Mark("db2", "up") in balancer.step()


def test_the_lock_of_a_host_that_was_never_heard_speaks_against_others(balancer: Balancer) -> None:
    balancer.says["db1"] = NONE
    balancer.step()
    balancer.says["db1"] = PRIMARY
    balancer.leader = "db4"
    assert balancer.step(times=3) == []


def test_a_hold_ends_in_time_when_there_is_no_primary(balancer: Balancer) -> None:
    balancer.die("db1")
    assert Pause("write") in balancer.step()
    began = balancer.now_seconds
    assert due_seconds(balancer.memory, pause_seconds=PAUSE_SECONDS) == began + PAUSE_SECONDS
    balancer.step(times=5)
    assert balancer.step(seconds=began + PAUSE_SECONDS - balancer.now_seconds) == [Resume("write")]


def test_an_outage_is_held_once(balancer: Balancer) -> None:
    balancer.die("db1")
    balancer.step()
    assert balancer.step(seconds=PAUSE_SECONDS) == [Resume("write")]
    assert balancer.step(times=100) == []


def test_the_next_outage_is_held_again(balancer: Balancer) -> None:
    balancer.die("db1")
    balancer.step()
    balancer.step(seconds=PAUSE_SECONDS)
    balancer.promote("db2")
    balancer.step(times=3)
    balancer.die("db2")
    assert Pause("write") in balancer.step()


def test_nobody_is_let_go_towards_two_servers(balancer: Balancer) -> None:
    balancer.die("db1")
    balancer.step(times=3)
    balancer.promote("db2")
    balancer.up["db3"] = True
    assert balancer.step(times=3) == []
    balancer.up["db3"] = False
    assert balancer.step(times=2) == [Mark("db2", "up"), Resume("write")]


def test_nobody_is_let_go_while_the_checks_lead_to_two(balancer: Balancer) -> None:
    balancer.die("db1")
    balancer.step(times=3)
    balancer.promote("db2")
    balancer.up |= {"db2": True, "db3": True}
    assert balancer.step(times=3) == []
    balancer.up["db3"] = False
    assert balancer.step() == [Resume("write")]


def test_a_pooler_is_told_again_until_it_says_that_it_goes_on(balancer: Balancer) -> None:
    balancer.die("db1")
    balancer.step()
    balancer.pooler_answers = False
    assert balancer.step(seconds=PAUSE_SECONDS) == [Resume("write")]
    assert balancer.step(seconds=RETRY_SECONDS / 2) == []
    assert balancer.step(seconds=RETRY_SECONDS) == [Resume("write")]
    balancer.pooler_answers = True
    assert balancer.step(seconds=RETRY_SECONDS) == []
    assert due_seconds(balancer.memory, pause_seconds=PAUSE_SECONDS) is None


def test_what_a_pooler_said_before_it_was_told_does_not_count(balancer: Balancer) -> None:
    balancer.die("db1")
    early = balancer.view()
    balancer.step()
    balancer.step(seconds=PAUSE_SECONDS)
    balancer.now_seconds += RETRY_SECONDS
    assert balancer.decide(early).actions == (Resume("write"),)


def test_what_haproxy_said_before_a_hint_does_not_count(balancer: Balancer) -> None:
    balancer.die("db1")
    early = balancer.view()
    balancer.step()
    balancer.now_seconds += STEP_SECONDS
    assert balancer.decide(early).actions == ()


@pytest.mark.parametrize("paused", [True, None])
def test_an_agent_that_starts_lets_clients_go(balancer: Balancer, *, paused: Literal[True] | None) -> None:
    balancer.memory = Memory()
    view = replace(balancer.view(), poolers={"write": Pooling(balancer.now_seconds, paused, session=False)})
    assert balancer.decide(view).actions == (Resume("write"),)


def test_an_agent_that_starts_knowing_nothing_lets_clients_go(balancer: Balancer) -> None:
    balancer.memory = Memory()
    assert balancer.decide(View(poolers={"read": None, "write": None})).actions == (Resume("read"), Resume("write"))


def test_an_agent_that_starts_hints_nothing_that_it_finds(balancer: Balancer) -> None:
    balancer.memory = Memory()
    balancer.up["db1"] = False
    assert balancer.step(times=10) == []


def test_an_agent_that_starts_holds_nobody(balancer: Balancer) -> None:
    balancer.memory = Memory()
    balancer.die("db1")
    assert balancer.step() == down("db1")


def test_somebody_elses_pause_is_left_alone(balancer: Balancer) -> None:
    balancer.paused = True
    assert balancer.step(times=100) == []
    balancer.die("db1")
    assert balancer.step() == down("db1")
    assert balancer.step(seconds=PAUSE_SECONDS) == []


def test_in_session_pooling_nobody_is_held(balancer: Balancer) -> None:
    balancer.session = True
    balancer.die("db1")
    assert balancer.step() == down("db1")


@pytest.mark.parametrize("unknown", ["haproxy_answers", "pooler_answers"])
def test_nobody_is_held_without_knowing_when_it_would_end(balancer: Balancer, unknown: str) -> None:
    setattr(balancer, unknown, False)
    balancer.die("db1")
    assert Pause("write") not in balancer.step()


def test_a_loss_is_told_to_a_haproxy_that_did_not_answer_lately(balancer: Balancer) -> None:
    balancer.haproxy_answers = False
    balancer.die("db1")
    assert balancer.step() == down("db1")
    assert balancer.step(times=10) == []


def test_a_server_that_haproxy_does_not_have_is_not_spoken_of(balancer: Balancer) -> None:
    del balancer.up["db1"]
    balancer.die("db1")
    assert balancer.step() == [Pause("write")]


def test_a_server_that_is_already_down_is_only_cut(balancer: Balancer) -> None:
    balancer.up["db1"] = False
    balancer.die("db1")
    assert balancer.step() == [Pause("write"), CutSessions("db1")]


def test_a_server_taken_out_of_service_is_hinted_when_it_is_back(balancer: Balancer) -> None:
    balancer.die("db1")
    balancer.in_service["db2"] = False
    balancer.step(times=3)
    balancer.promote("db2")
    assert balancer.step(times=3) == []
    balancer.in_service["db2"] = True
    assert balancer.step(times=2) == [Mark("db2", "up"), Resume("write")]


def test_the_agent_of_a_dead_server_may_forget_its_timeline(balancer: Balancer) -> None:
    balancer.promote("db2")
    balancer.step(times=3)
    balancer.says |= {"db2": UNKNOWN, "db3": UNKNOWN, "db1": PRIMARY}
    assert balancer.step(times=10) == []
    assert balancer.alarms == ()


def test_a_server_that_a_late_check_found_up_is_marked_down_again_with_the_hint_of_the_new_primary(
    balancer: Balancer,
) -> None:
    balancer.says["db1"] = NONE
    balancer.step(times=3)
    balancer.up["db1"] = True  # by a check that began before its end
    assert balancer.step(times=3) == []
    balancer.promote("db2")
    assert balancer.step() == [*down("db1"), Mark("db2", "up")]
    assert balancer.step() == [Resume("write")]


def test_after_the_hint_the_checks_are_right_about_a_server_that_is_left_over(balancer: Balancer) -> None:
    balancer.says["db1"] = NONE
    balancer.step(times=3)
    balancer.promote("db2")
    balancer.step(times=3)
    balancer.up["db1"] = True
    assert balancer.step(times=10) == []


def test_an_agent_that_starts_leaves_servers_that_it_finds_up_to_the_checks(balancer: Balancer) -> None:
    balancer.says["db1"] = NONE
    balancer.promote("db2")
    balancer.memory = Memory()
    balancer.up |= {"db1": True, "db2": True}
    assert [action for action in balancer.step(times=10) if isinstance(action, Mark | CutSessions)] == []


def test_a_server_on_the_new_timeline_is_no_left_over(balancer: Balancer) -> None:
    balancer.says["db1"] = NONE
    balancer.step(times=3)
    balancer.promote("db2")
    balancer.says["db1"] = FOLLOWING
    balancer.up["db1"] = True
    assert balancer.step(times=3) == []
    balancer.up["db1"] = False
    assert balancer.step(times=2) == [Mark("db2", "up"), Resume("write")]
