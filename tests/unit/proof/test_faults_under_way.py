"""What a run that is killed leaves word of, and what the next one makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import Error
from pgbaton.proof import chaos, faults, soak, underway
from pgbaton.proof.faults import named, of_suite
from pgbaton.proof.faults.base import Strike, Suite, nothing
from pgbaton.proof.ground import STANDING_SECONDS, Standing
from pgbaton.proof.target import Roles, Target
from pgbaton.proof.trial import WHOLE_SECONDS
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.proof.faults.base import Fault

TOPOLOGY = load.loads(presets.text("standard", cluster="orders"))
ROLES = Roles("db1", "lb2", ("db2", "db3"), ("db3",), ("lb1", "lb2"), ("db1", "db2", "db3"), "db2", ("lb2",), ("lb2",))
(HANDED_OVER, SWITCHOVER) = named(["vip-handed-over", "switchover"])


class Played:
    """A cluster on which one fault is undone by writing it down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path, *, works: bool = True) -> None:
        self.said, self.healed = list[str](), list[Strike]()
        self.target = Target(TOPOLOGY, ClusterState("orders", home / "orders"), self.said.append)
        self.works = works
        self.fault: Fault = replace(HANDED_OVER, heal=self._heal)
        catalogue = tuple(self.fault if fault.name == self.fault.name else fault for fault in faults.FAULTS)
        monkeypatch.setattr(faults, "FAULTS", catalogue)
        self.strike = Strike(self.target, ("lb2",), ROLES, Random(1))

    async def _heal(self, strike: Strike) -> None:
        self.healed.append(strike)
        if not self.works:
            message = "no answer"
            raise Error(message, where=strike.host)

    @property
    def notes(self) -> list[Path]:
        return sorted(underway.notes(self.target).glob("*"))


async def test_what_a_killed_run_left_is_told_and_undone_as_the_run_would_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played = Played(monkeypatch, tmp_path)
    note = underway.begin(played.fault, played.strike)
    assert note is not None
    note.write_text(note.read_text().replace(json.loads(note.read_text())["since"], "2026-11-23T04:05:06+00:00"))
    await underway.undo_left(played.target)
    (said,) = played.said
    assert said == (
        "vip-handed-over was struck on lb2 at 23 November 2026, 04:05:06 UTC, and never undone: "
        f"{HANDED_OVER.does}; undoing it now"
    )
    assert [(strike.hosts, strike.before, strike.target) for strike in played.healed] == [
        (("lb2",), ROLES, played.target)
    ]
    assert played.notes == []


async def test_what_cannot_be_undone_is_told_and_tried_again_the_next_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played = Played(monkeypatch, tmp_path, works=False)
    underway.begin(played.fault, played.strike)
    await underway.undo_left(played.target)
    assert played.said[-1] == "vip-handed-over could not be undone: lb2: no answer"
    played.works = True
    await underway.undo_left(played.target)
    assert (len(played.healed), played.notes) == (2, [])


def test_a_fault_that_mends_itself_leaves_no_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = Played(monkeypatch, tmp_path)
    assert SWITCHOVER.heal is nothing
    assert underway.begin(SWITCHOVER, played.strike) is None
    assert not (tmp_path / "orders").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"fault": "meteor"},
        {"hosts": ["db9"]},
        {"hosts": []},
        {"hosts": None},
        {"since": "yesterday"},
        {"before": {"x": 1}},
        {"before": 3},
    ],
)
async def test_a_note_that_nothing_can_be_made_of_is_told_and_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, object]
) -> None:
    played = Played(monkeypatch, tmp_path)
    note = underway.begin(played.fault, played.strike)
    assert note is not None
    note.write_text(json.dumps({**json.loads(note.read_text()), **changes}))
    await underway.undo_left(played.target)
    assert played.healed == []
    assert played.notes == [note]
    assert played.said == [
        f"{note} tells of a fault that was left, and is of no use: undo it by hand, and remove the file"
    ]


def test_a_fault_that_cannot_be_noted_is_not_struck(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = Played(monkeypatch, tmp_path)
    (tmp_path / "orders").write_text("in the way")
    with pytest.raises(Error, match="a fault that cannot be noted is not struck"):
        underway.begin(played.fault, played.strike)


@pytest.mark.parametrize("fault", of_suite(Suite.FULL), ids=lambda fault: fault.name)
def test_every_fault_that_has_to_be_undone_is_read_back_with_whom_it_struck(fault: Fault, tmp_path: Path) -> None:
    target = Target(TOPOLOGY, ClusterState("orders", tmp_path), lambda _: None)
    random = Random(1)
    strike = Strike(target, fault.victims(ROLES, random), ROLES, random)
    path = underway.begin(fault, strike)
    known, unknown = underway.left(target)
    assert unknown == ()
    assert [(note.path, note.fault, note.hosts, note.before) for note in known] == (
        [(path, fault, strike.hosts, ROLES)] if path else []
    )


@pytest.mark.parametrize("fault", soak.faults_of(60), ids=lambda fault: fault.name)
def test_a_soak_is_undone_however_long_it_was_to_last(fault: Fault, tmp_path: Path) -> None:
    target = Target(TOPOLOGY, ClusterState("orders", tmp_path), lambda _: None)
    strike = Strike(target, ("db1", "lb1"), ROLES, Random(1))
    assert underway.begin(fault, strike) is not None
    (note,), unknown = underway.left(target)
    assert unknown == ()
    assert (note.fault.name, note.fault.heal, note.hosts) == (fault.name, fault.heal, strike.hosts)


async def test_a_cluster_in_use_is_rid_of_what_was_left_before_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played = Played(monkeypatch, tmp_path)
    underway.begin(played.fault, played.strike)

    patience: list[float] = []

    async def until_whole(_: Target, *, seconds: float, **__: object) -> float:
        assert played.healed
        patience.append(seconds)
        return 0.0

    monkeypatch.setattr(Target, "until_whole", until_whole)
    for _ in range(2):
        await Standing(played.target).prepare()
    assert played.notes == []
    # a cluster that has just been mended is given time to settle
    assert patience == [WHOLE_SECONDS, STANDING_SECONDS]


async def test_every_act_of_chaos_is_noted_while_it_lasts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = Played(monkeypatch, tmp_path)

    async def inject(_: Strike) -> None:
        assert len(played.notes) == 1

    async def roles(_: Target) -> Roles:
        return ROLES

    monkeypatch.setattr(Target, "roles", roles)
    struck = replace(played.fault, inject=inject)
    monkeypatch.setattr(chaos, "named", lambda _: (struck,))
    await chaos.perform(chaos.Act(0.0, struck.name, 0.0, 1), played.strike, 0.0)
    assert len(played.healed) == 1
    assert played.notes == []
