"""What ``pgbaton demo`` refuses before it makes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pgbaton.cli import demo as command
from pgbaton.errors import RefusedError, UsageError
from pgbaton.proof import demo as demonstration
from pgbaton.proof import store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgbaton.proof.demo import Demo

OPTIONS: Mapping[str, object] = {
    "preset": "standard",
    "system": None,
    "cluster": "demo",
    "chosen": "",
    "stock": False,
    "keep": False,
}


def prepared(**changes: object) -> Demo:
    return command.prepared(**{**OPTIONS, **changes})  # type: ignore[arg-type]


def test_everything_is_demonstrated_on_the_standard_preset_unless_asked_otherwise() -> None:
    demo = prepared()
    assert (demo.topology.name, demo.system.name, len(demo.faults), demo.keep) == ("demo", "debian-13", 4, False)


def test_an_older_system_brings_its_own_postgresql() -> None:
    assert prepared(system="debian-12").system.postgresql == 15


def test_agents_shorten_the_demonstration_unless_the_stock_parts_are_asked_for() -> None:
    assert prepared().topology.has_agents
    assert not prepared(stock=True).topology.has_agents
    assert not prepared(system="debian-12").topology.has_agents, "its Patroni is too old for them"


def test_agents_of_the_demonstration_are_quicker_than_by_default_and_else_nothing_is_changed() -> None:
    demo, stock = prepared().topology, prepared(stock=True).topology
    assert demo.timings.model_dump(exclude_unset=True) == {"detection_time": 0.25, "advert_interval": 0.05}
    assert demo.orchestration.model_dump(exclude_unset=True) == {}
    assert stock.timings.model_dump(exclude_unset=True) == {}
    assert stock.orchestration.model_dump(exclude_unset=True) == {"agent": False}


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


def test_a_fault_that_is_none_is_refused_with_the_demonstrations_own() -> None:
    with pytest.raises(UsageError, match="no fault named meteor") as caught:
        prepared(chosen="meteor")
    own = "postmaster-killed, switchover, balancer-power-off, primary-power-off"
    assert caught.value.hint == f"the demo's own: {own}"


def test_two_demonstrations_do_not_break_each_others_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)

    def begun(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(demonstration, "demonstrate", begun)
    page = str(tmp_path / "page.html")
    with store.alone("demo", command="demo"):
        error = CliRunner().invoke(command.demo, ["--report", page]).exception
    assert isinstance(error, RefusedError)
    assert error.message == "another pgbaton demo is at work on demo"
    assert error.hint == "wait for it to end; or make a lab of another --cluster"
