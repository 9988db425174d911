"""A prefix of etcd's keys, followed as it changes: a watch for speed, and a question now and then for the truth.

The watch alone could be dead, or one member's old view, without anybody noticing. The question goes to a majority and
brings all keys, so that whatever was missed is made good, compaction and lost connections included.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.clock import clock
from pgbaton.agent.services.etcd import EtcdError
from pgbaton.agent.services.keys import Snapshot, applied

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.agent.services.etcd import Etcd
    from pgbaton.agent.services.keys import Batch

LOGGER = logging.getLogger(__name__)
#: How long to wait after something failed, in seconds: doubled from time to time, so that failing over and over is no
#: work. A failover's time is nothing to be added to, so it is never long.
PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.4


class Follower:
    """Tell ``heard`` of the keys under a prefix: at once when one changes, and at least every ``pulse_seconds``.

    When no majority answers, nothing confirmed is heard, and that is how it is noticed: by the age of the last snapshot
    that was. What is heard is never older than ``pulse_seconds`` and the deadlines of all members together, while a
    majority answers at all. A watch that tells less than the questions bring is left with the second of them.

    ``asked_seconds`` is when the last question was asked to which a majority answered, None before the first: what was
    answered was true then, and perhaps no longer when the answer came.
    """

    def __init__(
        self, etcd: Etcd, prefix: str, heard: Callable[[Snapshot], None], *, pulse_seconds: float = 1.0
    ) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._heard = heard
        self._pulse_seconds = pulse_seconds
        self._sooner = asyncio.Event()
        self._pause_seconds = PAUSE_SECONDS
        self.asked_seconds: float | None = None
        self._now = Snapshot(0, {})
        # The last revision that the watch told of, and the least that it should have told of by the next question.
        self._told = 0
        self._owed = 0

    def ask_every(self, seconds: float) -> None:
        """Ask so often from now on; when that is sooner than was meant, at once."""
        if seconds < self._pulse_seconds:
            self._sooner.set()
        self._pulse_seconds = seconds

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        watch: asyncio.Task[None] | None = None
        watched = ""
        try:
            while True:
                behind = self._told < self._owed
                answering = await self._pulse()
                if watch is not None and (watch.done() or behind or answering not in {None, watched}):
                    await _end(watch)
                    watch = None
                if watch is None and answering is not None:
                    watched, self._told, self._owed = answering, self._now.revision, self._now.revision
                    watch = asyncio.create_task(self._watch(self._now.revision + 1))
                await self._pause(watch)
        finally:
            if watch is not None:
                await _end(watch)

    async def _pulse(self) -> str | None:
        """Ask for all keys, and return who answered. Etcd itself keeps the reasons when nobody did."""
        known, asked_seconds = self._now.revision, clock()
        try:
            found = await self._etcd.range(self._prefix)
        except EtcdError:
            return None
        self.asked_seconds = asked_seconds
        if found.revision < known:
            LOGGER.warning("etcd's revision went back from %s to %s: this is another store", known, found.revision)
            self._told, self._owed = 0, 1
        elif found.revision < self._now.revision:  # the watch was quicker, and has all that was found
            found = replace(self._now, confirmed=True, endpoint=found.endpoint)
        else:
            self._owed = max(self._owed, _missing(self._now, found))
        self._now = found
        self._heard(found)
        return found.endpoint

    async def _watch(self, from_revision: int) -> None:
        with contextlib.suppress(EtcdError):  # kept as trouble by Etcd; the next question makes good what was missed
            async with contextlib.aclosing(self._etcd.watch(self._prefix, from_revision)) as batches:
                async for batch in batches:
                    self._take(batch)

    def _take(self, batch: Batch) -> None:
        self._told = batch.revision
        news = [event for event in batch.events if event.revision > self._now.revision]
        if news:
            self._now = Snapshot(batch.revision, applied(self._now.keys, news), endpoint=self._now.endpoint)
            self._heard(self._now)

    async def _pause(self, watch: asyncio.Task[None] | None) -> None:
        """Wait for the time of the next question, or for the end of the watch; raises what ``heard`` raised in it."""
        if watch is None:
            await self._fail()
            return
        sooner = asyncio.ensure_future(self._sooner.wait())
        try:
            await asyncio.wait([watch, sooner], timeout=self._pulse_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sooner.cancel()
            self._sooner.clear()
        if not watch.done():
            self._pause_seconds = PAUSE_SECONDS
            return
        watch.result()
        await self._fail()

    async def _fail(self) -> None:
        """Wait before something that failed is tried again, the longer the more often it did."""
        pause_seconds, self._pause_seconds = self._pause_seconds, min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause_seconds)


def _missing(known: Snapshot, found: Snapshot) -> int:
    """Return the last revision that is found and was not known; 0 when nothing is new."""
    changed = [there.revision for key, there in found.keys.items() if known.keys.get(key) != there]
    if not changed and found.keys.keys() != known.keys.keys():
        return known.revision + 1  # a deletion leaves no revision behind, but is later than what was known
    return max(changed, default=0)


async def _end(watch: asyncio.Task[None]) -> None:
    """End a watch; raises what ``heard`` raised in it."""
    watch.cancel()
    await asyncio.wait([watch])
    if not watch.cancelled():
        watch.result()
