"""What is found in a cluster that a person fails over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from observed import changed, healthy, postgres, standby, units

from pgbaton.observe.collect import request, wanted_units
from pgbaton.observe.findings import Level
from pgbaton.observe.judge import judge
from pgbaton.observe.report import report
from pgbaton.observe.snapshot import Problem, Snapshot, UnitView
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
    assert wanted_units(topology())["db1"][-2:] == ("pgbaton-postgresql.service", "pgbaton-confirm.timer")


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
