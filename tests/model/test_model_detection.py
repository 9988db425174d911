"""Pauses of agents, of any length and at any time, are nobody's death; without the stall rule they would be."""

import pytest
from model_checker import explore
from model_detection import LOST_AFTER, Pauses

from pgbaton.agent.decisions.hearing import Hearing


@pytest.mark.parametrize("name", ["S", "O1"])
def test_the_lock_of_a_live_primary_is_never_released_however_agents_are_paused(name: str) -> None:
    # Of the other, everything is there that it could ever send. Nobody who is asked votes, nobody with votes asks.
    alone = Pauses((name,))
    seen = explore(alone.initial, alone.successors, most_states=50_000)
    assert seen.violation is None, seen.told()
    assert seen.complete
    assert all(not mind.fenced and not mind.memory.promises for moment in seen.states for mind in moment.minds)


HALVES = {
    "who overslept is stalled": ("_overslept", lambda *_: False),
    "no more time runs than was meant to": ("_running_at", lambda self, now: self._running + now - self._woke),
}


@pytest.mark.parametrize("half", HALVES)
def test_each_half_of_the_stall_rule_is_needed(half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hearing, *HALVES[half])
    alone = Pauses(("S",))
    assert explore(alone.initial, alone.successors, most_states=50_000).violation is not None


def test_without_the_stall_rule_a_pause_of_both_looks_like_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    for half in HALVES.values():
        monkeypatch.setattr(Hearing, *half)
    both = Pauses(("S", "O1"), sent=("late",), lots=("sleeps", "wakes to nothing"))
    seen = explore(both.initial, both.successors, most_states=50_000)
    assert seen.violation is not None, seen.told()
    assert sum("S sleeps;" in step for step in seen.trace) >= LOST_AFTER - 1, seen.told()
    assert sum("O1 sleeps;" in step for step in seen.trace) >= LOST_AFTER - 1, seen.told()
