from __future__ import annotations

import base64
import json

import pytest

from pgbaton.cli.demo import STOCK
from pgbaton.deploy import preflight
from pgbaton.deploy.preflight import Look
from pgbaton.errors import RefusedError, UnreachableError
from pgbaton.hosts.fake import FakeHost
from pgbaton.topology import load, presets

TOPOLOGY = load.loads(presets.text("standard", cluster="shop") + STOCK)
DATABASE = next(host for host in TOPOLOGY.hosts if host.name == "db1")
FIT = {
    "user": ("0",),
    "init": ("systemd",),
    "system": ("debian 13",),
    "address": (str(DATABASE.address),),
}


def manifest(cluster: str) -> tuple[str, ...]:
    return (base64.b64encode(json.dumps({"cluster": cluster}).encode()).decode(),)


def complaints(*, skew: float = 0.0, **changed: tuple[str, ...]) -> list[str]:
    seen = Look({**FIT, **changed}, skew)
    return [message for message, fix in preflight.complaints(TOPOLOGY, DATABASE, seen) if fix]


def test_a_fit_host_has_no_problem() -> None:
    assert complaints() == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"user": ("1000",)}, "do not run as root"),
        ({"init": ("sh",)}, "process 1 is sh"),
        ({"system": ("ubuntu 24.04",)}, "it runs ubuntu 24.04"),
        ({"system": ("debian 12",)}, "PostgreSQL 17 is not to be had; Debian 12 brings 15"),
        ({"address": ("192.0.2.9",)}, "is not on interface eth0 (there: 192.0.2.9)"),
        ({"manifest": manifest("stock")}, "belongs to cluster stock"),
        ({"full": (TOPOLOGY.data_directory,)}, "is not empty"),
        ({"mounted": ("/srv/fast",)}, "a disk is mounted at /srv/fast"),
        ({"port": ("0100007F:094D",)}, "port 2381, wanted for etcd's own metrics"),
        ({"port": ("00000000:1538",)}, "port 5432, wanted for PostgreSQL, is taken"),
        ({"port": ("00000000000000000000000000000000:094B",)}, "port 2379"),
    ],
)
def test_each_thing_in_the_way_is_told(changed: dict[str, tuple[str, ...]], expected: str) -> None:
    (message,) = complaints(**changed)
    assert expected in message


def test_a_host_whose_connections_come_from_another_address_is_told() -> None:
    assert complaints(source=FIT["address"]) == []
    (message,) = complaints(source=("fd00:77::dead",))
    assert "come from fd00:77::dead" in message


def test_the_source_is_asked_for_where_hosts_have_several_addresses_and_towards_another_host() -> None:
    text = presets.text("standard").replace("10.77.0.0/24", "fd00:77::/64").replace("10.77.0.", "fd00:77::")
    topology = load.loads(text)
    assert preflight.arguments(topology, topology.host("lb1"))[2] == "fd00:77::12"
    assert preflight.arguments(topology, topology.host("lb2"))[2] == "fd00:77::11"
    assert preflight.arguments(TOPOLOGY, DATABASE)[2] == ""


def test_clocks_that_are_apart_are_told() -> None:
    assert "its clock is 3.5 s from ours" in complaints(skew=3.5)[0]
    assert complaints(skew=1.9) == []


def test_what_is_this_clusters_own_is_not_in_the_way() -> None:
    own = {"full": (TOPOLOGY.data_directory,), "port": ("00000000:1538",), "manifest": manifest("shop")}
    assert complaints(**own) == []


def test_another_source_of_postgresql_is_good_enough() -> None:
    assert complaints(system=("debian 12",), server=("available",)) == []


async def test_all_hosts_problems_come_in_one_error() -> None:
    answer = "clock 0\nuser 1000\ninit systemd\nsystem debian 13\n"
    hosts = {host.name: FakeHost(host.name, answers={("sh",): answer}) for host in TOPOLOGY.hosts}
    with pytest.raises(RefusedError) as caught:
        await preflight.check(TOPOLOGY, hosts)
    for host in TOPOLOGY.hosts:
        assert f"{host.name}: commands do not run as root" in str(caught.value)
    assert "\n    to fix: log in as root, or as a user with sudo without a password" in str(caught.value)
    assert caught.value.hint == "see to lb1, lb2, db1, db2, db3, then run the same command again"
    assert max(map(len, str(caught.value).splitlines())) <= 100


async def test_hosts_that_do_not_answer_are_unreachable() -> None:
    gone = UnreachableError("no route to host")
    hosts = {host.name: FakeHost(host.name, answers={("sh",): gone}) for host in TOPOLOGY.hosts}
    with pytest.raises(UnreachableError, match="lb2: no route to host"):
        await preflight.check(TOPOLOGY, hosts)


def test_an_agents_health_port_is_wanted_on_every_host_that_has_one() -> None:
    topology = load.loads(presets.text("standard"))
    assert all(preflight.wanted_ports(topology, host)[7791] == "the agent's health" for host in topology.hosts)
    assert not any(7791 in preflight.wanted_ports(TOPOLOGY, host) for host in TOPOLOGY.hosts)
