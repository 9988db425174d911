from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from pgbaton.topology import addresses, load, presets
from pgbaton.topology.schema import schema
from pgbaton.topology.vips import floating

TWINS = 'twin_vips = ["10.77.0.100/24"]\n'


def ipv6(more: str = "") -> str:
    text = presets.text("standard").replace("10.77.0.0/24", "fd00:77::/64").replace("10.77.0.", "fd00:77::")
    return text.replace("[network]\n", f"[network]\n{more}")


@pytest.mark.parametrize(
    ("address", "with_port", "alone"),
    [
        ("10.77.0.11", "10.77.0.11:5432", "10.77.0.11/32"),
        ("fd00:77::11", "[fd00:77::11]:5432", "fd00:77::11/128"),
    ],
)
def test_an_address_is_written_as_its_family_is(address: str, with_port: str, alone: str) -> None:
    assert addresses.at_port(address, 5432) == with_port
    assert addresses.at_port(ip_address(address), 5432) == with_port
    assert addresses.alone(ip_address(address)) == alone


def test_no_host_takes_a_vip_of_ipv6_for_its_own_address() -> None:
    assert addresses.floating_prefix(ip_address("fd00:77::100"), ip_network("fd00:77::/64")) == 128
    assert addresses.floating_prefix(ip_address("10.77.0.100"), ip_network("10.77.0.0/24")) == 24


def test_a_network_of_ipv6_is_accepted_without_a_doubt_however_addresses_are_spelled() -> None:
    topology, problems = load.parse(ipv6().replace("fd00:77::21", "FD00:0077:0:0::0021"), "ipv6.toml")
    assert problems == ()
    assert topology is not None
    assert str(topology.host("db1").address) == "fd00:77::21"
    assert topology.client_networks == (ip_network("fd00:77::/64"),)


def test_the_highest_address_of_a_network_of_ipv6_is_a_host_s_like_any_other() -> None:
    last = "fd00:77::ffff:ffff:ffff:ffff"
    assert str(load.loads(ipv6().replace("fd00:77::12", last)).host("lb2").address) == last


def test_a_twin_serves_clients_of_the_other_family() -> None:
    topology = load.loads(ipv6(TWINS))
    assert topology.client_networks == (ip_network("fd00:77::/64"), ip_network("10.77.0.0/24"))
    assert [str(each) for each in topology.entry_addresses] == ["fd00:77::100", "10.77.0.100"]
    (vip,) = floating(topology)
    assert str(vip.twin) == "10.77.0.100/24"


def test_networks_of_clients_may_be_of_both_families_where_both_have_an_address() -> None:
    more = '\n[security]\nclient_networks = ["fd00:88::/64", "192.0.2.0/24"]\n'
    assert len(load.loads(ipv6(TWINS) + more).client_networks) == 2
    topology, problems = load.parse(ipv6() + more, "ipv6.toml")
    assert topology is None
    assert [problem.path for problem in problems] == ["security.client_networks[1]"]


def test_editors_take_addresses_of_both_families() -> None:
    network = schema()["$defs"]["Network"]["properties"]
    for key in ("subnet", "vip"):
        assert len([choice for choice in network[key]["anyOf"] if choice.get("type") == "string"]) == 2
    assert all("pattern" in choice for choice in network["twin_vips"]["items"]["anyOf"])
