"""A primary whose disk hangs: seen by its WAL, and ended where another one can take over.

Such a server answers everybody but those who commit, and these it keeps for ever. Ended, it is one that has crashed:
its lock is given up, which needs no disk, and a synchronous standby is promoted. That loses nothing, as after any other
crash. Processes that wait for the disk in the kernel do not end before it is back. Whatever they write there is not
acknowledged: who was promoted confirms nothing to them any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.agent.decisions import flushing
from pgbaton.agent.decisions.flushing import PATIENCE_SECONDS, Look

if TYPE_CHECKING:
    from pgbaton.agent.acting.promoters import Promoter
    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.decisions.flushing import Count
    from pgbaton.agent.services.postgres import Reading
    from pgbaton.agent.sight import Sight

DISK = "PostgreSQL's disk"
WHY = f"not a byte of WAL was flushed for {PATIENCE_SECONDS:g} s while somebody waited"
FIX = "fix: its disk (dmesg); if that is gone, power this host off, and see pgbaton failover"


class Flushing:
    """Keep how the WAL of this host's server fares, and tell when the server is to be ended for it."""

    def __init__(self, sight: Sight, complaints: Complaints, promoter: Promoter) -> None:
        self._sight = sight
        self._complaints = complaints
        self._promoter = promoter
        self._count: Count | None = None

    def see(self, reading: Reading, now: float) -> None:
        """Take what the server says of itself."""
        stalled = self._sight.hearing.stalled(now)
        look = Look(now, reading.position, awaited=reading.flush_awaited, stalled=stalled)
        self._count = flushing.counted(self._count, look)
        if not flushing.is_stuck(self._count, now):
            self._complaints.over(DISK)

    def forget(self) -> None:
        """Begin to count anew: the server has ended, or is about to."""
        self._count = None

    def is_to_be_ended(self, now: float) -> bool:
        """Tell whether the WAL is stuck, and to end the server helps; complain when it does not."""
        if not flushing.is_stuck(self._count, now):
            return False
        if why := self._promoter.spares_stuck(now):
            self._complaints.about(DISK, f"{WHY}, and the server is left alone: {why}; {FIX}")
        return not why
