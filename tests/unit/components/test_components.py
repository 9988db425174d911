from __future__ import annotations

import ipaddress
import re

import pytest
import yaml

from pgbaton import blueprint, references
from pgbaton.cli.demo import STOCK
from pgbaton.components import access, agent, etcd, firewall, haproxy, keepalived, patroni, pgbouncer, postgres
from pgbaton.components.base import ETCD_AUTHORITY, TLS_DIRECTORY, Unit, Wave
from pgbaton.components.catalogue import COMPONENTS
from pgbaton.topology import load, presets
from pgbaton.topology.model import Role, Topology

#: Sections with which there are no agents, and with which they are where they are by default.
WITHOUT = {"orchestration": {"agent": False}}
AGENTS_OR_NOT = pytest.mark.parametrize("sections", [{}, WITHOUT], ids=["with agents", "stock"])


def preset(name: str = "standard", **sections: object) -> Topology:
    topology = load.loads(presets.text(name))
    return Topology.model_validate(topology.model_dump(mode="json", by_alias=True, exclude_unset=True) | sections)


@AGENTS_OR_NOT
@pytest.mark.parametrize("name", presets.NAMES)
def test_every_secret_that_a_file_refers_to_is_one_that_will_be_made(name: str, sections: dict[str, object]) -> None:
    drawn = blueprint.draw(preset(name, **sections))
    made = {f"password/{password}" for password in drawn.passwords} | {c.authority for c in drawn.certificates} | {"ca"}
    made |= {f"{kind}/{certificate.name}" for kind in ("certificate", "key") for certificate in drawn.certificates}
    made |= {f"key/{key}" for key in drawn.shared_keys}
    wanted = {name for host in drawn.hosts for file in host.files for name in references.names(file.shown)}
    assert wanted <= made
    # Applications have theirs from the operator; the agents' role logs in on its own host alone, without one.
    # HAProxy's checks log in with a certificate.
    topology = preset(name, **sections)
    unwritten = {"password/user/app", *(["password/pgbaton_agent"] if topology.has_agents else [])}
    unwritten |= {"password/pgbaton_check"} if topology.is_manual else set()
    assert {name for name in made if name.startswith("password/")} - wanted == unwritten


@AGENTS_OR_NOT
@pytest.mark.parametrize("name", presets.NAMES)
def test_files_with_keys_or_passwords_are_private(name: str, sections: dict[str, object]) -> None:
    for host in blueprint.draw(preset(name, **sections)).hosts:
        for file in host.files:
            if any(found.startswith(("password/", "key/")) for found in references.names(file.shown)):
                assert file.mode == 0o600, file.path


@AGENTS_OR_NOT
@pytest.mark.parametrize("name", presets.NAMES)
def test_no_host_is_told_the_same_file_twice(name: str, sections: dict[str, object]) -> None:
    for host in blueprint.draw(preset(name, **sections)).hosts:
        paths = [file.path for file in host.files]
        assert len(paths) == len(set(paths))


def test_a_blueprint_is_the_same_every_time() -> None:
    assert blueprint.draw(preset()) == blueprint.draw(preset())


@pytest.mark.parametrize(("sections", "last"), [({}, Wave.AGENT), (WITHOUT, Wave.VIP)], ids=["with agents", "stock"])
def test_parts_come_in_the_order_of_the_waves(sections: dict[str, object], last: Wave) -> None:
    for host in blueprint.draw(preset("compact", **sections)).hosts:
        waves = [part.wave for part in host.parts]
        assert waves == sorted(waves)
        assert host.parts[0].component == "packages"
        assert waves[-1] == last


def test_without_agents_balancers_never_hold_what_opens_etcd_or_the_databases() -> None:
    drawn = blueprint.draw(preset(**WITHOUT))
    for host in ("lb1", "lb2"):
        names = {name for file in drawn.host(host).files for name in references.names(file.shown)}
        assert {name for name in names if name.startswith("password/")} == {"password/pgbouncer"}
        assert not {name for name in names if "etcd" in name}


