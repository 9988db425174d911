from __future__ import annotations

import json

import pytest
from observed import gone, healthy

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
