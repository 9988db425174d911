from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import RefusedError
from pgbaton.lab import claims, record
from pgbaton.state import ClusterState

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(record, "RUN", tmp_path / "run")
    return tmp_path / "run"


def make_state(path: Path) -> ClusterState:
    state = ClusterState("trial", path)
    state.create()
    state.lab_file.touch()
    return state


def test_a_name_is_claimed_once_and_again_by_its_owner(tmp_path: Path) -> None:
    state = make_state(tmp_path / "a")
    claims.claim(state)
    claims.claim(state)
    assert claims.owned(state)
    assert claims.orphans() == ()


def test_a_name_that_another_state_directory_has_is_refused(tmp_path: Path) -> None:
    claims.claim(make_state(tmp_path / "a"))
    other = make_state(tmp_path / "b")
    with pytest.raises(RefusedError, match="exists already"):
        claims.claim(other)
    assert not claims.owned(other)


def test_a_claim_whose_state_has_gone_is_an_orphan(tmp_path: Path) -> None:
    state = make_state(tmp_path / "a")
    claims.claim(state)
    state.lab_file.unlink()
    assert claims.orphans() == ("trial",)


def test_a_released_name_is_free_and_leaves_no_directory(tmp_path: Path, run: Path) -> None:
    claims.claim(make_state(tmp_path / "a"))
    claims.release("trial")
    assert claims.owner("trial") is None
    assert not run.exists()


def test_of_two_claims_at_once_one_succeeds(tmp_path: Path, run: Path) -> None:
    claims.make(make_state(tmp_path / "a"))
    claims.make(make_state(tmp_path / "b"))
    assert claims.owner("trial") == tmp_path / "a"
    assert [path.name for path in run.iterdir()] == ["trial"]
