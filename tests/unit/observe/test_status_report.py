from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from observed import (
    AGENTS,
    TOPOLOGY,
    agent,
    changed,
    fenced,
    gone,
    healthy,
    patroni,
    postgres,
    standby,
    topology,
    with_agents,
)

from pgbaton.observe.facts import Facts
from pgbaton.observe.findings import Health
from pgbaton.observe.report import VipRow, changes, opening, report
from pgbaton.observe.snapshot import Problem, Snapshot
from pgbaton.topology.model import ReplicationMode

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology


def without_primary() -> Snapshot:
    return changed(healthy(), "db1", postgres=None, problems=(Problem("postgres", "refused"),))


def test_the_report_of_a_healthy_cluster() -> None:
    seen = report(TOPOLOGY, healthy())
    assert (seen.health, seen.primary, seen.timeline, seen.lock_holder) == (Health.HEALTHY, "db1", 3, "db1")
    assert (seen.vip, seen.vip_holders) == ("10.77.0.100", ("lb1",))
    assert seen.survives == "the loss of any host (also on db2)"
    rows = {row.name: row for row in seen.hosts}
    assert rows["db1"].writes_from == ("lb1", "lb2")
    assert rows["db2"].reads_from == ("lb1", "lb2")
    assert (rows["db2"].state, rows["db2"].sync_state, rows["db2"].lag_bytes) == ("streaming", "sync", 0)
    assert [(row.host, row.pool.instance) for row in seen.pools] == [
        ("lb1", "write"), ("lb1", "read"), ("lb2", "write"), ("lb2", "read"),
    ]  # fmt: skip
    assert (seen.etcd.healthy, seen.etcd.members, seen.etcd.leader) == (3, 3, "db2")


def several() -> tuple[Topology, Snapshot]:
    """Return a cluster with two VIPs, both on lb1."""
    judged = topology(network={"more_vips": (IPv4Address("10.77.0.101"),)})
    return judged, changed(changed(healthy(), "lb1", more_vips=("10.77.0.101",)), "lb2", more_vips=())


def test_the_report_says_who_holds_each_of_several_vips_and_whose_each_is() -> None:
    seen = report(*several())
    assert (seen.vip, seen.vip_holders) == ("10.77.0.100", ("lb1",))
    assert seen.vips == (VipRow("10.77.0.100", "lb1", ("lb1",)), VipRow("10.77.0.101", "lb2", ("lb1",)))
    assert [row.vips for row in seen.hosts if "balancer" in row.roles] == [2, 0]
    assert "VIP holder: 10.77.0.100 on lb1, 10.77.0.101 on lb1" in opening(seen)
    data = json.loads(json.dumps(seen.to_dict()))
    assert data["vips"][1] == {"address": "10.77.0.101", "home": "lb2", "holders": ["lb1"]}
    assert Snapshot.from_dict(data["snapshot"]) == several()[1]


def test_json_of_a_cluster_with_one_vip_says_nothing_of_several() -> None:
    data = report(TOPOLOGY, healthy()).to_dict()
    assert "vips" not in data
    assert all("more_vips" not in row for row in (*data["hosts"], *data["snapshot"]["hosts"]))


def test_the_move_of_one_of_several_vips_is_a_change() -> None:
    judged, before = several()
    after = changed(changed(before, "lb1", more_vips=()), "lb2", more_vips=("10.77.0.101",))
    told = changes(report(judged, before), report(judged, after))
    was, now = "10.77.0.100 on lb1, 10.77.0.101 on lb1", "10.77.0.100 on lb1, 10.77.0.101 on lb2"
    assert f"VIP holder: {was} → {now}" in told


def test_json_carries_findings_by_the_names_of_their_levels_and_the_snapshot() -> None:
    data = json.loads(json.dumps(report(TOPOLOGY, without_primary()).to_dict()))
    assert data["health"] == "down"
    assert data["findings"][0]["level"] == "critical"
    assert Snapshot.from_dict(data["snapshot"]) == without_primary()


@pytest.mark.parametrize(
    ("snapshot", "status"),
    [
        (healthy(), 0),
        (gone(healthy(), "db3"), 0),
        (without_primary(), 3),
        (Snapshot("standard", healthy().taken_at, ()), 4),
    ],
)
def test_the_exit_status_tells_warnings_outages_and_silence_apart(snapshot: Snapshot, status: int) -> None:
    assert report(TOPOLOGY, snapshot).exit_status == status


def test_lag_without_the_primarys_word_comes_from_the_positions() -> None:
    behind = replace(postgres("db3"), received_lsn="0/5000000", replayed_lsn="0/4FFFFF0")
    snapshot = changed(healthy(), "db3", postgres=behind)
    snapshot = changed(snapshot, "db1", postgres=replace(postgres("db1"), standbys=(standby("db2", "sync"),)))
    facts = Facts(TOPOLOGY, snapshot)
    assert facts.lag_bytes("db3") == 0x60
    assert facts.lag_seconds("db3") == 12.0


