"""From where the data path is measured, and by which ways."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_measurement import COMPACT, STANDARD, standing

from pgbaton.errors import UnhealthyError, UsageError
from pgbaton.measure import results, ways

HOSTS = frozenset(host.name for host in COMPACT.hosts)


def test_the_clients_are_on_the_balancer_that_nobody_comes_through_so_that_every_way_crosses_the_network() -> None:
    found = ways.layout(standing(vip="lb1"), ways.NAMES, client=None)
    assert (found.client, found.balancer) == ("lb2", "lb1")
    assert [way.loopback for way in found.ways] == [False] * 4
    assert results.remarks(found) == ()


def test_each_way_leads_to_its_address_and_port() -> None:
    found = ways.layout(standing(primary="db2", vip="lb2"), ways.NAMES, client=None)
    assert {way.name: (way.host, way.address, way.port) for way in found.ways} == {
        "direct": ("db2", "10.77.0.22", 5432),
        "pooler": ("lb2", "10.77.0.12", 6432),
        "balancer": ("lb2", "10.77.0.12", 5000),
        "vip": ("lb2", "10.77.0.100", 5000),
    }


def test_where_balancers_are_databases_the_clients_share_a_host_neither_with_the_primary_nor_with_the_vip() -> None:
    names = [host.name for host in COMPACT.hosts]
    for primary in names:
        for vip in names:
            found = ways.layout(ways.Standing(COMPACT, primary, vip, HOSTS), ways.USUAL, client=None)
            assert found.client not in {primary, vip}
            assert not any(way.loopback for way in found.ways)


def test_the_only_balancer_left_measures_itself_and_that_is_said() -> None:
    found = ways.layout(replace(standing(vip="lb1"), alive=frozenset({"lb1", "db1"})), ways.USUAL, client=None)
    assert found.client == "lb1"
    assert {way.name: way.loopback for way in found.ways} == {"direct": False, "balancer": True, "vip": True}
    (said,) = results.remarks(found)
    assert "first stop of balancer and vip" in said


def test_clients_on_the_primary_are_told_of() -> None:
    found = ways.layout(ways.Standing(COMPACT, "n1", "n2", HOSTS), ("direct",), client="n1")
    assert [said.split(",")[0] for said in results.remarks(found)] == [
        "the clients run on n1",
        "the clients share n1 with the primary",
    ]


def test_a_host_that_is_asked_for_is_taken_if_servers_let_it_in() -> None:
    assert ways.layout(standing(vip="lb1"), ways.USUAL, client="lb1").client == "lb1"
    assert ways.layout(standing(), ("balancer", "vip"), client="app").client == "app"
    with pytest.raises(UsageError, match="from balancers alone, and app is none"):
        ways.layout(standing(), ways.USUAL, client="app")


def test_a_way_that_is_not_there_is_refused() -> None:
    network = STANDARD.network.model_copy(update={"vip": None})
    bare = STANDARD.model_copy(update={"network": network})
    assert ways.usual(bare) == ("direct", "balancer")
    with pytest.raises(UsageError, match="no VIP"):
        ways.layout(replace(standing(), topology=bare), ("vip",), client=None)
    with pytest.raises(UnhealthyError, match="no balancer holds the VIP"):
        ways.layout(standing(vip=None), ("vip",), client=None)
    with pytest.raises(UnhealthyError, match="no balancer answers"):
        ways.layout(replace(standing(), alive=frozenset({"db1"})), ("direct",), client=None)
