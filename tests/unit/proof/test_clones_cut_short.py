"""How a copy is caught in its midst, and what strikes then."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import CommandError, RefusedError
from pgbaton.hosts import process
from pgbaton.hosts.fake import FakeHost
from pgbaton.operate import reinit
from pgbaton.operate.waiting import until
from pgbaton.proof.faults import clones, named, standbys
from pgbaton.proof.faults.base import Strike
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TOPOLOGY = load.loads(presets.text("standard"))
ROLES = Roles("db1", "lb1", ("db2", "db3"), synchronous=("db2",))


@pytest.fixture
async def copy(tmp_path: Path) -> AsyncIterator[int]:
    """A process that is found by the name of pg_basebackup, of which there may be others on this machine."""
    child = await process.start("sleep", "600", input="", log=tmp_path / "log")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "pgrep").write_text(f'#!/bin/sh\n[ "$*" = "-x pg_basebackup" ] && echo {child.pid}\n')
    (programs / "pgrep").chmod(0o755)
    try:
        yield child.pid
    finally:
        process.end_group(child.pid)
        await child.end(timeout=10)


async def catch(tmp_path: Path, seconds: int) -> None:
    path = f"PATH={tmp_path / 'bin'}:{os.environ['PATH']}"
    await process.run("env", path, "sh", "-c", clones.CATCH, "sh", str(tmp_path), str(seconds))


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_copy_is_stopped_as_soon_as_it_has_begun(copy: int, tmp_path: Path) -> None:
    catching = asyncio.create_task(catch(tmp_path, 20))
    (tmp_path / "backup_label").touch()
    await catching

    async def stopped() -> str | None:
        return None if state(copy) == "T" else state(copy)

    await until("the copy stands still", stopped, seconds=10)


async def test_what_has_not_begun_in_time_is_an_error_and_stops_nobody(copy: int, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no copy is under way after 0 s"):
        await catch(tmp_path, 0)
    assert state(copy) != "T"


class Played:
    """A cluster in which a clone can be begun, and what was done to it, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
        self.done: list[str] = []
        words = {("sh",): "script", ("pkill",): "go on"}
        made = {
            name: FakeHost(name, answers={argv: self._noting(f"{word} on {name}") for argv, word in words.items()})
            for name in ("db1", "db3")
        }
        monkeypatch.setattr(Target, "hosts", made)
        monkeypatch.setattr(reinit, "ask", self.ask)
        target = Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), lambda _: None)
        self.strike = Strike(target, hosts, ROLES, Random(1))

    def _noting(self, word: str) -> Callable[[str], str]:
        def answer(_: str) -> str:
            self.done.append(word)
            return ""

        return answer

    async def ask(self, _: object, host: str) -> None:
        self.done.append(f"reinit {host}")


async def test_the_source_is_killed_when_the_copy_has_been_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, "db3", "db1")
    await clones.kill_source_during_clone(played.strike)
    assert played.done == ["reinit db3", "script on db3", "script on db1", "go on on db3"]


async def test_the_power_is_cut_when_the_copy_has_been_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, "db3")

    async def power_off(strike: Strike) -> None:
        played.done.append(f"dark {strike.host}")

    monkeypatch.setattr(clones, "power_off", power_off)
    await clones.power_off_during_clone(played.strike)
    assert played.done == ["reinit db3", "script on db3", "dark db3"]


async def test_a_clone_that_is_refused_ends_the_wait_for_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, "db3")
    ended = asyncio.Event()

    async def refuse(*_: object) -> None:
        await asyncio.sleep(0)
        message = "reinit refused"
        raise RefusedError(message)

    async def wait(*_: object, **__: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(reinit, "ask", refuse)
    monkeypatch.setattr(FakeHost, "run", wait)
    with pytest.raises(RefusedError, match="reinit refused"):
        await clones.begin_to_clone(played.strike)
    assert ended.is_set()


def test_a_standby_that_others_do_not_wait_for_is_cloned_and_helped_where_it_does_not_return() -> None:
    dark, killed = named(["standby-power-off-during-clone", "primary-killed-during-clone"])
    assert dark.victims(ROLES, Random(1)) == ("db3",)
    assert killed.victims(ROLES, Random(1)) == ("db3", "db1")
    assert {fault.rescue for fault in (dark, killed)} == {standbys.clone_anew}
    assert not any(fault.composable for fault in (dark, killed))
