"""The program on a database host that decides whether a server may start as a primary."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.components import manual, manual_program
from pgbaton.components.manual_program import (
    MAY_START,
    MUST_STAY_DOWN,
    UNDECIDED,
    Server,
    decide,
    successor,
    synchronous,
)
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
        ({"db2": {**standby(), "prepared": True}}, True, UNDECIDED, "db2 is about to be promoted"),
        ({"db2": {**standby(6), "prepared": True}}, True, MUST_STAY_DOWN, "another server was promoted"),
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


def test_who_resigned_leads_again_by_everybodys_word_alone_or_a_persons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = server(tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps(made.settings))
    monkeypatch.setattr(manual_program, "SETTINGS", tmp_path / "settings.json")
    monkeypatch.setattr(manual_program, "Server", lambda settings: Server(settings, tmp_path))
    monkeypatch.setattr(manual_program, "boot", lambda: "this boot")
    monkeypatch.setattr(Server, "ask", lambda *_: None)
    made.tell(permitted="this boot")
    assert manual_program.main(["condition"]) == MAY_START
    assert manual_program.main(["look", "resign"]) == 0
    assert json.loads(capsys.readouterr().out)["permitted"] is None
    assert manual_program.main(["condition"]) == UNDECIDED
    manual_program.main(["permit"])
    assert manual_program.main(["condition"]) == MAY_START


def test_who_saw_a_successor_waits_for_a_persons_word_however_silent_it_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = server(tmp_path)
    monkeypatch.setattr(Server, "timeline", lambda _: 4)
    monkeypatch.setattr(manual_program, "boot", lambda: "this boot")
    answers: list[dict[str, Any] | None] = [PRIMARY]
    monkeypatch.setattr(Server, "ask", lambda _, host: answers[0] if host else None)
    made.tell(permitted="this boot")
    assert made.condition() == MUST_STAY_DOWN
    assert made.look()["superseded"] == ["db2", 5]
    answers[0] = None
    for permitted in (None, "this boot"):
        made.tell(permitted=permitted)
        assert made.condition() == UNDECIDED
    assert "db2 gives no answer" in capsys.readouterr().err
    made.follow("db2")
    assert made.look()["superseded"] is None


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ({"db2": standby(), "db3": None}, None),
        ({"db2": PRIMARY}, ("db2", 5)),
        ({"db2": standby(6), "db3": standby(7)}, ("db3", 7)),
    ],
)
def test_a_successor_is_a_primary_or_who_is_further_in_timelines(
    answers: dict[str, dict[str, Any] | None], found: tuple[str, int] | None
) -> None:
    assert successor(5, answers) == found


def waits(names: str = 'FIRST 1 ("db1", "db3")', **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"in_recovery": False, "names": names, "loaded": 60.0, "position": 700, **changes}


def following(root: Path, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any] | None) -> Server:
    """Return a standby of db2, whose questions are answered one after another."""
    left = list(answers)
    monkeypatch.setattr(Server, "ask", lambda *_: left.pop(0))
    monkeypatch.setattr(manual_program.time, "sleep", lambda _: None)
    made = server(root)
    made.follow("db2")
    return made


def test_a_standby_gives_its_word_from_where_its_primary_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = following(tmp_path, monkeypatch, waits(), waits(position=900), None, waits('FIRST 1 ("db3")'))
    seen = []
    for _ in range(4):
        made.confirm()
        seen.append(made.look()["confirms"])
    # A later answer moves nothing, silence takes nothing back, not to be listed does.
    assert seen == [700, 700, 700, None]


@pytest.mark.parametrize(
    "answers",
    [
        (None,),
        (waits(""),),
        (waits('FIRST 1 ("db3")'),),
        (waits('FIRST 1 ("db11")'),),
        # The primary goes by older settings than this host.
        (waits('FIRST 2 ("db1", "db3")'),),
        (waits('ANY 1 ("db1", "db3")'),),
        (waits(in_recovery=True, position=None),),
        # Not every process goes by settings that are so young.
        (waits(loaded=0.1), None),
        (waits(loaded=0.1), waits(loaded=0.5)),
    ],
)
def test_no_word_is_given_without_the_primarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: tuple[dict[str, Any] | None, ...]
) -> None:
    made = following(tmp_path, monkeypatch, *answers)
    made.confirm()
    assert made.look()["confirms"] is None


@pytest.mark.parametrize("cause", ["start", "follow", "detach", "mode", "count", "lead"])
def test_a_word_does_not_outlive_what_it_was_given_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    made = following(tmp_path, monkeypatch, waits(), None)
    made.confirm()
    assert made.look()["confirms"] == 700
    if cause == "start":
        made.condition()
    elif cause == "follow":
        made.follow("db2")
    elif cause == "detach":
        made.detach(["db1"])
    elif cause == "lead":
        (made.data / "standby.signal").unlink()
    else:
        made.settings |= {"mode": "quorum"} if cause == "mode" else {"count": 2}
    assert made.look()["confirms"] is None


def test_a_word_is_not_given_over_the_head_of_who_detaches_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = following(tmp_path, monkeypatch)

    def ask(*_: object) -> dict[str, Any]:
        made.detach(["db1"])
        return waits()

    monkeypatch.setattr(Server, "ask", ask)
    made.confirm()
    assert (made.look()["confirms"], made.state()["detached"]) == (None, ["db1"])


def test_following_makes_a_standby_of_it_for_good(tmp_path: Path) -> None:
    made = server(tmp_path)
    made.tell(permitted="boot", detached=["db2"], confirms={"position": 1, "mode": "synchronous", "count": 1})
    made.follow("db2")
    assert made.is_standby
    nothing = dict.fromkeys(("permitted", "superseded", "confirms", "replacing"))
    assert made.state() == {"upstream": "db2", "detached": ["db2"], **nothing}
    text = (made.home / "replication.conf").read_text()
    assert "host=10.77.0.22 port=5432 user=replicator application_name=db1 sslmode=verify-full" in text
    assert "primary_slot_name = 'db1'" in text
    assert "password" not in text


def test_a_promotion_is_known_before_the_control_file_says_so(tmp_path: Path) -> None:
    made = server(tmp_path)
    (made.data / "pg_wal" / "0000000B.history").touch()
    (made.data / "pg_wal" / "0000000C.history.tmp").touch()
    assert made.timeline() == 11


def test_a_clone_begins_with_empty_directories_wherever_data_are(tmp_path: Path) -> None:
    left = ["/srv/fast/PG_17_*", "/srv/wal/main/[0-9A-F]*", "/srv/wal/main/archive_status"]
    made = server(tmp_path, wal_directory="/srv/wal/main", leftovers=left)
    for path in ("fast/PG_17_202406281/5/16384", "fast/photos", "wal/main/000000010000000000000001", "wal/main/notes"):
        (tmp_path / "srv" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "srv" / path).touch()
    (tmp_path / "srv/wal/main/archive_status").mkdir()
    (made.data / "pg_wal").rmdir()
    (made.data / "pg_wal").symlink_to(tmp_path / "srv/wal/main")
    (made.data / "base/5").mkdir(parents=True)
    made.empty()
    assert list(made.data.iterdir()) == []
    assert [path.name for path in (tmp_path / "srv/fast").iterdir()] == ["photos"], "what is no server's stays"
    assert [path.name for path in (tmp_path / "srv/wal/main").iterdir()] == ["notes"]


def test_wal_goes_where_the_topology_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(manual_program, "must", lambda *argv: ran.append(argv))
    made = server(tmp_path, wal_directory="/srv/wal/main")
    (made.data / "standby.signal").touch()
    made.clone("db2")
    (made.data / "standby.signal").unlink()
    made.initialise()
    assert [argv[0].rpartition("/")[2] for argv in ran] == ["pg_basebackup", "initdb"]
    assert all("--waldir=/srv/wal/main" in argv for argv in ran)
    assert f"--wal-segsize={made.settings['wal_segment_size_mb']}" in ran[1]
    ran.clear()
    usual = server(tmp_path / "usual")
    (usual.data / "standby.signal").touch()
    usual.clone("db2")
    assert not [word for word in ran[0] if "waldir" in word]


@pytest.mark.parametrize("how", ["rewind", "clone"])
def test_data_that_are_replaced_in_part_are_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    made = server(tmp_path)
    (made.data / "standby.signal").touch()

    def cut_short(*argv: str) -> None:
        (made.data / "PG_VERSION").write_text("17\n")
        raise SystemExit(argv[0])

    monkeypatch.setattr(manual_program, "must", cut_short)
    with pytest.raises(SystemExit):
        getattr(made, how)("db2")
    assert made.look()["data"] is False
    assert made.condition() == MUST_STAY_DOWN
    assert f"a {how} did not come to its end" in capsys.readouterr().err
    # Who is told whom to follow meanwhile is not made whole by it.
    made.follow("db2")
    assert made.look()["data"] is False
    monkeypatch.setattr(manual_program, "must", lambda *_: None)
    made.rewind("db2")
    (made.data / "PG_VERSION").write_text("17\n")
    assert made.look()["data"] is True


def test_a_primarys_data_and_those_of_a_server_that_runs_are_not_wiped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = server(tmp_path)
    with pytest.raises(SystemExit, match="are those of a primary"):
        made.clone("db2")
    (made.data / "standby.signal").touch()
    up = subprocess.CompletedProcess((), 0, "active\n", "")
    monkeypatch.setattr(manual_program, "run", lambda *_: up)
    with pytest.raises(SystemExit, match="the server on db1 runs"):
        made.clone("db2")
    assert (made.data / "PG_VERSION").exists()


def test_one_claim_keeps_another_out_until_it_is_released_or_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(manual_program.time, "monotonic", lambda: now[0])
    made = server(tmp_path)
    made.claim("a", "60", "switchover from one")
    made.claim("a", "60", "switchover from one")
    with pytest.raises(SystemExit, match="switchover from one is under way here"):
        made.claim("b", "60", "failover from two")
    made.release("b")
    with pytest.raises(SystemExit):
        made.claim("b", "60", "failover from two")
    made.release("a")
    made.claim("b", "60", "failover from two")
    now[0] += 61
    made.claim("a", "60", "switchover from one")


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
        "superseded": None,
        "confirms": None,
        "replacing": None,
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
    monkeypatch.setattr(Server, "ask_at", lambda _, __, address, ___: PRIMARY if address == open_way else None)
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
