from __future__ import annotations

import json

import pytest
from observed import DATABASES, fenced, gone, healthy, with_agents

from pgbaton.observe.snapshot import Snapshot, position


def test_a_snapshot_survives_json() -> None:
    snapshot = gone(healthy(), "db3")
    assert Snapshot.from_dict(json.loads(json.dumps(snapshot.to_dict()))) == snapshot


def test_a_snapshot_without_its_time_is_refused() -> None:
    data = healthy().to_dict()
    del data["taken_at"]
    with pytest.raises(TypeError, match="taken_at"):
        Snapshot.from_dict(data)


def test_a_host_that_was_not_asked_counts_as_unreachable() -> None:
    assert not healthy().host("db9").reachable


def test_lsns_are_positions() -> None:
    assert position("0/3000060") == 50331744
    assert position("2/0") == 2 * 2**32


def test_the_newest_position_of_a_standby_is_what_it_has_received() -> None:
    server = healthy().host("db2").postgres
    assert server
    assert server.lsn == position("0/5000060")


def test_a_snapshot_with_agents_and_fences_survives_json() -> None:
    snapshot = fenced(gone(with_agents(), "db1"), "db1", on=DATABASES[1:])
    assert Snapshot.from_dict(json.loads(json.dumps(snapshot.to_dict()))) == snapshot


def test_a_snapshot_without_agents_says_nothing_of_them_and_older_ones_can_be_read() -> None:
    data = healthy().to_dict()
    assert not [key for host in data["hosts"] for key in ("agent", "fences", "tracked") if key in host]
    assert list(data["hosts"][0])[-1] == "problems"
    assert Snapshot.from_dict(data).host("db1").agent is None
