"""What is held against a cluster after a trial."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from pgbaton.errors import UnhealthyError
from pgbaton.observe.facts import Facts
from pgbaton.observe.snapshot import HostView, Snapshot
from pgbaton.proof import evidence
from pgbaton.proof.target import Target, only_primary, roles
from pgbaton.topology import load, presets

TOPOLOGY = load.loads(presets.text("standard"))
NOW = "2026-01-01T00:00:00+00:00"


@dataclass
class Looked:
    """A target whose looks are given; the last one is repeated."""

    looks: list[Snapshot]
    topology: object = TOPOLOGY
    taken: list[Snapshot] = field(default_factory=list)

    async def snapshot(self) -> Snapshot:
        self.taken.append(self.looks[min(len(self.taken), len(self.looks) - 1)])
        return self.taken[-1]


def holding(*holders: str) -> Snapshot:
    balancers = ("lb1", "lb2")
    return Snapshot(
        TOPOLOGY.name, NOW, tuple(HostView(name, reachable=True, holds_vip=name in holders) for name in balancers)
    )


async def remains(looks: list[Snapshot], *, seconds: float) -> tuple[str, ...]:
    found = await evidence.remains(cast("Target", Looked(looks)), seconds=seconds)
    assert found is not None
    return tuple(each for each in found if "vip" in each)


async def test_what_passes_by_itself_is_not_held_against_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "LOOK_INTERVAL_SECONDS", 0.001)
    looked = Looked([holding("lb1", "lb2"), Snapshot(TOPOLOGY.name, NOW, ())])
    await evidence.remains(cast("Target", looked), seconds=5.0)
    assert len(looked.taken) == 2


async def test_what_stays_is_held_against_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "LOOK_INTERVAL_SECONDS", 0.001)
    assert await remains([holding("lb1", "lb2")], seconds=0.02)


async def test_without_patience_the_first_look_counts() -> None:
    assert await remains([holding("lb1", "lb2"), holding("lb1")], seconds=0.0)


def test_a_vip_that_is_held_twice_leaves_no_roles_to_strike_but_does_not_hide_that_there_is_no_primary() -> None:
    with pytest.raises(UnhealthyError, match="primaries: none"):
        only_primary(Facts(TOPOLOGY, holding("lb1", "lb2")))
    with pytest.raises(UnhealthyError, match="primaries: none"):
        roles(TOPOLOGY, holding("lb1", "lb2"))
