"""What a host with an agent gets, and what others get for it."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import yaml

from pgbaton import blueprint, references
from pgbaton.agent import __main__ as command_line
from pgbaton.agent import contradictions, settings_file
from pgbaton.agent.settings import Way
from pgbaton.cli.demo import STOCK
from pgbaton.components import access, agent, firewall, keepalived, patroni, pgbouncer, postgres
from pgbaton.components.agent import Agent
from pgbaton.components.base import ETCD_AUTHORITY, File, OnChange, Wave
from pgbaton.errors import UnhealthyError
from pgbaton.hosts.fake import FakeHost
from pgbaton.secrets import Vault
from pgbaton.topology import load, presets
from pgbaton.topology.model import Role, Topology
from pgbaton.topology.rules import agents
from pgbaton.topology.rules.managed import RESERVED_USERS

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.agent.settings import Settings

WITH_AGENT = "\n[orchestration]\nagent = true\n"


def preset(name: str = "standard", more: str = "") -> Topology:
    """Return a preset, which has agents unless more says otherwise."""
    return load.loads(presets.text(name) + more)


def files(topology: Topology, host: str) -> dict[str, File]:
    return {file.path: file for file in Agent().files(topology, topology.host(host))}


def read(topology: Topology, host: str, directory: Path) -> Settings:
    """Return the settings as the agent on a host would read them."""
    drawn = blueprint.draw(topology)
    vault = Vault(directory / "vault")
    vault.ensure(drawn.passwords, (), shared_keys=drawn.shared_keys, days=1)
    paths = []
    for path in (agent.SETTINGS, agent.SECRETS):
        file = files(topology, host)[path]
        assert isinstance(file.content, str)
        paths.append(directory / path.rpartition("/")[2])
        paths[-1].write_text(vault.resolve(file.content))
        paths[-1].chmod(file.mode)
    return settings_file.load(*paths)


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_without_agents_nothing_of_them_is_anywhere(name: str) -> None:
    drawn = blueprint.draw(preset(name, more=STOCK))
    assert drawn.shared_keys == ()
    assert not {"pgbaton_agent", "pgbaton_probe"} & set(drawn.passwords)
    for host in drawn.hosts:
        assert not [file.path for file in host.files if "agent" in f"{file.path}{file.shown}"]
        assert all(part.component != "agent" for part in host.parts)


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_every_host_has_one_and_it_comes_up_last(name: str) -> None:
    for host in blueprint.draw(preset(name)).hosts:
        assert host.parts[-1].component == "agent"
        assert host.parts[-1].wave == Wave.AGENT == max(Wave)


def test_a_host_of_applications_alone_has_none_and_no_vote() -> None:
    app = '\n[[hosts]]\nname = "app"\naddress = "10.77.0.99"\nroles = ["application"]\n'
    topology = preset(more=app)
    assert blueprint.draw(topology).host("app").parts == ()
    assert [host.name for host in topology.voters] == ["lb1", "lb2", "db1", "db2", "db3"]


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_what_is_rendered_is_what_the_agent_reads(name: str, tmp_path: Path) -> None:
    topology = preset(name)
    for number, host in enumerate(topology.hosts):
        (tmp_path / str(number)).mkdir()
        found = read(topology, host.name, tmp_path / str(number))
        assert found.me == host.name
        assert [(each.name, each.address) for each in found.hosts] == [
            (each.name, str(each.address)) for each in topology.hosts
        ]
        assert {each.name for each in found.databases} == {each.name for each in topology.with_role(Role.DATABASE)}


def test_what_the_topology_says_arrives_in_the_settings(tmp_path: Path) -> None:
    more = (
        f"{WITH_AGENT}heartbeat_port = 7001\nhealth_port = 7002\n"
        '[timings]\nheartbeat_interval = 0.02\ndetection_time = 0.25\n[replication]\nmode = "asynchronous"\n'
        "accept_loss = true\n"
    )
    text = presets.text("standard").partition("[replication]")[0]
    found = read(load.loads(text + more), "db2", tmp_path)
    assert (found.ports.heartbeat, found.ports.health) == (7001, 7002)
    assert (found.timings.heartbeat_seconds, found.timings.detection_seconds) == (0.02, 0.25)
    assert (found.mode, found.accept_loss) == ("asynchronous", True)
    assert len(found.secrets.heartbeat_keys[0]) == 32


@pytest.mark.parametrize(("detection", "beat"), [("0.5", 0.1), ("0.25", 0.05), ("0.2", 0.05), ("2.0", 0.4)])
def test_agents_beat_five_times_in_a_detection_time_unless_they_are_told(detection: str, beat: float) -> None:
    text = presets.text("standard") + f"[timings]\ndetection_time = {detection}\n"
    assert load.loads(text).timings.heartbeat_seconds == pytest.approx(beat)
    assert load.loads(f"{text}heartbeat_interval = 0.03\n").timings.heartbeat_seconds == 0.03


def test_all_hosts_share_one_key_and_nothing_shows_it() -> None:
    drawn = blueprint.draw(preset())
    assert drawn.shared_keys == ("heartbeat",)
    for host in drawn.hosts:
        secrets = next(file for file in host.files if file.path == agent.SECRETS)
        assert secrets.mode == 0o600
        probe = ("password/pgbaton_probe",) if host.host in {"lb1", "lb2"} else ()
        assert references.names(secrets.shown) == ("key/heartbeat", "password/rest", *probe)


def test_every_secret_of_an_agent_is_made() -> None:
    drawn = blueprint.draw(preset("classic"))
    made = {f"password/{name}" for name in drawn.passwords} | {f"key/{name}" for name in drawn.shared_keys}
    made |= {f"{kind}/{certificate.name}" for kind in ("certificate", "key") for certificate in drawn.certificates}
    made |= {"ca", ETCD_AUTHORITY}
    wanted = {name for host in drawn.hosts for file in host.files for name in references.names(file.shown)}
    assert wanted <= made


def test_the_program_checks_its_own_settings_before_it_is_replaced(tmp_path: Path) -> None:
    topology = preset()
    read(topology, "db1", tmp_path)
    (check,) = Agent().checks(topology, topology.host("db1"))
    staged = {f"{{{path}}}": str(tmp_path / path.rpartition("/")[2]) for path in (agent.SETTINGS, agent.SECRETS)}
    program = tmp_path / "000-agent.pyz"
    content = files(topology, "db1")[agent.PROGRAM].content
    assert isinstance(content, bytes)
    program.write_bytes(content)
    argv = [{**staged, f"{{{agent.PROGRAM}}}": str(program)}.get(word, word) for word in check.argv]
    argv[0] = sys.executable
    ran = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "settings of db1 in cluster standard, 5 hosts have an agent\n"
    (tmp_path / "agent.json").write_text("{}")
    refused = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 78
    assert "agent.json: cluster: seen nothing" in refused.stderr


def test_the_program_looks_for_its_files_where_they_are_put() -> None:
    assert (command_line.SETTINGS_FILE, command_line.SECRETS_FILE) == (agent.SETTINGS, agent.SECRETS)


def test_topology_and_agent_have_the_same_limit_for_the_detection_time() -> None:
    assert agents.MISSED_HEARTBEATS == contradictions.LEAST_HEARTBEATS


def test_every_command_of_the_units_is_one_that_the_program_knows() -> None:
    text = agent.agent_unit(preset()) + agent.fences_unit()
    asked = {line.rpartition(f"{agent.PROGRAM} ")[2] for line in text.splitlines() if agent.PROGRAM in line}
    assert asked == {"run", "release-holds", "restore-fences"}
    assert asked <= set(command_line.COMMANDS)


def test_poolers_are_let_go_however_an_agent_ends() -> None:
    lines = agent.agent_unit(preset()).splitlines()
    assert f"ExecStopPost=-/usr/bin/python3 -I {agent.PROGRAM} release-holds" in lines
    assert {"Type=notify", "WatchdogSec=3", "Restart=always", "RestartSec=100ms"} <= set(lines)


def test_fences_stand_before_a_server_starts_and_a_server_waits_for_them() -> None:
    topology = preset()
    unit = files(topology, "db1")[f"/etc/systemd/system/{agent.FENCES_UNIT}"]
    assert "Before=network-pre.target patroni.service" in unit.shown
    drop_in = files(topology, "db1")[agent.PATRONI_DROP_IN]
    assert "is-active pgbaton-fences.service" in drop_in.shown
    assert "Requires=" not in drop_in.shown
    assert agent.PATRONI_DROP_IN not in files(topology, "lb1")
    # Neither file may restart anything: one would drop fences, the other is no reason to stop a server.
    assert [(file.unit, file.on_change) for file in (unit, drop_in)] == [(None, OnChange.NOTHING)] * 2
    assert [each.name for each in Agent().units(topology, topology.host("db1"))] == [agent.FENCES_UNIT, agent.UNIT]


@pytest.mark.parametrize(
    ("more", "restarted"), [("", {"/etc/default/etcd"}), ("[timings]\netcd_election = 1\n", set())]
)
def test_turning_agents_on_restarts_nothing_but_etcd_and_that_only_for_its_election(
    more: str, restarted: set[str]
) -> None:
    off, on = (blueprint.draw(preset(more=agents + more)) for agents in (STOCK, WITH_AGENT))
    for host in off.hosts:
        before = {file.path: file for file in host.files}
        changed = [file for file in on.host(host.host).files if before.get(file.path, file) != file]
        assert changed
        found = {file.path for file in changed if file.on_change is OnChange.RESTART}
        assert found == (restarted if host.host.startswith("db") else set())


def test_agents_reach_each_other_and_etcd_and_nobody_else_reaches_them() -> None:
    topology = preset()
    everyone = "ip saddr { 10.77.0.11, 10.77.0.12, 10.77.0.21, 10.77.0.22, 10.77.0.23 }"
    balancer, database = (firewall.ruleset(topology, topology.host(name)) for name in ("lb1", "db1"))
    for ruleset in (balancer, database):
        assert f"    {everyone} udp dport 7790 accept\n" in ruleset
        assert f"    {everyone} tcp dport 7791 accept\n" in ruleset
    assert f"    {everyone} tcp dport 2379 accept\n" in database
    assert "2379" not in balancer


def test_the_agents_role_is_root_on_the_host_alone_and_sees_what_monitoring_sees() -> None:
    topology = preset()
    (role,) = (role for role in postgres.roles(topology) if role.name == "pgbaton_agent")
    assert (role.password, role.member_of) == ("pgbaton_agent", ("pg_monitor",))
    rules = access.rules(topology)
    assert rules[1] == "local postgres pgbaton_agent peer map=pgbaton"
    others = [rule for rule in rules[2:] if "pgbaton_agent" in rule and not rule.endswith(" reject")]
    assert others == [], "it comes in over no network"
    assert rules[-1] == "host replication all all reject"
    text = next(f.shown for f in blueprint.draw(topology).host("db1").files if f.path == patroni.CONFIG)
    assert "pgbaton root pgbaton_agent" in yaml.safe_load(text)["postgresql"]["pg_ident"]


@pytest.mark.parametrize(("name", "balancers"), [("standard", 2), ("compact", 3)])
def test_the_probes_role_may_only_log_in_from_balancers_to_one_database(name: str, balancers: int) -> None:
    topology = preset(name)
    (role,) = (role for role in postgres.roles(topology) if role.name == "pgbaton_probe")
    assert (role.password, role.member_of) == ("pgbaton_probe", ())
    assert role.connection_limit == 2 * balancers
    rules = [rule for rule in access.rules(topology) if "pgbaton_probe" in rule and "reject" not in rule]
    addresses = [str(host.address) for host in topology.with_role(Role.BALANCER)]
    assert rules == [
        "local postgres pgbaton_probe scram-sha-256",
        *(f"hostssl postgres pgbaton_probe {address}/32 scram-sha-256" for address in addresses),
    ]


def test_no_user_of_an_application_is_called_like_the_probes_role() -> None:
    assert postgres.PROBE_ROLE in RESERVED_USERS


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_balancers_alone_are_told_of_the_clients_way_and_have_its_password(name: str, tmp_path: Path) -> None:
    topology = preset(name)
    for number, host in enumerate(topology.hosts):
        (tmp_path / str(number)).mkdir()
        found = read(topology, host.name, tmp_path / str(number))
        is_told = found.path is not None and found.secrets.probe_password is not None
        assert is_told == host.has(Role.BALANCER)
        if found.path is not None:
            assert found.path == Way(5000, "pgbaton_probe", "postgres", agent.PATH_SECONDS)


def test_the_poolers_certificate_has_the_name_that_the_agent_asks_for() -> None:
    topology = preset()
    for host in topology.with_role(Role.BALANCER):
        (certificate,) = pgbouncer.Pgbouncer().certificates(topology, host)
        # Whichever balancer's pooler HAProxy takes.
        assert {each.name for each in topology.with_role(Role.BALANCER)} <= set(certificate.dns_names)


def test_a_pooler_has_a_way_for_the_agents_questions() -> None:
    topology = preset()
    for instance, port in (("write", 6000), ("read", 6001)):
        text = pgbouncer.configuration(topology, topology.host("lb1"), instance).shown
        assert (
            f"postgres = host=127.0.0.1 port={port} dbname=postgres pool_size=1 reserve_pool=0 pool_mode=transaction\n"
            in text
        )


def test_keepalived_listens_to_the_agent_where_there_is_one() -> None:
    for more, count in ((STOCK, 0), ("", 1)):
        topology = preset(more=more)
        text = keepalived.configuration(topology, topology.host("lb1"))
        assert text.count(f'file "{keepalived.AGENT_FILE}"') == text.count("haproxy_useless weight 1\n") == count
    # A watch ends with its directory, and systemd removes an agent's own.
    assert keepalived.AGENT_FILE.rpartition("/")[0] == "/run"


def test_an_agents_certificate_for_etcd_opens_etcd_and_no_peers_port() -> None:
    topology = preset()
    own, for_etcd = Agent().certificates(topology, topology.host("lb1"))
    assert (own.authority, own.server, own.client) == ("ca", True, True)
    assert (for_etcd.authority, for_etcd.server, for_etcd.client) == (ETCD_AUTHORITY, False, True)
    assert for_etcd.common_name != "etcd-peer"
    assert {own.owner, for_etcd.owner} == {"root"}


@pytest.mark.parametrize("missing", [agent.FENCES_UNIT, agent.UNIT])
async def test_a_host_is_not_ready_before_its_units_are_active(missing: str) -> None:
    topology = preset()
    units = (agent.FENCES_UNIT, agent.UNIT)
    answers = {("systemctl", "is-active", unit): "failed\n" if unit == missing else "active\n" for unit in units}
    with pytest.raises(UnhealthyError, match=f"{missing} is failed"):
        await Agent().probe(topology, topology.host("db1"), {"db1": FakeHost("db1", answers=dict(answers))})


async def test_a_host_is_ready_when_its_health_port_answers() -> None:
    topology = preset()
    host = FakeHost("db1", answers={("systemctl",): "active\n", ("/usr/bin/python3",): ""})
    await Agent().probe(topology, topology.host("db1"), {"db1": host})
    assert host.calls[-1][0][4:6] == ("10.77.0.21", "7791")


def ask(port: int, directory: Path) -> int:
    files = [str(directory / name) for name in ("ca.crt", "agent.crt", "agent.key")]
    argv = (sys.executable, "-I", "-c", agent.ASK, "127.0.0.1", str(port), *files)
    return subprocess.run(argv, check=False, capture_output=True, timeout=60).returncode


def test_the_question_is_asked_over_mutual_tls_and_any_answer_will_do(tmp_path: Path) -> None:
    topology = preset()
    own = Agent().certificates(topology, topology.host("db1"))[0]
    vault = Vault(tmp_path)
    vault.ensure((), [own], days=30)
    for name, value in (("ca.crt", "ca"), ("agent.crt", f"certificate/{own.name}"), ("agent.key", f"key/{own.name}")):
        (tmp_path / name).write_text(vault.value(value))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "agent.crt", tmp_path / "agent.key")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
    with server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert ask(server.server_port, tmp_path) == 0
    assert ask(server.server_port, tmp_path) != 0
