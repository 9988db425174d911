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
        #: The ends under way: one that takes long keeps nobody from seeing another service stopped.
        self._ends: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                self.look()
        finally:
            for end in self._ends.values():
                end.cancel()

    def look(self) -> None:
        """Look once; raises what went wrong in an end.

        An agent that slept has not seen what was in between, and begins to count anew.
        """
        for at in [at for at, end in self._ends.items() if end.done()]:
            self._ends.pop(at).result()
        is_awake = not self._sight.hearing.stalled(clock())
        for at, each in enumerate(self._kept):
            is_one_more = is_awake and at not in self._ends and each.judge.is_stopped
            self._looks[at] = self._looks[at] + 1 if is_one_more else 0
            if self._looks[at] >= LOOKS:
                self._looks[at] = 0
                self._ends[at] = asyncio.create_task(each.end_stopped())
