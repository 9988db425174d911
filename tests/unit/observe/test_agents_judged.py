"""The rules about agents: each finds what it is there for, and nothing where there are none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from observed import (
    AGENTS,
    TOPOLOGY,
    agent,
    changed,
    fenced,
    fences,
    gone,
    healthy,
    patroni,
    postgres,
    server,
    standby,
    units,
    with_agents,
)

from pgbaton.components.agent import PAUSE_SECONDS
from pgbaton.observe.facts import Facts
from pgbaton.observe.findings import Finding, Health, Level, health
from pgbaton.observe.judge import judge
from pgbaton.observe.snapshot import Problem

if TYPE_CHECKING:
    from pgbaton.observe.snapshot import Snapshot
    from pgbaton.topology.model import Topology


def of(rule: str, snapshot: Snapshot, judged: Topology = AGENTS) -> list[Finding]:
    """Return what one rule found."""
    return [finding for finding in judge(judged, snapshot) if finding.rule == rule]


def only(rule: str, snapshot: Snapshot) -> Finding:
    """Return the one finding of a rule."""
    (finding,) = of(rule, snapshot)
    return finding


def without_standby(name: str) -> Snapshot:
    """Return a cluster in which the primary does not know a standby."""
    rows = tuple(standby(other, "sync") for other in ("db2", "db3") if other != name)
    return changed(with_agents(), "db1", postgres=replace(postgres("db1"), standbys=rows))


def silent(snapshot: Snapshot, name: str) -> Snapshot:
    """Return a snapshot in which a host's agent does not answer."""
    return changed(snapshot, name, agent=None, problems=(Problem("agent", "no answer within 1 s"),))


def test_a_healthy_cluster_with_agents_has_no_findings() -> None:
    assert judge(AGENTS, with_agents()) == ()
    assert health(judge(AGENTS, with_agents())) is Health.HEALTHY


def test_without_agents_in_the_topology_nothing_is_said_of_them() -> None:
    assert judge(TOPOLOGY, fenced(silent(with_agents(), "db2"), "db1", on=("db3",))) == ()


def test_an_agent_that_does_not_answer_is_found() -> None:
    finding = only("agent-not-running", silent(with_agents(), "lb2"))
    assert (finding.subject, finding.level) == ("lb2", Level.WARNING)
    assert finding.seen == "its agent does not answer: no answer within 1 s"


def test_an_agent_whose_unit_is_down_is_told_of_once() -> None:
    down = tuple(
        replace(unit, active="failed", sub="failed") if unit.name == "pgbaton-agent.service" else unit
        for unit in units("db3", AGENTS)
    )
    snapshot = changed(silent(with_agents(), "db3"), "db3", units=down)
    assert only("agent-not-running", snapshot).seen.endswith("pgbaton-agent.service is failed (failed)")
    assert of("unit-not-running", snapshot) == []
    assert of("part-silent", snapshot) == []


def test_an_agent_on_a_host_that_is_gone_is_not_told_of_beside_the_host() -> None:
    rules = {finding.rule for finding in judge(AGENTS, gone(with_agents(), "db3"))}
    assert "unreachable" in rules
    assert not {rule for rule in rules if rule.startswith("agent")}


def test_a_stalled_agent_is_found_and_what_it_says_of_others_does_not_count() -> None:
    finding = only("agent-stalled", changed(with_agents(), "db2", agent=agent("db2", stalled=True, heard=())))
    assert (finding.subject, finding.level) == ("db2", Level.WARNING)
    assert of("agents-do-not-hear-each-other", changed(with_agents(), "db2", agent=agent("db2", stalled=True))) == []


def test_who_does_not_hear_whom_is_told() -> None:
    snapshot = changed(with_agents(), "db1", agent=agent("db1", silent=("db2",)))
    snapshot = changed(snapshot, "lb1", agent=agent("lb1", heard=("lb2", "db1")))
    finding = only("agents-do-not-hear-each-other", snapshot)
    assert finding.seen == "lb1 does not hear db2, db3; db1 does not hear db2"
    assert finding.level is Level.WARNING
    assert "UDP 7790" in finding.advice


@pytest.mark.parametrize("lost", ["gone", "silent", "stalled"])
def test_nobody_is_expected_to_hear_an_agent_that_is_not_well(lost: str) -> None:
    snapshot = {
        "gone": gone(with_agents(), "db2"),
        "silent": silent(with_agents(), "db2"),
        "stalled": changed(with_agents(), "db2", agent=agent("db2", stalled=True)),
    }[lost]
    for name in ("lb1", "lb2", "db1", "db3"):
        snapshot = changed(snapshot, name, agent=agent(name, silent=("db2",)))
    assert of("agents-do-not-hear-each-other", snapshot) == []
    assert Facts(AGENTS, snapshot).heard_by("db2") == ()