def test_what_opens_etcd_or_a_database_is_on_a_balancer_for_its_agent_alone() -> None:
    drawn = blueprint.draw(preset())
    for host in ("lb1", "lb2"):
        by_owner: dict[bool, set[str]] = {True: set(), False: set()}
        for file in drawn.host(host).files:
            is_agents = file.owner == "root" and file.path in {agent.SECRETS, *tls_files(agent.ETCD_CERTIFICATE)}
            by_owner[is_agents] |= set(references.names(file.shown))
        assert {name for name in by_owner[False] if name.startswith("password/")} == {"password/pgbouncer"}
        assert {name for name in by_owner[False] if "etcd" in name} == {ETCD_AUTHORITY}, "no secret, and opens nothing"
        assert {name for name in by_owner[True] if name.startswith("password/")} == {
            "password/rest",
            "password/pgbaton_probe",
        }
        assert {name for name in by_owner[True] if "etcd" in name} == {
            f"certificate/agent-etcd/{host}",
            f"key/agent-etcd/{host}",
        }


def tls_files(name: str) -> set[str]:
    return {f"{TLS_DIRECTORY}/{name}.{kind}" for kind in ("crt", "key")}


@AGENTS_OR_NOT
def test_every_unit_of_ours_restarts_by_itself(sections: dict[str, object]) -> None:
    topology = preset("compact", **sections)
    # It is over when the fences stand, and systemd lets no unit of that kind be started anew always.
    once = f"/etc/systemd/system/{agent.FENCES_UNIT}"
    for host in blueprint.draw(topology).hosts:
        texts = "\n".join(file.shown for file in host.files if "/systemd/" in file.path and file.path != once)
        for unit in host.units:
            if unit.masked or unit.name.startswith("pgbaton-"):
                continue
            template = re.sub("@.*", "@.service", unit.name)
            own = [file.shown for file in host.files if f"/{template}" in file.path]
            assert any("Restart=always" in text for text in own), unit.name
        assert "Restart=on-failure" not in texts
        assert all("Restart=on-failure" in file.shown for file in host.files if file.path == once)


def test_patroni_asks_the_etcd_on_its_own_host_first() -> None:
    topology = preset()
    db2 = topology.host("db2")
    assert patroni.members(topology, db2) == ["127.0.0.1:2379", "10.77.0.21:2379", "10.77.0.23:2379"]


def test_patroni_knows_the_replication_modes() -> None:
    words = {
        mode: patroni.synchronous_mode(preset(replication={"mode": mode, "count": 1}))
        for mode in ("asynchronous", "synchronous", "strict", "quorum")
    }
    assert words["asynchronous"]["synchronous_mode"] is False
    assert words["synchronous"] == {
        "synchronous_mode": True,
        "synchronous_mode_strict": False,
        "synchronous_node_count": 1,
    }
    assert words["strict"]["synchronous_mode_strict"] is True
    assert words["quorum"]["synchronous_mode"] == "quorum"


def test_patronis_file_is_yaml_without_anchors() -> None:
    topology = preset()
    text = next(f.content for f in blueprint.draw(topology).host("db1").files if f.path == patroni.CONFIG)
    assert yaml.safe_load(text)["scope"] == topology.scope
    assert "&id" not in text


def test_a_host_kept_from_failover_is_no_synchronous_standby_either() -> None:
    document = preset().model_dump(mode="json", by_alias=True)
    document["hosts"][4]["failover"] = False
    topology = Topology.model_validate(document)
    tags = patroni.configuration(topology, topology.host("db3"))["tags"]
    assert tags["nofailover"] is True
    assert tags["nosync"] is True


def test_access_rules_trust_nobody_and_end_in_reject() -> None:
    rules = access.rules(preset("compact"))
    assert not [rule for rule in rules if "trust" in rule or "md5" in rule]
    assert not [rule for rule in rules if rule.startswith("host ") and "reject" not in rule]
    assert rules[-1] == "host replication all all reject"
    for rule in rules:
        for source in re.findall(r"\d+\.\d+\.\d+\.\d+/\d+", rule):
            assert ipaddress.ip_network(source).num_addresses == 1


def test_the_lookup_leaves_out_superusers_and_replication() -> None:
    sql = postgres.lookup_sql(preset("standard"))
    assert "NOT rolsuper AND NOT rolreplication" in sql
    assert "SECURITY DEFINER SET search_path = pg_catalog, pg_temp" in sql
    assert "REVOKE ALL ON FUNCTION pgbaton.user_lookup(text) FROM PUBLIC" in sql


