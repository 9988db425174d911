"""When a dead primary's leader lock may be released early, and what the hosts promise each other for it.

Patroni elects and promotes. All that is decided here is that the lock of a primary which a majority holds to be dead
need not live to its end. Words:

- *case*: one attempt of a candidate against a primary. It carries the revisions of the leader key, of ``/sync``, of the
  configuration and of the verdict key as the candidate saw them, and its transaction compares all of them: once one
  has changed in etcd, the case can never succeed.
- *vote*: a promise. Whoever votes has fenced the primary before, and while its fence stands it acknowledges nothing to
  the primary and leads nobody to it.
- *resigning*: a host whose own server has crashed has its own lock released, by the same transaction. Nobody has to be
  asked, but not in quorum mode: elsewhere each of ``/sync`` confirms every commit, and only these can be promoted.
- *breaking a promise*: no fence may fall on which a case rests that could still succeed, or has and whose primary does
  not know. Either etcd was seen with a later leader key, or the one who promised changes the verdict key first, in a
  transaction that proves the leader key to be the one it knows.

What the world around owes to it, beside the truth of its answers:

- Actions that fence and unfence are carried out in the order in which they were returned, and a vote not before what
  was returned before it. Of each of ``Fence``, ``Unfence``, ``Release`` and ``Break`` the end is told, once.
- ``View.fenced`` shows the fences that stand, those from before a restart from the first step on.
- ``View.lock`` is what etcd had at one revision of its store: never some keys of one revision and some of the next.

This module is pure: :func:`step` takes what an agent remembers, what it sees and what happened, and returns what it
remembers next and what is to be done, in that order. The same code is explored in every interleaving by the model in
``tests/model``. Each safeguard is a small function of its own, so that the model can show what happens without it.
"""

from __future__ import annotations

from dataclasses import replace

from pgbaton.agent.decisions.terms import (
    CONFIG,
    LEADER,
    SYNC,
    VERDICT,
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
    Transaction,
    Unfence,
    Unfenced,
    View,
    Vote,
    Voted,
)


def transaction(case: Case) -> Transaction:
    """Return the guarded release of a case.

    ``/sync`` is put again so that a change of it which the old primary has under way, on the revision that it read,
    fails: otherwise it could drop the candidate from ``/sync`` and go on acknowledging alone while that is promoted.
    """
    compare = (
        (LEADER, case.leader_revision),
        (SYNC, case.sync_revision),
        (CONFIG, case.config_revision),
        (VERDICT, case.verdict_revision),
    )
    return Transaction(compare=compare, delete=(LEADER,), keep=(SYNC,), touch=(VERDICT,))


def breaking(leader_revision: int) -> Transaction:
    """Return what ends every case on the leader key of this revision, and on any older one.

    That the key is as it was says that none of them has succeeded; that the verdict key changes, that none will.
    """
    return Transaction(compare=((LEADER, leader_revision),), touch=(VERDICT,))


def step(rules: Rules, state: State, view: View, event: Event) -> tuple[State, tuple[Action, ...]]:
    """Return what the agent remembers after an event, and what it does, in this order."""
    state, view = forward(state, view)
    state = forgotten(state, view)
    match event:
        case Tick():
            after = ticked(rules, state, view)
        case Asked():
            after = asked(rules, state, view, event.case)
        case Voted():
            after = voted(rules, state, view, event)
        case Fenced():
            after = fenced(rules, state, view, event.host)
        case Unfenced():
            after = unfenced(rules, state, view, event.host)
        case Answered():
            after = answered(state, event)
        case Broken():
            after = broken(state, view, event)
    return after


# Safeguards, each by itself.


def forward(state: State, view: View) -> tuple[State, View]:
    """Return the view without a lock older than the last one seen: because of that one, promises were forgotten."""
    if view.lock is None:
        return state, view
    if view.lock.revision < state.seen:
        return state, replace(view, lock=None)
    return replace(state, seen=view.lock.revision), view


