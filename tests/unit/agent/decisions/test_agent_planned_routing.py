"""Clients that are held for a hand-over that is planned: from when, until when, and what ends it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from pgbaton.agent.decisions.routing import (
    Action,
    CutSessions,
    Database,
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
)

PAUSE_SECONDS = 5.0
STEP_SECONDS = 0.05
PRIMARY = Says("primary", writable=True, timeline=4)
STANDBY = Says("standby", writable=False, timeline=4)
STOPPED = Says("none", writable=False, timeline=4)


@dataclass
class Balancer:
    """A balancer whose HAProxy leads to db1, which is primary and well; a word in ``planned`` is all that changes."""

    planned: bool = False
    says: dict[str, Says] = field(default_factory=lambda: {"db1": PRIMARY, "db2": STANDBY})
    leader: str | None = "db1"
    up: dict[str, bool] = field(default_factory=lambda: {"db1": True, "db2": False})
    paused: bool = False
    session: bool = False
    now_seconds: float = 100.0
    memory: Memory = field(default_factory=Memory)

    def step(self, times: int = 1) -> list[Action]:
        """Let time pass, look, decide and do; return what was done."""
        done: list[Action] = []
        for _ in range(times):
            self.now_seconds += STEP_SECONDS
            view = View(
                tuple(Database(name, says) for name, says in self.says.items()),
                self.leader,
                Servers(self.now_seconds, tuple(Server(name, up) for name, up in self.up.items())),
                {"write": Pooling(self.now_seconds, self.paused, self.session)},
                planned=self.planned,
            )
            decision = decide(self.memory, view, now_seconds=self.now_seconds, pause_seconds=PAUSE_SECONDS)
            self.memory = decision.memory
            for action in decision.actions:
                self.do(action)
            done.extend(decision.actions)
        return done

    def do(self, action: Action) -> None:
        match action:
            case Mark(server, health):
                self.up[server] = health == "up"
            case Pause():
                self.paused = True
            case Resume():
                self.paused = False
            case _:
                pass

    def stop(self) -> None:
        """Let the primary be stopped, and give up its lock."""
        self.says["db1"], self.leader = STOPPED, None

    def promote(self) -> None:
        self.says["db2"], self.leader = replace(PRIMARY, timeline=5), "db2"


@pytest.fixture
def balancer() -> Balancer:
    made = Balancer()
    made.step(3)
    return made


def test_clients_are_held_though_the_primary_is_well(balancer: Balancer) -> None:
    balancer.planned = True
    assert balancer.step() == [Pause("write")]


def test_nobody_is_let_go_while_the_same_timeline_goes_on(balancer: Balancer) -> None:
    balancer.planned = True
    balancer.step()
    assert balancer.step(times=90) == []
    assert balancer.paused


def test_who_is_let_go_by_word_goes_on_with_the_same_primary(balancer: Balancer) -> None:
    balancer.planned = True
    balancer.step(5)
    balancer.planned = False
    assert balancer.step() == [Resume("write")]
    assert balancer.step(times=100) == []


def test_a_hand_over_is_one_hold_from_its_plan_to_the_new_primary(balancer: Balancer) -> None:
    balancer.planned = True
    assert balancer.step(3) == [Pause("write")]
    balancer.stop()
    assert balancer.step(3) == [Mark("db1", "down"), CutSessions("db1")]
    balancer.promote()
    assert balancer.step(2) == [Mark("db2", "up"), Resume("write")]
    assert balancer.planned, "nobody has taken it back"
    assert balancer.step(times=90) == []


def test_a_plan_that_nobody_takes_back_does_not_hold_the_next_primarys_clients(balancer: Balancer) -> None:
    balancer.planned = True
    balancer.step(3)
    balancer.stop()
    balancer.promote()
    balancer.step(3)
    assert not balancer.paused
    balancer.planned = False
    balancer.step()
    balancer.planned = True
    assert balancer.step() == [Pause("write")], "a new plan counts for the new timeline"


def test_a_plan_that_ends_before_there_is_a_new_primary_lets_nobody_go(balancer: Balancer) -> None:
    balancer.planned = True
    balancer.step(3)
    balancer.stop()
    balancer.step(3)
    balancer.planned = False
    assert balancer.step(20) == []
    balancer.promote()
    assert balancer.step(2) == [Mark("db2", "up"), Resume("write")]


def test_a_plan_holds_nobody_for_longer_than_any_hold(balancer: Balancer) -> None:
    balancer.planned = True
    assert balancer.step(times=round(PAUSE_SECONDS / STEP_SECONDS) + 2) == [Pause("write"), Resume("write")]
    assert balancer.step(times=100) == []
    assert not balancer.paused


def test_in_session_pooling_a_plan_holds_nobody(balancer: Balancer) -> None:
    balancer.session = balancer.planned = True
    assert balancer.step(times=20) == []


def test_an_agent_that_starts_lets_all_go_without_a_plan() -> None:
    balancer = Balancer(paused=True)
    assert balancer.step(3) == [Resume("write")]
    assert balancer.step(times=20) == []
    assert balancer.memory.planned is None


def test_an_agent_that_starts_can_be_asked_to_hold_when_it_has_let_go_whom_another_held() -> None:
    balancer = Balancer(paused=True)
    balancer.step(3)
    balancer.planned = True
    assert balancer.step() == [Pause("write")]
