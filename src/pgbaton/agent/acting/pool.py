"""One of the PgBouncer processes that lead this balancer's clients to the primary: what it said, was told, and does.

Several may share a port. A client is held only when the process that it came to is, so each is asked and told alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import routing
from pgbaton.agent.protocols.connections import AbsentError, ServiceError
from pgbaton.agent.services import pgbouncer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgbaton.agent.protocols.connections import UnixSocket

#: Between two looks at whether a client has a server yet, where that was not so at once.
QUIET_SECONDS = 0.01
#: What it said of itself is believed so long.
BELIEVED_SECONDS = 1.5
#: Its tables are asked for no sooner again. Whether it is paused is another matter: in an outage that is asked many
#: times in a second, on hosts that have better things to do than to read tables.
TABLES_SECONDS = 1.0


class NotHeldError(Exception):
    """Clients are not held for a hand-over, and why."""


class Pool:
    """A process by its instance's name; ``where`` returns its console's socket."""

    def __init__(self, name: str, where: Callable[[], UnixSocket], *, deadline_seconds: float) -> None:
        self.name = name
        self._where = where
        self._deadline = deadline_seconds
        #: What it last said of itself, and the question to it that is under way.
        self.pooling: routing.Pooling | None = None
        self._asking: asyncio.Task[None] | None = None
        #: When its tables were asked for last.
        self._tables_seconds = float("-inf")
        #: Whether its last order was to pause; None when it has had none.
        self.ordered: bool | None = None
        #: Whether it took that order and no other since, and whether no client had a server any more at once.
        self.is_held = False
        self._was_quiet = False

    @property
    def is_held_in_quiet(self) -> bool:
        """Tell whether it was paused, and no client had a server in that moment."""
        return self.is_held and self._was_quiet

    @property
    def is_paused(self) -> bool:
        """Tell whether it last said that it is paused, whoever did that."""
        return self.pooling is not None and self.pooling.paused is True

    def known(self, now: float) -> routing.Pooling | None:
        """Return what it said of itself, while that can be believed."""
        is_new = self.pooling is not None and now - self.pooling.asked_seconds <= BELIEVED_SECONDS
        return self.pooling if is_new else None

    def ask(self) -> asyncio.Task[None]:
        """Have it asked, unless it still is, and return the question."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._learn())
        return self._asking

    async def _learn(self) -> None:
        asked = clock()
        try:
            paused, session = await self._asked(asked)
        except ServiceError as error:
            if isinstance(error, AbsentError):
                self.ordered = None  # the next one that is there has had no order
            self.pooling = None
        else:
            self.pooling = routing.Pooling(asked, paused, session=session)

    async def _asked(self, now: float) -> tuple[bool, bool]:
        """Return whether it is paused, and whether in session pooling; raises ServiceError."""
        where, who, seconds = self._where(), pgbouncer.login(), self._deadline
        if self.pooling is not None and now - self._tables_seconds < TABLES_SECONDS:
            paused = await pgbouncer.is_paused(where, who, deadline_seconds=seconds, ordered=self.ordered)
            return paused, self.pooling.session
        state = await pgbouncer.state(where, who, deadline_seconds=seconds, ordered=self.ordered)
        self._tables_seconds = now
        return state.paused, state.session_pooling

    async def pause(self) -> None:
        """Give no client a server any more; raises ServiceError."""
        self.ordered = None  # it may take the order and fail to say so
        self._was_quiet = await pgbouncer.pause(self._where(), pgbouncer.login(), deadline_seconds=self._deadline)
        self.ordered = self.is_held = True

    async def resume(self) -> None:
        """Give servers to clients again; raises ServiceError."""
        self.is_held = False
        await pgbouncer.resume(self._where(), pgbouncer.login(), deadline_seconds=self._deadline)
        self.ordered = False

    def ended(self) -> None:
        """Note that the process has ended: the next one has heard nothing and told nothing."""
        self.ordered = self.pooling = None
        self.is_held = False

    async def until_quiet(self, until: float) -> None:
        """Return when it is paused and no client has a server; raises NotHeldError."""
        while True:
            why = await self._busy_with()
            if not why:
                return
            if clock() >= until:
                message = f"PgBouncer {self.name}: {why}"
                raise NotHeldError(message)
            await asyncio.sleep(QUIET_SECONDS)

    async def _busy_with(self) -> str:
        """Return why clients are not held in quiet; raises NotHeldError where they never can be."""
        try:
            state = await pgbouncer.state(self._where(), pgbouncer.login(), deadline_seconds=self._deadline)
        except ServiceError as error:
            return str(error)
        if state.session_pooling:
            message = "in session pooling a client keeps its server, and cannot be held"
            raise NotHeldError(message)
        if not state.paused:
            return "it is not paused"
        return f"{state.busy_servers} transactions are under way" if state.busy_servers else ""

    def close(self) -> None:
        """Wait for no answer any more."""
        if self._asking is not None:
            self._asking.cancel()


async def resume_all(sockets: Iterable[UnixSocket], *, deadline_seconds: float) -> None:
    """Give servers to the clients of all these again, whichever of them answer."""

    async def resume(where: UnixSocket) -> None:
        with contextlib.suppress(ServiceError):
            await pgbouncer.resume(where, pgbouncer.login(), deadline_seconds=deadline_seconds)

    await asyncio.gather(*map(resume, sockets))
