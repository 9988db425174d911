"""What an agent does for HAProxy where PgBouncer is not beside it, or beside it on a host of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import NONE, Seen
from test_agent_balancer import GIVE_UP, WELL, Host

from pgbaton.agent.acting import balancer
from pgbaton.agent.acting.balancer import NotHeldError

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.agent.settings import Placement


async def agent(monkeypatch: pytest.MonkeyPatch, directory: Path, me: str, placement: Placement) -> Host:
    made = Host(monkeypatch, directory, me=me, placement=placement)
    await made.turn(3)
    made.told.clear()
    return made


async def test_a_pooler_on_a_host_of_its_own_is_held_and_led_on_and_has_no_vip_to_give_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = await agent(monkeypatch, tmp_path, "pool1", "pooler")
    assert host.balancer.leads_to == "db1"
    host.seen.sight.fenced = frozenset({"db1"})
    await host.turn()
    assert host.told == ["pause", "db1 down", "cut db1"]
    host.fail_over()
    await host.turn(3)
    assert host.told[3:] == ["db2 up", "resume"]
    assert host.balancer.leads_to == "db2"
    assert not host.tracked.exists()


async def test_a_balancer_before_such_poolers_leaves_them_and_the_servers_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = await agent(monkeypatch, tmp_path, "lb1", "pooler")
    assert host.balancer.leads_to == "db1", "a pooler takes clients, and db1 says that it takes writes"
    host.fail_over()
    await host.turn(3)
    assert host.told == []
    assert host.balancer.leads_to == "db2"
    assert host.tracked.read_text() == WELL
    with pytest.raises(NotHeldError, match="no pooler of this host"):
        await host.balancer.hold(1.0)


async def test_such_a_balancer_gives_up_the_vip_when_another_one_alone_has_a_pooler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = await agent(monkeypatch, tmp_path, "lb1", "pooler")
    host.peer_pools = False
    await host.turn(60)
    assert not host.balancer.leads
    assert host.tracked.read_text() == WELL, "the other balancer is no better off"
    host.seen.sight.hear("lb2", replace(NONE, poolers=True))
    await host.turn(60)
    assert host.tracked.read_text() == GIVE_UP


@pytest.mark.parametrize("placement", ["database", "application", "none"])
async def test_where_nobody_can_be_held_sessions_are_cut_and_led_on(
    placement: Placement, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = await agent(monkeypatch, tmp_path, "lb1", placement)
    host.fail_over()
    await host.turn(3)
    assert host.told == ["db1 down", "cut db1", "db2 up"]
    assert host.ordered == [], "there is no pooler here that could be asked"
    with pytest.raises(NotHeldError):
        await host.balancer.hold(1.0)
    assert host.balancer.leads_to == "db2"


@pytest.mark.parametrize(
    ("me", "placement", "done"),
    [
        ("lb1", "balancer", (["resume"], True)),
        ("pool1", "pooler", (["resume"], False)),
        ("lb1", "pooler", ([], True)),
        ("db1", "database", ([], False)),
    ],
)
async def test_an_agent_that_is_gone_holds_nobody(
    me: str, placement: Placement, done: tuple[list[str], bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Host(monkeypatch, tmp_path, me=me, placement=placement)
    await balancer.let_go(host.seen.settings, tracked=host.tracked)
    assert (host.told, host.tracked.exists()) == done


@pytest.mark.parametrize(
    ("placement", "pools", "holders"),
    [
        ("balancer", {"lb1", "lb2"}, {"lb1", "lb2"}),
        ("pooler", {"pool1", "pool2"}, {"pool1", "pool2"}),
        ("database", {"db1", "db2", "db3"}, set()),
        ("application", set(), set()),
        ("none", set(), set()),
    ],
)
def test_settings_tell_who_pools_and_who_holds(placement: Placement, pools: set[str], holders: set[str]) -> None:
    seen = Seen("db1", placement=placement).settings
    assert {host.name for host in seen.hosts if replace(seen, me=host.name).is_pooler} == pools
    assert {host.name for host in seen.holders} == holders
