"""Notice in the moment when a process ends, and when there is one again.

The end comes from the kernel, through a pidfd. One that comes back is looked for at the agent's own pace, and only
while there is none: a few reads of small files, instead of inotify, whose watches end with the directories they are on.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from pgbaton.agent.kernel.processes import open_pidfd

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.agent.kernel.processes import Process


class Watch:
    """One process, until it ends; making a watch of one that has ended raises ProcessLookupError."""

    def __init__(self, process: Process, on_end: Callable[[Process], None]) -> None:
        self.process = process
        self.on_end = on_end
        self.loop = asyncio.get_running_loop()
        self.descriptor = open_pidfd(process)
        self.loop.add_reader(self.descriptor, self.end)

    def end(self) -> None:
        """Tell of the end."""
        self.close()
        self.on_end(self.process)

    def close(self) -> None:
        """Watch no longer."""
        if self.descriptor >= 0:
            self.loop.remove_reader(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1


class Follower:
    """A process that goes and comes back: ask for it now and then, and be told when it ends."""

    def __init__(self, find: Callable[[], Process | None], on_end: Callable[[Process], None]) -> None:
        self.find = find
        self.on_end = on_end
        self.watch: Watch | None = None

    def look(self) -> Process | None:
        """Return the process that is there now."""
        if self.watch is None and (found := self.find()):
            try:
                self.watch = Watch(found, self.forget)
            except ProcessLookupError:
                return None
        return self.watch.process if self.watch else None

    def forget(self, ended: Process) -> None:
        """Look for another from now on, and tell of the end."""
        self.watch = None
        self.on_end(ended)

    def close(self) -> None:
        """Follow no longer."""
        if self.watch:
            self.watch.close()
            self.watch = None


async def ended(process: Process) -> None:
    """Return when a process has ended; at once when it has already."""
    over = asyncio.Event()
    try:
        watch = Watch(process, lambda _: over.set())
    except ProcessLookupError:
        return
    try:
        await over.wait()
    finally:
        watch.close()
