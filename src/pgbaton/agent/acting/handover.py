"""A planned change of primary without an error: hold all clients, stop the server here, have the other one promoted.

In this order: every balancer's pooler gives no client a server any more and waits until none has one; the standby has
all that was written; the server stops, which sends what is left; the lock is given up, by the same transaction as
after a crash; Patroni promotes the standby. The balancers let their clients go when they lead to the new primary. Until
the server is told to stop, everything can be taken back, and is; afterwards it is a failover, which Patroni ends even
when this agent does not live to see it. No pooler waits longer than it was asked to, whoever dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import handover
from pgbaton.agent.protocols import wire
from pgbaton.agent.protocols.connections import ServiceError
from pgbaton.agent.protocols.https import HttpsError
from pgbaton.agent.services.agents import RefusedByAgentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgbaton.agent.acting.server import Server
    from pgbaton.agent.services.agents import Agents
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: How long the standby may take for what was written last, and a stopped server to be replaced.
EQUAL_SECONDS = 0.5
PROMOTED_SECONDS = 15.0
STOP_SECONDS = 1.0
LOOK_SECONDS = 0.005
#: Longer than that nobody's clients are held before anything is done.
LONGEST_HOLD_SECONDS = 5.0

#: Whether a standby has all that was written. Names of hosts have nothing in them that would have to be quoted.
HAS_ALL = (
    "select coalesce(bool_or(flush_lsn >= pg_current_wal_flush_lsn()), false) as has_all"
    " from pg_stat_replication where application_name = '{target}'"
)


class NotHandedOverError(Exception):
    """There was no hand-over, and why; everything is as it was."""


class BusyError(Exception):
    """Another hand-over is under way."""


class UnfinishedError(Exception):
    """The server was told to stop, and nobody took over in time; Patroni goes on."""


@dataclass(slots=True)
class Course:
    """How long each part took, in seconds since the first client was held."""

    begun: float = field(default_factory=clock)
    parts: dict[str, float] = field(default_factory=dict)

    def note(self, part: str) -> None:
        """Note that a part is over."""
        self.parts[part] = round(clock() - self.begun, 4)


class Handover:
    """Hand over from this host's server."""

    def __init__(self, sight: Sight, agents: Agents, server: Server) -> None:
        self._sight = sight
        self._agents = agents
        self._server = server
        self._busy = False
        self._closed = False

    def close(self) -> None:
        """Begin nothing any more that this agent would not live to see: it is about to end."""
        self._closed = True

    async def run(self, target: str, hold_seconds: float) -> dict[str, float]:
        """Hand over, and return how long each part took.

        Raises NotHandedOverError when nothing was changed, BusyError, or UnfinishedError half-way.
        """
        if self._busy:
            message = "another hand-over is under way"
            raise BusyError(message)
        self._busy = True
        try:
            return await self._run(target, min(hold_seconds, LONGEST_HOLD_SECONDS))
        finally:
            self._busy = False

    async def _run(self, target: str, hold_seconds: float) -> dict[str, float]:
        if target not in {host.name for host in self._sight.settings.databases}:
            message = f"{target} is no database host"
            raise NotHandedOverError(message)
        self._check(target)
        async with self._asking(hold_seconds) as session:
            course = Course()
            try:
                if self._holders:
                    await self._hold(hold_seconds)
                    course.note("held")
                    await self._until_equal(target, session)
                    course.note("equal")
                self._check(target)
            except BaseException:
                await asyncio.shield(self._let_go())
                raise
        # Where nobody can be held, clients write until the server stops, which sends the standby all of it first.
        held = f"clients are held, {target} has everything" if self._holders else "no pooler here can hold clients"
        LOG.warning("handing over to %s: %s", target, held)
        if not await self._server.stop(STOP_SECONDS):
            await self._let_go()
            message = "there is no postmaster here that could be stopped"
            raise NotHandedOverError(message)
        course.note("stopped")
        try:
            await self._until_promoted(target)
        finally:
            self._server.nudge()
        course.note("writable")
        return course.parts

    def _check(self, target: str) -> None:
        if self._closed:
            message = "the agent is about to end"
            raise NotHandedOverError(message)
        if why := handover.objection(self._view(target), target):
            raise NotHandedOverError(why)

    def _view(self, target: str) -> handover.View:
        sight, now = self._sight, clock()
        cluster, mine, said = sight.cluster, sight.mine, sight.said(target, now)
        others = frozenset(host.name for host in sight.settings.others)
        return handover.View(
            me=sight.settings.me,
            leader=cluster.leader if cluster else None,
            primary=mine is not None and mine.role == "primary" and mine.writable,
            timeline=mine.timeline if mine else 0,
            mode=cluster.mode if cluster else "unknown",
            sync=frozenset(cluster.sync) if cluster else frozenset(),
            paused=cluster is None or cluster.paused,
            stalled=sight.hearing.stalled(now),
            fenced=sight.fenced,
            holders=self._holders,
            heard=(others - sight.hearing.mute(now)) | {sight.settings.me},
            target_role=said.role if said else "unknown",
            target_following=said is not None and said.following,
            target_timeline=said.timeline if said else 0,
            requested=cluster is not None and cluster.failover is not None,
        )

    @property
    def _holders(self) -> frozenset[str]:
        return frozenset(host.name for host in self._sight.settings.holders)

    async def _hold(self, seconds: float) -> None:
        """Have every pooler hold its clients, and wait until none of them has a server."""
        asked = [self._order(name, "/hold", seconds) for name in sorted(self._holders)]
        answers = await asyncio.gather(*asked)
        if wrong := [why for why in answers if why]:
            raise NotHandedOverError("; ".join(wrong))

    async def _let_go(self) -> None:
        """Take back what was asked of the poolers' hosts; where that fails, their own patience ends it."""
        asked = [self._order(name, "/let-go", 0.0) for name in sorted(self._holders)]
        for why in filter(None, await asyncio.gather(*asked)):
            LOG.warning("clients are held a little longer: %s", why)

    async def _order(self, name: str, path: str, seconds: float) -> str | None:
        """Give one host an order; returns why it was not carried out."""
        try:
            await self._agents.ask(name, path, {"seconds": seconds}, deadline_seconds=seconds + 1.0)
        except RefusedByAgentError as error:
            return f"{name}: {error}"
        except HttpsError as error:
            return str(error)
        return None

    @contextlib.asynccontextmanager
    async def _asking(self, hold_seconds: float) -> AsyncIterator[wire.Session]:
        """Give a session with this host's server, so that nobody is held while one is opened."""
        try:
            seconds = hold_seconds + 2 * EQUAL_SECONDS
            async with wire.session(*self._server.way_in, deadline_seconds=seconds) as session:
                yield session
        except ServiceError as error:
            message = f"the server of this host: {error}"
            raise NotHandedOverError(message) from error

    async def _until_equal(self, target: str, session: wire.Session) -> None:
        """Wait until the standby has all that was written."""
        until, question = clock() + EQUAL_SECONDS, HAS_ALL.format(target=target)
        while (await session.query(question)).records()[0]["has_all"] != "t":
            if clock() > until:
                message = f"{target} has not all that was written after {EQUAL_SECONDS:g} s"
                raise NotHandedOverError(message)
            await asyncio.sleep(LOOK_SECONDS)

    async def _until_promoted(self, target: str) -> None:
        """Wait until the target says that it takes writes."""
        until = clock() + PROMOTED_SECONDS
        while True:
            said = self._sight.said(target, clock())
            if said is not None and said.role == "primary" and said.writable:
                return
            if clock() > until:
                message = f"the server was stopped, and {target} takes no writes after {PROMOTED_SECONDS:g} s"
                raise UnfinishedError(message)
            await asyncio.sleep(LOOK_SECONDS)
