from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton.lab import limits, record

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(record, "RUN", tmp_path / "run")
    monkeypatch.setattr(limits, "INSTANCES", tmp_path / "instances")
    (tmp_path / "instances").write_text("128\n")
    return tmp_path / "instances"


def test_a_low_limit_is_raised_aloud_until_the_last_lab_is_down(limit: Path) -> None:
    said: list[str] = []
    limits.widen(said.append)
    limits.widen(said.append)
    assert said == ["fs.inotify.max_user_instances: 128 -> 8192, until the last lab is down"]
    assert limit.read_text() == "8192\n"
    (record.RUN / "trial").mkdir()
    limits.restore()
    assert limit.read_text() == "8192\n"
    (record.RUN / "trial").rmdir()
    limits.restore()
    assert limit.read_text() == "128\n"
    assert list(record.RUN.iterdir()) == []


def test_a_limit_that_is_high_enough_is_left_alone(limit: Path) -> None:
    limit.write_text("65536\n")
    limits.widen(pytest.fail)
    limits.restore()
    assert limit.read_text() == "65536\n"
