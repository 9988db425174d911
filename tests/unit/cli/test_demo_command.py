"""What ``pgbaton demo`` refuses before it makes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton.cli import demo as command
from pgbaton.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgbaton.proof.demo import Demo

OPTIONS: Mapping[str, object] = {"preset": "standard", "system": None, "cluster": "demo", "chosen": "", "keep": False}


def prepared(**changes: object) -> Demo:
    return command.prepared(**{**OPTIONS, **changes})  # type: ignore[arg-type]


def test_everything_is_demonstrated_on_the_standard_preset_unless_asked_otherwise() -> None:
    demo = prepared()
    assert (demo.topology.name, demo.system.name, len(demo.faults), demo.keep) == ("demo", "debian-13", 4, False)


def test_an_older_system_brings_its_own_postgresql() -> None:
    assert prepared(system="debian-12").system.postgresql == 15


def test_faults_are_given_by_name() -> None:
    assert [fault.name for fault in prepared(chosen="switchover, postmaster-killed").faults] == [
        "switchover",
        "postmaster-killed",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chosen": "meteor"}, "no fault named meteor"),
        ({"cluster": "../demo"}, "demo"),
        ({"preset": "huge"}, "huge"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(changes: Mapping[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepared(**changes)


def test_a_page_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write the page"):
        command.require_writable(tmp_path / "missing" / "page.html")


def test_looking_whether_the_page_can_be_written_leaves_no_trace(tmp_path: Path) -> None:
    command.require_writable(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
    (tmp_path / "page.html").write_text("an older one")
    command.require_writable(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "an older one"