def believes_dead(view: View, host: str) -> bool:
    """Tell whether the agent holds a host to be dead; one that slept itself holds nobody to be."""
    return not view.stalled and host in view.silent


def majority(rules: Rules, votes: frozenset[str]) -> bool:
    """Tell whether the votes are more than half of all who were configured, not of all who can be reached."""
    return 2 * len(votes & rules.voters) > len(rules.voters)


def nobody_acknowledges(lock: Lock, votes: frozenset[str]) -> bool:
    """Tell whether the votes keep the primary from acknowledging anything more.

    When each of ``/sync`` has to confirm, one that promised is enough, and the candidate is one. When some of them are
    enough for the primary, all must have promised.
    """
    return lock.quorum == 0 or lock.sync <= votes


def cannot_succeed(case: Case, lock: Lock | None) -> bool:
    """Tell whether a case's transaction is certain to fail: etcd was seen with another leader key, later than the case.

    A view that is older than the case proves nothing.
    """
    return lock is not None and lock.revision >= case.leader_revision and lock.leader_revision != case.leader_revision


def is_lowered(state: State, host: str) -> bool:
    """Tell whether the fence against a host is on its way down, though it stands yet: nothing new may rest on it."""
    return host in state.lowering


def may_revoke(case: Case, lock: Lock) -> bool:
    """Tell whether the lease of a released key can be revoked: when another holds the lock.

    Until then the old primary may take its lock back, with the same lease. Revoking it would delete that key without a
    comparison, and then nothing stops the primary from dropping from ``/sync`` the one that is promoted.
    """
    return cannot_succeed(case, lock) and lock.leader not in {None, case.primary}


def may_resign(rules: Rules, view: View, lock: Lock) -> bool:
    """Tell whether the lock of this host's own crashed server may go at once, before Patroni lets it go.

    Only when each of ``/sync`` confirms every commit, and nobody else can be promoted. The transaction may come late,
    when Patroni has started the server again as a primary; that one then acknowledges nothing without all of ``/sync``,
    whoever is promoted is of these, and ``/sync``, which was put again, cannot be changed on what was read before. In
    quorum mode, those who were not promoted could go on confirming, and one that ``/sync`` does not name be promoted.
    Somebody who may be promoted has to live, or nothing is won.
    """
    if not view.crashed or lock.leader != rules.me or lock.paused or not lock.synchronous or lock.by_quorum:
        return False
    return lock.quorum == 0 and lock.sync_leader == rules.me and bool(lock.promotable - view.silent - {rules.me})


def fence_first(view: View, case: Case) -> tuple[Action, ...]:
    """Return what answers a question: the vote when the fence stands, else the fence, and the vote when it does."""
    return (Vote(case),) if case.primary in view.fenced else (Fence(case.primary),)


# The candidate.


def eligible(rules: Rules, lock: Lock) -> bool:
    """Tell whether this host may be promoted in the leader's place without losing what was acknowledged."""
    if not rules.may_lead or lock.paused or lock.leader is None or rules.me in {lock.leader, *lock.barred}:
        return False
    if not lock.synchronous:
        return rules.accept_loss
    return rules.me in lock.sync and lock.sync_leader == lock.leader


def case_against(rules: Rules, lock: Lock, primary: str) -> Case:
    """Return the case that the present state of etcd allows."""
    return Case(
        candidate=rules.me,
        primary=primary,
        leader_revision=lock.leader_revision,
        sync_revision=lock.sync_revision,
        config_revision=lock.config_revision,
        verdict_revision=lock.verdict_revision,
    )


