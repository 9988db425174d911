"""What each safeguard is for: without it, the model finds what it prevents, and the shortest way there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from model_agents import Model
from model_checker import explore
from model_scopes import A_COMMIT_AND_A_CHANGE, A_POWER_OFF, A_RESTART, ONE_COMMIT, OWN, THREE
from model_world import Scope

from pgbaton.agent.decisions import verdict
from pgbaton.agent.decisions.terms import Case, Lock, Rules, State, Transaction, View, Vote

SWIFT = replace(THREE, swift=("S", "O1"))
FIVE = Scope("")
COMMIT = replace(SWIFT, budget=ONE_COMMIT)
SYNC_FIRST = replace(SWIFT, budget=A_COMMIT_AND_A_CHANGE, order=("keep", "delete", "touch"), halves=True, late_views=2)
REVOKED_AT_ONCE = replace(THREE, revoke="at once", budget=ONE_COMMIT)


@dataclass(frozen=True)
class Mutation:
    """A safeguard taken away: what replaces it, where that is seen, as what, and the last step that leads there."""

    name: str
    scope: Scope
    invariant: str
    last: str
    instead: Mapping[str, Callable[..., object]] = field(default_factory=dict)


transaction, breaking = verdict.transaction, verdict.breaking
verdict_may_resign = verdict.may_resign


def without(key: str) -> Mapping[str, Callable[..., object]]:
    def weaker(case: Case) -> Transaction:
        whole = transaction(case)
        return replace(whole, compare=tuple(pair for pair in whole.compare if pair[0] != key))

    return {"transaction": weaker}


def vote_at_once(_view: View, case: Case) -> tuple[Vote, ...]:
    return (Vote(case),)


def without_keeping(case: Case) -> Transaction:
    return replace(transaction(case), keep=())


def breaking_anyhow(revision: int) -> Transaction:
    return replace(breaking(revision), compare=())


def of_those_reachable(_rules: Rules, votes: frozenset[str]) -> bool:
    return 2 * len(votes) > len(("S", "O1", "O2"))


def believes_while_asleep(view: View, host: str) -> bool:
    return host in view.silent


def as_far_as_remembered(state: State, lock: Lock, host: str) -> bool:
    return any(case.primary == host and not verdict.cannot_succeed(case, lock) for case in state.promises)


def of_any_view(case: Case, lock: Lock | None) -> bool:
    return lock is not None and lock.leader_revision != case.leader_revision


def anybody(rules: Rules, lock: Lock) -> bool:
    return lock.leader not in {None, rules.me}


def another_leads(view: View, lock: Lock, host: str) -> bool:
    return host not in view.silent if lock.leader == host else lock.leader is not None


def resigns_in_any_mode(rules: Rules, view: View, lock: Lock) -> bool:
    return verdict_may_resign(rules, view, replace(lock, quorum=0, by_quorum=False))


def resigns_where_each_confirms(rules: Rules, view: View, lock: Lock) -> bool:
    return verdict_may_resign(rules, view, replace(lock, by_quorum=False))


RESTS = "lets its fence against P fall; a case that rests on it"
LOST = "S: is promoted"

MUTATIONS = (
    Mutation("a vote waits for its fence", FIVE, "I4", "is asked by S", {"fence_first": vote_at_once}),
    Mutation("/sync is put again", COMMIT, "I1", LOST, {"transaction": without_keeping}),
    Mutation("the leader key is compared", replace(SWIFT, budget=A_POWER_OFF), "I4", "Unfence", without("leader")),
    Mutation("/sync is compared", COMMIT, "I6", "Release", without("sync")),
    Mutation("the verdict key is compared", FIVE, "I4", "Unfence", without("pgbaton-verdict")),
    Mutation(
        "the configuration is compared",
        replace(SWIFT, budget=ONE_COMMIT._replace(configs=1)),
        "I1",
        LOST,
        without("config"),
    ),
    Mutation("a promise is broken under the known leader key", FIVE, "I4", "Unfence", {"breaking": breaking_anyhow}),
    Mutation("the majority is one of all voters", FIVE, "I3", "release", {"majority": of_those_reachable}),
    Mutation(
        "each of /sync has promised",
        replace(FIVE, mode="quorum", sync=frozenset({"S", "T"}), swift=("S", "O1", "O2"), budget=ONE_COMMIT),
        "I1",
        "P: acknowledges commit 1",
        {"nobody_acknowledges": lambda _lock, _votes: True},
    ),
    Mutation(
        "who slept says nothing of others",
        replace(FIVE, stalls=True),
        "I3",
        "but slept",
        {"believes_dead": believes_while_asleep},
    ),
    Mutation("a promise holds the fence", FIVE, "I4", "S: unfences P", {"is_bound": lambda *_: False}),
    Mutation(
        "a promise may be one of an earlier life",
        replace(THREE, budget=A_RESTART),
        "I4",
        "S: unfences P",
        {"is_bound": as_far_as_remembered},
    ),
    Mutation("the lease is revoked when another leads", COMMIT, "I1", LOST, {"may_revoke": lambda *_: True}),
    Mutation("views only go forward", FIVE, "I4", "Unfence", {"forward": lambda state, view: (state, view)}),
    Mutation("nothing rests on a falling fence", THREE, "I4", "S: unfences P", {"is_lowered": lambda *_: False}),
    Mutation(
        "an old view proves nothing",
        replace(FIVE, swift=("S", "O1", "O2"), blind=True),
        "I4",
        "Unfence",
        {"cannot_succeed": of_any_view},
    ),
    Mutation("who asks may be promoted", COMMIT, "I6", "Release", {"eligible": anybody}),
    Mutation("the old primary has to follow", SWIFT, "I4", "Unfence", {"is_over": another_leads}),
    Mutation(
        "nobody gives up its lock when some of /sync are enough",
        replace(OWN, mode="quorum", sync=frozenset({"S", "T"}), budget=ONE_COMMIT),
        "I1",
        "P: acknowledges commit 1",
        {"may_resign": resigns_in_any_mode},
    ),
    Mutation(
        "nobody gives up its lock when others than /sync can be promoted",
        replace(OWN, mode="quorum", budget=ONE_COMMIT),
        "I1",
        "T: is promoted",
        {"may_resign": resigns_where_each_confirms},
    ),
    Mutation(
        "/sync is put again by who gives up its lock",
        replace(OWN, budget=A_COMMIT_AND_A_CHANGE),
        "I1",
        LOST,
        {"transaction": without_keeping},
    ),
    # What those around the protocol owe to it.
    Mutation("the lock goes before /sync comes", SYNC_FIRST, "I1", LOST),
    Mutation("the lease is not revoked with the release", REVOKED_AT_ONCE, "I1", LOST),
    Mutation("to follow is to follow the present leader", replace(SWIFT, following="anybody"), "I4", "Unfence"),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_without_a_safeguard_the_model_finds_what_it_prevents(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, other in mutation.instead.items():
        monkeypatch.setattr(verdict, name, other)
    model = Model(mutation.scope)
    seen = explore(model.initial, model.successors, most_states=80_000)
    assert seen.violation is not None, seen.told()
    assert seen.violation.invariant == mutation.invariant, seen.told()
    assert mutation.last in seen.trace[-1], seen.told()


def test_a_lease_that_is_never_revoked_loses_nothing() -> None:
    # Whoever does not know that its lock is gone cannot change /sync, which was put again, and waits for the
    # confirmation of one that has fenced it. Revoking is for those who would still write to it, and read.
    model = Model(replace(COMMIT, revoke="never"))
    seen = explore(model.initial, model.successors, most_states=60_000)
    assert seen.violation is None, seen.told()
    assert seen.complete


def test_every_safeguard_is_tried() -> None:
    tried = {name for mutation in MUTATIONS for name in mutation.instead}
    text = Path(verdict.__file__).read_text(encoding="utf-8")
    part = text[text.index("# Safeguards, each by itself.") : text.index("# The candidate.")]
    named = {line.split("(")[0].removeprefix("def ") for line in part.splitlines() if line.startswith("def ")}
    assert named <= tried
