from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from test_results import RUN, TRIAL

from pgbaton.errors import Error, RefusedError, UsageError
from pgbaton.proof import store
from pgbaton.proof.history import Kind, Operation, Outcome, closing_line, opening_line, operation_line, parse

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path))
    return tmp_path


def stored(label: str) -> store.StoredRun:
    run = store.create(label)
    run.save(RUN)
    return run


def test_a_run_is_found_by_its_name_by_the_beginning_of_it_and_by_its_path() -> None:
    run = stored("one")
    assert store.find(run.name) == run
    assert store.find(run.name[:-1]) == run
    assert store.find(str(run.path)).result() == RUN


def test_two_runs_of_the_same_second_have_folders_of_their_own() -> None:
    assert stored("one").path != stored("one").path


def test_the_newest_run_is_meant_when_none_is_named() -> None:
    older = store.create("one")
    older.path.rename(older.path.with_name("20000101-000000-one"))
    store.StoredRun(older.path.with_name("20000101-000000-one")).save(RUN)
    newer = stored("two")
    assert store.find(None) == newer
    assert [run.name for run in store.runs()] == [newer.name, "20000101-000000-one"]


def test_what_is_not_stored_is_refused_with_what_is() -> None:
    with pytest.raises(UsageError, match="no run is stored"):
        store.find(None)
    run = stored("one")
    with pytest.raises(UsageError, match="no run begins with 1999") as caught:
        store.find("1999")
    assert run.name in str(caught.value.hint)
    stored("one")
    with pytest.raises(UsageError, match="several runs begin with 2"):
        store.find("2")


def test_a_record_that_is_none_of_ours_is_told_of() -> None:
    run = stored("one")
    (run.path / store.RUN).write_text('{"trials": 3}')
    with pytest.raises(Error, match="not the record of a run"):
        run.result()


def test_trials_have_numbered_folders() -> None:
    run = stored("one")
    assert [run.begin_trial("switchover").name for _ in range(2)] == ["001-switchover", "002-switchover"]


def test_a_history_is_kept_in_both_forms_and_read_back() -> None:
    run = stored("one")
    folder = run.begin_trial("switchover")
    done = [
        Operation("w", Kind.WRITE, 1, 1.0, 1.1, Outcome.OK),
        Operation("r", Kind.WRITE, 1, 1.2, 1.3, Outcome.OK, workload="register", call="write", value=[1, 2]),
    ]
    lines = [opening_line(monotonic=0.0, wall=5.0), *map(operation_line, done), closing_line(monotonic=2.0)]
    (folder / store.HISTORY).write_text("".join(f"{line}\n" for line in lines))
    store.keep_history(folder, parse(f"{line}\n" for line in lines))
    trial = replace(TRIAL, folder=str(folder.relative_to(run.path)))
    kept = run.history(trial)
    assert kept is not None
    assert kept.operations == tuple(done)
    assert not (folder / store.HISTORY).exists()
    assert sorted(path.name for path in folder.iterdir()) == [
        "history-register.edn.gz",
        "history-set.edn.gz",
        "history.jsonl.gz",
    ]
    with gzip.open(folder / "history-register.edn.gz", "rt") as text:
        assert ":write" in text.read()


def test_what_was_not_kept_is_none() -> None:
    run = stored("one")
    assert run.story(TRIAL) is None
    assert run.history(replace(TRIAL, folder="trials/001")) is None


def test_nobody_else_may_read_what_is_stored() -> None:
    run = stored("one")
    assert run.path.stat().st_mode & 0o077 == 0
    assert json.loads((run.path / store.RUN).read_text())["verdict"] == "proven"


@pytest.mark.parametrize("content", ["[]", "null", '"x"', "{}", "", '{"trials": "abc"}', '{"trials": [1]}'])
def test_a_file_of_another_form_is_no_record(content: str) -> None:
    run = stored("one")
    (run.path / store.RUN).write_text(content)
    with pytest.raises(Error, match="not the record of a run"):
        run.result()


def test_a_value_of_another_type_is_met_when_the_record_is_read() -> None:
    run = stored("one")
    data = RUN.to_dict()
    data["trials"][0]["write_outage_seconds"] = "long"
    (run.path / store.RUN).write_text(json.dumps(data))
    with pytest.raises(Error, match="not the record of a run"):
        run.result()


@pytest.mark.parametrize(
    "content", [b"", b"garbage", gzip.compress(b"x" * 1000, mtime=0)[:20], gzip.compress(b"x\n", mtime=0)]
)
def test_what_of_a_trial_is_damaged_counts_as_not_kept(content: bytes) -> None:
    run = stored("one")
    folder = run.begin_trial("switchover")
    trial = replace(TRIAL, folder=str(folder.relative_to(run.path)))
    (folder / "history.jsonl.gz").write_bytes(content)
    (folder / "story.json").write_bytes(content)
    assert run.story(trial) is None
    if content:
        assert run.history(trial) is None


def test_a_trial_gets_a_folder_of_its_own_when_another_was_removed() -> None:
    run = stored("one")
    first, second = run.begin_trial("switchover"), run.begin_trial("switchover")
    first.rmdir()
    assert run.begin_trial("switchover") not in {first, second}


def test_a_cluster_is_put_to_the_proof_by_one_at_a_time() -> None:
    with (
        store.alone("one"),
        store.alone("two"),
        pytest.raises(RefusedError, match="at work on one"),
        store.alone("one"),
    ):
        pass
    with store.alone("one"):
        assert store.runs() == ()


def test_who_is_refused_is_told_who_is_at_work_and_how_to_name_another_lab() -> None:
    with store.alone("one", command="demo"), pytest.raises(RefusedError) as caught, store.alone("one"):
        pass
    assert caught.value.message == "another pgbaton demo is at work on one"
    assert caught.value.hint == "wait for it to end; or make a lab of another --name"
    with (
        store.alone("one"),
        pytest.raises(RefusedError, match="another pgbaton prove is at work on one") as caught,
        store.alone("one", command="demo", option="--cluster"),
    ):
        pass
    assert str(caught.value.hint).endswith("another --cluster")
