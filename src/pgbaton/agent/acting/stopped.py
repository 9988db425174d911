"""Services whose processes were stopped (SIGSTOP): they answer nobody until somebody continues them.

No question and no deadline is needed to know it: the kernel says so, of an idle service and of a busy one. One that a
debugger holds is not meant; it is asked like all others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn, Protocol

from pgbaton.agent.clock import clock

if TYPE_CHECKING:
    from pgbaton.agent.acting.judge import Judge
    from pgbaton.agent.sight import Sight

#: Between two looks, and how many in a row must find a service stopped until it counts as hung.
LOOK_SECONDS = 0.1
LOOKS = 3


class Kept(Protocol):
    """A service, and how it is ended."""

    judge: Judge

    async def end_stopped(self) -> None:
        """End the service: it was stopped."""


class Stopped:
    """Look at the processes of services every so often, and end those that stay stopped."""

    def __init__(self, sight: Sight, kept: tuple[Kept, ...]) -> None:
        self._sight = sight
        self._kept = kept
        self._looks = [0] * len(kept)

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once. An agent that slept has not seen what was in between, and begins to count anew."""
        is_awake = not self._sight.hearing.stalled(clock())
        for at, each in enumerate(self._kept):
            self._looks[at] = self._looks[at] + 1 if is_awake and each.judge.is_stopped else 0
            if self._looks[at] >= LOOKS:
                self._looks[at] = 0
                await each.end_stopped()
