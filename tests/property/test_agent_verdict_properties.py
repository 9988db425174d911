"""Whatever an agent sees and whatever happens: what a step of the verdict never does, and always does."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pgbaton.agent.decisions.terms import (
    Action,
    Answered,
    Ask,
    Asked,
    Break,
    Broken,
    Case,
    Event,
    Fence,
    Fenced,
    Lock,
    Outcome,
    Release,
    Resign,
    Revoke,
    Rules,
    State,
    Tick,
    Unfence,
    Unfenced,
    View,
    Vote,
    Voted,
)
from pgbaton.agent.decisions.verdict import cannot_succeed, opened, step

VOTERS = frozenset({"P", "S", "T"})
#: Few of each kind, so that what belongs together meets.
GROUPS = (
    frozenset[str](),
    frozenset({"P"}),
    frozenset({"P"}),
    frozenset({"P"}),
    frozenset({"S"}),
    frozenset({"P", "S"}),
)
CASES = tuple(
    Case(candidate, primary, leader_revision=leader, sync_revision=sync, config_revision=0, verdict_revision=touched)
    for candidate, primary, leader, sync, touched in product("ST", "PS", range(3), range(2), range(3))
)
#: Each of one, each of two, some of two, and one of one where others can be promoted.
MODES = (
    (frozenset("S"), 0, False),
    (frozenset("ST"), 0, False),
    (frozenset("ST"), 1, True),
    (frozenset("S"), 0, True),
)
LOCKS = tuple(
    Lock(
        revision=revision,
        leader=leader,
        leader_revision=led,
        sync_leader="P",
        sync=sync,
        sync_revision=synced,
        config_revision=0,
        verdict_revision=touched,
        quorum=quorum,
        by_quorum=by_quorum,
    )
    for revision, leader, led, (sync, quorum, by_quorum), synced, touched in product(
        range(4), (None, "P", "P", "S"), range(3), MODES, range(2), range(3)
    )
)
EVENTS: tuple[tuple[Event, ...], ...] = (
    (Tick(),),
    (Tick(), Voted("T", CASES[0]), Voted("S", CASES[0])),
    (Tick(), Voted("T", CASES[0]), Voted("S", CASES[0])),
    tuple(Asked(case) for case in CASES),
    tuple(Voted(voter, case) for voter in sorted(VOTERS) for case in CASES),
    (Fenced("P"), Fenced("S"), Unfenced("P"), Unfenced("S")),
    tuple(Answered(case, outcome) for case in CASES for outcome in Outcome),
    tuple(Broken(host, revision) for host in "PS" for revision in (None, 0, 1, 2, 3, 4)),
)
RULES = tuple(Rules(me, VOTERS, may_lead=may_lead) for me in ("S", "T") for may_lead in (True, True, False))
PRIMARY = (Rules("P", VOTERS, may_lead=True), Rules("S", VOTERS, may_lead=True))

groups = st.sampled_from(GROUPS)
stalls = st.sampled_from((False, False, False, True))
seen = st.tuples(groups, stalls, st.integers(0, 4), groups, groups, st.booleans())
events = st.sampled_from(EVENTS).flatmap(st.sampled_from)


@dataclass(frozen=True)
class Step:
    """One step of a life: what was remembered, what was seen and happened, and what came of it."""

    rules: Rules
    before: State
    view: View
    event: Event
    after: State
    actions: tuple[Action, ...]

    def __str__(self) -> str:
        return f"\n{self.before}\n{self.view}\n{self.event}\n -> {self.after}\n{self.actions}"


def lived(rules: Rules, begun: bool, locks: list[Lock], sights: list[tuple[tuple[Any, ...], Event]]) -> list[Step]:  # noqa: FBT001
    """Return the steps of an agent from its start on, or from its question on.

    Etcd changes seldom, and the own case comes back to it.
    """
    state, steps = opened(rules, State(), locks[0], "P") if begun else State(), []
    for (silent, stalled, at, fenced, following, crashed), drawn in sights:
        lock = (None, locks[0], locks[0], locks[0], locks[1])[at]
        view = View(silent, silent, stalled, lock, fenced, following, crashed)
        event, own = drawn, state.case
        if isinstance(event, Answered):
            own = state.resigning or own
        if isinstance(event, Voted | Answered) and own is not None:
            event = replace(event, case=own)
        after, actions = step(rules, state, view, event)
        steps.append(Step(rules, state, view, event, after, actions))
        state = after
    return steps


def lives() -> st.SearchStrategy[list[Step]]:
    few = st.lists(st.sampled_from(LOCKS), min_size=2, max_size=2)
    return st.builds(lived, st.sampled_from(RULES), st.booleans(), few, st.lists(st.tuples(seen, events), max_size=12))


def lives_of_a_primary() -> st.SearchStrategy[list[Step]]:
    """Return lives of a host that leads at first, in which much is about its own lock."""
    few = st.tuples(st.sampled_from([lock for lock in LOCKS if lock.leader == "P"]), st.sampled_from(LOCKS))
    often = st.sampled_from((Tick(), *(Answered(CASES[0], outcome) for outcome in Outcome))) | events
    sights = st.lists(st.tuples(seen, often), min_size=3, max_size=12)
    return st.builds(lived, st.sampled_from(PRIMARY), st.just(value=False), few.map(list), sights)


@given(lives())
def test_no_vote_leaves_where_the_fence_does_not_stand(life: list[Step]) -> None:
    for one in life:
        for action in one.actions:
            if isinstance(action, Vote):
                assert action.case.primary in one.view.fenced, one
                assert action.case.primary not in one.after.lowering, one


@given(lives())
def test_every_vote_is_remembered_as_a_promise(life: list[Step]) -> None:
    for one in life:
        assert {action.case for action in one.actions if isinstance(action, Vote)} <= one.after.promises, one


@given(lives())
def test_no_vote_leaves_in_a_case_that_is_known_to_be_over(life: list[Step]) -> None:
    for one in life:
        for action in one.actions:
            if isinstance(action, Vote) and one.view.lock is not None and one.view.lock.revision >= one.before.seen:
                assert not cannot_succeed(action.case, one.view.lock), one


@given(lives())
def test_who_asks_has_promised_itself(life: list[Step]) -> None:
    for one in life:
        for action in one.actions:
            if isinstance(action, Ask):
                assert action.case == one.after.case, one
                assert action.case in one.after.promises, one
                assert one.rules.me in one.after.votes, one


@given(lives())
def test_who_slept_fences_nobody_votes_for_nobody_and_releases_nothing(life: list[Step]) -> None:
    for one in life:
        if one.view.stalled:
            assert not any(isinstance(action, Vote | Ask | Release | Fence) for action in one.actions), one


@given(lives())
def test_a_release_has_its_majority_its_fence_and_the_present_state_of_etcd(life: list[Step]) -> None:
    for one in life:
        for action in one.actions:
            if isinstance(action, Release):
                case, lock = action.case, one.view.lock
                assert 2 * len(one.after.votes & VOTERS) > len(VOTERS), one
                assert case.primary in one.view.fenced & one.view.silent, one
                assert lock is not None, one
                assert (lock.leader, lock.leader_revision) == (case.primary, case.leader_revision), one
                assert (lock.sync_revision, lock.verdict_revision) == (case.sync_revision, case.verdict_revision), one
                assert lock.quorum == 0 or lock.sync <= one.after.votes, one


@given(lives())
def test_one_release_is_under_way_at_a_time(life: list[Step]) -> None:
    for one in life:
        if any(isinstance(action, Release) for action in one.actions):
            assert one.after.releasing, one
            assert not (one.before.releasing and one.before.case == one.after.case and one.event == Tick()), one


@given(lives())
def test_a_fence_that_falls_has_nothing_resting_on_it_any_more(life: list[Step]) -> None:
    for one in life:
        for action in one.actions:
            if isinstance(action, Unfence):
                left = {case.primary for case in one.after.promises | one.after.owed}
                assert action.host not in left, one
                assert one.after.case is None or one.after.case.primary != action.host, one
                assert action.host in one.after.lowering, one


@given(lives())
def test_a_fence_of_an_earlier_life_falls_only_after_the_verdict_key_was_changed(life: list[Step]) -> None:
    for one in life:
        for action in one.actions:
            known = one.before.remembered | ({one.event.host} if isinstance(one.event, Fenced) else set())
            if isinstance(action, Unfence) and action.host not in known:
                assert isinstance(one.event, Broken), one
                assert one.event.revision is not None, one


@given(lives())
def test_a_promise_ends_by_a_later_leader_key_by_a_later_verdict_key_or_with_its_fence(life: list[Step]) -> None:
    for one in life:
        for case in one.before.promises - one.after.promises:
            lock = one.view.lock
            is_over = lock is not None and lock.revision >= case.leader_revision != lock.leader_revision
            is_broken = isinstance(one.event, Broken) and case.verdict_revision < (one.event.revision or 0)
            assert is_over or is_broken or case.primary in one.after.lowering, one


@given(lives())
def test_one_thing_is_done_about_a_fence_until_its_end_is_told(life: list[Step]) -> None:
    for one in life:
        for action in one.actions:
            if isinstance(action, Break | Unfence) and action.host in one.before.lowering:
                assert isinstance(one.event, Broken | Unfenced), one
                assert one.event.host == action.host, one


@given(lives())
def test_nothing_is_done_on_a_view_older_than_the_last(life: list[Step]) -> None:
    for one in life:
        assert one.after.seen >= one.before.seen, one
        if one.view.lock is not None and one.view.lock.revision < one.before.seen and one.event == Tick():
            assert (one.after, one.actions) == (one.before, ()), one


@given(lives_of_a_primary())
def test_only_the_own_lock_is_given_up_and_only_where_each_of_sync_confirms_and_one_lives(life: list[Step]) -> None:
    for one in life:
        for action in one.actions:
            if isinstance(action, Resign):
                case, lock, me = action.case, one.view.lock, one.rules.me
                assert lock is not None, one
                assert one.view.crashed, one
                assert not one.view.stalled, one
                assert case.candidate == case.primary == lock.leader == lock.sync_leader == me, one
                assert (lock.leader_revision, lock.sync_revision) == (case.leader_revision, case.sync_revision), one
                assert (lock.quorum, lock.by_quorum) == (0, False), one
                assert lock.sync - one.view.silent, one


@given(lives_of_a_primary())
def test_one_lock_is_given_up_at_a_time_and_no_lease_is_revoked_for_it(life: list[Step]) -> None:
    for one in life:
        resigned = [action for action in one.actions if isinstance(action, Resign)]
        assert not (resigned and one.before.resigning), one
        assert all(action.case == one.after.resigning for action in resigned), one
        assert not any(isinstance(action, Revoke) and action.case.candidate == "P" for action in one.actions), one


@given(lives_of_a_primary())
def test_a_lock_that_was_given_up_is_under_way_until_its_end_is_told(life: list[Step]) -> None:
    for one in life:
        if one.before.resigning is not None and one.after.resigning != one.before.resigning:
            assert isinstance(one.event, Answered), one
            assert one.event.case == one.before.resigning, one


def test_in_these_lives_locks_are_given_up() -> None:
    given_up: list[Action] = []

    @given(lives_of_a_primary())
    @settings(max_examples=100, database=None, derandomize=True)
    def look(life: list[Step]) -> None:
        given_up.extend(action for one in life for action in one.actions if isinstance(action, Resign))

    look()
    assert given_up
