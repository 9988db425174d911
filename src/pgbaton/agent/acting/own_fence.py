"""This host's own fence at work: a primary that has lost the majority holds its clients, and lets them in again.

What is decided is in :mod:`pgbaton.agent.decisions.isolation`. It rests on etcd's quorum being asked several times in a
detection time. That is much, so it is asked so often only while so many hosts are missed that it could matter.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn, Protocol

from pgbaton.agent.decisions import isolation
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.kernel.fences import FenceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.kernel.fences import Fences
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: Between two questions to etcd's majority while nobody is missed.
USUAL_SECONDS = 1.0
#: How often it is asked in a detection time while it could matter.
QUESTIONS = 4
#: For this part of a detection time a host has to say that it does not hear this one. It has been silent for a whole
#: one to that host by then, so little is left before the others may promote; but two questions to etcd have room in it.
DEAF_SHARE = 0.5
#: Clients are held for this many detection times, then refused.
HELD_DETECTIONS = 4
RETRY_SECONDS = 0.5


class OwnServer(Protocol):
    """What is known of this host's server."""

    @property
    def was_primary(self) -> bool:
        """Tell whether it was out of recovery when it last said anything."""

    @property
    def recovers(self) -> bool:
        """Tell whether it says that it is in recovery."""


class OwnFence:
    """Hold this host's clients while it is an isolated primary; ``ask_every`` is how often to ask etcd's majority."""

    def __init__(
        self,
        sight: Sight,
        fences: Fences,
        complaints: Complaints,
        *,
        server: OwnServer,
        ask_every: Callable[[float], None],
    ) -> None:
        settings = sight.settings
        self._sight = sight
        self._fences = fences
        self._complaints = complaints
        self._server = server
        self._ask_every = ask_every
        self._detection = settings.timings.detection_seconds
        refuse_seconds = HELD_DETECTIONS * self._detection
        self._rules = isolation.Rules(settings.me, settings.voters, self._detection, refuse_seconds)
        self._state: isolation.State | None = None
        self._wanted = self._served = Serving.OPEN
        self._turned = asyncio.Event()
        #: Since when each host says that it does not hear this one.
        self._deaf_since: dict[str, float] = {}

    def begin(self, now: float) -> None:
        """Take over how far clients are served, as the kernel has it; once."""
        if self._state is not None:
            return
        self._wanted = self._served = self._sight.serving = self._fences.serving
        self._state = isolation.begun(now, self._served)

    def turn(self, now: float) -> None:
        """Decide on what is known now."""
        if self._state is None:
            return
        view = self._view(now)
        self._ask_every(self._pace_seconds(view, now))
        self._state = isolation.step(self._state, view, self._rules)
        wanted = isolation.serving(self._state, view, self._rules)
        if wanted == self._wanted:
            return
        LOG.warning("clients of this host: %s, before %s; silent: %s", wanted, self._wanted, sorted(view.silent))
        self._wanted = wanted
        if wanted != Serving.OPEN:
            self._sight.serving = wanted
        self._turned.set()

    async def run(self) -> NoReturn:
        """Have the kernel hold, refuse or let in, as was decided last, until cancelled."""
        while True:
            await self._turned.wait()
            self._turned.clear()
            try:
                await self._serve(self._wanted)
            except (FenceError, OSError) as error:
                self._complaints.about("own fence", str(error))
                await asyncio.sleep(RETRY_SECONDS)
                self._turned.set()
            else:
                self._complaints.over("own fence")

    async def let_in(self) -> None:
        """Serve clients as if there were no agent: whoever stops must not leave them waiting. Raises FenceError."""
        self._state = None
        await self._serve(Serving.OPEN)

    async def _serve(self, wanted: Serving) -> None:
        if wanted != self._served:
            await self._fences.serve(wanted)
        self._served = self._sight.serving = wanted

    def _view(self, now: float) -> isolation.View:
        sight = self._sight
        silent = sight.hearing.silent(now)
        others = frozenset(host.name for host in sight.settings.others)
        mine = sight.leads
        return isolation.View(
            now_seconds=now,
            leads=self._server.was_primary or mine,
            recovers=self._server.recovers,
            heard=others - silent - sight.hearing.unknown,
            silent=silent,
            stalled=sight.hearing.stalled(now),
            quorum_seconds=sight.quorum_seconds,
            lock_mine=mine,
            deaf=self._deaf(now),
        )

    def _deaf(self, now: float) -> frozenset[str]:
        """Return the hosts that say that they do not hear this one, for long enough that etcd could be asked first."""
        saying = {name for name in self._rules.voters - {self._rules.me} if self._says_deaf(name, now)}
        self._deaf_since = {name: self._deaf_since.get(name, now) for name in saying}
        least_seconds = DEAF_SHARE * self._detection
        return frozenset(name for name, since in self._deaf_since.items() if now - since >= least_seconds)

    def _says_deaf(self, name: str, now: float) -> bool:
        said = self._sight.said(name, now)
        return said is not None and self._rules.me in said.silent

    def _pace_seconds(self, view: isolation.View, now: float) -> float:
        """Return how often etcd's majority is to be asked."""
        missed = view.silent | self._deaf_since.keys() | self._sight.hearing.overdue(now)
        could_matter = view.leads and len(missed & self._rules.voters) >= self._rules.majority
        held = self._wanted != Serving.OPEN
        return self._detection / QUESTIONS if could_matter or held else USUAL_SECONDS
