"""The program on a database host that decides whether a server may start as a primary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.components import manual, manual_program
from pgbaton.components.manual_program import MAY_START, MUST_STAY_DOWN, UNDECIDED, Server, decide, synchronous
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path

PRIMARY = {"in_recovery": False, "timeline": 5}


def standby(timeline: int = 5) -> dict[str, Any]:
    return {"in_recovery": True, "timeline": timeline}


def settings(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    topology = load.loads(presets.text("manual"))
    return {**manual.settings(topology, topology.host("db1")), **changes}


def server(root: Path, **changes: Any) -> Server:  # noqa: ANN401 - JSON
    made = Server(settings(**changes), root)
    made.home.mkdir(parents=True)
    (made.data / "pg_wal").mkdir(parents=True)
    (made.data / "PG_VERSION").write_text("17\n")
    return made


@pytest.mark.parametrize(
    ("answers", "permitted", "status", "said"),
    [
        ({"db2": standby()}, False, MAY_START, ""),
        ({"db2": standby(), "db3": standby(4)}, False, MAY_START, ""),
        ({"db2": PRIMARY}, False, MUST_STAY_DOWN, "db2 is primary, on timeline 5"),
        ({"db2": PRIMARY}, True, MUST_STAY_DOWN, "db2 is primary"),
        ({"db2": None, "db3": PRIMARY}, True, MUST_STAY_DOWN, "db3 is primary"),
        ({"db2": standby(6)}, True, MUST_STAY_DOWN, "another server was promoted"),
        ({"db2": None, "db3": standby(6)}, False, MUST_STAY_DOWN, "db3 is on timeline 6"),
        ({"db2": None, "db3": standby()}, False, UNDECIDED, "db2 gives no answer"),
        ({"db2": None, "db3": None}, False, UNDECIDED, "db2, db3 gives no answer"),
        ({"db2": None}, True, MAY_START, ""),
        ({}, False, MAY_START, ""),
    ],
)
def test_a_server_becomes_primary_beside_nobody_else(
    answers: dict[str, dict[str, Any] | None],
    *,
    permitted: bool,
    status: int,
    said: str,
) -> None:
    found, why = decide(5, answers, permitted=permitted)
    assert found == status
    assert said in why


def test_a_standby_may_always_start_and_no_data_never(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = server(tmp_path)
    (made.data / "standby.signal").touch()
    assert made.condition() == MAY_START
    (made.data / "PG_VERSION").unlink()
    assert made.condition() == MUST_STAY_DOWN
    assert "there are no data" in capsys.readouterr().err


def test_who_may_be_primary_remembers_it_until_the_next_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = server(tmp_path)
    answers: list[dict[str, Any] | None] = [standby(), None, None]
    monkeypatch.setattr(Server, "timeline", lambda _: 5)
    monkeypatch.setattr(Server, "ask", lambda _, host: answers.pop(0) if host else None)
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(manual_program, "BOOT", boot)
    boot.write_text("first\n")
    assert made.condition() == MAY_START
    assert made.condition() == MAY_START, "a primary that crashed starts again, whoever is silent"
    boot.write_text("second\n")
    assert made.condition() == UNDECIDED
    assert "db2 gives no answer" in capsys.readouterr().err


def test_following_makes_a_standby_of_it_for_good(tmp_path: Path) -> None:
    made = server(tmp_path)
    made.tell(permitted="boot", detached=["db2"])
    made.follow("db2")
    assert made.is_standby
    assert made.state() == {"upstream": "db2", "detached": ["db2"], "permitted": None}
    text = (made.home / "replication.conf").read_text()
    assert "host=10.77.0.22 port=5432 user=replicator application_name=db1 sslmode=verify-full" in text
    assert "primary_slot_name = 'db1'" in text
    assert "password" not in text


def test_a_promotion_is_known_before_the_control_file_says_so(tmp_path: Path) -> None:
    made = server(tmp_path)
    (made.data / "pg_wal" / "0000000B.history").touch()
    (made.data / "pg_wal" / "0000000C.history.tmp").touch()
    assert made.timeline() == 11


def test_new_data_are_made_nowhere_but_in_an_empty_place(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not empty"):
        server(tmp_path).initialise()


@pytest.mark.parametrize(
    ("mode", "count", "detached", "names"),
    [
        ("asynchronous", 1, [], ""),
        ("synchronous", 1, [], 'FIRST 1 ("db2", "db-3")'),
        ("strict", 2, [], 'FIRST 2 ("db2", "db-3")'),
        ("quorum", 1, [], 'ANY 1 ("db2", "db-3")'),
        ("synchronous", 2, ["db2"], 'FIRST 1 ("db-3")'),
        ("synchronous", 1, ["db2", "db-3"], ""),
    ],
)
def test_commits_wait_for_those_that_are_attached(mode: str, count: int, detached: list[str], names: str) -> None:
    hosts = {name: {"address": "10.77.0.9", "confirms": name != "db4"} for name in ("db1", "db2", "db-3", "db4")}
    assert synchronous(settings(mode=mode, count=count, hosts=hosts), detached) == names


def test_the_state_survives_a_writer_that_dies(tmp_path: Path) -> None:
    made = server(tmp_path)
    made.tell(upstream="db2")
    (made.home / ".state.json.new").write_text("{")
    made.tell(detached=["db2"])
    assert json.loads((made.home / "state.json").read_text()) == {
        "upstream": "db2",
        "detached": ["db2"],
        "permitted": None,
    }


def test_who_follows_does_so_over_the_network_for_replication(tmp_path: Path) -> None:
    made = server(tmp_path, hosts=apart())
    made.follow("db2")
    assert "host=10.78.0.22 port=5432" in (made.home / "replication.conf").read_text()


@pytest.mark.parametrize("open_way", ["10.77.0.22", "10.78.0.22"])
def test_whether_another_is_primary_is_asked_over_both_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_way: str
) -> None:
    """Where replication alone is cut, a primary that was promoted must be seen all the same."""
    made = server(tmp_path, hosts=apart())
    monkeypatch.setattr(Server, "ask_at", lambda _, __, address: PRIMARY if address == open_way else None)
    monkeypatch.setattr(Server, "timeline", lambda _: 5)
    made.tell(permitted="this boot")
    monkeypatch.setattr(manual_program, "boot", lambda: "this boot")
    assert made.ask("db2") == PRIMARY
    assert made.condition() == MUST_STAY_DOWN


def apart() -> dict[str, Any]:
    hosts: dict[str, Any] = settings()["hosts"]
    return {
        name: host | {"replication_address": host["address"].replace("10.77.", "10.78.")}
        for name, host in hosts.items()
    }
