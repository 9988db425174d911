"""A database host's own server: what it says of itself, the moment it ends, and the one that hangs, or whose disk does.

The look is a fresh connection. It is taken now and then while nothing happens, and at a quick pace while something
does: while the leader lock is free, or does not fit what the server says. A server in recovery is then waited for in a
session, so that the new primary's own word comes as soon as it takes writes, and costs it nothing until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.acting import flushing
from pgbaton.agent.acting.flushing import Flushing
from pgbaton.agent.acting.judge import Judge
from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import hung
from pgbaton.agent.decisions.hung import Outcome, Service, Verdict
from pgbaton.agent.kernel import processes, watches
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.kernel.watches import Follower
from pgbaton.agent.peers.messages import Heartbeat
from pgbaton.agent.protocols import wire
from pgbaton.agent.protocols.connections import AbsentError, RefusedError, ServiceError, SilentError
from pgbaton.agent.protocols.https import HttpsError
from pgbaton.agent.services import postgres

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.agent.acting.judge import Question
    from pgbaton.agent.acting.promoters import Promoter
    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.kernel.processes import Process
    from pgbaton.agent.peers.messages import ServerRole
    from pgbaton.agent.protocols.connections import UnixSocket
    from pgbaton.agent.services.postgres import Reading
    from pgbaton.agent.settings import Settings
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: Between two looks at a server: usually, and while the lock moves.
USUAL_SECONDS = 0.5
QUICK_SECONDS = 0.02
#: A lock that has not come to rest after so long is no failover: each look is a new process of the server's.
QUICK_FOR_SECONDS = 10.0
#: So long the end of a recovery is waited for before the server is looked at again.
RECOVERY_SECONDS = 0.25
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

    def __init__(
        self,
        settings: Settings,
        sight: Sight,
        promoter: Promoter,
        complaints: Complaints,
        *,
        on_change: Callable[[], None],
    ) -> None:
        self._sight = sight
        self._promoter = promoter
        self._complaints = complaints
        self._on_change = on_change
        own, port = settings.postgresql, settings.ports.postgresql
        lock = processes.socket_lock(own.socket_directory, port)
        self._pid_file = lock
        self._postmaster = Follower(lambda: processes.postmaster(own.data_directory, lock), self._ended)
        self._where = wire.unix_socket(own.socket_directory, port)
        self._login = wire.Login(own.role, own.database)
        patience = hung.table(settings.timings)[Service.POSTGRESQL]
        self.judge = Judge("PostgreSQL", self._processes, patience, sight)
        self._flushing = Flushing(sight, complaints, promoter)
        self._soon = asyncio.Event()
        self._moving_since: float | None = None
        self._nudged_seconds = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        #: The number of the last postmaster, when it has crashed and no other one has come; the one that hands over.
        self._crashed: int | None = None
        self._handed_over: Process | None = None
        self.was_primary = False
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
    def unreplayed_bytes(self) -> int | None:
        """Return how much of what a standby has it has not replayed yet; None when it does not say."""
        reading = self.reading
        return reading.position - reading.replayed if reading is not None and reading.in_recovery else None

    @property
    def rival(self) -> str:
        """Return what another server's word has against this one's taking writes; nothing when none has."""
        return self._promoter.rival(self.reading, clock())

    @property
    def recovers(self) -> bool:
        """Tell whether the server says that it is in recovery."""
        return self.reading is not None and self.reading.in_recovery

    @property
    def crashed(self) -> bool:
        """Tell whether the server has ended without having been stopped, and no other one has come since."""
        return self._crashed is not None and not self._processes()

    @property
    def handed_over(self) -> bool:
        """Tell whether the server was stopped for another one to take over, and none has come here since."""
        return self._crashed is not None and self._handed_over is not None

    @property
    def way_in(self) -> tuple[UnixSocket, wire.Login]:
        """Return where the server is asked, and as whom."""
        return self._where, self._login

    @property
    def verdict(self) -> Verdict:
        """Return what is held of the server."""
        return self.judge.verdict

    def heartbeat(self) -> Heartbeat:
        """Return what this host says of itself; its silent hosts are the caller's to add."""
        reading = self.reading
        takes_writes = reading is not None and not reading.in_recovery
        return Heartbeat(
            role=self._role(reading),
            writable=takes_writes and self._sight.serving is not Serving.REFUSED,
            timeline=reading.timeline if reading else 0,
            position=reading.position if reading else 0,
            lock=self._promoter.has_right(reading, clock()),
            following=reading is not None and reading.in_recovery and reading.receiving,
            poolers=False,
            state=str(self.verdict),
        )

    def _role(self, reading: Reading | None) -> ServerRole:
        if reading is not None:
            return "standby" if reading.in_recovery else "primary"
        return "none" if self.seen.outcome is Outcome.ABSENT else "unknown"

    async def run(self) -> NoReturn:
        """Look, again and again, until cancelled."""
        while True:
            await self._look()
            if self.recovers and self._is_quick(clock()):
                await self._await_end_of_recovery()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace_seconds(clock())):
                    await self._soon.wait()
            self._soon.clear()

    def look_soon(self) -> None:
        """Look without waiting for the usual time: etcd has news, or a neighbour does."""
        self._soon.set()

    def close(self) -> None:
        """Watch the server no longer."""
        self._postmaster.close()
        for task in self._tasks:
            task.cancel()

    def nudge(self) -> None:
        """Have Patroni run its loop at once, where there is one."""
        now = clock()
        if now - self._nudged_seconds < NUDGE_SECONDS:
            return
        self._nudged_seconds = now
        task = asyncio.create_task(self._nudge())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, deadline_seconds: float) -> bool:
        """Stop the server so that another one takes over: orderly, and when that takes too long, at once.

        Orderly it sends its standbys all that is left, and needs no recovery when it is started again. Returns whether
        there was one to be stopped.
        """
        for process in self._processes():
            for how in (signal.SIGINT, signal.SIGQUIT):
                if processes.kill(process, how):
                    self._handed_over = process
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(deadline_seconds):
                        await watches.ended(process)
                        return True
            await processes.end_server(process, deadline_seconds)
            return True
        return False

    async def _nudge(self) -> None:
        try:
            await self._promoter.nudge()
        except HttpsError as error:
            LOG.warning("Patroni was not woken, and finds out by itself: %s", error)

    def _pace_seconds(self, now: float) -> float:
        """Return the time until the next look: none while the last was met with silence.

        Short while somebody is about to be promoted, perhaps this server.
        """
        if self.seen.outcome is Outcome.SILENT:
            return 0.0
        return QUICK_SECONDS if self._is_quick(now) else USUAL_SECONDS

    def _is_quick(self, now: float) -> bool:
        """Tell whether a change of primary may be under way, and has not been for too long."""
        if not self._promoter.is_moving(self.reading, now):
            self._moving_since = None
            return False
        since = self._moving_since = now if self._moving_since is None else self._moving_since
        return now - since < QUICK_FOR_SECONDS

    def _processes(self) -> tuple[Process, ...]:
        try:
            found = self._postmaster.look()
        except OSError as error:
            self._complaints.about("postmaster", f"cannot be looked for: {error}")
            return ()
        self._complaints.over("postmaster")
        if found:
            self._crashed = None
            self._handed_over = self._handed_over if self._handed_over == found else None
        return (found,) if found else ()

    def _ended(self, ended: Process) -> None:
        """Note that the postmaster is gone, in the moment it is."""
        is_crash = self._left_its_file(ended)
        self._crashed = ended.pid if is_crash or ended == self._handed_over else None
        LOG.warning("the postmaster, process %d, has %s", ended.pid, "crashed" if is_crash else "been stopped")
        self.judge.gone()
        self._flushing.forget()
        self._note(Seen(clock(), Outcome.ABSENT, why="the postmaster has ended"))
        if ended != self._handed_over:  # then Patroni has nothing to do here until the other one leads
            self.nudge()

    def _left_its_file(self, ended: Process) -> bool:
        """Tell whether a postmaster left its file behind: one that is stopped takes it away."""
        try:
            return processes.noted(self._pid_file) == ended.pid
        except OSError as error:
            self._complaints.about("postmaster", f"nobody knows whether it crashed: {error}")
            return False

    async def _look(self) -> None:
        """Look once; end a server that hangs, or whose disk does."""
        question = self.judge.ask()
        outcome, reading, why = await self._asked()
        if question.processes and self._processes() != question.processes:
            return  # it ended meanwhile, which is noted already
        verdict = self.judge.hear(question, outcome)
        self._note(Seen(clock(), outcome, reading, why))
        if verdict is Verdict.HUNG:
            await self._end(question, self.seen.why)
        elif self._flushing.is_to_be_ended(self.seen.at_seconds):
            self._flushing.forget()
            await self._end(self.judge.hangs(flushing.WHY), flushing.WHY)

    async def _await_end_of_recovery(self) -> None:
        """Note what the server says when it is out of recovery; what goes wrong meanwhile is for the next look."""
        found, seconds = self._processes(), self.judge.patience.deadline_seconds
        with contextlib.suppress(ServiceError):
            reading = await postgres.read_after_recovery(
                self._where, self._login, within_seconds=RECOVERY_SECONDS, deadline_seconds=seconds
            )
            if found and self._processes() == found:
                self._note(Seen(clock(), Outcome.ANSWERED, reading))

    async def _asked(self) -> tuple[Outcome, Reading | None, str]:
        seconds = self.judge.patience.deadline_seconds
        try:
            reading = await postgres.read(self._where, self._login, deadline_seconds=seconds)
        except AbsentError as error:
            return Outcome.ABSENT, None, str(error)
        except RefusedError as error:
            return Outcome.REFUSED, None, str(error)
        except SilentError as error:
            return Outcome.SILENT, None, str(error)
        return Outcome.ANSWERED, reading, ""

    async def end_stopped(self) -> None:
        """End the server: its postmaster was stopped."""
        await self._end(self.judge.stopped(), "its postmaster was stopped")

    async def _end(self, question: Question, why: str) -> None:
        """End a server that hangs: from then on it is one that has crashed, and Patroni knows what to do.

        Not where a person decides, be it that there is no Patroni or that an operator has paused it.
        """
        if not question.processes:
            return
        if reason := self._promoter.spares_hung():
            self._complaints.about("PostgreSQL", f"hangs ({why}), and is left alone: {reason}")
            return
        LOG.error("the server hangs (%s): ending it", why)
        try:
            left = await processes.end_server(question.processes[0], END_SECONDS)
        except OSError as error:
            self._complaints.about("PostgreSQL", f"hangs, and cannot be ended: {error}; fix: CAP_KILL")
            return
        if left:
            LOG.error("these processes of the server do not end: %s", ", ".join(str(each.pid) for each in left))
        self.judge.gone()
        self.nudge()

    def _note(self, seen: Seen) -> None:
        """Remember a look; tell when it says something else than the one before."""
        before, self.seen = self.seen, seen
        if seen.reading is not None:
            self.was_primary = not seen.reading.in_recovery
            self._flushing.see(seen.reading, seen.at_seconds)
        if standing(before.reading) != standing(seen.reading) or before.outcome is not seen.outcome:
            self._on_change()


def standing(reading: Reading | None) -> tuple[bool, int, bool] | None:
    """Return of a reading what others have to know at once: its positions come with the next heartbeat."""
    return None if reading is None else (reading.in_recovery, reading.timeline, reading.receiving)
