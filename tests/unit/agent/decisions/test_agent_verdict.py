"""Each transition of the verdict, once, in the order of an early release and of what may come in between."""

from dataclasses import replace

import pytest

from pgbaton.agent.decisions.terms import (
    Answered,
    Ask,
    Asked,
    Break,
    Broken,
    Case,
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
from pgbaton.agent.decisions.verdict import breaking, step, transaction

VOTERS = frozenset({"P", "S", "T", "O1", "O2"})
S = Rules("S", VOTERS, may_lead=True)
O = Rules("O1", VOTERS)  # noqa: E741 - an observer
CRASHED = Rules("P", VOTERS, may_lead=True)  # the primary
LOCK = Lock(
    revision=30,
    leader="P",
    leader_revision=10,
    sync_leader="P",
    sync=frozenset({"S"}),
    sync_revision=20,
    config_revision=5,
    verdict_revision=0,
)
FREE = replace(LOCK, revision=31, leader=None, leader_revision=0, sync_revision=31, verdict_revision=31)
TAKEN_BACK = replace(FREE, revision=32, leader="P", leader_revision=32)
S_LEADS = replace(
    FREE, revision=33, leader="S", leader_revision=32, sync_leader="S", sync=frozenset(), sync_revision=33
)
CASE = Case("S", "P", leader_revision=10, sync_revision=20, config_revision=5, verdict_revision=0)
P = frozenset({"P"})

ALIVE = View(lock=LOCK)
DEAD = View(lock=LOCK, silent=P, agreed=P)
FENCED = replace(DEAD, fenced=P)
HEARD_AGAIN = View(lock=LOCK, fenced=P)

ASKING = State(case=CASE, votes=frozenset({"S"}), promises=frozenset({CASE}), remembered=P)
PROMISED = State(promises=frozenset({CASE}), remembered=P)
OWING = State(promises=frozenset({CASE}), owed=frozenset({CASE}))
LOWERING = replace(PROMISED, lowering=P)
DOWN = View(lock=LOCK, crashed=True)
OWN = replace(CASE, candidate="P")
RESIGNING = State(resigning=OWN)


# The candidate: fence, ask, count, release.


def test_nothing_is_done_about_a_primary_that_is_heard() -> None:
    assert step(S, State(), ALIVE, Tick())[1] == ()


def test_a_candidate_fences_first_a_primary_that_it_and_a_majority_hold_to_be_dead() -> None:
    assert step(S, State(), DEAD, Tick())[1] == (Fence("P"),)


def test_a_candidate_does_nothing_while_a_majority_does_not_agree() -> None:
    assert step(S, State(), replace(DEAD, agreed=frozenset()), Tick())[1] == ()


def test_a_candidate_asks_when_its_fence_stands_and_has_its_own_vote() -> None:
    state, actions = step(S, State(), FENCED, Fenced("P"))
    assert actions == (Ask(CASE),)
    assert state == replace(ASKING, seen=30)


def test_a_candidate_asks_again_with_every_tick_because_messages_are_lost() -> None:
    state, actions = step(S, ASKING, FENCED, Tick())
    assert actions == (Ask(CASE),)
    assert state.votes == {"S"}


def test_a_candidate_releases_with_a_majority_of_all_voters_and_once() -> None:
    state, actions = step(S, ASKING, FENCED, Voted("O1", CASE))
    assert actions == ()
    state, actions = step(S, state, FENCED, Voted("O2", CASE))
    assert actions == (Release(CASE),)
    assert step(S, state, FENCED, Voted("T", CASE))[1] == ()


def test_a_vote_counts_once_and_only_of_a_voter() -> None:
    votes = replace(ASKING, votes=frozenset({"S", "O1"}))
    assert step(S, votes, FENCED, Voted("O1", CASE))[1] == ()
    assert step(S, votes, FENCED, Voted("stranger", CASE))[1] == ()


def test_a_vote_for_an_earlier_case_counts_for_nothing() -> None:
    state, actions = step(S, ASKING, FENCED, Voted("O1", replace(CASE, verdict_revision=7)))
    assert (state.votes, actions) == ({"S"}, ())


def test_in_quorum_mode_every_synchronous_standby_has_to_promise() -> None:
    lock = replace(LOCK, sync=frozenset({"S", "T"}), quorum=1)
    view, state = replace(FENCED, lock=lock), replace(ASKING, votes=frozenset({"S", "O1"}))
    state, actions = step(S, state, view, Voted("O2", CASE))
    assert actions == ()
    assert step(S, state, view, Voted("T", CASE))[1] == (Release(CASE),)


def test_enough_votes_are_not_enough_when_the_primary_is_heard_again() -> None:
    votes = replace(ASKING, votes=frozenset({"S", "O1"}))
    assert step(S, votes, HEARD_AGAIN, Voted("O2", CASE))[1] == ()


def test_enough_votes_are_not_enough_when_etcd_has_changed() -> None:
    votes, moved = replace(ASKING, votes=frozenset({"S", "O1"})), replace(LOCK, revision=31, sync_revision=31)
    assert step(S, votes, replace(FENCED, lock=moved), Voted("O2", CASE))[1] == ()


def test_a_change_in_etcd_begins_a_new_case_with_no_vote_but_the_own() -> None:
    moved = replace(LOCK, revision=31, verdict_revision=31)
    state, actions = step(S, replace(ASKING, votes=frozenset({"S", "O1"})), replace(FENCED, lock=moved), Tick())
    case = replace(CASE, verdict_revision=31)
    assert actions == (Ask(case),)
    assert (state.case, state.votes, state.promises) == (case, {"S"}, {CASE, case})


def test_a_candidate_gives_its_case_up_when_the_primary_is_heard_again_and_keeps_its_promise() -> None:
    state, _ = step(S, ASKING, HEARD_AGAIN, Tick())
    assert state.case is None
    assert state.promises == {CASE}


def test_who_is_not_in_sync_does_not_ask() -> None:
    for lock in (
        replace(LOCK, sync=frozenset({"T"})),
        replace(LOCK, sync_leader="T"),
        replace(LOCK, paused=True),
        replace(LOCK, synchronous=False),
    ):
        assert step(S, State(), replace(FENCED, lock=lock), Tick())[1] == ()


def test_who_may_not_lead_does_not_ask() -> None:
    assert step(O, State(), FENCED, Tick())[1] == ()


def test_without_synchronous_replication_only_who_accepts_a_loss_asks() -> None:
    view = replace(FENCED, lock=replace(LOCK, synchronous=False, sync=frozenset()))
    assert step(replace(S, accept_loss=True), State(), view, Tick())[1] == (Ask(CASE),)


def test_a_release_compares_all_that_the_case_rests_on_and_puts_sync_again_after_the_lock_has_gone() -> None:
    wanted = transaction(CASE)
    assert dict(wanted.compare) == {"leader": 10, "sync": 20, "config": 5, "pgbaton-verdict": 0}
    assert (wanted.delete, wanted.keep, wanted.touch) == (("leader",), ("sync",), ("pgbaton-verdict",))
    assert list(wanted.__slots__) == ["compare", "delete", "keep", "touch"]


def test_a_release_that_was_lost_ends_the_case() -> None:
    state, _ = step(S, replace(ASKING, releasing=True), FENCED, Answered(CASE, Outcome.LOST))
    assert (state.case, state.votes, state.releasing, state.revoking) == (None, frozenset(), False, None)


def test_a_release_of_which_nobody_knows_is_tried_again() -> None:
    votes = replace(ASKING, votes=frozenset({"S", "O1", "O2"}), releasing=True)
    assert step(S, votes, FENCED, Tick())[1] == (Ask(CASE),)
    state, _ = step(S, votes, FENCED, Answered(CASE, Outcome.UNKNOWN))
    assert step(S, state, FENCED, Tick())[1] == (Ask(CASE), Release(CASE))


def test_the_lease_is_revoked_when_another_leads_and_once() -> None:
    state, _ = step(S, replace(ASKING, releasing=True), FENCED, Answered(CASE, Outcome.WON))
    state, actions = step(S, state, replace(FENCED, lock=FREE), Tick())
    assert actions == ()
    state, actions = step(S, state, replace(FENCED, lock=S_LEADS), Tick())
    assert actions == (Revoke(CASE),)
    assert step(S, state, replace(FENCED, lock=S_LEADS), Tick())[1] == ()


def test_the_lease_of_a_primary_that_took_its_lock_back_is_its_own() -> None:
    state = State(revoking=CASE, remembered=P)
    state, actions = step(S, state, replace(FENCED, lock=TAKEN_BACK), Tick())
    assert not any(isinstance(action, Revoke) for action in actions)
    assert state.revoking is None


# The voter: fence, then vote.


def test_a_vote_is_a_promise_and_the_fence_comes_first() -> None:
    state, actions = step(O, State(), DEAD, Asked(CASE))
    assert actions == (Fence("P"),)
    assert state == replace(OWING, seen=30)
    state, actions = step(O, state, FENCED, Fenced("P"))
    assert actions == (Vote(CASE),)
    assert state == replace(PROMISED, seen=30)


def test_who_has_fenced_already_votes_at_once() -> None:
    state, actions = step(O, State(remembered=P), FENCED, Asked(CASE))
    assert actions == (Vote(CASE),)
    assert state.promises == {CASE}


def test_nobody_votes_whose_fence_is_told_to_stand_and_does_not() -> None:
    state, actions = step(O, OWING, DEAD, Fenced("P"))
    assert actions == ()
    assert (state.owed, state.remembered) == ({CASE}, frozenset())


def test_nobody_votes_when_the_primary_was_heard_while_the_fence_went_up() -> None:
    state, actions = step(O, OWING, HEARD_AGAIN, Fenced("P"))
    assert not any(isinstance(action, Vote) for action in actions)
    assert (state.owed, state.promises) == (frozenset(), {CASE})


def test_nobody_votes_against_a_primary_that_it_hears() -> None:
    assert step(O, State(), ALIVE, Asked(CASE)) == (State(seen=30), ())


def test_who_slept_says_nothing_of_others() -> None:
    asleep = replace(FENCED, stalled=True)
    assert step(O, State(), asleep, Asked(CASE))[1] == ()
    assert step(S, replace(ASKING, votes=frozenset({"S", "O1"})), asleep, Voted("O2", CASE))[1] == ()
    assert step(S, ASKING, asleep, Tick())[1] == ()


def test_nobody_votes_against_itself_or_for_a_stranger() -> None:
    view = replace(FENCED, silent=frozenset({"O1", "P"}), fenced=frozenset({"O1", "P"}))
    assert step(O, State(), view, Asked(replace(CASE, primary="O1")))[1] == ()
    assert step(O, State(), view, Asked(replace(CASE, candidate="stranger")))[1] == ()


def test_nobody_votes_in_a_case_that_it_knows_to_be_over() -> None:
    assert step(O, State(), replace(FENCED, lock=TAKEN_BACK), Asked(CASE))[1] == ()


def test_a_view_that_is_older_than_the_case_proves_nothing_against_it() -> None:
    later = replace(CASE, leader_revision=40)
    assert step(O, State(), FENCED, Asked(later))[1] == (Vote(later),)


def test_a_voter_without_a_view_of_etcd_votes_too() -> None:
    assert step(O, State(), replace(FENCED, lock=None), Asked(CASE))[1] == (Vote(CASE),)


def test_nobody_votes_while_its_fence_is_on_its_way_down() -> None:
    assert step(O, LOWERING, FENCED, Asked(CASE))[1] == ()


# Fences that may fall.


def test_a_fence_stands_while_nobody_leads() -> None:
    assert step(O, PROMISED, View(lock=FREE, fenced=P, following=P), Tick())[1] == ()


def test_a_fence_stands_while_another_leads_and_the_old_primary_does_not_follow() -> None:
    assert step(O, PROMISED, View(lock=S_LEADS, fenced=P), Tick())[1] == ()


def test_a_fence_falls_when_the_old_primary_follows_another() -> None:
    state, actions = step(O, PROMISED, View(lock=S_LEADS, fenced=P, following=P), Tick())
    assert actions == (Unfence("P"),)
    assert state == State(lowering=P, seen=33)


def test_a_fence_falls_when_the_primary_took_its_lock_back() -> None:
    assert step(O, PROMISED, View(lock=TAKEN_BACK, fenced=P), Tick())[1] == (Unfence("P"),)


def test_a_promise_that_could_be_called_in_is_broken_before_the_fence_falls() -> None:
    state, actions = step(O, PROMISED, HEARD_AGAIN, Tick())
    assert actions == (Break("P", 10),)
    assert state == replace(LOWERING, seen=30)
    state, actions = step(O, state, HEARD_AGAIN, Broken("P", 31))
    assert actions == (Unfence("P"),)
    assert state == State(lowering=P, seen=30)


def test_to_break_a_promise_is_to_change_the_verdict_key_under_the_leader_key_that_is_known() -> None:
    assert breaking(10).compare == (("leader", 10),)
    assert (breaking(10).touch, breaking(10).delete, breaking(10).keep) == (("pgbaton-verdict",), (), ())


def test_a_promise_that_could_not_be_broken_holds_the_fence_and_may_be_broken_later() -> None:
    state, actions = step(O, LOWERING, HEARD_AGAIN, Broken("P", None))
    assert (state.lowering, state.promises, actions) == (frozenset(), {CASE}, ())
    assert step(O, state, HEARD_AGAIN, Tick())[1] == (Break("P", 10),)


def test_a_promise_that_is_newer_than_the_change_holds_the_fence() -> None:
    newer = replace(CASE, verdict_revision=31)
    state, actions = step(O, replace(LOWERING, promises=frozenset({CASE, newer})), HEARD_AGAIN, Broken("P", 31))
    assert (state.promises, state.lowering, actions) == ({newer}, frozenset(), ())


def test_a_fence_from_before_a_restart_may_carry_promises_that_nobody_remembers() -> None:
    assert step(O, State(), HEARD_AGAIN, Tick())[1] == (Break("P", 10),)


def test_one_thing_at_a_time_is_done_about_a_fence() -> None:
    assert step(O, LOWERING, HEARD_AGAIN, Tick())[1] == ()


def test_nothing_rests_on_a_fence_on_its_way_down() -> None:
    assert step(S, State(lowering=P), FENCED, Tick())[1] == ()


def test_when_the_fence_is_down_all_begins_anew() -> None:
    assert step(S, State(lowering=P), DEAD, Unfenced("P")) == (State(seen=30), (Fence("P"),))


def test_a_fence_that_did_not_fall_is_one_of_which_nothing_is_known() -> None:
    state, actions = step(O, State(lowering=P), HEARD_AGAIN, Unfenced("P"))
    assert actions == (Break("P", 10),)
    assert state.lowering == P


def test_a_promise_is_forgotten_when_etcd_has_a_later_leader_key() -> None:
    assert step(O, PROMISED, View(lock=FREE, fenced=P), Tick())[0].promises == frozenset()


def test_a_view_older_than_the_last_one_shows_nothing() -> None:
    known, _ = step(O, PROMISED, View(lock=FREE, fenced=P), Tick())
    assert step(O, known, HEARD_AGAIN, Tick()) == (known, ())


# A primary whose server has crashed.


def test_a_host_whose_server_has_crashed_gives_up_its_lock_and_asks_nobody() -> None:
    assert step(CRASHED, State(), DOWN, Tick()) == (replace(RESIGNING, seen=30), (Resign(OWN),))


def test_one_that_may_be_promoted_is_enough_to_give_up_the_lock() -> None:
    view = replace(DOWN, lock=replace(LOCK, sync=frozenset({"S", "T"})), silent=frozenset({"S"}))
    assert step(CRASHED, State(), view, Tick())[1] == (Resign(OWN),)


@pytest.mark.parametrize(
    "lock",
    [
        replace(LOCK, paused=True),
        replace(LOCK, synchronous=False),
        replace(LOCK, by_quorum=True),
        replace(LOCK, sync=frozenset({"S", "T"}), quorum=1),
        replace(LOCK, leader="S"),
        replace(LOCK, leader=None, leader_revision=0),
        replace(LOCK, sync_leader="S"),
        replace(LOCK, sync=frozenset()),
        replace(LOCK, sync=frozenset({"P"})),
        None,
    ],
    ids=[
        "paused",
        "asynchronous",
        "in quorum mode",
        "some are enough",
        "another leads",
        "nobody leads",
        "/sync is another's",
        "/sync names nobody",
        "/sync names itself",
        "etcd is not known",
    ],
)
def test_the_lock_of_a_crashed_server_stays_where_giving_it_up_could_lose_something(lock: Lock | None) -> None:
    assert step(CRASHED, State(), replace(DOWN, lock=lock), Tick())[1] == ()


@pytest.mark.parametrize(
    "view",
    [
        replace(DOWN, crashed=False),
        replace(DOWN, silent=frozenset({"S"})),
        replace(DOWN, stalled=True),
        replace(DOWN, lock=replace(LOCK, barred=frozenset({"S"}))),
    ],
    ids=["it runs", "nobody who may be promoted lives", "the agent slept", "nobody may be promoted"],
)
def test_the_lock_stays_where_giving_it_up_would_win_nothing(view: View) -> None:
    assert step(CRASHED, State(), view, Tick())[1] == ()


def test_a_lock_is_given_up_by_one_transaction_at_a_time() -> None:
    assert step(CRASHED, RESIGNING, DOWN, Tick())[1] == ()
    assert step(CRASHED, RESIGNING, replace(DOWN, lock=replace(LOCK, revision=31, sync_revision=31)), Tick())[1] == ()


def test_a_resignation_of_which_nobody_knows_is_tried_again() -> None:
    state, actions = step(CRASHED, RESIGNING, DOWN, Answered(OWN, Outcome.UNKNOWN))
    assert actions == ()
    assert step(CRASHED, state, DOWN, Tick())[1] == (Resign(OWN),)


def test_a_resignation_that_was_lost_is_over_and_the_next_goes_by_what_etcd_says_then() -> None:
    state, actions = step(CRASHED, RESIGNING, DOWN, Answered(OWN, Outcome.LOST))
    assert (state.resigning, actions) == (None, ())
    later = replace(LOCK, revision=31, sync_revision=31)
    assert step(CRASHED, state, replace(DOWN, lock=later), Tick())[1] == (Resign(replace(OWN, sync_revision=31)),)
    assert step(CRASHED, state, replace(DOWN, lock=FREE), Tick())[1] == ()


def test_the_end_of_another_case_does_not_end_a_resignation() -> None:
    state, _ = step(CRASHED, RESIGNING, DOWN, Answered(replace(OWN, sync_revision=19), Outcome.LOST))
    assert state.resigning == OWN


def test_no_lease_is_revoked_after_a_resignation() -> None:
    for outcome in (Outcome.WON, Outcome.UNKNOWN):
        state, _ = step(CRASHED, RESIGNING, DOWN, Answered(OWN, outcome))
        assert state.revoking is None
        assert step(CRASHED, state, replace(DOWN, lock=S_LEADS), Tick())[1] == ()


# Who may not become primary, whoever names it.


def test_who_is_barred_asks_nobody() -> None:
    view = replace(FENCED, lock=replace(LOCK, barred=frozenset({"S"})))
    assert step(S, State(remembered=P), view, Tick())[1] == ()
    lossy, other = replace(S, accept_loss=True), replace(LOCK, sync=frozenset(), synchronous=False)
    assert step(lossy, State(remembered=P), replace(FENCED, lock=other), Tick())[1] != ()
    barred = replace(other, barred=frozenset({"S"}))
    assert step(lossy, State(remembered=P), replace(FENCED, lock=barred), Tick())[1] == ()


def test_a_crashed_primary_resigns_for_one_that_can_be_promoted() -> None:
    lock = replace(LOCK, sync=frozenset({"S", "T"}), barred=frozenset({"S"}))
    assert step(CRASHED, State(), replace(DOWN, lock=lock), Tick())[1] == (Resign(OWN),)
    assert step(CRASHED, State(), replace(DOWN, lock=lock, silent=frozenset({"T"})), Tick())[1] == ()