def test_of_two_primaries_the_holder_of_the_lock_is_the_primary() -> None:
    snapshot = healthy()
    usurper = replace(postgres("db1"), role="primary")
    for name in ("db2", "db3"):
        snapshot = changed(snapshot, name, postgres=usurper)
    assert Facts(TOPOLOGY, snapshot).primary == "db1"


def test_what_a_write_survives_in_quorum_mode_names_all_that_may_have_it() -> None:
    rows = (standby("db2", "quorum"), standby("db3", "quorum"))
    snapshot = changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=rows))
    quorum = topology(replication={"mode": ReplicationMode.QUORUM})
    assert report(quorum, snapshot).survives == "the loss of any host (also on db2 or db3)"


def test_what_a_write_survives_in_asynchronous_mode() -> None:
    asynchronous = topology(replication={"mode": ReplicationMode.ASYNCHRONOUS})
    assert report(asynchronous, healthy()).survives == "a restart of the primary, not the loss of its host"


def test_nothing_has_changed_when_only_lags_and_sessions_moved() -> None:
    moved = replace(standby("db3", "async"), replay_lag_bytes=4096, replay_lag_seconds=0.01)
    later = changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=(standby("db2", "sync"), moved)))
    assert changes(report(TOPOLOGY, healthy()), report(TOPOLOGY, later)) == ()


def test_a_lost_primary_and_its_return_are_told_line_by_line() -> None:
    before, after = report(TOPOLOGY, healthy()), report(TOPOLOGY, gone(healthy(), "db1"))
    lines = changes(before, after)
    assert "health: healthy → down" in lines
    assert "primary: db1 → nobody" in lines
    assert "db1: running, primary → unreachable" in lines
    assert "critical: standard: none of 3 databases takes writes (2 answered)" in lines
    assert "over: standard: none of 3 databases takes writes (2 answered)" in changes(after, before)


def test_the_opening_says_how_everything_is() -> None:
    lines = opening(report(TOPOLOGY, healthy()))
    assert "primary: db1" in lines
    assert "db2: streaming, standby (sync)" in lines


@pytest.mark.parametrize(("patronis", "state"), [("running", "PostgreSQL silent"), ("starting", "starting")])
def test_of_a_silent_server_patronis_word_is_shown_unless_it_noticed_nothing(patronis: str, state: str) -> None:
    snapshot = changed(without_primary(), "db1", patroni=replace(patroni("db1"), state=patronis))
    rows = {row.name: row for row in report(TOPOLOGY, snapshot).hosts}
    assert (rows["db1"].state, rows["db1"].role) == (state, None)


def test_without_agents_the_report_has_not_a_key_more() -> None:
    data = report(TOPOLOGY, healthy()).to_dict()
    assert list(data)[-1] == "snapshot"


def test_agents_are_counted_by_who_hears_them_of_all_that_are_configured() -> None:
    snapshot = changed(gone(with_agents(), "db3"), "lb1", agent=agent("lb1", silent=("lb2",)))
    snapshot = changed(snapshot, "db2", agent=None, problems=(Problem("agent", "refused"),))
    rows = {row.host: row for row in report(AGENTS, snapshot).agents or ()}
    assert {name: row.state for name, row in rows.items()} == {
        "lb1": "running", "lb2": "running", "db1": "running", "db2": "silent", "db3": "unreachable",
    }  # fmt: skip
    assert {name: row.heard_by for name, row in rows.items()} == {"lb1": 2, "lb2": 1, "db1": 2, "db2": 3, "db3": 3}
    assert {row.others for row in rows.values()} == {4}


def test_agents_and_fences_are_in_json() -> None:
    snapshot = fenced(gone(with_agents(), "db1"), "db1", on=("db2", "lb1"))
    data = json.loads(json.dumps(report(AGENTS, snapshot).to_dict()))
    reason = "silent, lock of revision 12"
    assert data["fences"] == [{"host": "db1", "on": {"lb1": reason, "db2": reason}}]
    assert data["agents"][0] == {"host": "lb1", "state": "running", "version": "0.1.0", "heard_by": 3, "others": 4}


def test_a_fence_that_comes_and_falls_is_told_line_by_line() -> None:
    dead = gone(with_agents(), "db3")
    before, after = report(AGENTS, dead), report(AGENTS, fenced(dead, "db3", on=("db1",)))
    line = "warning: db3: it is unreachable, and is fenced on db1 (silent, lock of revision 12)"
    assert changes(before, after) == (line,)
    assert changes(after, before) == (line.replace("warning", "over"),)
