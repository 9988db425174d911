"""In which order a measurement is made, and what is left out of it."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Network

import pytest
from made_measurement import STANDARD, standing

from pgbaton.measure import plan, profiles, room, ways
from pgbaton.measure.plan import Case
from pgbaton.measure.room import Connections
from pgbaton.topology.model import PoolMode

LAYOUT = ways.layout(standing(), ways.NAMES, client=None)


def request(rounds: int) -> plan.Request:
    cases = plan.cases(("select-only", "tpcb"), ("simple",), (1, 16, 1))
    return plan.Request(cases, ways.USUAL, seconds=5, rounds=rounds, scale=10)


def test_every_way_is_measured_beside_the_others_in_every_round_and_is_first_as_often() -> None:
    steps = list(plan.steps(request(rounds=3)))
    assert len(steps) == 3 * 4 * 3
    assert [(step.round, step.case.clients, step.way) for step in steps[:6]] == [
        *((1, 1, way) for way in ("direct", "balancer", "vip")),
        *((1, 16, way) for way in ("direct", "balancer", "vip")),
    ]
    firsts = Counter(group[0].way for group in zip(*[iter(steps)] * 3, strict=True))
    assert firsts == {"direct": 4, "balancer": 4, "vip": 4}
    assert {step.round for step in steps[12:24]} == {2}


def test_how_long_it_takes_and_whether_it_writes_is_known_beforehand() -> None:
    assert request(rounds=2).total_seconds == 4 * 3 * 2 * 5
    assert request(rounds=2).writes
    reads = plan.Request(plan.cases(("select-only",), ("simple",), (1,)), ("direct",), seconds=1, rounds=1, scale=1)
    assert not reads.writes


@pytest.mark.parametrize("profile", profiles.PROFILES, ids=lambda profile: profile.name)
def test_scripts_name_every_table_with_its_schema_and_every_row_there_is(profile: profiles.Profile) -> None:
    script = profile.script(7)
    assert "$" not in script
    assert "random(1, 700000)" in script
    assert script.count("pgbench_") == script.count("pgbaton_bench.pgbench_") > 0
    assert profile.writes == ("UPDATE" in script)


def test_tables_belong_to_the_databases_owner_whatever_its_name_is() -> None:
    made = profiles.tables('o"wner', 3)
    assert 'AUTHORIZATION "o""wner"' in made
    assert 'SET ROLE "o""wner"' in made
    assert "generate_series(1, 300000)" in made


@pytest.mark.parametrize(
    ("clients", "lab", "reason"),
    [
        (160, True, None),
        (161, True, "the server lets 197 in, of which 37 are in use: there is room for 160"),
        (74, False, None),
        (75, False, "may be needed by the pools: there is room for"),
    ],
)
def test_the_server_itself_takes_only_as_many_clients_as_pools_can_spare(
    clients: int, reason: str | None, *, lab: bool
) -> None:
    case, way = Case("select-only", "simple", clients), LAYOUT.way("direct")
    found = room.obstacle(STANDARD, case, way, "lb2", Connections(most=197, used=37), lab=lab)
    assert (found is None) == (reason is None)
    assert (reason or "") in (found or "")


def test_a_users_own_limit_is_one_for_the_direct_way_alone() -> None:
    users = tuple(user.model_copy(update={"connection_limit": 5}) for user in STANDARD.users)
    topology, seen = STANDARD.model_copy(update={"users": users}), Connections(197, 10)
    case = Case("select-only", "simple", 16)
    assert (
        room.obstacle(topology, case, LAYOUT.way("direct"), "lb2", seen, lab=True)
        == "the user app may have 5 connections"
    )
    assert room.obstacle(topology, case, LAYOUT.way("vip"), "lb2", seen, lab=True) is None


def test_poolers_take_as_many_clients_as_the_topology_says() -> None:
    seen = Connections(197, 10)
    most, more = (Case("select-only", "simple", clients) for clients in (3_000, 3_001))
    assert room.obstacle(STANDARD, most, LAYOUT.way("vip"), "lb2", seen, lab=True) is None
    assert "lets 3,000 clients in" in (room.obstacle(STANDARD, more, LAYOUT.way("pooler"), "lb2", seen, lab=True) or "")


def test_a_pool_of_sessions_serves_no_more_clients_than_it_has_connections() -> None:
    pooling = STANDARD.pooling.model_copy(update={"mode": PoolMode.SESSION})
    topology, seen = STANDARD.model_copy(update={"pooling": pooling}), Connections(197, 10)
    fits, not_fits = (Case("select-only", "simple", clients) for clients in (25, 26))
    assert room.obstacle(topology, fits, LAYOUT.way("vip"), "lb2", seen, lab=True) is None
    assert "which are 25" in (room.obstacle(topology, not_fits, LAYOUT.way("vip"), "lb2", seen, lab=True) or "")


def test_prepared_statements_are_not_asked_of_poolers_that_keep_none() -> None:
    old = STANDARD.model_copy(update={"postgresql": STANDARD.postgresql.model_copy(update={"version": 15})})
    case, seen = Case("select-only", "prepared", 1), Connections(197, 10)
    assert (
        room.obstacle(old, case, LAYOUT.way("vip"), "lb2", seen, lab=True) == "the poolers keep no prepared statements"
    )
    assert room.obstacle(old, case, LAYOUT.way("direct"), "lb2", seen, lab=True) is None
    assert room.obstacle(STANDARD, case, LAYOUT.way("vip"), "lb2", seen, lab=True) is None


def test_the_servers_answer_is_read() -> None:
    assert room.parse("197|12") == Connections(most=197, used=12)


def test_where_only_some_networks_may_be_clients_a_balancer_is_none_but_reaches_poolers() -> None:
    security = STANDARD.security.model_copy(update={"client_networks": (IPv4Network("192.0.2.0/24"),)})
    closed = STANDARD.model_copy(update={"security": security})
    case, seen = Case("select-only", "simple", 1), Connections(197, 10)
    found = {way.name: room.obstacle(closed, case, way, "lb2", seen, lab=True) for way in LAYOUT.ways}
    assert [name for name, reason in found.items() if reason] == ["balancer", "vip"]
    assert "no client in from lb2" in (found["vip"] or "")
    unguarded = closed.model_copy(update={"security": security.model_copy(update={"firewall": False})})
    assert room.obstacle(unguarded, case, LAYOUT.way("vip"), "lb2", seen, lab=True) is None
