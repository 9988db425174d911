"""Every interleaving of the verdict's protocol, in small worlds: what must never be, and that all ends well."""

from dataclasses import replace

import pytest
from model_agents import Model
from model_checker import explore, stuck, way_to
from model_scopes import A_COMMIT_AND_A_CRASH, A_POWER_OFF, DATA, ONE_COMMIT, OWN, QUICK, THREE
from model_world import Budget, Scope, World, acknowledges

#: More than any quick scope has, and what one may take on a busy machine.
MOST_STATES, MOST_SECONDS = 60_000, 120.0


@pytest.mark.parametrize("scope", QUICK, ids=lambda scope: scope.name)
def test_nothing_acknowledged_is_lost_and_from_everywhere_a_way_leads_back(scope: Scope) -> None:
    model = Model(scope)
    seen = explore(model.initial, model.successors, most_states=MOST_STATES, most_seconds=MOST_SECONDS, with_edges=True)
    assert seen.violation is None, seen.told()
    assert seen.complete, f"only {seen.count} states were seen in {seen.seconds:.0f} s"
    nowhere = stuck(seen, model.good)
    assert not nowhere, way_to(seen, model.successors, nowhere[0])


@pytest.mark.parametrize("mode", ["on", "quorum"])
def test_the_lock_of_a_dead_primary_does_not_live_to_its_end(mode: str) -> None:
    # However wrong everybody was before: once P is off and S may be promoted, a way leads to another's acknowledging.
    base = THREE if mode == "on" else replace(DATA, swift=("S", "T"), leading=())
    model = Model(replace(base, buried=True, budget=A_POWER_OFF))
    seen = explore(model.initial, model.successors, most_states=MOST_STATES, with_edges=True)
    assert seen.complete
    nowhere = stuck(seen, lambda world: world.store.leader != "P" and acknowledges(world, model.scope))
    hopeful = [number for number in nowhere if _somebody_may_lead(seen.states[number])]
    assert not hopeful, way_to(seen, model.successors, hopeful[0])
    assert any(_somebody_may_lead(world) for world in seen.states)


def _somebody_may_lead(world: World) -> bool:
    return world.host("P").role == "off" and ("S" in world.store.sync or world.store.leader in {"S", "T"})


def test_the_world_in_which_nothing_is_found_is_one_in_which_everything_happens() -> None:
    model = Model(
        replace(THREE, swift=("S", "O1"), budget=Budget(commits=1, crashes=1, restarts=0, cycles=0, configs=0))
    )
    seen = explore(model.initial, model.successors, most_states=12_000)
    worlds = seen.states
    assert any(world.won >= 0 for world in worlds), "a release succeeds"
    assert any(world.won >= 0 and world.store.leader == "S" for world in worlds), "S takes the lock of a live primary"
    assert any(world.top == "S" and world.acked for world in worlds), "S is promoted with what was acknowledged"
    assert any(world.host("P").role == world.host("S").role == "primary" for world in worlds), "two are primary"
    assert any(world.host("P").role == "standby" and world.host("P").upstream == "S" for world in worlds), "P follows S"
    assert any(world.top == "S" and model.good(world) for world in worlds), "all fences fall after a failover"


def test_in_the_world_in_which_a_server_crashes_alone_everything_happens_too() -> None:
    model = Model(replace(OWN, budget=A_COMMIT_AND_A_CRASH))
    seen = explore(model.initial, model.successors, most_states=12_000)
    assert seen.complete
    worlds = seen.states
    won = [world for world in worlds if world.won >= 0]
    assert any(world.host("P").role == "down" for world in won), "the lock of a crashed server is given up"
    assert any(world.host("P").role == "primary" for world in won), "the lock of a server that lives is given up"
    assert any(world.top == "S" and world.host("P").role == "down" for world in won), "S is promoted meanwhile"
    back = [world for world in worlds if world.host("P").role == "standby" and world.host("P").upstream == "S"]
    assert any(world.acked and model.good(world) for world in back), "P is back and follows, and nothing is lost"


# What Patroni does by itself, with no agent anywhere. The early release cannot mend it; it must not rest on it either.


def test_patroni_alone_can_lose_a_commit_when_it_acquires_a_lock_that_another_held_meanwhile() -> None:
    scope = Scope("", agents=(), old_races=True, late_views=5, budget=replace_of(ONE_COMMIT, crashes=2))
    assert found(scope) == "I1"


def test_patroni_alone_can_lose_a_commit_when_it_keeps_the_standby_that_lags() -> None:
    budget = replace_of(ONE_COMMIT, crashes=1, cycles=1)
    scope = Scope("", mode="quorum", sync=frozenset({"S", "T"}), agents=(), lagging=True, budget=budget)
    assert found(scope) == "I1"


def test_a_patroni_that_overwrites_the_lock_must_not_have_it_released() -> None:
    assert found(replace(THREE, swift=("S", "O1"), overwrites=True, budget=ONE_COMMIT)) == "I1"


def found(scope: Scope) -> str:
    model = Model(scope)
    violation = explore(model.initial, model.successors, most_states=MOST_STATES).violation
    return violation.invariant if violation else "nothing"


def replace_of(budget: Budget, **changes: int) -> Budget:
    return budget._replace(**changes)
