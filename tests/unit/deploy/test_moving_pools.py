"""Another placement for the pools of a running cluster."""

from __future__ import annotations

import pytest

from pgbaton import blueprint
from pgbaton.deploy import moving, plan
from pgbaton.errors import RefusedError
from pgbaton.topology import load
from placed import POOLERS, SHOP, text


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
    marked = moving.with_former(drawn, moving.former(text("application", SHOP)))
    assert "shop" in {host.host for host in plan.present(marked)}
    marked = moving.with_former(drawn, moving.former(text("balancer", SHOP)))
    assert "shop" not in {host.host for host in plan.present(marked)}
