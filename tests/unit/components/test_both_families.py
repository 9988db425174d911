"""What components make of addresses of IPv6, and of a VIP that has a twin of the other family."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest

from pgbaton.components import access, agent, etcd, firewall, haproxy, keepalived, manual, patroni, pgbouncer, postgres
from pgbaton.topology import load, presets
from pgbaton.topology.addresses import alone, at_port, bracketed

STANDARD = presets.text("standard")
TWIN, TWIN6 = 'twin_vips = ["10.77.0.100/24"]\n', 'twin_vips = ["fd00:77::100/64"]\n'


def ipv6(more: str = "") -> str:
    text = STANDARD.replace("10.77.0.0/24", "fd00:77::/64").replace("10.77.0.", "fd00:77::")
    return text.replace("[network]\n", f"[network]\n{more}")


def apart(*networks: str, preset: str = "standard") -> load.Topology:
    """Return a preset whose databases replicate over a network of their own; the networks that are named have IPv6."""
    text = presets.text(preset).replace("[network]\n", '[network]\nreplication_subnet = "10.78.0.0/24"\n')
    for number in (21, 22, 23):
        own = f'address = "10.77.0.{number}"\n'
        text = text.replace(own, f'{own}replication_address = "10.78.0.{number}"\n')
    for each in networks:
        text = text.replace(f"10.{each}.0.0/24", f"fd00:{each}::/64").replace(f"10.{each}.0.", f"fd00:{each}::")
    return load.loads(text)


ONLY = load.loads(ipv6())
BOTH = load.loads(ipv6(TWIN))
BOTH4 = load.loads(STANDARD.replace("[network]\n", f"[network]\n{TWIN6}"))


def test_neighbours_are_found_whatever_a_firewall_drops() -> None:
    for topology in (ONLY, BOTH, BOTH4):
        for host in topology.hosts:
            rules = firewall.ruleset(topology, host)
            lines = [line.strip() for line in rules.partition("chain former")[0].splitlines()]
            assert "meta l4proto { icmp, icmpv6 } accept" in lines
            # What asks for a neighbour has no connection, and so none that is invalid. Nothing else may drop it before.
            before = lines[: lines.index("meta l4proto { icmp, icmpv6 } accept")]
            dropping = [line for line in before if re.search(r"\b(drop|reject)\b", line) and "policy" not in line]
            assert dropping == ["ct state invalid drop"]


def test_a_rule_is_of_one_family_and_clients_have_one_of_each() -> None:
    rules = firewall.ruleset(BOTH, BOTH.host("lb1"))
    assert "ip6 saddr { fd00:77::/64 } tcp dport { 5000, 5001 } accept" in rules
    assert "ip saddr { 10.77.0.0/24 } tcp dport { 5000, 5001 } accept" in rules
    for line in firewall.ruleset(ONLY, ONLY.host("db1")).splitlines():
        assert not re.search(r"\bip (saddr|daddr)", line)
    former = rules.partition("chain former")[2]
    assert "ip6 daddr fd00:77::100 tcp dport" in former
    assert "ip daddr 10.77.0.100 tcp dport" in former


def test_clients_come_in_by_every_family_that_has_an_address_and_by_no_other() -> None:
    def binds(text: str) -> set[str]:
        return {line.split()[1] for line in text.splitlines() if re.match(r"\s+bind .*:500[01] ", line)}

    # Agents take the clients' way from the loopback address of IPv4, which every host has.
    loopback = {"127.0.0.1:5000", "127.0.0.1:5001"}
    assert binds(haproxy.configuration(ONLY, ONLY.host("lb1"))) == {"[::]:5000", "[::]:5001", *loopback}
    for topology in (BOTH, BOTH4):
        text = haproxy.configuration(topology, topology.host("lb1"))
        assert binds(text) == {":5000", ":5001", "[::]:5000", "[::]:5001"}
        # One socket for both would show clients of IPv4 by addresses that they do not have, and refuse the other bind.
        assert all(line.endswith(" v6only") for line in text.splitlines() if "bind [" in line)


def test_a_twin_moves_with_its_vip_and_is_nobodys_source() -> None:
    text = keepalived.configuration(BOTH4, BOTH4.host("lb1"))
    assert "10.77.0.100/24 dev eth0" in text
    (excluded,) = re.findall(r"virtual_ipaddress_excluded \{\s*(.*?)\s*\}", text)
    assert excluded == "fd00:77::100/64 dev eth0 preferred_lft 0"
    assert keepalived.identities(text) == {"10.77.0.100": 51}
    (excluded,) = re.findall(
        r"virtual_ipaddress_excluded \{\s*(.*?)\s*\}", keepalived.configuration(BOTH, BOTH.host("lb1"))
    )
    assert excluded == "10.77.0.100/24 dev eth0"
    files = {file.path: file for file in keepalived.Keepalived().files(BOTH, BOTH.host("lb1"))}
    removals = files[keepalived.MORE_VIPS_FILE].content
    assert "ExecStartPre=-+/sbin/ip address del 10.77.0.100/24 dev eth0" in str(removals)
    assert "ExecStopPost=-+/sbin/ip address del 10.77.0.100/24 dev eth0" in str(removals)


@pytest.mark.parametrize("topology", [BOTH, BOTH4], ids=["IPv6 first", "IPv4 first"])
def test_certificates_that_clients_see_are_good_for_both_families(topology: load.Topology) -> None:
    balancer, database = topology.host("lb1"), topology.host("db1")
    (pooler,) = pgbouncer.Pgbouncer().certificates(topology, balancer)
    server = postgres.Postgres().certificates(topology, database)[0]
    assert {"fd00:77::100", "10.77.0.100"} <= set(pooler.addresses)
    assert {"fd00:77::100", "10.77.0.100", str(database.address)} <= set(server.addresses)


def test_brackets_are_where_a_port_follows_and_nowhere_else() -> None:
    db1 = ONLY.host("db1")
    assert etcd.settings(ONLY, db1)["ETCD_ADVERTISE_CLIENT_URLS"] == "https://[fd00:77::21]:2379"
    member = patroni.configuration(ONLY, db1)
    assert member["restapi"]["connect_address"] == "[fd00:77::21]:8008"
    assert member["postgresql"]["listen"] == "[fd00:77::21]:5432"
    assert member["etcd3"]["hosts"] == ["127.0.0.1:2379", "[fd00:77::22]:2379", "[fd00:77::23]:2379"]
    assert "hostssl replication replicator fd00:77::22/128" in "\n".join(access.rules(ONLY))
    assert not any("[" in rule for rule in access.rules(ONLY))
    text = str(pgbouncer.configuration(ONLY, ONLY.host("lb1"), "write").content)
    assert "listen_addr = 127.0.0.1,fd00:77::11\n" in text


def test_poolers_wait_for_addresses_that_come_late() -> None:
    assert "After=network-online.target\n" in pgbouncer.template_unit(ONLY)
    assert "Wants=network-online.target\n" in pgbouncer.template_unit(ONLY)
    assert "After=network.target\n" in pgbouncer.template_unit(BOTH4)
    shop = '[[hosts]]\nname = "shop"\naddress = "fd00:77::41"\nroles = ["application"]\n\n'
    beside = ipv6().replace("[pooling]\n", f'{shop}[pooling]\nplacement = "application"\n')
    assert "After=network.target\n" in pgbouncer.template_unit(load.loads(beside))


@pytest.mark.parametrize("preset", ["standard", "manual"])
@pytest.mark.parametrize("networks", [("77",), ("78",), ("77", "78")])
def test_replication_has_a_network_of_either_family_beside_hosts_of_either(
    networks: tuple[str, ...], preset: str
) -> None:
    topology = apart(*networks, preset=preset)
    db1 = topology.host("db1")
    own, there = db1.address, ip_address("fd00:78::21" if "78" in networks else "10.78.0.21")
    assert db1.server_addresses == (there, own)
    if topology.is_manual:
        text = manual.configuration(topology, db1)
        assert f"listen_addresses = '{there},{own}'\n" in text
    else:
        server = patroni.configuration(topology, db1)["postgresql"]
        assert server["listen"] == f"{bracketed(there)},{bracketed(own)}:5432"
        assert server["connect_address"] == at_port(there, 5432)
        told = {host["name"]: host for host in agent.settings(topology, db1)["hosts"]}
        assert (told["db1"]["address"], told["db1"]["replication_address"]) == (str(own), str(there))
    rules = access.rules(topology)
    assert any(f" replicator {alone(there)} " in rule for rule in rules)
    assert not any(re.search(r":[^ ]*/32 |\.[0-9]+/128 ", rule) for rule in rules)
    (certificate, *_) = postgres.Postgres().certificates(topology, db1)
    assert {str(own), str(there)} <= set(certificate.addresses)


@pytest.mark.parametrize("networks", [("77",), ("78",), ("77", "78")])
def test_a_rule_of_the_firewall_is_of_one_family_at_both_ends(networks: tuple[str, ...]) -> None:
    topology = apart(*networks)
    lines = firewall.ruleset(topology, topology.host("db1")).splitlines()
    assert not any({"ip", "ip6"} <= set(line.split()) for line in lines)
    there, header = ("fd00:78::2", "ip6") if "78" in networks else ("10.78.0.2", "ip")
    sources = ", ".join(f"{there}{number}" for number in (1, 2, 3))
    wanted = f"{header} saddr {{ {sources} }} {header} daddr {there}1 tcp dport 5432 accept"
    assert wanted in [line.strip() for line in lines]
