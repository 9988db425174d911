from __future__ import annotations

import json
from dataclasses import replace

import pytest
from observed import TOPOLOGY, changed, gone, healthy, patroni, postgres, standby, topology

from pgbaton.observe.facts import Facts
from pgbaton.observe.findings import Health
from pgbaton.observe.report import changes, opening, report
from pgbaton.observe.snapshot import Problem, Snapshot
from pgbaton.topology.model import ReplicationMode


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