def test_user_settings_come_last() -> None:
    topology = preset(postgresql={"settings": {"work_mem": "64MB", "log_lock_waits": False}})
    assert postgres.parameters(topology)["work_mem"] == "64MB"
    assert postgres.parameters(topology)["log_lock_waits"] is False


@pytest.mark.parametrize(
    ("segment_mb", "least", "most"), [(1, "80MB", "1024MB"), (16, "80MB", "1024MB"), (1024, "5120MB", "65536MB")]
)
def test_less_wal_than_usual_is_kept_with_no_size_of_its_files(segment_mb: int, least: str, most: str) -> None:
    topology = preset(postgresql={"wal_segment_size_mb": segment_mb})
    kept = postgres.parameters(topology)
    assert (kept["min_wal_size"], kept["max_wal_size"]) == (least, most)
    made = patroni.configuration(topology, topology.host("db1"))
    assert {"wal-segsize": str(segment_mb)} in made["bootstrap"]["initdb"]


def test_a_firewall_lets_in_only_what_a_role_needs() -> None:
    topology = preset()
    balancer, database = (firewall.ruleset(topology, topology.host(name)) for name in ("lb1", "db1"))
    assert "policy drop" in balancer
    assert "{ 5000, 5001 }" in balancer
    assert "vrrp" in balancer
    assert "2379" not in balancer
    assert "5000" not in database
    assert "ip saddr { 10.77.0.11, 10.77.0.12 } tcp dport { 5432, 8008 } accept" in database
    assert "10.77.0.0/24" not in database


def test_a_balancer_without_the_vip_says_no_in_its_place() -> None:
    topology = preset()
    balancer, database = (firewall.ruleset(topology, topology.host(name)) for name in ("lb1", "db1"))
    assert "ip daddr 10.77.0.100 tcp dport { 5000, 5001 }" in balancer
    assert "fib daddr type != local reject with tcp reset" in balancer
    assert "reject" not in database
    without = preset(network={"subnet": "10.77.0.0/24"})
    assert "reject" not in firewall.ruleset(without, without.host("lb1"))


def test_a_firewall_can_be_switched_off() -> None:
    topology = preset(security={"firewall": False})
    assert not firewall.Firewall().runs_on(topology, topology.host("db1"))


def test_no_pooler_configuration_knows_a_database_host() -> None:
    topology = preset()
    databases = [str(host.address) for host in topology.with_role(Role.DATABASE)]
    for instance in pgbouncer.instances(topology):
        text = pgbouncer.configuration(topology, topology.host("lb1"), instance).content
        assert not [address for address in databases if address in text]


def test_reads_and_writes_have_pools_of_their_own() -> None:
    topology = preset()
    write, read = (
        pgbouncer.configuration(topology, topology.host("lb1"), instance).content for instance in ("write", "read")
    )
    assert "app = host=127.0.0.1 port=6000 " in write
    assert "app = host=127.0.0.1 port=6001 " in read


def test_prepared_statements_are_left_out_where_the_pooler_is_too_old() -> None:
    old = preset(postgresql={"version": 15})
    assert "max_prepared_statements" not in pgbouncer.configuration(old, old.host("lb1"), "write").content
    new = preset()
    assert "max_prepared_statements = 200" in pgbouncer.configuration(new, new.host("lb1"), "write").content


def test_each_balancer_prefers_its_own_pooler() -> None:
    topology = preset()
    text = haproxy.configuration(topology, topology.host("lb2"))
    assert "server lb2 127.0.0.1:6432 check\n" in text
    assert "server lb1 10.77.0.11:6432 check backup\n" in text


def test_reads_fall_back_to_the_primary_only_when_asked_to() -> None:
    strict = preset(balancing={"read_policy": "standby-only"})
    assert "use_backend primary if" not in haproxy.configuration(strict, strict.host("lb1"))
    default = preset()
    assert "use_backend primary if { nbsrv(primary) ge 1 }" in haproxy.configuration(default, default.host("lb1"))