def test_a_fence_against_a_dead_host_is_a_warning_that_says_where_and_since_which_lock() -> None:
    finding = only("fence-stands", fenced(gone(with_agents(), "db3"), "db3", on=("db1", "lb1")))
    assert (finding.subject, finding.level) == ("db3", Level.WARNING)
    assert finding.seen == "it is unreachable, and is fenced on lb1, db1 (silent, lock of revision 12)"


def test_fences_for_different_reasons_are_told_apart() -> None:
    snapshot = fenced(gone(with_agents(), "db3"), "db3", on=("db1",))
    snapshot = changed(snapshot, "lb1", fences=fences("db3", reason="silent, lock of revision 9"))
    seen = only("fence-stands", changed(snapshot, "lb2", fences=fences("db3", reason=""))).seen
    assert seen.endswith("fenced on lb1 (silent, lock of revision 9); lb2; db1 (silent, lock of revision 12)")


def test_a_fence_against_a_host_that_is_back_and_does_not_follow_is_a_warning_with_what_to_do() -> None:
    finding = only("fence-stands", fenced(without_standby("db3"), "db3", on=("db2",)))
    assert (finding.level, finding.seen.partition(",")[0]) == (Level.WARNING, "it does not follow the primary")
    assert "pgbaton reinit db3" in finding.advice


def test_a_fence_against_the_holder_of_the_lock_is_critical_whether_it_is_reached_or_not() -> None:
    for snapshot in (with_agents(), gone(with_agents(), "db1")):
        finding = only("fence-stands", fenced(snapshot, "db1", on=("db2", "lb2")))
        assert finding.level is Level.CRITICAL
        assert finding.seen.startswith("it holds the leader lock, and is fenced on lb2, db2")


def test_while_the_lock_moves_a_fence_against_the_old_holder_is_no_more_than_a_warning() -> None:
    snapshot = changed(fenced(with_agents(), "db1", on=("db2",)), "db2", patroni=replace(patroni("db2"), leader="db2"))
    finding = only("fence-stands", snapshot)
    assert (finding.level, finding.seen.partition(",")[0]) == (Level.WARNING, "it takes writes")


def test_a_fence_against_a_host_that_follows_is_a_note_as_long_as_somebody_is_there_to_take_it_down() -> None:
    snapshot = fenced(with_agents(), "db3", on=("db2", "lb1"))
    assert only("fence-stands", snapshot).level is Level.NOTE
    finding = only("fence-stands", silent(snapshot, "lb1"))
    assert finding.level is Level.WARNING
    assert "on lb1 nobody takes it down" in finding.advice


def test_a_fence_is_named_by_the_present_name_of_its_address_and_one_against_a_stranger_is_a_note() -> None:
    renamed = replace(fences("db3").standing[0], host="db3-of-old")
    snapshot = changed(with_agents(), "db2", fences=replace(fences(), standing=(renamed,)))
    assert only("fence-stands", snapshot).subject == "db3"
    finding = only("fence-stands", changed(with_agents(), "db2", fences=fences("old")))
    assert (finding.subject, finding.level) == ("old", Level.NOTE)
    assert "/var/lib/pgbaton-agent/fences.nft" in finding.advice


def test_where_the_kernel_could_not_be_asked_the_agents_word_on_its_fences_counts() -> None:
    problem = (Problem("fences", "Operation not permitted"),)
    snapshot = changed(gone(with_agents(), "db3"), "db2", fences=None, agent=agent("db2", fenced=("db3",)))
    finding = only("fence-stands", changed(snapshot, "db2", problems=problem))
    assert finding.seen.endswith("fenced on db2 (by its agent's word)")
    assert only("part-silent", changed(snapshot, "db2", problems=problem)).subject == "db2"


@pytest.mark.parametrize(
    ("clients", "words"), [("held", "holds its clients back"), ("refused", "turns its clients away")]
)
def test_a_primary_that_serves_nobody_is_an_outage(clients: str, words: str) -> None:
    finding = only("isolated-primary", changed(with_agents(), "db1", fences=fences(clients=clients)))
    assert (finding.subject, finding.level, finding.outage) == ("db1", Level.CRITICAL, True)
    assert words in finding.seen


def test_an_isolated_host_beside_another_primary_is_a_warning() -> None:
    snapshot = changed(with_agents(), "db2", fences=fences(clients="refused"))
    finding = only("isolated-primary", snapshot)
    assert (finding.subject, finding.level, finding.outage) == ("db2", Level.WARNING, False)


def test_a_primary_that_says_that_it_is_isolated_is_found_before_it_has_stopped_serving() -> None:
    finding = only("isolated-primary", changed(with_agents(), "db1", agent=agent("db1", isolated=True)))
    assert (finding.level, finding.outage) == (Level.CRITICAL, False)


def test_clients_that_a_dead_agent_has_left_held_are_told_with_who_lets_them_in() -> None:
    finding = only("isolated-primary", changed(silent(with_agents(), "db1"), "db1", fences=fences(clients="held")))
    assert "systemctl start pgbaton-agent" in finding.advice


