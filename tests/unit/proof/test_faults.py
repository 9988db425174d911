from __future__ import annotations

import sys
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "observe"))
import observed

from pgbaton.errors import UnhealthyError, UsageError
from pgbaton.observe.snapshot import HostView, Snapshot
from pgbaton.proof import picture
from pgbaton.proof.faults import DEMONSTRATED, FAULTS, choose, hand, named, of_suite, partitions, victims
from pgbaton.proof.faults.base import Strike, Suite
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.proof.target import Roles, Target, roles
from pgbaton.state import ClusterState
from pgbaton.topology import budget, load, presets

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Fault

ROLES = Roles("db1", "lb2", ("db2", "db3"))
TOPOLOGY = load.loads(presets.text("standard"))


RICH = Roles(
    "db1",
    "lb2",
    ("db2", "db3"),
    synchronous=("db2",),
    balancers=("lb1", "lb2"),
    dcs=("db1", "db2", "db3"),
    dcs_leader="db3",
    write_pools=("lb2",),
    read_pools=("lb2",),
)
PREDICTED = {each.fault for each in budget.budget(TOPOLOGY)}


def strike(fault: Fault, before: Roles = RICH) -> Strike:
    random = Random(1)
    target = Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), lambda _: None)
    return Strike(target, fault.victims(before, random), before, random)


def test_the_demonstrated_faults_are_chosen_when_none_is_named() -> None:
    assert tuple(fault.name for fault in choose((), TOPOLOGY)) == DEMONSTRATED


def test_a_larger_suite_contains_the_smaller_ones() -> None:
    smoke, standard, full = ({fault.name for fault in of_suite(suite)} for suite in Suite)
    assert smoke <= standard <= full
    # What a person does about a fault is asked for by name.
    assert full == {fault.name for fault in FAULTS} - {fault.name for fault in hand.FAULTS}


def test_no_two_faults_have_the_same_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_faults_are_run_in_the_order_in_which_they_are_named() -> None:
    assert [fault.name for fault in choose(["switchover", "postmaster-killed"], TOPOLOGY)] == [
        "switchover",
        "postmaster-killed",
    ]


def test_an_unknown_fault_is_refused_with_where_all_are_listed() -> None:
    with pytest.raises(UsageError, match="no fault named meteor") as caught:
        named(["meteor"])
    assert caught.value.hint == "pgbaton prove --list shows all of them"


def test_a_misspelt_fault_is_told_what_it_resembles() -> None:
    with pytest.raises(UsageError, match="no fault named primary-poweroff") as caught:
        choose(["primary-poweroff"], TOPOLOGY)
    assert "did you mean primary-power-off" in str(caught.value.hint)


def test_a_fault_that_the_topology_has_no_hosts_for_is_refused() -> None:
    lonely = TOPOLOGY.model_copy(update={"hosts": tuple(host for host in TOPOLOGY.hosts if host.name != "lb2")})
    with pytest.raises(UsageError, match="balancer-power-off needs 2 hosts with the role balancer"):
        choose(["balancer-power-off"], lonely)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_strikes_hosts_of_the_cluster_and_says_what_is_expected(fault: Fault) -> None:
    struck = strike(fault)
    assert struck.hosts
    assert all(TOPOLOGY.has_host(name) for name in struck.hosts)
    expected = fault.expects(struck)
    assert expected.budget is None or expected.budget in PREDICTED
    assert expected.limit_seconds is None or expected.budget is None
    assert fault.title[0].isupper() or fault.title.startswith("etcd")
    assert not fault.does.endswith(".")
    assert not fault.right.endswith(".")


def test_powering_off_a_balancer_that_is_the_primary_as_well_is_predicted_as_a_failover() -> None:
    (fault,) = choose(["balancer-power-off"], TOPOLOGY)
    expected = fault.expects(strike(fault, Roles("n1", "n1", ("n2",))))
    assert (expected.budget, expected.parts) == ("primary-power-off", PRIMARY_PARTS)


