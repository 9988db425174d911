from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pgbaton.deploy import journal
from pgbaton.deploy.steps import Cost, Kind, Plan, PlannedWave, Stage, Step
from pgbaton.errors import UsageError
from pgbaton.state import ClusterState

if TYPE_CHECKING:
    from pathlib import Path

STEP = Step(Kind.FILE, Stage.DCS, "db1", "etcd", "/etc/default/etcd", "change", Cost.RESTART, after="x")
PLAN = Plan("20250101T000000-ab", "shop", "2025", "text", None, (PlannedWave(Stage.DCS, (("db1",),), (STEP,)),))


@pytest.fixture
def state(tmp_path: Path) -> ClusterState:
    return ClusterState("shop", tmp_path)


def test_a_saved_plan_is_read_back_as_it_was(state: ClusterState) -> None:
    journal.begin(state, PLAN)
    assert journal.last_plan(state) == PLAN


def test_what_was_begun_and_not_done_is_told(state: ClusterState) -> None:
    lines = journal.begin(state, PLAN)
    with lines.during("etcd", host="db1"):
        pass
    lines.record("begun", what="etcd", host="db2")
    assert journal.unfinished(state) == ("etcd on db2",)
    lines.record("end")
    assert journal.unfinished(state) == ()


def test_a_failure_is_written_down_with_its_reason(state: ClusterState) -> None:
    lines = journal.begin(state, PLAN)
    with pytest.raises(ValueError, match="invalid literal"), lines.during("etcd", host="db1"):
        int("broken")
    last = lines.read()[-1]
    assert (last["event"], last["host"]) == ("failed", "db1")
    assert last["error"].startswith("invalid literal")


def test_a_line_that_a_crash_cut_short_is_left_out(state: ClusterState) -> None:
    lines = journal.begin(state, PLAN)
    assert lines.path is not None
    with lines.path.open("a") as file:
        file.write('{"event": "beg')
    assert [line["event"] for line in lines.read()] == ["plan"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"format": 99}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="not a plan"):
        journal.load_plan(path)


def test_a_plan_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**PLAN.to_json(), "format": 2}))
    with pytest.raises(UsageError, match="a plan of format 2"):
        journal.load_plan(path)
