"""A network for replication alone: who is told which address, before it is in use and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from pgbaton.components import access, agent, firewall, manual, patroni, postgres
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

SERVERS = {"db1": "10.78.0.21", "db2": "10.78.0.22", "db3": "10.78.0.23"}
CLIENTS = {name: address.replace(".78.", ".77.") for name, address in SERVERS.items()}


def apart(preset: str = "standard", *, used: bool = True) -> Topology:
    """Return a preset whose databases have a network for replication, in use or not yet."""
    text = presets.text(preset).replace(
        'vip = "10.77.0.100"', 'vip = "10.77.0.100"\nreplication_subnet = "10.78.0.0/24"'
    )
    for name, address in CLIENTS.items():
        text = text.replace(f'address = "{address}"', f'address = "{address}"\nreplication_address = "{SERVERS[name]}"')
    if not used:
        text = text.replace("replication_subnet =", "use_replication_subnet = false\nreplication_subnet =")
    return load.loads(text)


USED, KNOWN, SHARED = apart(), apart(used=False), load.loads(presets.text("standard"))
MANUAL = apart("manual")


def follows(topology: Topology, role: str) -> list[str]:
    """Return where a role of servers may come from, by pg_hba.conf."""
    rules = (rule.split() for rule in access.rules(topology))
    return [rule[3].removesuffix("/32") for rule in rules if rule[2] == role and rule[0] == "hostssl"]


@pytest.mark.parametrize(("topology", "wanted"), [(USED, SERVERS), (KNOWN, CLIENTS), (SHARED, CLIENTS)])
def test_members_are_told_the_address_that_replication_takes_and_nothing_else_moves(
    topology: Topology, wanted: dict[str, str]
) -> None:
    for name, there in SERVERS.items():
        told = patroni.configuration(topology, topology.host(name))
        assert told["postgresql"]["connect_address"] == f"{wanted[name]}:5432"
        assert told["restapi"]["connect_address"] == told["restapi"]["listen"] == f"{CLIENTS[name]}:8008"
        assert there not in yaml.safe_dump(told["etcd3"])


def test_a_server_listens_on_both_and_the_same_before_it_is_used() -> None:
    """Were it another value then, the last step would be a restart."""
    for topology in (USED, KNOWN):
        told = patroni.configuration(topology, topology.host("db1"))["postgresql"]
        assert told["listen"] == "10.78.0.21,10.77.0.21:5432"
    assert patroni.configuration(SHARED, SHARED.host("db1"))["postgresql"]["listen"] == "10.77.0.21:5432"


def test_servers_follow_and_rewind_over_the_network_for_replication_alone() -> None:
    for role in ("replicator", "rewind"):
        assert follows(USED, role) == list(SERVERS.values())
        assert follows(SHARED, role) == list(CLIENTS.values())
        assert sorted(follows(KNOWN, role)) == sorted((*SERVERS.values(), *CLIENTS.values()))


def test_nobody_else_comes_by_it() -> None:
    others = [rule for rule in access.rules(USED) if "replicator" not in rule and "rewind " not in rule]
    assert others
    assert not any("10.78." in rule for rule in others)


def test_certificates_are_good_for_both_addresses() -> None:
    (server,) = (each for each in postgres.Postgres().certificates(KNOWN, KNOWN.host("db2")) if each.server)
    assert {"10.77.0.22", "10.78.0.22"} <= set(server.addresses)
    (rest,) = (each for each in patroni.Patroni().certificates(USED, USED.host("db2")) if each.server)
    assert rest.addresses == ("10.77.0.22",)


def test_firewalls_let_servers_by_it_to_servers_and_nothing_else() -> None:
    for topology in (USED, KNOWN):
        rules = firewall.ruleset(topology, topology.host("db1")).splitlines()
        (found,) = (rule.strip() for rule in rules if "10.78." in rule)
        servers = ", ".join(SERVERS.values())
        assert found == f"ip saddr {{ {servers} }} ip daddr 10.78.0.21 tcp dport 5432 accept"
        assert sum("ip daddr 10.77.0.21 tcp dport { 5432, 8008 }" in rule for rule in rules) == 2
        assert "10.78." not in firewall.ruleset(topology, topology.host("lb1"))
    assert "ip daddr 10.77" not in firewall.ruleset(SHARED, SHARED.host("db1"))


def test_agents_know_every_address_before_a_server_comes_by_it() -> None:
    for topology in (USED, KNOWN):
        told = {host["name"]: host for host in agent.settings(topology, topology.host("lb1"))["hosts"]}
        assert {name: told[name]["replication_address"] for name in SERVERS} == SERVERS
        assert {name: told[name]["address"] for name in SERVERS} == CLIENTS
        assert "replication_address" not in told["lb1"]
    assert agent.settings(USED, USED.host("db1")) == agent.settings(KNOWN, KNOWN.host("db1"))


def test_a_server_waits_for_all_its_addresses() -> None:
    for topology, waits in ((USED, True), (KNOWN, True), (SHARED, False)):
        files = {file.path: file for file in patroni.Patroni().files(topology, topology.host("db1"))}
        text = str(files["/etc/systemd/system/patroni.service.d/pgbaton.conf"].content)
        assert ("After=network-online.target" in text) is waits


def test_without_patroni_servers_are_told_where_to_follow_and_may_ask_over_both() -> None:
    told = manual.settings(MANUAL, MANUAL.host("db1"))["hosts"]
    assert isinstance(told, dict)
    assert told["db2"] == {"address": "10.77.0.22", "replication_address": "10.78.0.22", "confirms": True}
    assert "replication_address" not in str(manual.settings(apart("manual", used=False), MANUAL.host("db1")))
    names = tuple(host.name for host in MANUAL.hosts if host.replication_address)
    assert follows(MANUAL, "replicator") == [SERVERS[name] for name in names]
    assert set(follows(MANUAL, "rewind")) == {where[name] for name in names for where in (SERVERS, CLIENTS)}
    text = manual.configuration(MANUAL, MANUAL.host("db1"))
    assert "listen_addresses = '10.78.0.21,10.77.0.21'\n" in text


def test_addresses_of_both_networks_are_the_hosts() -> None:
    assert {USED.names_by_address[address] for address in ("10.77.0.22", "10.78.0.22")} == {"db2"}
    assert set(SHARED.names_by_address) == {str(host.address) for host in SHARED.hosts}
