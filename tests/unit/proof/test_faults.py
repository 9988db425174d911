from __future__ import annotations

import pytest

from pgbaton.errors import UnhealthyError, UsageError
from pgbaton.observe.snapshot import HostView, Snapshot
from pgbaton.proof import picture
from pgbaton.proof.faults import FAULTS, choose
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.proof.target import Roles, roles
from pgbaton.topology import budget, load, presets

ROLES = Roles("db1", "lb2", ("db2", "db3"))
TOPOLOGY = load.loads(presets.text("standard"))


def test_all_faults_are_chosen_when_none_is_named() -> None:
    assert choose((), TOPOLOGY) == FAULTS


def test_faults_are_run_in_the_order_in_which_they_are_named() -> None:
    assert [fault.name for fault in choose(["switchover", "postmaster-killed"], TOPOLOGY)] == [
        "switchover",
        "postmaster-killed",
    ]


def test_an_unknown_fault_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="no fault named meteor") as caught:
        choose(["meteor"], TOPOLOGY)
    assert "balancer-power-off" in str(caught.value.hint)


def test_a_fault_that_the_topology_has_no_hosts_for_is_refused() -> None:
    lonely = TOPOLOGY.model_copy(update={"hosts": tuple(host for host in TOPOLOGY.hosts if host.name != "lb2")})
    with pytest.raises(UsageError, match="balancer-power-off needs 2 hosts with the role balancer"):
        choose(["balancer-power-off"], lonely)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_strikes_a_host_and_has_a_prediction(fault: object) -> None:
    assert fault in FAULTS
    (one,) = [each for each in FAULTS if each is fault]
    host = one.victim(ROLES)
    assert host in {"db1", "lb2"}
    assert one.expects(host, ROLES).budget in {each.fault for each in budget.budget(TOPOLOGY)}


def test_powering_off_a_balancer_that_is_the_primary_as_well_is_predicted_as_a_failover() -> None:
    (fault,) = choose(["balancer-power-off"], TOPOLOGY)
    expected = fault.expects("n1", Roles("n1", "n1", ("n2",)))
    assert (expected.budget, expected.parts) == ("primary-power-off", PRIMARY_PARTS)


def test_the_vip_must_be_somewhere_to_strike_its_holder() -> None:
    (fault,) = choose(["balancer-power-off"], TOPOLOGY)
    with pytest.raises(UnhealthyError, match="no balancer holds the VIP"):
        fault.victim(Roles("db1", None, ()))


def test_roles_are_not_read_from_a_cluster_without_a_primary() -> None:
    with pytest.raises(UnhealthyError, match="primaries: none; holders of the VIP: lb1"):
        roles(Snapshot("demo", "now", (HostView("lb1", reachable=True, holds_vip=True),)))


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
