from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from pgbaton import state
from pgbaton.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("PGBATON_CLUSTER", raising=False)
    return tmp_path


def make(name: str) -> state.ClusterState:
    made = state.cluster(name)
    made.create()
    made.topology_file.write_text("schema = 1\n")
    return made


def test_a_state_directory_is_private() -> None:
    made = make("shop")
    for directory in (made.directory, made.vault_directory, made.journal_directory):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_only_cluster_is_chosen_without_a_name() -> None:
    make("shop")
    assert state.select(None).name == "shop"


def test_a_name_in_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    make("one")
    make("two")
    monkeypatch.setenv("PGBATON_CLUSTER", "two")
    assert state.select(None).name == "two"
    assert state.select("one").name == "one"


def test_several_clusters_ask_for_a_choice() -> None:
    make("one")
    make("two")
    with pytest.raises(UsageError, match="several clusters are known here: one, two"):
        state.select(None)


def test_no_cluster_says_how_to_make_one() -> None:
    with pytest.raises(UsageError) as caught:
        state.select(None)
    assert "pgbaton lab up" in str(caught.value.hint)


def test_an_unknown_name_lists_the_known_ones() -> None:
    make("shop")
    with pytest.raises(UsageError, match=r"no cluster named ship is known here \(known: shop\)"):
        state.select("ship")


def test_a_cluster_is_held_by_one_command_at_a_time() -> None:
    made = make("shop")
    with made.lock("apply"), pytest.raises(RefusedError, match="apply") as caught, made.lock("switchover"):
        pass
    assert caught.value.exit_code == 6
    with made.lock("switchover"):
        pass


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    state.write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".file*")) == []
