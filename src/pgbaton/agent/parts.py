"""The parts of an agent: each runs until the agent ends, and none of them ends another by failing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgbaton.agent.complaints import Complaints

LOG = logging.getLogger(__name__)
#: After a failure a part begins again, this much later.
PAUSE_SECONDS = 1.0


class Parts:
    """What runs side by side, by name."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Begin a part, and begin it again whenever it ends."""
        self._tasks.append(asyncio.create_task(self._kept_up(name, work), name=name))

    async def end(self) -> None:
        """End all parts, and return when they have."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _kept_up(self, name: str, work: Callable[[], Awaitable[object]]) -> NoReturn:
        while True:
            try:
                await work()
            except asyncio.CancelledError as error:
                if is_ending():
                    raise
                # Something that the part waited for was cancelled, and not the part.
                self._complaints.about(name, f"failed, and begins again: {type(error).__name__}")
            except Exception as error:
                # Whatever it is, the other parts go on: a host that speaks and votes is worth more than none.
                LOG.debug("%s failed", name, exc_info=error)
                self._complaints.about(name, f"failed, and begins again: {type(error).__name__}: {error}")
            await asyncio.sleep(PAUSE_SECONDS)


def is_ending() -> bool:
    """Tell whether somebody wants the present task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