def ticked(rules: Rules, state: State, view: View) -> tuple[State, tuple[Action, ...]]:
    """Go on with an own case, or begin one; let fences fall that may."""
    lock = view.lock
    if lock is None or view.stalled:
        return state, ()
    state, revoked = revoking(state, lock)
    state, resigned = resigning(rules, state, view, lock)
    state, fallen = lifted(rules, state, view, lock)
    done = (*revoked, *resigned, *fallen)
    if lock.leader is None or not eligible(rules, lock) or not believes_dead(view, lock.leader):
        return replace(state, case=None, votes=frozenset(), releasing=False), done
    if is_lowered(state, lock.leader):
        return state, done
    if lock.leader not in view.fenced:
        return state, (*done, Fence(lock.leader)) if lock.leader in view.agreed else done
    state = opened(rules, state, lock, lock.leader)
    return decided(rules, state, view, (*done, Ask(state.case)) if state.case else done)


def opened(rules: Rules, state: State, lock: Lock, primary: str) -> State:
    """Return the state with a case on what etcd says now: the one under way, or a new one with its own vote."""
    case = case_against(rules, lock, primary)
    state = replace(state, promises=state.promises | {case})
    if state.case == case:
        return state
    return replace(state, case=case, votes=frozenset({rules.me}), releasing=False)


def voted(rules: Rules, state: State, view: View, event: Voted) -> tuple[State, tuple[Action, ...]]:
    """Count a vote for the present case; any other is from an attempt that is over."""
    if event.case != state.case:
        return state, ()
    return decided(rules, replace(state, votes=state.votes | {event.voter}), view, ())


def decided(rules: Rules, state: State, view: View, before: tuple[Action, ...]) -> tuple[State, tuple[Action, ...]]:
    """Release when the votes are enough and everything that the case rests on still holds."""
    case, lock = state.case, view.lock
    if case is None or lock is None or state.releasing or case != case_against(rules, lock, case.primary):
        return state, before
    holds = eligible(rules, lock) and believes_dead(view, case.primary) and case.primary in view.fenced
    if holds and majority(rules, state.votes) and nobody_acknowledges(lock, state.votes):
        return replace(state, releasing=True), (*before, Release(case))
    return state, before


def answered(state: State, event: Answered) -> tuple[State, tuple[Action, ...]]:
    """End the case when its transaction came to an end; when nobody knows, the next tick tries the same one again."""
    if event.case == state.resigning:
        # One that succeeded stays until its effect is seen. The lease is left alone: Patroni lives there, its lease
        # carries more than the lock, and it finds out by itself.
        return (state if event.outcome is Outcome.WON else replace(state, resigning=None)), ()
    if event.outcome is not Outcome.LOST:
        state = replace(state, revoking=event.case)
    if event.case != state.case:
        return state, ()
    if event.outcome is Outcome.UNKNOWN:
        return replace(state, releasing=False), ()
    return replace(state, case=None, votes=frozenset(), releasing=False), ()


def revoking(state: State, lock: Lock) -> tuple[State, tuple[Action, ...]]:
    """Return the revocation when its time has come, once; a case that is over without it needs none."""
    case = state.revoking
    if case is None or lock.leader is None or not cannot_succeed(case, lock):
        return state, ()
    return replace(state, revoking=None), (Revoke(case),) if may_revoke(case, lock) else ()


# The primary whose server has crashed.


def resigning(rules: Rules, state: State, view: View, lock: Lock) -> tuple[State, tuple[Action, ...]]:
    """Return the release of this host's own lock, when its server has crashed; one transaction at a time."""
    if state.resigning is not None and cannot_succeed(state.resigning, lock):
        state = replace(state, resigning=None)
    if state.resigning is not None or not may_resign(rules, view, lock):
        return state, ()
    case = case_against(rules, lock, rules.me)
    return replace(state, resigning=case), (Resign(case),)


# The voter.