def test_balancers_have_different_priorities_close_to_the_top() -> None:
    topology = preset()
    priorities = [topology.priority(host) for host in topology.with_role(Role.BALANCER)]
    assert priorities == [254, 253]


def test_vrrp_is_unicast_between_the_balancers_and_never_takes_back() -> None:
    topology = preset()
    text = keepalived.configuration(topology, topology.host("lb1"))
    assert "unicast_src_ip 10.77.0.11" in text
    assert "10.77.0.12" in text
    assert "nopreempt" in text
    assert "auth_pass" not in text


def test_without_a_vip_there_is_no_keepalived() -> None:
    document = preset().model_dump(mode="json", by_alias=True)
    document["network"]["vip"] = None
    topology = Topology.model_validate(document)
    assert not keepalived.Keepalived().runs_on(topology, topology.host("lb1"))
    assert topology.entry_address == topology.host("lb1").address


def test_etcd_listens_with_tls_only() -> None:
    topology = preset()
    settings = etcd.settings(topology, topology.host("db1"))
    urls = [value for key, value in settings.items() if key.endswith("_URLS") and "METRICS" not in key]
    assert urls
    assert all(url.startswith("https://") for value in urls for url in value.split(","))
    assert settings["ETCD_CLIENT_CERT_AUTH"] == settings["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"


@pytest.mark.parametrize(
    ("more", "milliseconds"),
    [
        (STOCK, ("100", "1000")),
        ("", ("33", "330")),
        (f"{STOCK}[timings]\netcd_election = 2.5\n", ("250", "2500")),
        ("[timings]\netcd_election = 2.5\n", ("250", "2500")),
        ("[timings]\netcd_election = 1\n", ("100", "1000")),
        ("[timings]\netcd_election = 0.1\n", ("10", "100")),
        ("[timings]\netcd_election = 50\n", ("5000", "50000")),
    ],
)
def test_etcd_elects_sooner_with_agents_unless_that_is_set_and_beats_ten_times_as_often(
    more: str, milliseconds: tuple[str, str]
) -> None:
    topology = load.loads(presets.text("standard") + more)
    for host in topology.with_role(Role.DCS):
        settings = etcd.settings(topology, host)
        assert (settings["ETCD_HEARTBEAT_INTERVAL"], settings["ETCD_ELECTION_TIMEOUT"]) == milliseconds


def test_debians_own_units_cannot_start() -> None:
    topology = preset("compact")
    host = topology.hosts[0]
    masked = {unit.name for component in COMPONENTS for unit in component.units(topology, host) if unit.masked}
    assert masked == {"postgresql.service", "pgbouncer.service", "pgbouncer.socket"}
    assert Unit("patroni.service") in [unit for component in COMPONENTS for unit in component.units(topology, host)]


def test_an_application_host_gets_nothing() -> None:
    document = preset().model_dump(mode="json", by_alias=True)
    document["hosts"].append({"name": "app", "address": "10.77.0.254", "roles": ["application"]})
    assert blueprint.draw(Topology.model_validate(document)).host("app").parts == ()


def test_patroni_asks_its_own_server_for_the_timeline_without_tls_and_as_nobody_else_may() -> None:
    topology = preset()
    own = patroni.server(topology, topology.host("db1"))
    assert own["use_unix_socket_repl"] is True
    assert "local replication replicator peer map=patroni" in own["pg_hba"]
    assert [line for line in own["pg_ident"] if line.startswith("patroni ")] == ["patroni postgres replicator"]
    by_hand = preset("manual")
    assert not any(rule.startswith("local replication") for rule in access.rules(by_hand))
    assert not any("replicator" in line for line in access.user_maps(by_hand))


def test_patroni_goes_first_and_what_it_starts_does_not() -> None:
    topology = preset()
    unit = patroni.service(topology)
    assert (unit["Nice"], unit["CPUSchedulingResetOnFork"]) == ("-10", "yes")
    # What starts a server has its session, and is not to go before other servers.
    assert "ExecStartPost" not in unit
    assert etcd.SERVICE["ExecStartPost"] == "-+/bin/sh -c 'echo -10 > /proc/${MAINPID}/autogroup'"
    # Without a policy systemd does not set the flag.
    assert unit["CPUSchedulingPolicy"] == "other"
