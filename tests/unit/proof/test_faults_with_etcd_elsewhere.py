"""Which faults a cluster can be put through whose etcd is elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from foreign_topology import foreign

from pgbaton.proof.faults import FAULTS, dcs, elsewhere, lacking, named
from pgbaton.proof.target import Target
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets
from pgbaton.topology.model import HostSpec, Role

FOREIGN = foreign()
STANDARD = load.loads(presets.text("standard"))


def test_those_that_aim_at_members_exist() -> None:
    assert {fault.name for fault in FAULTS} >= elsewhere.AIMED
    assert {fault.name for fault in dcs.FAULTS} <= elsewhere.AIMED


@pytest.mark.parametrize("name", sorted(elsewhere.AIMED))
def test_what_aims_at_a_member_is_not_run_and_says_why(name: str) -> None:
    (fault,) = named([name])
    reason = lacking(fault, FOREIGN)
    assert reason is not None
    assert "etcd is elsewhere" in reason
    assert "elsewhere" not in str(lacking(fault, STANDARD))


@pytest.mark.parametrize("name", ["primary-isolated", "primary-power-off", "false-alarm", "primary-cut-from-etcd"])
def test_what_only_wants_a_majority_of_etcd_is_run(name: str) -> None:
    (fault,) = named([name])
    assert lacking(fault, FOREIGN) is None


async def test_a_link_to_etcd_can_be_cut_only_where_the_lab_has_it(tmp_path: Path) -> None:
    (fault,) = named(["primary-cut-from-etcd"])
    state = ClusterState("standard", tmp_path)
    said = await fault.obstacle(Target(FOREIGN, state, lambda _: None))
    assert said == "its etcd is on machines that are not the lab's: no link to them can be cut"
    machines = tuple(
        HostSpec(name=name, address=address, roles=(Role.APPLICATION,))
        for name, address in (("e1", "10.9.0.1"), ("e3", "10.9.0.3"))
    )
    named_too = HostSpec(name="e2", address="10.9.0.2", roles=(Role.APPLICATION,))
    etcd = FOREIGN.etcd.model_copy(
        update={"endpoints": ("https://10.9.0.1:2379", "https://e2:2379", "https://10.9.0.3:12379")}
    )
    inside = FOREIGN.model_copy(update={"hosts": (*FOREIGN.hosts, *machines, named_too), "etcd": etcd})
    assert await fault.obstacle(Target(inside, state, lambda _: None)) is None
    assert {host.name for host in elsewhere.hosts_of_etcd(inside)} == {"e1", "e2", "e3"}
    assert elsewhere.ports_of_etcd(inside) == (2379, 12379)


def test_an_etcd_of_its_own_is_on_its_hosts() -> None:
    assert elsewhere.hosts_of_etcd(STANDARD) == STANDARD.with_role(Role.DCS)
    assert elsewhere.ports_of_etcd(STANDARD) == (2379, 2380)
