from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import UsageError
from pgbaton.lab import links, network, record, relay
from pgbaton.lab.record import Cut, Delay, Lab, Loss
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path

TOPOLOGY = load.loads(presets.text("standard"))


@pytest.fixture
def state(tmp_path: Path) -> ClusterState:
    state = ClusterState("trial", tmp_path / "trial")
    state.create()
    record.save(state, record.describe(TOPOLOGY, state, system="debian-13", durable=False))
    return state


@pytest.fixture(autouse=True)
def applied(monkeypatch: pytest.MonkeyPatch) -> list[Lab]:
    """Keep what would be done to the fabric, which is not there."""
    done: list[Lab] = []

    async def rules(lab: Lab) -> None:
        done.append(lab)

    async def delays(lab: Lab) -> None:
        assert lab == done[-1]

    monkeypatch.setattr(network, "apply_rules", rules)
    monkeypatch.setattr(network, "apply_delays", delays)
    return done


async def test_one_maker_takes_back_its_own_and_leaves_what_another_has_done(
    state: ClusterState, applied: list[Lab]
) -> None:
    mine = (Cut("db1", "db2", by="mine"), Loss("db1", 5, "mine"), Delay("db1", 25.0, "mine"))
    theirs = (Cut("db1", "db2", by="theirs"), Loss("db1", 5, "theirs"), Delay("db1", 50.0, "theirs"))
    await links.impair(state, *mine)
    await links.impair(state, *theirs)
    left = await links.mend(state, by="mine")
    assert (*left.cuts, *left.losses, *left.delays) == theirs
    assert record.load(state) == left == applied[-1]


async def test_taking_back_what_nobody_did_changes_nothing(state: ClusterState) -> None:
    before = await links.impair(state, Cut("db1", "db2"))
    assert await links.mend(state, by="nobody") == before


async def test_what_is_done_twice_is_done_once(state: ClusterState) -> None:
    await links.impair(state, Cut("db1", "db2"))
    assert (await links.impair(state, Cut("db1", "db2"))).cuts == (Cut("db1", "db2"),)


async def test_healing_takes_back_everything(state: ClusterState) -> None:
    await links.impair(state, Cut("db1", "db2", (2379,), "a"), Loss("db1", 5), Delay("db1", 25.0))
    healed = await links.heal(state)
    assert (healed.cuts, healed.losses, healed.delays) == ((), (), ())


@pytest.mark.parametrize("wrong", [Cut("db1", "db9"), Cut("db9", "db1"), Loss("db9", 5), Delay("db9", 25.0)])
async def test_a_machine_that_is_none_is_refused_and_nothing_is_done(
    state: ClusterState, applied: list[Lab], wrong: links.Impairment
) -> None:
    with pytest.raises(UsageError, match="no machine db9"):
        await links.impair(state, Cut("db1", "db2"), wrong)
    assert record.load(state).cuts == ()
    assert applied == []


async def test_links_are_remembered_with_everything_that_is_wrong_with_them(state: ClusterState) -> None:
    made = await links.impair(
        state, Cut("db1", "db2", (2379, 2380), "a"), Loss("db2", 20, "b"), Delay("db3", 25.0, "c")
    )
    assert record.load(state) == made


def test_a_cut_reads_as_what_it_is() -> None:
    assert str(Cut("db1", "db2")) == "db1 -> db2"
    assert str(Cut("db1", "db2", (2379, 2380))) == "db1 -> db2 (TCP 2379, 2380)"
    assert str(Cut("db1", "db2", network=record.REPLICATION)) == "db1 -> db2 (network of replication)"


async def test_the_fabric_drops_one_way_from_link_to_link_whether_slow_or_not(state: ClusterState) -> None:
    lab = await links.impair(state, Cut("lb1", "db1"))
    assert network.rules(lab) == ('iifname { "port0", "slow-port0" } oifname { "port2", "slow-port2" } drop',)


@pytest.fixture
def two_networks(tmp_path: Path) -> ClusterState:
    """A lab whose second and third database, and no other machine, have a network for replication."""
    state = ClusterState("apart", tmp_path / "apart")
    state.create()
    hosts = tuple(
        host.model_copy(update={"replication_address": IPv4Address(f"10.78.0.2{host.name[-1]}")})
        if host.name in {"db2", "db3"}
        else host
        for host in TOPOLOGY.hosts
    )
    net = TOPOLOGY.network.model_copy(update={"replication_subnet": IPv4Network("10.78.0.0/24")})
    apart = TOPOLOGY.model_copy(update={"hosts": hosts, "network": net})
    record.save(state, record.describe(apart, state, system="debian-13", durable=False))
    return state


@pytest.mark.parametrize(
    ("which", "one", "other"),
    [
        ("", '"port3", "slow-port3", "rport3", "slow-rport3"', '"port4", "slow-port4", "rport4", "slow-rport4"'),
        (record.CLIENTS, '"port3", "slow-port3"', '"port4", "slow-port4"'),
        (record.REPLICATION, '"rport3", "slow-rport3"', '"rport4", "slow-rport4"'),
    ],
)
async def test_a_cut_is_of_both_networks_unless_it_names_one(
    two_networks: ClusterState, which: str, one: str, other: str
) -> None:
    lab = await links.impair(two_networks, Cut("db2", "db3", network=which))
    assert network.rules(lab) == (f"iifname {{ {one} }} oifname {{ {other} }} drop",)
    assert record.load(two_networks) == lab


async def test_a_machine_without_a_link_there_cannot_be_cut_off_there(two_networks: ClusterState) -> None:
    with pytest.raises(UsageError, match="db1 has no link to a network for replication"):
        await links.impair(two_networks, Cut("db2", "db1", network=record.REPLICATION))
    assert record.load(two_networks).cuts == ()


def test_a_second_link_is_another_in_everything_and_has_names_that_the_kernel_takes(
    two_networks: ClusterState,
) -> None:
    lab = record.load(two_networks)
    assert network.networks(lab) == (record.CLIENTS, record.REPLICATION)
    first, second = lab.links(lab.machine("db2"))
    assert (first.interface, first.address, second.interface, second.address) == (
        *("eth0", "10.77.0.22"),
        *("eth1", "10.78.0.22"),
    )
    assert first.mac != second.mac
    assert len(lab.links(lab.machine("lb1"))) == 1
    every = [link for machine in lab.machines for link in lab.links(machine)]
    ends = {end(link) for link in every for end in (relay.bridge_end, relay.relay_end)}
    assert len(ends) == 2 * len(every)
    assert max(map(len, ends)) <= 15


async def test_a_cut_of_ports_drops_requests_and_answers(state: ClusterState) -> None:
    lab = await links.impair(state, Cut("lb1", "db1", (2379, 2380)))
    assert [rule.partition(" tcp ")[2] for rule in network.rules(lab)] == [
        "sport { 2379, 2380 } drop",
        "dport { 2379, 2380 } drop",
    ]


async def test_a_loss_is_of_what_comes_and_of_what_goes(state: ClusterState) -> None:
    lab = await links.impair(state, Loss("lb1", 5))
    ends = '{ "port0", "slow-port0" } numgen random mod 100 < 5 drop'
    assert network.rules(lab) == (f"iifname {ends}", f"oifname {ends}")


def test_links_have_names_that_the_kernel_takes(state: ClusterState) -> None:
    names = {end(each) for each in record.load(state).machines for end in (relay.bridge_end, relay.relay_end)}
    assert len(names) == 2 * len(TOPOLOGY.hosts)
    assert max(map(len, names)) <= 15
