"""Another placement for the pools of a running cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton import blueprint
from pgbaton.deploy import engine, journal, moving, plan
from pgbaton.deploy.steps import Plan
from pgbaton.errors import RefusedError
from pgbaton.state import ClusterState
from pgbaton.topology import load
from placed import POOLERS, SHOP, text

if TYPE_CHECKING:
    from pathlib import Path


def test_a_text_that_is_refused_by_now_stands_in_the_way_of_nothing() -> None:
    assert moving.former(None) is None
    assert moving.former("schema = 99") is None
    moving.check(None, load.loads(text("none")))


def test_hosts_stay_while_pools_move_and_may_go_with_the_next_apply() -> None:
    before = moving.former(text("pooler", POOLERS))
    with pytest.raises(RefusedError, match=r"from pooler to balancer, and pool1 and pool2 would be gone") as refused:
        moving.check(before, load.loads(text("balancer")))
    assert "then take them out" in refused.value.hint
    moving.check(before, load.loads(text("balancer", POOLERS)))
    moving.check(moving.former(text("balancer", POOLERS)), load.loads(text("balancer")))
    moving.check(moving.former(text("balancer")), load.loads(text("pooler", POOLERS)))


def test_an_applications_host_is_visited_once_more_to_take_its_pool_away() -> None:
    drawn = blueprint.draw(load.loads(text("balancer", SHOP)))
    assert "shop" not in {host.host for host in plan.present(drawn)}
    marked = moving.with_former(drawn, load.loads(text("application", SHOP)))
    assert "shop" in {host.host for host in plan.present(marked)}
    marked = moving.with_former(drawn, load.loads(text("balancer", SHOP)))
    assert "shop" not in {host.host for host in plan.present(marked)}


def began(state: ClusterState, number: int, topology: str, before: str | None, *, finished: bool = False) -> None:
    """Write down an apply that was begun, and whether it came to its end."""
    made = Plan(f"2026010{number}", "test", "2026-01-01", topology, before, ())
    log = journal.begin(state, made)
    if finished:
        log.record("end")


@pytest.fixture
def state(tmp_path: Path) -> ClusterState:
    return ClusterState("test", tmp_path)


async def test_a_move_of_pools_is_not_taken_back_but_applied_back(state: ClusterState) -> None:
    began(state, 1, text("balancer"), None, finished=True)
    for number, where in ((2, "pooler"), (3, "database")):
        began(state, number, text(where, POOLERS), text("balancer"), finished=True)
        with pytest.raises(RefusedError, match=f"moved the pools .*from balancer to {where}") as refused:
            await engine.draft_rollback(state, {}, report=print)
        assert 'placement = "balancer"' in str(refused.value.hint)


async def test_a_move_that_was_interrupted_is_not_taken_back_after_the_next_apply_either(state: ClusterState) -> None:
    began(state, 1, text("balancer", POOLERS), None, finished=True)
    began(state, 2, text("pooler", POOLERS), text("balancer", POOLERS))
    began(state, 3, text("balancer", POOLERS), text("balancer", POOLERS), finished=True)
    with pytest.raises(RefusedError, match="moved the pools"):
        await engine.draft_rollback(state, {}, report=print)


def test_hosts_of_a_move_that_was_interrupted_are_still_its_hosts(state: ClusterState) -> None:
    assert engine.formers(state) == ()
    before, moved, other = text("balancer"), text("application", SHOP), text("balancer", SHOP)
    began(state, 1, before, None, finished=True)
    assert engine.formers(state) == (load.loads(before),)
    began(state, 2, moved, before)
    began(state, 3, other, before)
    assert engine.formers(state) == tuple(map(load.loads, (before, moved, other)))
    drawn = moving.with_former(blueprint.draw(load.loads(other)), *engine.formers(state))
    assert "shop" in {host.host for host in plan.present(drawn)}
    began(state, 4, other, before, finished=True)
    assert engine.formers(state) == (load.loads(other),)


async def test_the_earlier_file_does_not_forget_the_hosts_of_a_move_that_was_interrupted(state: ClusterState) -> None:
    before = text("balancer")
    began(state, 1, before, None, finished=True)
    began(state, 2, text("pooler", POOLERS), before)
    with pytest.raises(RefusedError, match="from pooler to balancer, and pool1 and pool2 would be gone"):
        await engine.draft(state, before, load.loads(before), {}, report=print)
