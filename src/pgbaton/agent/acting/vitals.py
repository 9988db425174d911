"""What systemd and the journal are told of the agent itself: that it turns, what it sees, and that etcd is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.clock import clock

if TYPE_CHECKING:
    from pgbaton.agent.acting.report import Report
    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.services.etcd import Etcd
    from pgbaton.agent.services.following import Follower
    from pgbaton.agent.services.notify import Notifier

#: Between two signs of life to systemd, and the age up to which the last turn is one.
WATCHDOG_SECONDS = 0.5
ALIVE_SECONDS = 1.5
#: So long etcd's majority may be away before that is complained of.
QUORUM_SECONDS = 5.0


class Vitals:
    """Tell systemd that the loop turns: one that does not is ended, and another lets go whom it held."""

    def __init__(
        self, notifier: Notifier, report: Report, complaints: Complaints, *, etcd: Etcd, follower: Follower
    ) -> None:
        self._notifier = notifier
        self._report = report
        self._complaints = complaints
        self._etcd = etcd
        self._follower = follower
        self._status = ""
        self._started_seconds = clock()
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
            self._watch_quorum(now)
            self._show(self._report.line(now))
            await asyncio.sleep(WATCHDOG_SECONDS)

    def _show(self, line: str) -> None:
        if line != self._status:
            self._status = line
            self._notifier.status(line)

    def _watch_quorum(self, now: float) -> None:
        """Complain of etcd when its majority is away for long."""
        asked = self._follower.asked_seconds
        if asked is not None and now - asked < QUORUM_SECONDS:
            self._complaints.over("etcd's majority")
        elif now - self._started_seconds >= QUORUM_SECONDS:
            reasons = "; ".join(self._etcd.trouble.values()) or "no reason is known"
            self._complaints.about("etcd's majority", f"does not answer: {reasons}")
