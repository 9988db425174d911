"""A server that is stopped for another one to take over: real processes by their ends, and what is held of them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from small_cluster import Seen

from pgbaton.agent.acting.promoters import ByPatroni
from pgbaton.agent.acting.server import Server
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROGRAM = """\
import os, signal
for number in (signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, {handler})
print(flush=True)
while True:
    signal.pause()
"""
#: A program that ends at the first signal and tells which one it was, one that ends at the second, and one that stays.
FIRST = "lambda number, _: os._exit(number)"
SECOND = "(lambda number, _: os._exit(number)) if number == signal.SIGQUIT else signal.SIG_IGN"
NEITHER = "signal.SIG_IGN"
#: Enough for a program that ends, on a machine with much else to do, and so long that none comes near it.
PATIENT_SECONDS = 30.0


class Postmaster:
    """The process that is followed, found by hand."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.error: OSError | None = None

    def look(self) -> Process | None:
        if self.error:
            raise self.error
        return self.process

    def close(self) -> None:
        pass


class Host:
    """db1's agent, whose server is any process; Patroni is made up."""

    def __init__(self, directory: Path) -> None:
        self.seen = Seen("db1", directory=directory)
        self.nudges = 0
        self.server = Server(
            self.seen.settings,
            self.seen.sight,
            ByPatroni(self.seen.sight, self),
            Complaints(),
            on_change=lambda: None,
        )
        self.postmaster = self.server._postmaster = Postmaster()  # type: ignore[assignment]
        self.pid_file = self.server._pid_file = directory / "lock"

    async def nudge(self) -> None:
        self.nudges += 1

    def ended(self, process: Process, *, crashed: bool = False) -> None:
        """Let a postmaster be gone: one that was stopped takes its file with it."""
        self.pid_file.unlink(missing_ok=True)
        if crashed:
            self.pid_file.write_text(f"{process.pid}\n/data\n", encoding="ascii")
        self.postmaster.process = None
        self.server._ended(process)


@pytest.fixture
async def host(tmp_path: Path) -> Iterator[Host]:  # type: ignore[misc]
    made = Host(tmp_path)
    yield made
    made.server.close()


@pytest.fixture
def start(host: Host) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Start a server that does something particular about signals, and end it after the test."""
    children: list[subprocess.Popen[bytes]] = []

    def begin(handler: str) -> subprocess.Popen[bytes]:
        program = PROGRAM.format(handler=handler)
        child = subprocess.Popen([sys.executable, "-I", "-c", program], stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout
        assert child.stdout.readline() == b"\n"
        host.postmaster.process = processes.process(child.pid)
        assert host.postmaster.process
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


async def test_a_server_is_asked_to_stop_in_order_first(
    host: Host, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    child = start(FIRST)
    await host.server.stop(PATIENT_SECONDS)
    assert child.wait(PATIENT_SECONDS) == signal.SIGINT


async def test_a_server_that_takes_too_long_is_told_to_stop_at_once(
    host: Host, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    child = start(SECOND)
    await host.server.stop(0.05)
    assert child.wait(PATIENT_SECONDS) in {signal.SIGQUIT, -signal.SIGKILL}


async def test_a_server_is_told_to_stop_at_once_only_after_the_deadline(
    host: Host, start: Callable[[str], subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(NEITHER)
    told: list[signal.Signals] = []
    really = processes.kill

    def kill(process: Process, number: signal.Signals) -> bool:
        told.append(number)
        return really(process, number)

    monkeypatch.setattr(processes, "kill", kill)
    await host.server.stop(0.05)
    assert told[:2] == [signal.SIGINT, signal.SIGQUIT]


async def test_a_server_that_does_not_stop_is_ended(
    host: Host, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    child = start(NEITHER)
    await host.server.stop(0.05)
    assert child.wait(PATIENT_SECONDS) == -signal.SIGKILL


async def test_a_server_that_is_gone_already_needs_no_time(
    host: Host, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    child = start(FIRST)
    child.kill()
    child.wait(PATIENT_SECONDS)
    await host.server.stop(PATIENT_SECONDS)
    host.postmaster.process = None
    await host.server.stop(PATIENT_SECONDS)
    assert not host.server.handed_over, "it was not seen to end"


async def test_a_server_that_was_stopped_for_another_one_is_handed_over_when_it_has_ended(
    host: Host, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    start(FIRST)
    process = host.postmaster.process
    assert process
    await host.server.stop(PATIENT_SECONDS)
    assert not host.server.handed_over
    host.ended(process)
    assert host.server.handed_over
    assert host.server.crashed, "its lock is given up as after a crash"
    for _ in range(20):
        await asyncio.sleep(0)
    assert host.nudges == 0, "Patroni is woken by who handed over, when the other one leads"


@pytest.mark.parametrize("crashed", [True, False])
async def test_one_that_ends_without_having_been_asked_is_not_handed_over(
    host: Host,
    crashed: bool,  # noqa: FBT001 - a table's row
) -> None:
    host.ended(Process(4711, 99), crashed=crashed)
    assert host.server.crashed == crashed
    assert not host.server.handed_over


async def test_the_next_server_has_nothing_of_the_one_that_was_handed_over(
    host: Host, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    start(FIRST)
    process = host.postmaster.process
    assert process
    await host.server.stop(PATIENT_SECONDS)
    host.ended(process)
    host.postmaster.process = Process(4711, 99)
    assert host.server._processes() == (Process(4711, 99),)
    assert not host.server.handed_over
    for crashed in (True, False):
        host.ended(Process(4711, 99), crashed=crashed)
        assert host.server.crashed == crashed
        assert not host.server.handed_over