def test_the_vip_must_be_somewhere_to_strike_its_holder() -> None:
    (fault,) = choose(["balancer-power-off"], TOPOLOGY)
    with pytest.raises(UnhealthyError, match="no balancer holds the VIP"):
        fault.victims(Roles("db1", None, ()), Random(1))


def test_roles_are_not_read_from_a_cluster_without_a_primary() -> None:
    with pytest.raises(UnhealthyError, match="primaries: none"):
        roles(TOPOLOGY, Snapshot("demo", "now", (HostView("lb1", reachable=True, holds_vip=True),)))


SEVERAL = TOPOLOGY.model_copy(
    update={"network": TOPOLOGY.network.model_copy(update={"more_vips": (IPv4Address("10.77.0.101"),)})}
)


def standing(**held: tuple[str, ...]) -> Snapshot:
    """Return a cluster whose balancers hold these VIPs, by their last number, and whose primary is db1."""
    views = [
        HostView(name, reachable=True, holds_vip="100" in held.get(name, ()), more_vips=more)
        for name in ("lb1", "lb2")
        for more in [tuple(f"10.77.0.{last}" for last in held.get(name, ()) if last != "100")]
    ]
    return Snapshot("demo", "now", (*views, observed.database("db1")))


def test_of_several_vips_the_first_ones_holder_is_the_active_balancer_and_every_holder_leads() -> None:
    seen = roles(SEVERAL, standing(lb1=("101",), lb2=("100",)))
    assert (seen.vip, seen.more_vips) == ("lb2", (("10.77.0.101", "lb1"),))
    assert (seen.holders, seen.backups) == (("lb2", "lb1"), ())
    assert set(seen.write_pools) == {"lb1", "lb2"}
    both = roles(SEVERAL, standing(lb1=("100", "101")))
    assert (both.holders, both.backups, both.write_pools) == (("lb1",), ("lb2",), ("lb1",))


def test_a_further_vip_that_two_hold_leaves_no_roles() -> None:
    with pytest.raises(UnhealthyError, match=r"holders of the VIP 10\.77\.0\.101: lb1, lb2"):
        roles(SEVERAL, standing(lb1=("100", "101"), lb2=("101",)))


async def test_where_every_balancer_holds_a_vip_none_is_a_backup_to_strike(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(SEVERAL, ClusterState("demo", Path("/nowhere")), lambda _: None)
    snapshots = [standing(lb1=("100",), lb2=("101",)), standing(lb1=("100", "101"))]

    async def snapshot(_: Target) -> Snapshot:
        return snapshots.pop(0)

    monkeypatch.setattr(Target, "snapshot", snapshot)
    assert await victims.no_backup(target) == "every balancer holds a VIP"
    assert await victims.no_backup(target) is None


def test_balancers_are_parted_from_each_other_whoever_holds_vips() -> None:
    (fault,) = choose(["balancers-parted"], TOPOLOGY)
    before = replace(RICH, more_vips=(("10.77.0.101", "lb1"),))
    cuts = partitions.from_other_balancers(strike(fault, before))
    assert {(cut.source, cut.target) for cut in cuts} >= {("lb2", "lb1")}


def test_the_picture_shows_every_vip_and_every_holder() -> None:
    drawn = picture.draw(SEVERAL, replace(RICH, more_vips=(("10.77.0.101", "lb1"),)))
    assert "10.77.0.100 10.77.0.101" in drawn
    assert "lb1 ● VIP" in drawn
    assert "lb2 ● VIP" in drawn


def test_the_picture_shows_every_host_its_address_and_its_part() -> None:
    drawn = picture.draw(TOPOLOGY, ROLES)
    for host in TOPOLOGY.hosts:
        assert host.name in drawn
        assert str(host.address) in drawn
    assert "db1 ● primary" in drawn
    assert "lb2 ● VIP" in drawn
    assert str(TOPOLOGY.network.vip) in drawn


@pytest.mark.parametrize("preset", presets.NAMES)
def test_the_picture_of_every_preset_fits_a_terminal(preset: str) -> None:
    topology = load.loads(presets.text(preset))
    assert max(map(len, picture.draw(topology, ROLES).splitlines())) <= 100
