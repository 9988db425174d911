"""When a primary stops serving by itself, and when it serves again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgbaton.agent.decisions.isolation import Rules, State, View, begun, serving, step
from pgbaton.agent.kernel.fence_rules import Serving

VOTERS = frozenset({"db1", "db2", "db3", "lb1", "lb2"})
OTHERS = VOTERS - {"db1"}
RULES = Rules("db1", VOTERS, detection_seconds=0.25, refuse_seconds=1.0)
#: The primary with everybody there; then with nobody.
WELL = View(
    10.0,
    leads=True,
    recovers=False,
    heard=OTHERS,
    silent=frozenset(),
    stalled=False,
    quorum_seconds=9.95,
    lock_mine=True,
)
ALONE = replace(WELL, heard=frozenset(), silent=OTHERS, quorum_seconds=9.74)
ISOLATED = State(0.0, since_seconds=10.0, alone_seconds=10.0)


def held(view: View, state: State | None = None, rules: Rules = RULES) -> bool:
    """Tell whether clients are cut off after what is seen."""
    return step(state or State(0.0), view, rules).since_seconds is not None


def test_a_primary_that_is_alone_stops_serving() -> None:
    assert held(ALONE)
    assert not held(WELL)


@pytest.mark.parametrize(
    "reason",
    [
        {"leads": False},
        {"recovers": True},
        {"stalled": True},
        {"quorum_seconds": 9.76},
        {"silent": frozenset({"db2", "db3"}), "heard": frozenset({"lb1", "lb2"})},
        {"silent": frozenset({"db2", "db3"}), "heard": frozenset()},
        {"silent": frozenset({"db2", "db3", "app1", "app2"})},
    ],
)
def test_a_primary_serves_on_when_anything_speaks_for_it(reason: dict[str, object]) -> None:
    assert not held(replace(ALONE, **reason))  # type: ignore[arg-type] - fields by name


def test_etcd_that_answers_and_says_that_the_lock_is_gone_is_no_proof_that_the_primary_leads() -> None:
    reached = replace(ALONE, quorum_seconds=9.99)
    assert not held(reached)
    assert held(replace(reached, lock_mine=False))
    assert not held(
        replace(reached, lock_mine=False, silent=frozenset({"db2", "db3"}), heard=frozenset({"lb1", "lb2"}))
    )
    assert not held(replace(reached, lock_mine=False, leads=False))
    assert not held(replace(reached, lock_mine=False, quorum_seconds=None), State(9.8))


def test_three_of_five_can_decide_without_the_other_two() -> None:
    assert held(replace(ALONE, silent=OTHERS - {"lb1"}, heard=frozenset({"lb1"})))


def test_half_of_four_can_not_decide_so_the_primary_serves_on() -> None:
    rules = replace(RULES, voters=frozenset({"db1", "db2", "lb1", "lb2"}))
    assert not held(replace(ALONE, silent=frozenset({"db2", "lb2"}), heard=frozenset({"lb1"})), rules=rules)


def test_a_host_that_does_not_hear_the_primary_is_as_good_as_silent() -> None:
    assert held(replace(ALONE, silent=frozenset(), heard=OTHERS, deaf=OTHERS - {"lb2"}))
    assert held(replace(WELL, now_seconds=11.0, quorum_seconds=10.9, deaf=OTHERS - {"lb2"}), ISOLATED)


def test_etcd_that_never_answered_has_the_detection_time_too() -> None:
    unheard = replace(ALONE, quorum_seconds=None)
    assert not held(unheard, State(9.8))
    assert held(unheard, State(9.75))


def test_clients_are_held_first_and_refused_when_it_lasts() -> None:
    state = step(State(0.0), ALONE, RULES)
    assert serving(State(0.0), ALONE, RULES) == Serving.OPEN
    assert serving(state, ALONE, RULES) == Serving.HELD
    assert serving(state, replace(ALONE, now_seconds=10.99), RULES) == Serving.HELD
    assert serving(state, replace(ALONE, now_seconds=11.0), RULES) == Serving.REFUSED


def test_a_primary_serves_again_when_etcd_says_so_after_the_majority_is_back() -> None:
    back = replace(WELL, now_seconds=11.0, quorum_seconds=10.9)
    assert not held(back, ISOLATED)
    assert held(replace(back, quorum_seconds=10.0), ISOLATED)
    assert held(replace(back, quorum_seconds=None), ISOLATED)
    assert held(replace(back, lock_mine=False), ISOLATED)
    assert held(replace(back, stalled=True), ISOLATED)


def test_a_server_in_recovery_serves_again_when_the_majority_is_back_whatever_etcd_says() -> None:
    demoted = replace(WELL, now_seconds=11.0, leads=False, recovers=True, quorum_seconds=None, lock_mine=False)
    assert not held(demoted, ISOLATED)
    assert held(replace(demoted, heard=frozenset({"lb1"})), ISOLATED)
    assert held(replace(demoted, heard=frozenset({"lb1", "app1", "app2"})), ISOLATED)


def test_what_etcd_said_while_the_majority_was_away_does_not_count() -> None:
    away = replace(ALONE, now_seconds=12.0, quorum_seconds=11.9)
    back = replace(WELL, now_seconds=12.05, quorum_seconds=11.9)
    assert held(back, step(ISOLATED, away, RULES))
    assert not held(replace(back, quorum_seconds=12.01), step(ISOLATED, away, RULES))


def test_hosts_that_were_never_heard_since_the_start_neither_isolate_nor_free_a_primary() -> None:
    unknown = replace(ALONE, silent=frozenset(), heard=frozenset())
    assert not held(unknown)
    assert held(replace(unknown, now_seconds=11.0, quorum_seconds=10.9), ISOLATED)


@pytest.mark.parametrize("found", Serving)
def test_an_agent_that_starts_goes_on_with_what_the_kernel_does(found: Serving) -> None:
    state = begun(10.0, found)
    assert (state.since_seconds is None) == (found == Serving.OPEN)
    assert held(replace(WELL, quorum_seconds=10.0), state) == (found != Serving.OPEN)
    assert not held(replace(WELL, quorum_seconds=10.01), state)


@dataclass(frozen=True)
class Partition:
    """A partition of voters, and what each side can do: the other side, and on which side etcd has its quorum."""

    rules: Rules
    others: frozenset[str]
    etcd_here: bool


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    """Draw some hosts, the primary among them, and those that are cut off from it."""
    count = draw(st.integers(2, 9))
    voters = [f"h{number}" for number in range(count)]
    others = frozenset(draw(st.sets(st.sampled_from(voters[1:]), max_size=count)))
    return Partition(Rules("h0", frozenset(voters), 0.25, 1.0), others, draw(st.booleans()))


@given(partitions(), st.floats(0, 0.05), st.floats(0, 0.1), st.floats(0, 0.05))
def test_wherever_the_others_may_promote_the_primary_has_stopped_when_they_begin_to_vote(
    partition: Partition, heartbeat_age: float, read_age: float, tick: float
) -> None:
    rules, begins = partition.rules, 100.0
    may_promote = len(partition.others) >= rules.majority and not partition.etcd_here
    # What was last heard of them, and last asked of etcd, was before the partition; the loop turns once in a while.
    now = begins + rules.detection_seconds + tick
    view = View(
        now,
        leads=True,
        recovers=False,
        heard=rules.voters - partition.others - {"h0"},
        silent=partition.others if now - (begins - heartbeat_age) >= rules.detection_seconds else frozenset(),
        stalled=False,
        quorum_seconds=now - read_age if partition.etcd_here else begins - read_age,
        lock_mine=True,
    )
    assert held(view, State(0.0), rules) == may_promote


VIEWS = st.builds(
    View,
    now_seconds=st.just(0.0),
    leads=st.booleans(),
    recovers=st.booleans(),
    heard=st.frozensets(st.sampled_from(sorted(OTHERS))),
    silent=st.frozensets(st.sampled_from(sorted(OTHERS))),
    stalled=st.booleans(),
    quorum_seconds=st.none() | st.floats(0, 1),
    lock_mine=st.booleans(),
)


def moments(views: list[View]) -> list[View]:
    """Return views as they can be: at tenths of a second, with what was asked of etcd before, and no host twice."""
    return [
        replace(
            view,
            now_seconds=number / 10,
            silent=view.silent - view.heard,
            quorum_seconds=None if view.quorum_seconds is None else number / 10 - view.quorum_seconds,
        )
        for number, view in enumerate(views, 10)
    ]


@given(st.lists(VIEWS, max_size=20))
def test_serving_ends_and_begins_only_for_the_reasons_stated(views: list[View]) -> None:
    state, alone_seconds = State(0.0), float("-inf")
    for view in moments(views):
        before, state = state, step(state, view, RULES)
        majority_heard = len(view.heard) + 1 >= 3
        if not majority_heard and not view.stalled:
            alone_seconds = view.now_seconds
        if before.since_seconds is None and state.since_seconds is not None:
            assert view.leads
            assert not view.recovers
            assert not view.stalled
            assert len(view.silent) >= 3
            without_quorum = view.now_seconds - (view.quorum_seconds or 0.0) >= 0.25
            assert without_quorum or (view.quorum_seconds is not None and not view.lock_mine)
        if before.since_seconds is not None and state.since_seconds is None:
            assert majority_heard
            assert not view.stalled
            confirmed = view.quorum_seconds is not None and view.quorum_seconds > alone_seconds and view.lock_mine
            assert view.recovers or confirmed


@given(st.lists(VIEWS, max_size=20))
def test_it_never_ends_and_begins_by_turns_while_nothing_changes(views: list[View]) -> None:
    state = State(0.0)
    for view in moments(views):
        state = step(state, view, RULES)
        again = step(state, view, RULES)
        assert (again.since_seconds is None) == (state.since_seconds is None)