def paused(snapshot: Snapshot, name: str, instance: str = "write", *, waits: float) -> Snapshot:
    """Return a snapshot in which one of a host's pools is paused, and a client has waited for so long."""
    pools = tuple(
        replace(pool, paused=("app",), clients_waiting=1, wait_seconds=waits) if pool.instance == instance else pool
        for pool in snapshot.host(name).pools
    )
    return changed(snapshot, name, pools=pools)


def test_a_pooler_that_is_paused_for_longer_than_agents_pause_is_critical_and_told_of_once() -> None:
    late = paused(with_agents(), "lb1", waits=PAUSE_SECONDS + 2)
    finding = only("pooler-held", late)
    assert (finding.subject, finding.level, finding.outage) == ("lb1", Level.CRITICAL, False)
    assert "has waited for 7.0 s" in finding.seen
    assert of("pooler-paused", late) == []
    assert all(each.outage for each in of("pooler-held", paused(late, "lb2", waits=PAUSE_SECONDS + 1)))


def test_a_pause_that_is_young_or_not_an_agents_is_told_of_as_ever() -> None:
    young = paused(with_agents(), "lb1", waits=PAUSE_SECONDS)
    assert (len(of("pooler-paused", young)), of("pooler-held", young)) == (1, [])
    reads = paused(with_agents(), "lb1", "read", waits=PAUSE_SECONDS + 2)
    assert (len(of("pooler-paused", reads)), of("pooler-held", reads)) == (1, [])
    stock = paused(healthy(), "lb1", waits=PAUSE_SECONDS + 2)
    assert (len(of("pooler-paused", stock, TOPOLOGY)), of("pooler-held", stock, TOPOLOGY)) == (1, [])


def test_balancers_that_disagree_are_told_with_whom_they_fence() -> None:
    haproxy = with_agents().host("lb2").haproxy
    assert haproxy
    proxies = tuple(
        replace(proxy, servers=tuple(server(it.name, up=it.name == "db2") for it in proxy.servers))
        if proxy.name == "primary"
        else proxy
        for proxy in haproxy.proxies
    )
    snapshot = changed(with_agents(), "lb2", haproxy=replace(haproxy, proxies=proxies))
    finding = only("balancers-disagree", fenced(snapshot, "db1", on=("lb1", "lb2")))
    assert finding.seen == "lb1 sends writes to db1, and fences db1; lb2 sends writes to db2"
    assert "pgbaton-agent" in finding.advice
    assert "agent" not in of("balancers-disagree", snapshot, TOPOLOGY)[0].advice


@pytest.mark.parametrize(("tracked", "found"), [(-254, 1), (0, 0), (None, 0)])
def test_a_balancer_that_its_agent_takes_out_of_the_election_is_found(tracked: int | None, found: int) -> None:
    findings = of("vip-given-up", changed(with_agents(), "lb1", tracked=tracked))
    assert [finding.subject for finding in findings] == ["lb1"] * found


def test_a_balancer_through_which_clients_reach_no_primary_is_found_and_why_once() -> None:
    snapshot = changed(with_agents(), "lb2", agent=agent("lb2", path="127.0.0.1:5000: no answer"), tracked=-254)
    finding = only("path-broken", snapshot)
    assert (finding.subject, finding.level, finding.outage) == ("lb2", Level.WARNING, False)
    assert finding.seen == "clients cannot reach the primary through it: 127.0.0.1:5000: no answer"
    assert "pgbouncer@write" in finding.advice
    assert of("vip-given-up", snapshot) == []
    assert health(judge(AGENTS, snapshot)) is Health.DEGRADED


@pytest.mark.parametrize("also", [(), ("lb2",)])
def test_where_clients_come_in_a_broken_path_is_critical(also: tuple[str, ...]) -> None:
    snapshot = with_agents()
    for name in ("lb1", *also):
        snapshot = changed(snapshot, name, agent=agent(name, path="refused"))
    found = {finding.subject: (finding.level, finding.outage) for finding in of("path-broken", snapshot)}
    assert found == {"lb1": (Level.CRITICAL, False), **dict.fromkeys(also, (Level.WARNING, False))}
    assert health(judge(AGENTS, snapshot)) is Health.DEGRADED


@pytest.mark.parametrize("path", [None, ""])
def test_a_path_that_works_or_that_nobody_tries_is_no_finding(path: str | None) -> None:
    assert judge(AGENTS, changed(with_agents(), "lb1", agent=agent("lb1", path=path))) == ()


def test_agents_of_different_versions_or_builds_are_noted() -> None:
    finding = only("agents-differ", changed(with_agents(), "db3", agent=agent("db3", version="0.2.0", build="ba")))
    assert finding.level is Level.NOTE
    assert finding.seen == "agents 0.1.0 (build 0123456789ab) on lb1, lb2, db1, db2; 0.2.0 (build ba) on db3"
    assert only("agents-differ", changed(with_agents(), "db3", agent=agent("db3", build="ba"))).level is Level.NOTE
