"""What systemd and the journal are told of the agent itself: that it turns, what it sees, and what it misses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.clock import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.agent.acting.report import Report
    from pgbaton.agent.services.notify import Notifier

#: Between two signs of life to systemd, and the age up to which the last turn is one.
WATCHDOG_SECONDS = 0.5
ALIVE_SECONDS = 1.5


class Vitals:
    """Tell systemd that the loop turns: one that does not is ended, and another lets go whom it held.

    ``watch`` complains of what the agent needs and misses.
    """

    def __init__(self, notifier: Notifier, report: Report, *, watch: Callable[[float], None]) -> None:
        self._notifier = notifier
        self._report = report
        self._watch = watch
        self._status = ""
        self._turned_seconds = float("-inf")
        self._begun = asyncio.Event()

    def turned(self, now: float) -> None:
        """Note that the loop has come round."""
        self._turned_seconds = now

    def begun(self) -> None:
        """Let systemd go on with what waits for this agent."""
        self._begun.set()

    def ends(self) -> None:
        """Tell systemd that the agent ends because it was told to."""
        self._notifier.stopping()

    async def run(self) -> NoReturn:
        """Tell, once the agent has begun, until cancelled."""
        await self._begun.wait()
        self._notifier.ready()
        while True:
            now = clock()
            if now - self._turned_seconds < ALIVE_SECONDS:
                self._notifier.watchdog()
            self._watch(now)
            self._show(self._report.line(now))
            await asyncio.sleep(WATCHDOG_SECONDS)

    def _show(self, line: str) -> None:
        if line != self._status:
            self._status = line
            self._notifier.status(line)
