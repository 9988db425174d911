"""Which cuts a partition is made of."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import UnhealthyError
from pgbaton.lab import definition, links, network, record
from pgbaton.lab.record import Cut, Lab
from pgbaton.proof.faults import dcs, named, networks, partitions
from pgbaton.proof.faults.base import Strike
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

TOPOLOGY = definition.complete(load.loads(presets.text("standard")), "trial")
ROLES = Roles(
    "db1",
    "lb2",
    ("db2", "db3"),
    synchronous=("db2",),
    balancers=("lb1", "lb2"),
    dcs=("db1", "db2", "db3"),
    dcs_leader="db3",
)
ETCD = (2379, 2380)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterState:
    async def nothing(lab: Lab) -> None:
        """Leave the fabric alone, which is not there."""

    monkeypatch.setattr(network, "apply_rules", nothing)
    monkeypatch.setattr(network, "apply_delays", nothing)
    state = ClusterState("trial", tmp_path / "trial")
    state.create()
    record.save(state, record.describe(TOPOLOGY, state, system="debian-13", durable=False))
    return state


async def cut_by(name: str, state: ClusterState, roles: Roles = ROLES) -> set[tuple[str, str, tuple[int, ...]]]:
    """Return the cuts that a fault makes, having seen that its healing takes back these and no others."""
    (fault,) = named([name])
    random = Random(1)
    strike = Strike(Target(TOPOLOGY, state, lambda _: None), fault.victims(roles, random), roles, random)
    await links.impair(state, Cut("app", "lb1"))
    await fault.inject(strike)
    made = {(cut.source, cut.target, cut.ports) for cut in record.load(state).cuts if cut.by}
    await fault.heal(strike)
    await fault.heal(strike)
    assert record.load(state).cuts == (Cut("app", "lb1"),)
    return made


def both(*pairs: tuple[str, str], ports: tuple[int, ...] = ()) -> set[tuple[str, str, tuple[int, ...]]]:
    return {(a, b, ports) for pair in pairs for a, b in (pair, pair[::-1])}


OTHERS = ("lb1", "lb2", "db2", "db3", "app")
ONE_WAY = {
    "primary-deaf": {(each, "db1", ()) for each in OTHERS},
    "primary-mute": {("db1", each, ()) for each in OTHERS},
}
EXPECTED = ONE_WAY | {
    "primary-isolated": both(*(("db1", each) for each in OTHERS)),
    "primary-cut-from-etcd": both(("db1", "db2"), ("db1", "db3"), ports=ETCD),
    "primary-cut-from-standby": both(("db1", "db2")),
    "standby-isolated": both(*(("db2", each) for each in ("lb1", "lb2", "db1", "db3", "app"))),
    "balancers-parted": both(("lb1", "lb2")),
    "balancer-cut-from-primary": both(("lb2", "db1")),
    "balancer-cut-from-databases": both(("lb2", "db1"), ("lb2", "db2"), ("lb2", "db3")),
}


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_partition_cuts_what_it_says_and_takes_that_back_alone(name: str, state: ClusterState) -> None:
    assert await cut_by(name, state) == EXPECTED[name]


def test_every_partition_is_tried_here() -> None:
    assert {fault.name for fault in partitions.FAULTS} == set(EXPECTED)


APART = TOPOLOGY.model_copy(
    update={
        "hosts": tuple(
            host.model_copy(update={"replication_address": IPv4Address(f"10.78.0.2{host.name[-1]}")})
            if host.name.startswith("db")
            else host
            for host in TOPOLOGY.hosts
        ),
        "network": TOPOLOGY.network.model_copy(update={"replication_subnet": IPv4Network("10.78.0.0/24")}),
    }
)
HALVES = {
    "replication-cut-from-standby": (record.REPLICATION, both(("db1", "db2"))),
    "replication-cut-from-all": (record.REPLICATION, both(("db1", "db2"), ("db1", "db3"))),
    "primary-cut-from-clients": (record.CLIENTS, both(*(("db1", each) for each in OTHERS))),
}


@pytest.mark.parametrize("name", HALVES)
async def test_half_of_a_partition_cuts_one_network_and_leaves_the_other(name: str, state: ClusterState) -> None:
    record.save(state, record.describe(APART, state, system="debian-13", durable=False))
    which, expected = HALVES[name]
    (fault,) = named([name])
    random = Random(1)
    strike = Strike(Target(APART, state, lambda _: None), fault.victims(ROLES, random), ROLES, random)
    await fault.inject(strike)
    cuts = record.load(state).cuts
    assert {(cut.source, cut.target, cut.ports) for cut in cuts} == expected
    assert {cut.network for cut in cuts} == {which}
    await fault.heal(strike)
    assert record.load(state).cuts == ()


async def test_half_of_a_partition_needs_two_networks(state: ClusterState) -> None:
    for fault in named(HALVES):
        reason = await fault.obstacle(Target(TOPOLOGY, state, lambda _: None))
        assert reason == "trial has no network for replication alone"
    assert {fault.name for fault in networks.FAULTS} == set(HALVES)


def test_whoever_finds_out_by_himself_takes_as_long_as_without_agents() -> None:
    """All hear each other, so that no agent has anything to say of a standby that cannot replicate."""
    (fault,) = named(["replication-cut-from-standby"])
    target = Target(APART, ClusterState("trial", Path("/nowhere")), lambda _: None)
    expected = fault.expects(Strike(target, ("db1", "db2"), ROLES, Random(1)))
    assert expected.keeps_primary
    assert expected.limit_seconds is not None
    assert expected.limit_seconds > APART.timings.wal_sender_timeout


def limit(topology: Topology) -> float:
    """Return the longest outage that a primary which is cut off from etcd alone may cost."""
    (fault,) = named(["primary-cut-from-etcd"])
    target = Target(topology, ClusterState("trial", Path("/nowhere")), lambda _: None)
    seconds = fault.expects(Strike(target, ("db1",), ROLES, Random(1))).limit_seconds
    assert seconds is not None
    return seconds


def test_a_primary_that_has_stepped_down_is_not_waited_for_where_agents_can_say_so() -> None:
    stock = load.loads(presets.text("standard") + "[orchestration]\nagent = false\n")
    assert limit(stock) > stock.timings.ttl
    assert TOPOLOGY.timings.retry_timeout < limit(TOPOLOGY) < stock.timings.ttl - stock.timings.loop_wait


def test_so_many_members_are_struck_that_the_rest_are_no_majority() -> None:
    for count in (1, 2, 3, 4, 5):
        names = tuple(f"db{number}" for number in range(count))
        struck = dcs.majority(Roles("db1", None, (), dcs=names), Random(1))
        assert count - len(struck) <= count // 2
        assert count - len(struck) + 1 > count // 2
        assert set(struck) <= set(names)


def test_an_etcd_without_a_leader_or_without_followers_cannot_lose_one() -> None:
    with pytest.raises(UnhealthyError, match="no leader"):
        dcs.leader(Roles("db1", None, (), dcs=("db1",)), Random(1))
    with pytest.raises(UnhealthyError, match="no member beside its leader"):
        dcs.follower(Roles("db1", None, (), dcs=("db1",), dcs_leader="db1"), Random(1))
