"""Work that a signal interrupts comes to an orderly end, whoever else has gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from pgbaton.cli import common, deploy, hand, operate
from pgbaton.cli.interruption import SIGNALLED, interruptible
from pgbaton.deploy.gate import unbroken

if TYPE_CHECKING:
    from types import ModuleType


class Gone:
    """A terminal that was closed."""

    encoding = "utf-8"

    def write(self, _: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_must_not_be_broken_off_is_not_by_two_signals_and_a_terminal_that_is_gone(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "err", lambda: Console(file=Gone()))  # type: ignore[arg-type]
    done: list[str] = []

    async def act() -> None:
        for _ in range(2):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.02)
        done.append("the whole of it")

    async def work() -> None:
        try:
            await unbroken(act())
        finally:
            await asyncio.sleep(0)
            done.append("cleaned up")

    with pytest.raises(SystemExit) as ended:
        interruptible(work())
    assert ended.value.code == SIGNALLED + number
    assert done == ["the whole of it", "cleaned up"]


def test_progress_that_nobody_reads_ends_nothing() -> None:
    common.tell(Console(file=Gone()), "a line")  # type: ignore[arg-type]
    assert sys.stderr is not None


@pytest.mark.parametrize("module", [operate, hand, deploy])
def test_commands_that_change_who_leads_are_interrupted_in_order(module: ModuleType) -> None:
    assert module.interruptible is interruptible  # type: ignore[attr-defined]
