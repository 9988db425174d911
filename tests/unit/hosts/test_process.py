from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from pgbaton.errors import CommandError, UnreachableError
from pgbaton.hosts import process

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_program_s_output_status_and_input_are_returned() -> None:
    result = await process.run("sh", "-c", "cat; echo no >&2; exit 3", input="yes", check=False)
    assert (result.stdout, result.stderr, result.exit_status, result.ok) == ("yes", "no\n", 3, False)


async def test_a_failure_says_what_was_run_and_what_it_said() -> None:
    with pytest.raises(CommandError, match=r"db1: exit status 1 from: sh -c .*\nno such table") as caught:
        await process.run("sh", "-c", "echo no such table >&2; exit 1", where="db1")
    assert caught.value.where == "db1"


async def test_a_deadline_ends_the_program_and_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match=r"no end after 0\.3 s"):
        await process.run("sh", "-c", f"sleep 60 & echo $! > {pid}; wait", timeout=0.3)
    assert time.monotonic() - begin < 5
    with pytest.raises(ProcessLookupError):
        wait_for_end(int(pid.read_text()))


def wait_for_end(pid: int) -> None:
    """Ask for a process until it is gone; a zombie that nobody has collected yet is gone too."""
    for _ in range(100):
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - raises what a missing process is below
            if stat.read().rpartition(")")[2].split()[0] == "Z":
                raise ProcessLookupError
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)


async def test_a_child_that_keeps_the_output_open_does_not_outlive_the_deadline() -> None:
    begin = time.monotonic()
    with pytest.raises(UnreachableError):
        await process.run("sh", "-c", "sleep 60 &", timeout=0.3)
    assert time.monotonic() - begin < 5


def test_a_quick_program_runs_outside_of_any_event_loop() -> None:
    result = process.capture("sh", "-c", "echo out; exit 2")
    assert (result.stdout, result.exit_status) == ("out\n", 2)


def test_a_program_in_an_argument_is_told_by_its_first_line() -> None:
    assert process.describe(("python3", "-c", "import json\nprint(1)\n", "x")) == "python3 -c import json … x"
