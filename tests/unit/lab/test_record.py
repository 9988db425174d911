from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import UsageError
from pgbaton.lab import lifecycle, network, record
from pgbaton.lab.record import Cut, Lab
from pgbaton.state import ClusterState
from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from pathlib import Path

TOPOLOGY = Topology.model_validate(
    {
        "schema": 1,
        "cluster": {"name": "trial"},
        "hosts": [{"name": f"db{n}", "address": f"10.0.0.{n}", "roles": ["database", "dcs"]} for n in (1, 2)],
        "network": {"subnet": "10.0.0.0/24", "vip": "10.0.0.9", "interface": "ens3"},
    }
)


def lab(state: ClusterState) -> Lab:
    return record.describe(TOPOLOGY, state, system="debian-13", durable=False)


@pytest.fixture
def state(tmp_path: Path) -> ClusterState:
    state = ClusterState("trial", tmp_path / "trial")
    state.create()
    return state


def test_a_record_survives_its_file(state: ClusterState) -> None:
    written = replace(lab(state), cuts=(Cut("db1", "db2"),))
    record.save(state, written)
    assert record.load(state) == written
    assert json.loads(state.lab_file.read_text())["ports"] == {"write": 5000, "read": 5001}


def test_a_record_knows_every_vip_and_one_of_before_knows_one(state: ClusterState) -> None:
    more = TOPOLOGY.model_copy(
        update={"network": TOPOLOGY.network.model_copy(update={"more_vips": (IPv4Address("10.0.0.8"),)})}
    )
    several = record.describe(more, state, system="debian-13", durable=False)
    record.save(state, several)
    assert record.load(state).vips == ("10.0.0.9", "10.0.0.8")
    assert lifecycle.shape(several) == lifecycle.shape(lab(state))
    written = lab(state).to_json()
    del written["more_vips"]
    assert Lab.from_json(written).vips == ("10.0.0.9",)


def test_machines_have_links_addresses_and_namespaces_of_their_own(state: ClusterState) -> None:
    machines = lab(state).machines
    for field in ("netns", "port", "mac", "address"):
        assert len({getattr(each, field) for each in machines}) == len(machines)
    assert machines[0].netns == "pgb-trial.db1"
    assert lab(state).interface == "ens3"
    assert machines[0].mac == lab(state).machines[0].mac


def test_hardware_addresses_are_locally_administered_and_unicast() -> None:
    first = int(record.hardware_address("trial.db1").split(":")[0], 16)
    assert first & 0b11 == 0b10


def test_a_machine_in_another_site_has_its_own_network_and_a_way_to_the_others(state: ClusterState) -> None:
    far = TOPOLOGY.hosts[0].model_copy(update={"name": "far", "address": IPv4Address("10.8.0.1")})
    subnets = (IPv4Network("10.8.0.0/16"),)
    sites = TOPOLOGY.model_copy(
        update={
            "hosts": (far, *TOPOLOGY.hosts),
            "network": TOPOLOGY.network.model_copy(update={"other_subnets": subnets}),
        }
    )
    made = record.describe(sites, state, system="debian-13", durable=False)
    record.save(state, made)
    assert record.load(state) == made
    assert network.subnet_of(made, made.machine("far")).prefixlen == 16
    assert network.routes(made, made.machine("far")) == ("route add 10.0.0.0/24 dev ens3 src 10.8.0.1",)
    assert network.routes(made, made.machine("db1")) == ("route add 10.8.0.0/16 dev ens3 src 10.0.0.1",)
    assert network.routes(lab(state), lab(state).machine("db1")) == ()


def test_a_machine_of_ipv6_has_its_address_at_once_and_no_broadcast_address(state: ClusterState) -> None:
    network6 = {"subnet": ip_network("fd00:77::/64"), "vip": ip_address("fd00:77::100")}
    hosts = tuple(
        host.model_copy(update={"address": ip_address(f"fd00:77::{number}")})
        for number, host in enumerate(TOPOLOGY.hosts, 1)
    )
    changed = {"hosts": hosts, "network": TOPOLOGY.network.model_copy(update=network6)}
    made = record.describe(TOPOLOGY.model_copy(update=changed), state, system="debian-13", durable=False)
    record.save(state, made)
    assert record.load(state) == made
    assert made.subnets == (ip_network("fd00:77::/64"),)
    assert network.own(made.links(made.machines[0])[0]) == "fd00:77::1/64 nodad"
    assert network.own(lab(state).links(lab(state).machine("db1"))[0]) == "10.0.0.1/24 broadcast +"


def test_names_of_two_labs_never_meet() -> None:
    a = record.machine_for("a-b", TOPOLOGY.hosts[0].model_copy(update={"name": "c"}), 0)
    b = record.machine_for("a", TOPOLOGY.hosts[0].model_copy(update={"name": "b-c"}), 0)
    assert a.netns != b.netns


def test_a_process_id_that_belongs_to_another_process_now_is_no_machine(state: ClusterState) -> None:
    one = replace(lab(state).machines[0], leader_pid=1, leader_started="another boot/1")
    record.save(state, lab(state).with_machine(one))
    assert lifecycle.status(state).machine("db1").state == "off"


def test_a_cluster_that_is_no_lab_has_no_machines(state: ClusterState) -> None:
    with pytest.raises(UsageError, match="trial is no lab") as caught:
        record.load(state)
    assert "of another name" in (caught.value.hint or "")


def test_an_unknown_machine_is_refused_with_those_there_are(state: ClusterState) -> None:
    with pytest.raises(UsageError, match="no machine db9") as caught:
        lab(state).machine("db9")
    assert caught.value.hint == "its machines: db1, db2"


def test_a_lab_keeps_the_images_it_has_and_takes_new_ones_for_those_that_are_gone(
    state: ClusterState, tmp_path: Path
) -> None:
    there = tmp_path / "old" / "root"
    there.mkdir(parents=True)
    wanted = lab(state).machines
    old = tuple(replace(each, image=str(image)) for each, image in zip(wanted, (there, "/gone/root"), strict=True))
    new = tuple(replace(each, image="/new/root", roles=("dcs",)) for each in wanted)
    existing, now = replace(lab(state), machines=old), replace(lab(state), machines=new)
    assert lifecycle.shape(existing) == lifecycle.shape(now)
    renewed = lifecycle.renewed(existing, now)
    assert [each.image for each in renewed.machines] == [str(there), "/new/root"]
    assert [each.roles for each in renewed.machines] == [("dcs",), ("dcs",)]


def test_a_network_for_replication_may_come_to_a_lab(state: ClusterState, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    before = replace(
        lab(state), machines=tuple(replace(each, image=str(tmp_path / "root")) for each in lab(state).machines)
    )
    machines = tuple(
        replace(each, replication_address=f"10.1.0.{number}") for number, each in enumerate(before.machines, 1)
    )
    now = replace(before, machines=machines, replication_subnet="10.1.0.0/24", replication_interface="ens4")
    assert lifecycle.shape(before) == lifecycle.shape(now)
    assert lifecycle.renewed(before, now) == now
    assert [len(now.links(each)) for each in now.machines] == [2, 2]
    record.save(state, now)
    assert record.load(state) == now


def test_bare_and_full_machines_are_different_labs(state: ClusterState) -> None:
    full, bare = (
        replace(lab(state), machines=tuple(replace(each, image=image) for each in lab(state).machines))
        for image in ("/images/x/root", "/images/x/bare")
    )
    assert lifecycle.shape(full) != lifecycle.shape(bare)
