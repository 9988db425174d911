"""What is found, and shown, of an etcd that is on none of the hosts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from observed import changed, gone, healthy, units

sys.path.insert(0, str(Path(__file__).parents[1]))
from foreign_topology import foreign

from pgbaton.cli import screen
from pgbaton.observe import readings
from pgbaton.observe.collect import request
from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.judge import judge
from pgbaton.observe.report import report
from pgbaton.observe.snapshot import EndpointView, Problem, Snapshot
from pgbaton.topology.model import Role, Topology

MADE = foreign()
TOPOLOGY = MADE.model_copy(update={"orchestration": MADE.orchestration.model_copy(update={"agent": False})})
PLACES = TOPOLOGY.etcd.places
GOOD = tuple(
    EndpointView(
        place,
        healthy=True,
        reason="",
        cluster="14841639068965178418",
        version="3.5.16",
        leader="etcd1",
        members=("etcd1", "etcd2", "etcd3"),
        db_size_bytes=20480,
        alarms=(),
    )
    for place in PLACES
)


def without(view: EndpointView, reason: str = "timed out") -> EndpointView:
    return EndpointView(view.endpoint, healthy=False, reason=reason)


def cluster(**seen: tuple[EndpointView, ...] | None) -> Snapshot:
    """Return a healthy cluster, but for what some databases see of etcd."""
    snapshot = healthy()
    for spec in TOPOLOGY.hosts:
        mine: dict[str, object] = {"units": units(spec.name, TOPOLOGY)}
        if spec.has(Role.DATABASE):
            mine |= {"etcd": None, "foreign_etcd": seen.get(spec.name, GOOD)}
        snapshot = changed(snapshot, spec.name, **mine)
    return snapshot


def found(snapshot: Snapshot, topology: Topology = TOPOLOGY) -> dict[str, Finding]:
    return {finding.rule: finding for finding in judge(topology, snapshot)}


def line(snapshot: Snapshot) -> str:
    row = report(TOPOLOGY, snapshot).etcd
    assert row is not None
    return screen.etcd(row).plain


def test_nothing_is_found_where_all_answer() -> None:
    assert found(cluster()) == {}
    assert line(cluster()) == (
        "etcd elsewhere: 3/3 endpoints answer db1, db2, db3, leader etcd1, 20 KiB; not told: quota"
    )


def test_databases_are_asked_and_nobody_else() -> None:
    asked = request(TOPOLOGY, TOPOLOGY.host("db1"), deadline=3)
    assert "foreign_etcd" in asked["parts"]
    assert asked["foreign_etcd"][-1] == "health"
    assert "etcd" not in asked["parts"]
    assert "foreign_etcd" not in request(TOPOLOGY, TOPOLOGY.host("lb1"), deadline=3)["parts"]


def test_an_endpoint_that_does_not_answer_is_a_warning_once() -> None:
    partly = (GOOD[0], without(GOOD[1]), GOOD[2])
    finding = found(cluster(db1=partly, db2=partly))["endpoint-unhealthy"]
    assert (finding.level, finding.subject) == (Level.WARNING, PLACES[1])
    assert finding.seen == "it does not answer db1, db2: timed out"
    assert line(cluster(db1=partly)).startswith("etcd elsewhere: 2/3 endpoints answer db1, db2, db3")


@pytest.mark.parametrize(("host", "level"), [("db1", Level.CRITICAL), ("db3", Level.WARNING)])
def test_a_database_that_no_endpoint_answers_matters_most_where_the_primary_is(host: str, level: Level) -> None:
    seen = found(cluster(**{host: tuple(map(without, GOOD))}))
    assert (seen["etcd-out-of-reach"].level, seen["etcd-out-of-reach"].subject) == (level, host)
    assert "endpoint-unhealthy" not in seen


def test_what_nobody_reaches_is_critical_for_all() -> None:
    dark = tuple(map(without, GOOD))
    findings = judge(TOPOLOGY, cluster(db1=dark, db2=dark, db3=dark))
    assert [each.level for each in findings if each.rule == "etcd-out-of-reach"] == [Level.CRITICAL] * 3


def test_a_host_whose_program_fails_says_why() -> None:
    snapshot = changed(cluster(db2=None), "db2", problems=(Problem("foreign_etcd", "no answer within 3 s"),))
    assert "no answer within 3 s" in found(snapshot)["etcd-out-of-reach"].seen


def test_a_host_that_is_gone_says_nothing_of_etcd() -> None:
    assert "etcd-out-of-reach" not in found(gone(cluster(), "db3"))
    assert line(gone(cluster(), "db3")).startswith("etcd elsewhere: 3/3 endpoints answer db1, db2,")


def test_two_identities_are_two_leader_locks() -> None:
    other = (*GOOD[:2], replace(GOOD[2], cluster="7"))
    finding = found(cluster(db3=other))["endpoints-differ"]
    assert finding.level is Level.CRITICAL
    assert f"7: {PLACES[2]} from db3" in finding.seen


def test_an_alarm_and_a_full_quota_are_told_where_they_are_seen() -> None:
    full = replace(GOOD[0], alarms=("NOSPACE",), quota_bytes=2 * 1024**3, db_size_bytes=2 * 1024**3)
    seen = found(cluster(db1=(full, *GOOD[1:])))
    assert (seen["alarm-raised"].level, seen["quota-near"].subject) == (Level.CRITICAL, PLACES[0])
    assert "alarms NOSPACE" in line(cluster(db1=(full, *GOOD[1:])))


def test_what_is_not_told_is_said_to_be_so() -> None:
    hidden = tuple(replace(view, leader=None, db_size_bytes=None, alarms=None) for view in GOOD)
    shown = line(cluster(db1=hidden, db2=hidden, db3=hidden))
    assert shown == "etcd elsewhere: 3/3 endpoints answer db1, db2, db3; not told: leader, size, alarms, quota"


def test_a_snapshot_and_its_report_survive_json() -> None:
    snapshot = cluster(db1=(GOOD[0], without(GOOD[1]), GOOD[2]))
    assert Snapshot.from_dict(snapshot.to_dict()) == snapshot
    row = report(TOPOLOGY, snapshot).to_dict()["etcd"]
    assert (row["members"], row["healthy"], row["seen_from"]) == (3, 2, ["db1", "db2", "db3"])


def test_an_answer_is_read_as_the_program_prints_it() -> None:
    view, lost = readings.foreign_etcd(
        [
            {"endpoint": "a:1", "ok": True, "cluster": "9", "members": ["a"], "alarms": [], "db_size_bytes": 5},
            {"endpoint": "b:1", "ok": False, "reason": "refused"},
        ]
    )
    assert (view.healthy, view.cluster, view.members, view.alarms, view.db_size_bytes) == (True, "9", ("a",), (), 5)
    assert (lost.healthy, lost.reason, lost.alarms) == (False, "refused", None)
