from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import UnhealthyError, UsageError
from pgbaton.observe.snapshot import HostView, Snapshot
from pgbaton.proof import picture
from pgbaton.proof.faults import DEMONSTRATED, FAULTS, choose, hand, named, of_suite
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