def asked(rules: Rules, state: State, view: View, case: Case) -> tuple[State, tuple[Action, ...]]:
    """Promise, when this agent holds the primary to be dead too and knows of nothing that ends the case."""
    if case.primary == rules.me or case.candidate not in rules.voters or not believes_dead(view, case.primary):
        return state, ()
    if is_lowered(state, case.primary) or cannot_succeed(case, view.lock):
        return state, ()
    answer = fence_first(view, case)
    given = frozenset(action.case for action in answer if isinstance(action, Vote))
    owed = state.owed if given else state.owed | {case}
    return replace(state, promises=state.promises | {case}, owed=owed), answer


def fenced(rules: Rules, state: State, view: View, host: str) -> tuple[State, tuple[Action, ...]]:
    """Send the votes that waited for the fence, unless their primary was heard meanwhile; go on with an own case."""
    if host not in view.fenced:
        return state, ()
    mine = frozenset(case for case in state.owed if case.primary == host)
    state = replace(state, owed=state.owed - mine, remembered=state.remembered | {host})
    state, more = ticked(rules, state, view)
    if is_lowered(state, host) or not believes_dead(view, host):
        return state, more
    return state, (*(Vote(case) for case in sorted(mine, key=str)), *more)


# Fences that may fall.


def lifted(rules: Rules, state: State, view: View, lock: Lock) -> tuple[State, tuple[Action, ...]]:
    """Return what becomes of the fences that stand: kept, let fall, or first the promises broken."""
    actions: list[Action] = []
    for host in sorted(view.fenced - {rules.me}):
        if is_over(view, lock, host) and not is_lowered(state, host):
            bound = is_bound(state, lock, host)
            state = replace(state if bound else released_from(state, host), lowering=state.lowering | {host})
            actions.append(Break(host, lock.leader_revision) if bound else Unfence(host))
    return state, tuple(actions)


def is_over(view: View, lock: Lock, host: str) -> bool:
    """Tell whether a fence has done its work.

    The host holds the lock and was heard, so it is not dead; or another leads, and the host follows.
    """
    if lock.leader == host:
        return host not in view.silent
    return lock.leader is not None and host in view.following


def is_bound(state: State, lock: Lock, host: str) -> bool:
    """Tell whether a case that could still succeed rests on the fence; one that is not remembered might."""
    alive = any(case.primary == host and not cannot_succeed(case, lock) for case in state.promises)
    return alive or host not in state.remembered


def broken(state: State, view: View, event: Broken) -> tuple[State, tuple[Action, ...]]:
    """Let the fence fall when every case that rests on it is older than the verdict key is."""
    if event.host not in state.lowering:
        return state, ()
    kept = replace(state, lowering=state.lowering - {event.host})
    if event.revision is None:
        return kept, ()
    ends = {case for case in state.promises if case.primary == event.host and case.verdict_revision < event.revision}
    kept = replace(kept, promises=state.promises - ends)
    if any(case.primary == event.host for case in kept.promises) or event.host not in view.fenced:
        return kept, ()
    return replace(released_from(kept, event.host), lowering=state.lowering), (Unfence(event.host),)


def unfenced(rules: Rules, state: State, view: View, host: str) -> tuple[State, tuple[Action, ...]]:
    """Go on as if the fence had never been; when it did not fall, nothing is known of what rests on it."""
    return ticked(rules, replace(state, lowering=state.lowering - {host}), view)


def released_from(state: State, host: str) -> State:
    """Return the state without anything about a host whose fence falls."""
    own = None if state.case is not None and state.case.primary == host else state.case
    return replace(
        state,
        case=own,
        votes=state.votes if own else frozenset(),
        releasing=state.releasing and own is not None,
        promises=frozenset(case for case in state.promises if case.primary != host),
        owed=frozenset(case for case in state.owed if case.primary != host),
        remembered=state.remembered - {host},
    )


def forgotten(state: State, view: View) -> State:
    """Return the state without promises that cannot be called in any more, given or owed."""
    over = frozenset(case for case in state.promises | state.owed if cannot_succeed(case, view.lock))
    return replace(state, promises=state.promises - over, owed=state.owed - over) if over else state
