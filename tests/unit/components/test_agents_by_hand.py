"""Agents where a person promotes: what a host gets, and what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton import blueprint, references
from pgbaton.agent import settings_file
from pgbaton.components import access, agent, firewall, haproxy, keepalived, patroni, postgres
from pgbaton.components.agent import Agent
from pgbaton.components.base import Wave
from pgbaton.secrets import Vault
from pgbaton.topology import budget, load, placement, presets
from pgbaton.topology.model import Placement, Role

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.components.base import File
    from pgbaton.topology.model import Topology

WITH_AGENT = 'kind = "manual"\nagent = true'


def topology(check: str = "query", *, version: int = 17, more: str = "") -> Topology:
    text = presets.text("manual").replace('kind = "manual" ', f"{WITH_AGENT} ").replace("# check = ", "check = ")
    return load.loads(text.replace('"query" ', f'"{check}" ').replace("# version = 17", f"version = {version}") + more)


def files(of: Topology, host: str) -> dict[str, File]:
    return {file.path: file for file in Agent().files(of, of.host(host))}


def test_a_cluster_by_hand_has_agents_only_where_they_are_asked_for() -> None:
    assert not load.loads(presets.text("manual")).has_agents
    assert [host.name for host in topology().voters] == ["lb1", "lb2", "db1", "db2"]
    # They decide nothing, so two of them are no worse than three, and the server's version is no matter.
    assert topology("script", version=15).has_agents


@pytest.mark.parametrize("host", ["lb1", "db1"])
def test_what_is_rendered_is_what_the_agent_reads(host: str, tmp_path: Path) -> None:
    of = topology()
    drawn = blueprint.draw(of)
    vault = Vault(tmp_path / "vault")
    vault.ensure(drawn.passwords, (), shared_keys=drawn.shared_keys, days=1)
    paths = []
    for path in (agent.SETTINGS, agent.SECRETS):
        paths.append(tmp_path / path.rpartition("/")[2])
        paths[-1].write_text(vault.resolve(files(of, host)[path].shown))
        paths[-1].chmod(files(of, host)[path].mode)
    found = settings_file.load(*paths)
    assert (found.me, found.is_manual, found.tls.etcd_authority) == (host, True, None)
    assert found.secrets.rest_password is None
    assert (found.path is not None) == (found.secrets.probe_password is not None) == (host == "lb1")


def test_nothing_of_patroni_of_etcd_or_of_fences_is_on_any_host() -> None:
    for host in blueprint.draw(topology()).hosts:
        assert agent.UNIT in [unit.name for unit in host.units]
        assert agent.FENCES_UNIT not in [unit.name for unit in host.units]
        assert patroni.UNIT not in " ".join(file.shown for file in host.files if "agent" in file.path)
        assert not [each.name for part in host.parts for each in part.certificates if "etcd" in each.name]
        assert not [name for file in host.files for name in references.names(file.shown) if "rest" in name]
        unit = next(file.shown for file in host.files if file.path == f"/etc/systemd/system/{agent.UNIT}")
        assert "fences" not in unit
        assert "CAP_NET_ADMIN" not in unit, "nobody is fenced, so nobody needs to be able to"


def test_every_secret_of_an_agent_is_made() -> None:
    drawn = blueprint.draw(topology())
    made = {f"password/{name}" for name in drawn.passwords} | {f"key/{name}" for name in drawn.shared_keys}
    made |= {f"{kind}/{each.name}" for kind in ("certificate", "key") for each in drawn.certificates} | {"ca"}
    assert {name for host in drawn.hosts for file in host.files for name in references.names(file.shown)} <= made


def test_agents_reach_each_other_and_the_servers_know_their_roles() -> None:
    of = topology()
    everyone = "ip saddr { 10.77.0.11, 10.77.0.12, 10.77.0.21, 10.77.0.22 }"
    for name in ("lb1", "db1"):
        rules = firewall.ruleset(of, of.host(name))
        assert f"    {everyone} udp dport 7790 accept\n" in rules
        assert f"    {everyone} tcp dport 7791 accept\n" in rules
    assert {"pgbaton_agent", "pgbaton_probe", "pgbaton_check"} <= {role.name for role in postgres.roles(of)}
    assert "local postgres pgbaton_agent peer map=pgbaton" in access.rules(of)
    assert keepalived.AGENT_FILE in keepalived.configuration(of, of.host("lb1"))


@pytest.mark.parametrize("where", list(Placement))
def test_haproxy_asks_the_agents_of_the_servers_wherever_clients_are_led(where: Placement) -> None:
    pool = '\n[[hosts]]\nname = "pool"\naddress = "10.77.0.31"\nroles = ["pooler", "application"]\n'
    text = presets.text("manual").replace('kind = "manual" ', f"{WITH_AGENT} ").replace("# check = ", "check = ")
    text = text.replace('"query" ', '"agent" ').replace("[pooling]\n", f'[pooling]\nplacement = "{where}"\n')
    of = load.loads(text + pool)
    (host, *_) = placement.routers(of)
    shown = haproxy.configuration(of, host)
    servers = [line for line in shown.splitlines() if line.strip().startswith("server db")]
    assert len(servers) == 6
    assert all(" check check-ssl port 7791 verify required verifyhost db" in line for line in servers)
    assert all(" crt " not in line for line in servers)
    asked = [line.split(" uri ")[1].split()[0] for line in shown.splitlines() if "http-check send" in line]
    assert asked == ["/primary", "/replica?lag=16777216", "/stranded?lag=16777216"]
    assert "use_backend primary if { nbsrv(primary) eq 1 }" in shown
    assert haproxy.Haproxy().certificates(of, host) == ()


def test_an_agent_that_is_started_anew_does_not_cost_its_server_its_sessions() -> None:
    of = topology("agent")
    shown = haproxy.configuration(of, of.host("lb1"))
    backend = shown.partition("backend primary\n")[2].partition("backend")[0]
    # Four checks in a row, half a second apart at the least: an agent is back within a second.
    assert "default-server inter 1000ms fastinter 500ms downinter 500ms fall 4\n" in backend


@pytest.mark.parametrize(("check", "wave"), [("agent", Wave.POOLER), ("query", Wave.AGENT)])
def test_agents_that_haproxy_asks_are_there_before_it_is(check: str, wave: Wave) -> None:
    for host in blueprint.draw(topology(check)).hosts:
        waves = {part.component: part.wave for part in host.parts}
        assert waves["agent"] == wave
        assert waves["agent"] < waves.get("haproxy", Wave.VIP) or check == "query"


def test_agents_change_what_is_predicted_of_haproxy_alone() -> None:
    without = {made.fault: made for made in budget.budget(load.loads(presets.text("manual")))}
    with_agents = {made.fault: made for made in budget.budget(topology())}
    assert with_agents.keys() == without.keys()
    assert {name for name, made in with_agents.items() if made != without[name]} == {"haproxy-hung"}


def test_no_role_is_missing_that_a_placement_may_need() -> None:
    of = topology()
    for host in of.with_role(Role.DATABASE):
        (certificate,) = Agent().certificates(of, host)
        assert (certificate.authority, certificate.server, certificate.client) == ("ca", True, True)
