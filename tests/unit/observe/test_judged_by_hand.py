"""What is found in a cluster that a person fails over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from observed import BALANCERS, agent, changed, healthy, postgres, server, standby, units

from pgbaton.observe.collect import request, wanted_units
from pgbaton.observe.findings import Level
from pgbaton.observe.judge import judge
from pgbaton.observe.report import report
from pgbaton.observe.snapshot import Problem, ProxyView, Snapshot, UnitView
from pgbaton.topology import load, presets
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.observe.findings import Finding
    from pgbaton.topology.model import Topology

DB3 = '[[hosts]]\nname = "db3"\naddress = "10.77.0.23"\nroles = ["database"]\n\n[postgresql]\n'


def topology(mode: str = "synchronous") -> Topology:
    text = presets.text("manual").replace('mode = "synchronous"', f'mode = "{mode}"')
    return load.loads(text.replace("[postgresql]\n", DB3, 1))


def cluster(names: str = 'FIRST 1 ("db2", "db3")', *, confirms: bool = True) -> Snapshot:
    """Return a healthy cluster without Patroni: db1 is primary."""
    snapshot = healthy()
    for spec in topology().hosts:
        mine = {"units": units(spec.name, topology())}
        if spec.has(Role.DATABASE):
            mine |= {"patroni": None, "etcd": None}
        snapshot = changed(snapshot, spec.name, **mine)
    rows = (standby("db2", "sync"), standby("db3", "potential")) if confirms else ()
    return changed(snapshot, "db1", postgres=replace(postgres("db1"), synchronous_standby_names=names, standbys=rows))


def found(snapshot: Snapshot, mode: str = "synchronous") -> dict[str, Finding]:
    return {finding.rule: finding for finding in judge(topology(mode), snapshot)}


def test_a_healthy_cluster_has_no_findings_and_no_etcd() -> None:
    assert found(cluster()) == {}
    shown = report(topology(), cluster())
    assert shown.etcd is None
    assert shown.primary == "db1"
    assert shown.to_dict()["etcd"] is None


def test_nobody_is_asked_for_patroni() -> None:
    asked = request(topology(), topology().host("db1"), deadline=3)
    assert "patroni" not in asked["parts"]
    assert "patroni" not in asked["packages"]
    assert "pgbaton-postgresql.service" in wanted_units(topology())["db1"]


def test_commits_that_wait_in_vain_are_an_outage_until_somebody_acts() -> None:
    finding = found(cluster(confirms=False))["synchronous-standby-missing"]
    assert (finding.level, finding.outage) == (Level.CRITICAL, True)
    assert "pgbaton standby detach" in finding.advice


def test_a_primary_that_waits_for_nobody_is_a_warning() -> None:
    finding = found(cluster("", confirms=False))["synchronous-standby-missing"]
    assert (finding.level, finding.outage) == (Level.WARNING, False)


@pytest.mark.parametrize("names", ['FIRST 2 ("db2", "db3")', 'ANY 2 ("db2", "db3")'])
def test_fewer_than_commits_wait_for_is_an_outage(names: str) -> None:
    snapshot = cluster(names)
    rows = (standby("db2", "sync"),)
    snapshot = changed(snapshot, "db1", postgres=replace(snapshot.host("db1").postgres, standbys=rows))  # type: ignore[type-var]
    asked = topology().model_copy(update={"replication": topology().replication.model_copy(update={"count": 2})})
    (finding,) = [each for each in judge(asked, snapshot) if each.rule == "synchronous-standby-missing"]
    assert finding.outage


def test_of_two_primaries_the_newer_timeline_counts_and_both_are_named() -> None:
    newer = replace(postgres("db2"), role="primary", timeline=4, standbys=())
    snapshot = changed(cluster(), "db2", postgres=newer)
    finding = found(snapshot)["several-primaries"]
    assert finding.level is Level.CRITICAL
    assert "db1 on timeline 3, db2 on timeline 4" in finding.seen
    assert report(topology(), snapshot).primary == "db2"


def led(snapshot: Snapshot, *up: str, on: tuple[str, ...] = BALANCERS) -> Snapshot:
    """Return a snapshot whose balancers take some servers for the primary."""
    for name in on:
        view = snapshot.host(name).haproxy
        assert view is not None
        primary = ProxyView("primary", "UP", 5, tuple(server(each, up=each in up) for each in ("db1", "db2", "db3")))
        proxies = tuple(primary if proxy.name == "primary" else proxy for proxy in view.proxies)
        snapshot = changed(snapshot, name, haproxy=replace(view, proxies=proxies))
    return snapshot


def two_primaries(timeline: int = 4) -> Snapshot:
    """Return the cluster with db2 promoted beside db1, which is on timeline 3."""
    return changed(cluster(), "db2", postgres=replace(postgres("db2"), role="primary", timeline=timeline, standbys=()))


@pytest.mark.parametrize(
    ("snapshot", "words"),
    [
        (led(two_primaries(), "db1", "db2"), "balancers open no new connection for writes"),
        (led(two_primaries(), "db2"), "balancers lead to db2"),
        (led(led(two_primaries(), "db2"), "db1", on=("lb2",)), "lb1 leads to db2; lb2 leads to db1"),
        (led(led(two_primaries(), "db2"), on=("lb2",)), "lb1 leads to db2; lb2 leads to nobody"),
    ],
)
def test_where_balancers_lead_beside_two_primaries_is_said(snapshot: Snapshot, words: str) -> None:
    assert found(snapshot)["several-primaries"].seen.endswith(words)


def test_a_balancer_that_takes_both_for_the_primary_sends_nobody_there() -> None:
    findings = [each for each in judge(topology(), led(two_primaries(), "db1", "db2")) if "misroutes" in each.rule]
    assert {(each.subject, each.seen, each.outage) for each in findings} == {
        ("lb1", "it sends writes to nobody", True),
        ("lb2", "it sends writes to nobody", False),
    }
    rows = report(topology(), led(two_primaries(), "db1", "db2")).hosts
    assert all(row.writes_from == () for row in rows)


def test_of_two_primaries_on_one_timeline_none_is_the_primary() -> None:
    shown = report(topology(), two_primaries(3))
    assert shown.primary is None
    assert "db1 on timeline 3, db2 on timeline 3" in found(two_primaries(3))["several-primaries"].seen


WATCHED = load.loads(
    presets.text("manual").replace("# agent = false ", "agent = true ").replace("[postgresql]\n", DB3, 1)
)


def watched() -> Snapshot:
    """Return the same cluster with an agent on each host."""
    snapshot = cluster()
    for spec in WATCHED.hosts:
        tracked = 0 if spec.has(Role.BALANCER) else None
        snapshot = changed(
            snapshot, spec.name, agent=agent(spec.name), tracked=tracked, units=units(spec.name, WATCHED)
        )
    return snapshot


def test_a_healthy_cluster_with_agents_has_them_and_no_fences() -> None:
    assert judge(WATCHED, watched()) == ()
    shown = report(WATCHED, watched())
    assert [row.state for row in shown.agents or ()] == ["running"] * 5
    assert shown.fences is None
    asked = request(WATCHED, WATCHED.host("lb1"), deadline=3)["parts"]
    assert "agent" in asked
    assert "fences" not in asked


def test_a_primary_that_others_have_left_is_told_of_although_nobody_here_sees_another() -> None:
    why = "db2 is on timeline 4, and this server on 3: another one was promoted"
    snapshot = changed(watched(), "db1", agent=agent("db1", lock=False, rival=why))
    (finding,) = [each for each in judge(WATCHED, snapshot) if each.rule == "superseded-primary"]
    assert (finding.level, finding.subject) == (Level.CRITICAL, "db1")
    assert why in finding.seen
    newer = replace(postgres("db2"), role="primary", timeline=4, standbys=())
    both = changed(snapshot, "db2", postgres=newer)
    rules = {each.rule for each in judge(WATCHED, both)}
    assert "several-primaries" in rules
    assert "superseded-primary" not in rules, "one finding says it"


@pytest.mark.parametrize(("check", "words"), [("query", "a stock one"), ("agent", "sends nobody there")])
def test_what_an_agent_that_is_gone_means_is_said(check: str, words: str) -> None:
    text = presets.text("manual").replace("# agent = false ", "agent = true ").replace("# check = ", "check = ")
    asked = load.loads(text.replace('"query" ', f'"{check}" ').replace("[postgresql]\n", DB3, 1))
    snapshot = changed(watched(), "db2", agent=None, problems=(Problem("agent", "refused"),))
    (finding,) = [each for each in judge(asked, snapshot) if each.rule == "agent-not-running"]
    assert words in finding.advice


def test_without_a_primary_a_person_is_asked_for() -> None:
    snapshot = changed(cluster(), "db1", postgres=None, problems=(Problem("postgres", "refused"),))
    finding = found(snapshot)["no-primary"]
    assert finding.outage
    assert "nobody is promoted by itself" in finding.advice


def test_a_server_that_is_held_back_is_told_of_once_with_where_to_read_why() -> None:
    stopped = UnitView("pgbaton-postgresql.service", "inactive", "dead", "enabled", 0)
    mine = (*units("db2", topology())[:-1], stopped)
    snapshot = changed(cluster(), "db2", postgres=None, units=mine, problems=(Problem("postgres", "refused"),))
    findings = found(snapshot)
    assert "unit-not-running" not in findings
    assert "pgbaton-postgresql.service is inactive" in findings["server-silent"].seen
    assert findings["server-silent"].advice == "pgbaton logs --host db2 --unit pgbaton-postgresql"
