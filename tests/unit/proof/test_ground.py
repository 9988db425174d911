"""What is said of a cluster that is not whole, before and between trials."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import UnhealthyError
from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.snapshot import Snapshot
from pgbaton.proof import ground, target
from pgbaton.proof.ground import Standing
from pgbaton.proof.target import Target, waiting
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPOLOGY = load.loads(presets.text("standard", cluster="orders"))
AWAY = Finding(Level.WARNING, "unreachable", "db3", "unreachable: no answer", "reachable", "is it powered on?")
BEHIND = Finding(Level.WARNING, "standby-not-streaming", "db3", "not connected", "streaming", "pgbaton reinit db3")
OLD = Finding(Level.NOTE, "version-below-floor", "db1", "etcd 3.5.16", "3.5.33", "update")


class Played:
    """A cluster in use of which one thing after another is found, the last of it again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *found: Sequence[Finding]) -> None:
        self.found, self.said = list(found), list[str]()
        monkeypatch.setattr(Target, "snapshot", self._snapshot)
        monkeypatch.setattr(target, "judge", self._judge)
        monkeypatch.setattr(target, "LOOK_INTERVAL_SECONDS", 0.001)
        self.ground = Standing(Target(TOPOLOGY, ClusterState("orders", Path("/nowhere")), self.said.append))

    async def _snapshot(self) -> Snapshot:
        return Snapshot("orders", "2026-01-01T00:00:00+00:00", ())

    def _judge(self, *_: object) -> Sequence[Finding]:
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]


async def test_what_is_wrong_is_told_at_once_and_again_only_when_it_is_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played = Played(monkeypatch, (AWAY,), (AWAY, OLD), (BEHIND,), (BEHIND,), ())
    await played.ground.prepare()
    assert [said.splitlines() for said in played.said] == [
        [
            "orders is not whole; waiting for that, at most 30 s; ^C ends it",
            "db3: unreachable (unreachable: no answer); is it powered on?",
        ],
        [
            "orders is not whole; waiting for that, at most 30 s; ^C ends it",
            "db3: standby-not-streaming (not connected); pgbaton reinit db3",
        ],
    ]


async def test_nothing_is_told_of_a_cluster_that_is_whole_but_for_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, (OLD,))
    await played.ground.prepare()
    assert played.said == []


async def test_a_cluster_that_stays_broken_is_left_alone_with_what_is_wrong_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ground, "STANDING_SECONDS", 0.01)
    played = Played(monkeypatch, (AWAY, OLD))
    with pytest.raises(UnhealthyError, match=r"nothing was done to orders: .* db3: unreachable") as caught:
        await played.ground.prepare()
    assert "version-below-floor" not in caught.value.message
    assert str(caught.value.hint).startswith("mend it first")
    assert caught.value.exit_code == 3


async def test_who_does_not_want_to_wait_interrupts_the_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, (AWAY,))
    told = asyncio.Event()
    played.ground = Standing(Target(TOPOLOGY, ClusterState("orders", Path("/nowhere")), lambda _: told.set()))
    task = asyncio.create_task(played.ground.prepare())
    await told.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_no_more_is_told_than_can_be_taken_in() -> None:
    assert waiting("orders", (AWAY,) * 5, 30.0).splitlines()[-1] == "and 2 more"
