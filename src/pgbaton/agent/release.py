"""Carry out what the verdict decides: fences, questions, votes, and two transactions in etcd.

Deciding is instant, acting is not. So each decision that takes time is carried out beside the agent's loop, and tells
the verdict of its end. Fences go through one queue, in the order in which they were decided.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from pgbaton.agent import messages, verdict
from pgbaton.agent.etcd import EtcdError, OutcomeUnknownError, UnavailableError
from pgbaton.agent.fences import FenceError
from pgbaton.agent.hearing import clock
from pgbaton.agent.keys import Delete, ModRevision, Put
from pgbaton.agent.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from pgbaton.agent.etcd import Etcd
    from pgbaton.agent.fence_rules import Fence
    from pgbaton.agent.fences import Fences
    from pgbaton.agent.messages import Message
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: How long etcd may take for a transaction. Its own followers elect a new leader within about a second and a half.
TRANSACTION_SECONDS = 2.0


class Sender(Protocol):
    """Who brings messages to the other agents."""

    def send(self, message: Message, to: str) -> None:
        """Send to one host."""

    def tell_all(self, message: Message) -> None:
        """Send to every other host."""


class Releases:
    """One agent's part in every verdict."""

    def __init__(
        self,
        sight: Sight,
        *,
        rules: verdict.Rules,
        post: Sender,
        fences: Fences,
        etcd: Etcd,
        prefix: str,
        position: Callable[[], int],
        on_fence: Callable[[], None] = lambda: None,
    ) -> None:
        self._sight = sight
        self._rules = rules
        self._post = post
        self._fences = fences
        self._etcd = etcd
        self._prefix = prefix
        self._position = position
        self._on_fence = on_fence
        self._state = verdict.State()
        self._queue: asyncio.Queue[verdict.Fence | verdict.Unfence] = asyncio.Queue()
        self._queued: set[verdict.Fence | verdict.Unfence] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> verdict.State:
        """Return what is under way."""
        return self._state

    def tell(self, event: verdict.Event) -> None:
        """Let the verdict know of an event, and do what it decides."""
        self._state, actions = verdict.step(self._rules, self._state, self._sight.view(clock()), event)
        for action in actions:
            self._act(action)

    async def run(self) -> None:
        """Put fences up and take them down, one after the other, until cancelled."""
        while True:
            action = await self._queue.get()
            self._queued.discard(action)
            await self._change(action)

    def _act(self, action: verdict.Action) -> None:
        match action:
            case verdict.Fence() | verdict.Unfence():
                if action not in self._queued:
                    self._queued.add(action)
                    self._queue.put_nowait(action)
            case verdict.Ask():
                self._post.tell_all(messages.Ask(action.case))
            case verdict.Vote():
                LOG.warning("vote: %s may take the lock from %s", action.case.candidate, action.case.primary)
                self._post.send(messages.Vote(action.case, self._position()), action.case.candidate)
            case verdict.Release():
                self._begin(self._release(action.case))
            case verdict.Break():
                self._begin(self._break(action))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _change(self, action: verdict.Fence | verdict.Unfence) -> None:
        """Put up a fence or take one down; a fence that could not be made sure of promises nothing."""
        try:
            if isinstance(action, verdict.Fence):
                await self._fences.fence(action.host, f"silent, lock of revision {self._leader_revision()}")
            else:
                await self._fences.unfence(action.host)
        except FenceError as error:
            LOG.error("%s", error)
            return
        self.stand(self._fences.standing())
        if isinstance(action, verdict.Fence):
            LOG.warning("fenced %s", action.host)
            self.tell(verdict.Fenced(action.host))
        else:
            LOG.warning("the fence against %s has fallen", action.host)

    def stand(self, standing: tuple[Fence, ...]) -> None:
        """Note which fences stand."""
        self._sight.fenced = frozenset(fence.host for fence in standing)
        self._on_fence()

    def _leader_revision(self) -> int:
        return self._sight.cluster.leader_revision if self._sight.cluster else 0

    async def _release(self, case: verdict.Case) -> None:
        """Run the release's transaction; once it is won, end the old primary's lease too."""
        cluster = self._sight.cluster
        lease = cluster.leader_lease if cluster and cluster.leader_revision == case.leader_revision else 0
        LOG.warning("releasing the lock of %s: a majority holds it to be dead", case.primary)
        outcome, revision = await self._transact(verdict.transaction(case), case.candidate)
        LOG.warning("release of the lock of %s: %s", case.primary, outcome)
        self.tell(verdict.Answered(case, outcome))
        if outcome is Outcome.WON and lease:
            await self._revoke(lease, revision)

    async def _revoke(self, lease: int, revision: int) -> None:
        """End a lease, so that the old primary finds out when it next refreshes it."""
        try:
            await self._etcd.revoke(lease)
        except EtcdError as error:
            LOG.warning("the old lease %x lives on after revision %d, until its end: %s", lease, revision, error)

    async def _break(self, action: verdict.Break) -> None:
        outcome, revision = await self._transact(verdict.breaking(action.leader_revision), self._rules.me)
        self.tell(verdict.Broken(action.host, revision if outcome is Outcome.WON else None))

    async def _transact(self, wanted: verdict.Transaction, who: str) -> tuple[Outcome, int]:
        """Ask etcd for a transaction; returns its outcome and revision."""
        values = self._values()
        compare = [ModRevision(self._prefix + key, revision) for key, revision in wanted.compare]
        # Patroni's copy of the keys takes these one by one: it must not see the new /sync while it still sees the lock.
        success: list[Put | Delete] = [Delete(self._prefix + key) for key in wanted.delete]
        success += [Put(self._prefix + key, values[key]) for key in wanted.keep]
        success += [Put(self._prefix + key, who.encode()) for key in wanted.touch]
        try:
            result = await self._etcd.transaction(compare, success, deadline_seconds=TRANSACTION_SECONDS)
        except OutcomeUnknownError as error:
            LOG.warning("%s", error)
            return Outcome.UNKNOWN, 0
        except (UnavailableError, EtcdError) as error:
            LOG.warning("%s", error)
            return Outcome.UNKNOWN, 0
        return (Outcome.WON if result.succeeded else Outcome.LOST), result.revision

    def _values(self) -> dict[str, bytes]:
        """Return what keys that are kept hold; the transaction compares the revision that it was read at."""
        return {verdict.SYNC: self._sight.cluster.sync_value if self._sight.cluster else b""}
