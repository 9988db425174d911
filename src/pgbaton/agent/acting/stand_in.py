"""Answer HAProxy's checks for a Patroni that is gone and comes back, so that a primary that works is not taken out.

HAProxy asks Patroni who is primary, and takes silence for a no. A Patroni that was killed needs seconds to be back, and
its server works on meanwhile. So the agent answers in its place, with what it would say on its own port anyway, and
only while etcd's majority has just said that the lock is this host's. It does not do so for as long as a lock lives: a
Patroni that is not back by then does not come back, and another host leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.acting.keeper import PATRONI
from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import health
from pgbaton.agent.kernel import processes, stand_in
from pgbaton.agent.kernel.fences import FenceError
from pgbaton.agent.kernel.watches import Follower
from pgbaton.agent.protocols.https import HttpsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.decisions.health import Health
    from pgbaton.agent.kernel.processes import Process
    from pgbaton.agent.services.patroni import Patroni
    from pgbaton.agent.settings import Settings
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: Between two looks for Patroni's process, and while the agent stands in for it.
USUAL_SECONDS = 0.5
QUICK_SECONDS = 0.1
#: So old may be what etcd's majority said of the lock, and so long one that does not come back is stood in for.
QUORUM_SECONDS = 2.5
LONGEST_SECONDS = 15.0
#: How long Patroni may take to answer who it is.
ANSWER_SECONDS = 0.5


class StandIn:
    """Stand in for this host's Patroni; ``told`` is what the agent says of its host."""

    def __init__(
        self,
        settings: Settings,
        sight: Sight,
        patroni: Patroni,
        complaints: Complaints,
        *,
        told: Callable[[float], Health],
    ) -> None:
        self._ports = settings.ports
        self._address = settings.me_host.address
        self._sight = sight
        self._patroni = patroni
        self._complaints = complaints
        self._told = told
        self._gone = asyncio.Event()
        self._process = Follower(functools.partial(processes.main, *PATRONI), self._ended)

    async def run(self) -> NoReturn:
        """Watch Patroni, and stand in when it ends, until cancelled."""
        try:
            await stand_in.install(self._ports, self._address)
        except FenceError as error:
            self._complaints.about("standing in for Patroni", f"cannot be done here: {error}")
            await asyncio.Event().wait()
        try:
            while True:
                self._process.look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(USUAL_SECONDS):
                        await self._gone.wait()
                if self._gone.is_set():
                    self._gone.clear()
                    await self._stand_in()
        finally:
            self._process.close()

    def _ended(self, ended: Process) -> None:
        LOG.warning("Patroni, process %d, has ended", ended.pid)
        self._gone.set()

    async def _stand_in(self) -> None:
        """Answer until Patroni does."""
        until, answered, end = clock() + LONGEST_SECONDS, False, "not back"
        try:
            while clock() < until:
                now, question = clock(), self._question(clock())
                if question and await self._is_back(question):
                    end = "back"
                    break
                self._lead(to_agent=question is not None)
                answered = answered or question is not None
                await asyncio.sleep(max(0.0, now + QUICK_SECONDS - clock()))
        finally:
            self._lead(to_agent=False)
        LOG.warning("Patroni is %s; %s", end, "it was answered for" if answered else "nobody answered for it")

    def _question(self, now: float) -> str | None:
        """Return what this host would say yes to with good reason; None when it would not."""
        quorum, said = self._sight.quorum_seconds, self._told(now)
        if said.stalled or said.fenced or quorum is None or now - quorum > QUORUM_SECONDS:
            return None
        if health.is_primary(said):
            return "/primary"
        return "/replica" if health.is_standby(said, None) else None

    async def _is_back(self, question: str) -> bool:
        """Tell whether Patroni says yes by itself."""
        if self._process.look() is None:
            return False
        try:
            return await self._patroni.says_yes(question, deadline_seconds=ANSWER_SECONDS)
        except HttpsError:
            return False

    def _lead(self, *, to_agent: bool) -> None:
        try:
            if to_agent:
                stand_in.begin(self._ports)
            else:
                stand_in.end()
        except OSError as error:
            self._complaints.about("standing in for Patroni", f"{error}; fix: what removed its table of rules?")
        else:
            self._complaints.over("standing in for Patroni")
