"""A database host's own server: what it says of itself, the moment it ends, and the one that hangs.

The look is a fresh connection. It is taken now and then while nothing happens, and at a quick pace while something
does: while the leader lock is free, or is held here by a server that is still in recovery. So the new primary's own
word comes as soon as it takes writes, and costs nothing the rest of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.agent import hung, postgres, processes, wire
from pgbaton.agent.hearing import clock
from pgbaton.agent.https import HttpsError
from pgbaton.agent.hung import Evidence, Outcome, Service, Tally, Verdict
from pgbaton.agent.messages import Heartbeat
from pgbaton.agent.processes import Condition, Look
from pgbaton.agent.services import AbsentError, RefusedError, SilentError, UnixSocket
from pgbaton.agent.watches import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.agent.messages import ServerRole
    from pgbaton.agent.patroni import Patroni
    from pgbaton.agent.postgres import Reading
    from pgbaton.agent.processes import Process
    from pgbaton.agent.settings import Settings
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: Between two looks at a server: usually, and while the lock moves.
USUAL_SECONDS = 0.5
QUICK_SECONDS = 0.02
#: How long what a server said is believed without another look.
BELIEVED_SECONDS = 1.5
#: A hung server's processes have this long to be gone.
END_SECONDS = 2.0
#: Two nudges closer than this are one.
NUDGE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """The last look: what the server said, or why it did not, and when."""

    at_seconds: float
    outcome: Outcome
    reading: Reading | None = None
    why: str = ""


class Server:
    """Look at the server of this host, and tell ``on_change`` when what it says has changed."""

    def __init__(self, settings: Settings, sight: Sight, patroni: Patroni, *, on_change: Callable[[], None]) -> None:
        self._settings = settings
        self._sight = sight
        self._patroni = patroni
        self._on_change = on_change
        directory = settings.postgresql.data_directory
        self._postmaster = Follower(lambda: processes.postmaster(directory), self._ended)
        self._where = UnixSocket(settings.postgresql.socket_directory / f".s.PGSQL.{settings.ports.postgresql}")
        self._login = wire.Login(settings.postgresql.role, settings.postgresql.database)
        self._patience = hung.table(settings.timings)[Service.POSTGRESQL]
        self._tally = Tally()
        self._soon = asyncio.Event()
        self._nudged_seconds = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen = Seen(clock(), Outcome.ABSENT, why="no look yet")

    @property
    def reading(self) -> Reading | None:
        """Return what the server last said, None when that is too long ago or was no answer."""
        is_new = clock() - self.seen.at_seconds <= BELIEVED_SECONDS
        return self.seen.reading if is_new else None

    @property
    def position(self) -> int:
        """Return how far the server has WAL, in bytes; 0 when it does not say."""
        return self.reading.position if self.reading else 0

    @property
    def verdict(self) -> Verdict:
        """Return what is held of the server."""
        return self._tally.verdict

    def heartbeat(self) -> Heartbeat:
        """Return what this host says of itself; its silent hosts are the caller's to add."""
        reading, cluster = self.reading, self._sight.cluster
        return Heartbeat(
            role=self._role(reading),
            writable=reading is not None and not reading.in_recovery,
            timeline=reading.timeline if reading else 0,
            position=reading.position if reading else 0,
            lock=cluster is not None and cluster.leader == self._settings.me,
            following=reading is not None and reading.in_recovery and reading.receiving,
            poolers=False,
            state=str(self._tally.verdict),
        )

    def _role(self, reading: Reading | None) -> ServerRole:
        if reading is not None:
            return "standby" if reading.in_recovery else "primary"
        return "none" if self.seen.outcome is Outcome.ABSENT else "unknown"

    async def run(self) -> None:
        """Look, again and again, until cancelled."""
        while True:
            self._postmaster.look()
            await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace_seconds()):
                    await self._soon.wait()
            self._soon.clear()

    def look_soon(self) -> None:
        """Look without waiting for the usual time: etcd has news, or a neighbour does."""
        self._soon.set()

    def nudge(self) -> None:
        """Have Patroni run its loop at once."""
        now = clock()
        if now - self._nudged_seconds < NUDGE_SECONDS:
            return
        self._nudged_seconds = now
        task = asyncio.create_task(self._nudge())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _nudge(self) -> None:
        try:
            await self._patroni.nudge()
        except HttpsError as error:
            LOG.warning("Patroni was not woken, and finds out by itself: %s", error)

    def _pace_seconds(self) -> float:
        """Return the time until the next look: none while the last was met with silence.

        Short while somebody is about to be promoted, perhaps this server.
        """
        if self.seen.outcome is Outcome.SILENT:
            return 0.0
        cluster, reading = self._sight.cluster, self.reading
        is_moving = cluster is not None and (
            cluster.leader is None
            or (cluster.leader == self._settings.me and (reading is None or reading.in_recovery))
            or (cluster.leader != self._settings.me and reading is not None and not reading.in_recovery)
        )
        return QUICK_SECONDS if is_moving else USUAL_SECONDS

    def _ended(self, ended: Process) -> None:
        """Note that the postmaster is gone, in the moment it is."""
        LOG.warning("the postmaster, process %d, has ended", ended.pid)
        self._note(Seen(clock(), Outcome.ABSENT, why="the postmaster has ended"))
        self._tally = Tally(Verdict.GONE, since_seconds=clock())
        self.nudge()

    async def _look(self) -> None:
        """Look once; end a server that hangs."""
        process, asked = self._postmaster.look(), clock()
        before = processes.look(process) if process else Look(Condition.GONE)
        outcome, reading, why = await self._asked()
        now = clock()
        after = processes.look(process) if process else Look(Condition.GONE)
        if process is not None and self._postmaster.look() != process:
            return  # it ended meanwhile, which is noted already
        evidence = Evidence(
            asked_seconds=asked,
            ended_seconds=now,
            outcome=outcome,
            condition=after.condition,
            starved_seconds=hung.starved_seconds(before, after, now - asked),
            runnable_per_processor=processes.runnable_per_processor(),
            stalled=self._sight.hearing.stalled(now),
        )
        self._tally = hung.judge(self._tally, evidence, self._patience)
        self._note(Seen(now, outcome, reading, why))
        if self._tally.verdict is Verdict.HUNG and process is not None and not self._is_paused():
            await self._end(process)

    async def _asked(self) -> tuple[Outcome, Reading | None, str]:
        try:
            reading = await postgres.read(self._where, self._login, deadline_seconds=self._patience.deadline_seconds)
        except AbsentError as error:
            return Outcome.ABSENT, None, str(error)
        except RefusedError as error:
            return Outcome.REFUSED, None, str(error)
        except SilentError as error:
            return Outcome.SILENT, None, str(error)
        return Outcome.ANSWERED, reading, ""

    def _is_paused(self) -> bool:
        """Tell whether an operator has taken the cluster into his own hands."""
        return self._sight.cluster is not None and self._sight.cluster.paused

    async def _end(self, process: Process) -> None:
        """End a server that hangs: from then on it is one that has crashed, and Patroni knows what to do."""
        LOG.error("the server hangs (%s): ending it", self.seen.why)
        left = await processes.end_server(process, END_SECONDS)
        if left:
            LOG.error("these processes of the server do not end: %s", ", ".join(str(each.pid) for each in left))
        self._tally = Tally(Verdict.GONE, since_seconds=clock())
        self.nudge()

    def _note(self, seen: Seen) -> None:
        """Remember a look; tell when it says something else than the one before."""
        before, self.seen = self.seen, seen
        if standing(before.reading) != standing(seen.reading) or before.outcome is not seen.outcome:
            self._on_change()


def standing(reading: Reading | None) -> tuple[bool, int, bool] | None:
    """Return of a reading what others have to know at once: its positions come with the next heartbeat."""
    return None if reading is None else (reading.in_recovery, reading.timeline, reading.receiving)
