"""Standbys that confirm nothing, take no reads, or are in another site: who counts for what."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton.components import access, agent, firewall, haproxy, patroni
from pgbaton.topology import load, presets
from pgbaton.topology.budget import prediction
from pgbaton.topology.durations import Durations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.topology.model import HostSpec, Topology

APART = load.load(Path(__file__).parents[2] / "golden/apart.toml")
FAR = APART.host("far")
PRESET = load.loads(presets.text("standard"))


def names(hosts: Iterable[HostSpec]) -> list[str]:
    return [host.name for host in hosts]


def with_host(name: str, **changes: object) -> Topology:
    hosts = tuple(host.model_copy(update=changes) if host.name == name else host for host in PRESET.hosts)
    return PRESET.model_copy(update={"hosts": hosts})


def test_each_count_has_those_who_count() -> None:
    assert names(APART.confirmers) == ["n1", "n2"]
    assert names(APART.readers) == ["n1", "n2", "n3"]
    assert names(APART.voters) == ["n1", "n2", "n3"]
    assert names(APART.parts) == ["n1", "n2", "n3", "far"]


def test_a_host_in_another_site_has_no_agent_and_is_in_none_of_their_settings() -> None:
    assert not agent.Agent().runs_on(APART, FAR)
    told = agent.settings(APART, APART.host("n1"))
    assert [host["name"] for host in told["hosts"]] == ["n1", "n2", "n3"]


def test_agents_need_three_hosts_of_the_clusters_own_site() -> None:
    third = APART.host("n3").model_copy(update={"address": IPv4Address("10.88.0.13")})
    hosts = tuple(third if host.name == "n3" else host for host in APART.hosts)
    assert APART.has_agents
    assert not APART.model_copy(update={"hosts": hosts}).has_agents


@pytest.mark.parametrize(
    ("changes", "tags"),
    [
        ({}, (False, False, False)),
        ({"failover": False}, (True, False, True)),
        ({"synchronous": False}, (False, False, True)),
        ({"reads": False}, (False, True, False)),
    ],
)
def test_patroni_is_told_what_a_server_is_not_for(changes: dict[str, bool], tags: tuple[bool, bool, bool]) -> None:
    topology = with_host("db3", **changes)
    told = patroni.configuration(topology, topology.host("db3"))["tags"]
    assert (told["nofailover"], told["noloadbalance"], told["nosync"]) == tags
    assert "replicatefrom" not in told


def test_patroni_is_told_whom_a_server_receives_from() -> None:
    assert patroni.configuration(APART, FAR)["tags"]["replicatefrom"] == "n3"


def test_a_server_that_takes_no_reads_can_be_primary_and_is_in_no_other_backend() -> None:
    topology = with_host("db3", reads=False)
    text = haproxy.configuration(topology, topology.host("lb1"))
    primary, standbys = text.split("backend standbys\n")
    assert "server db3 " in primary
    assert "server db3 " not in standbys
    assert "server db2 " in standbys


def test_servers_in_another_site_are_let_in() -> None:
    rules = access.rules(APART)
    assert f"hostssl replication replicator {FAR.address}/32 scram-sha-256 clientcert=verify-full" in rules
    told = firewall.ruleset(APART, APART.host("n1"))
    assert "10.88.0.21 } tcp dport { 15432, 18008 }" in told
    assert "10.88.0.21 } tcp dport 12379" in told
    assert "udp dport 17790" not in firewall.ruleset(APART, FAR)


def test_a_standby_without_a_say_is_no_spare() -> None:
    spare = Durations(PRESET).spare_standbys
    assert Durations(with_host("db3", synchronous=False)).spare_standbys == spare - 1
    assert Durations(with_host("db3", failover=False)).spare_standbys == spare - 1
    assert Durations(APART).spare_standbys == 0


def test_etcd_in_another_site_does_not_make_an_election_longer() -> None:
    near = load.loads(presets.text("compact"))
    assert Durations(APART).race_without_one == Durations(near).race_without_one


def test_reads_that_one_standby_takes_alone_are_predicted_so() -> None:
    only = {"balancing": PRESET.balancing.model_copy(update={"read_policy": "standby-only"})}
    spread = PRESET.model_copy(update=only)
    alone = with_host("db3", reads=False).model_copy(update=only)
    assert prediction(spread, "standby-power-off").read_seconds.ends
    stock = {"orchestration": PRESET.orchestration.model_copy(update={"agent": False})}
    assert not prediction(alone.model_copy(update=stock), "standby-power-off").read_seconds.ends
