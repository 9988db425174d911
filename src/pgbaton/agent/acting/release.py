"""Carry out what the verdict decides: fences, questions, votes, and two transactions in etcd.

Deciding is instant, acting is not. So each decision that takes time is carried out beside the agent's loop, and the
verdict is told of its end, whatever that was. Until the fences of an earlier life are known, nothing is decided.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import terms, verdict
from pgbaton.agent.decisions.terms import Outcome
from pgbaton.agent.peers import messages
from pgbaton.agent.services.etcd import EtcdError
from pgbaton.agent.services.keys import Delete, ModRevision, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.peers.messages import Message
    from pgbaton.agent.services.etcd import Etcd
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: How long etcd may take for a transaction: little at first, since what was passed on to a leader that is dead never
#: comes back, then more from try to try, because a slow disk is no death.
TRANSACTION_SECONDS = (0.15, 0.25, 0.4, 0.7, 1.2, 2.0)
#: After a transaction without an answer, the next one is not sooner than this after its beginning.
RETRY_SECONDS = 0.1


class Sender(Protocol):
    """Who brings messages to the other agents."""

    def send(self, message: Message, to: str) -> None:
        """Send to one host."""

    def tell_all(self, message: Message) -> None:
        """Send to every other host."""


class Releases:
    """One agent's part in every verdict.

    ``fence`` takes orders for fences, whose end goes to :meth:`ended`; ``stands`` asks the kernel for one. ``crashed``
    tells whether this host's own server has; ``resign`` keeps others from waiting for its Patroni.
    """

    def __init__(
        self,
        sight: Sight,
        complaints: Complaints,
        *,
        rules: terms.Rules,
        post: Sender,
        fence: Callable[[terms.Fence | terms.Unfence], None],
        stands: Callable[[str], bool],
        etcd: Etcd,
        prefix: str,
        position: Callable[[], int],
        crashed: Callable[[], bool] = lambda: False,
        resign: Callable[[], None] = lambda: None,
    ) -> None:
        self._sight = sight
        self._complaints = complaints
        self._rules = rules
        self._post = post
        self._fence = fence
        self._stands = stands
        self._etcd = etcd
        self._prefix = prefix
        self._position = position
        self._crashed = crashed
        self._resign = resign
        self._state: terms.State | None = None
        self._voted: terms.Case | None = None
        #: How many transactions in a row had no answer.
        self._unanswered = 0
        #: The lease of the key that was released last, or may have been.
        self._lease: tuple[terms.Case, int] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_busy(self) -> bool:
        """Tell whether a case is under way here, or a promise of this host's stands."""
        state = self._state
        return state is None or state.case is not None or state.resigning is not None or bool(state.promises)

    def begin(self) -> None:
        """Decide from now on: the fences that stand are known, and nothing else is remembered."""
        self._state = terms.State()

    def begin_anew(self) -> None:
        """Forget all that was, as after a restart: it was of another etcd."""
        if self._state is not None:
            self.begin()

    def tell(self, event: terms.Event) -> None:
        """Let the verdict know of an event, and do what it decides, in its order."""
        if self._state is None:
            return
        view = replace(self._sight.view(clock()), crashed=self._crashed())
        self._state, actions = verdict.step(self._rules, self._state, view, event)
        for action in actions:
            self._act(action)

    def ended(self, order: terms.Fence | terms.Unfence) -> None:
        """Take that an order for a fence came to its end; the view tells what came of it."""
        is_up = isinstance(order, terms.Fence)
        self.tell(terms.Fenced(order.host) if is_up else terms.Unfenced(order.host))

    def close(self) -> None:
        """Wait for no answer any more."""
        for task in self._tasks:
            task.cancel()

    def _act(self, action: terms.Action) -> None:
        match action:
            case terms.Fence() | terms.Unfence():
                self._fence(action)
            case terms.Ask():
                self._post.tell_all(messages.Ask(action.case))
            case terms.Vote():
                self._vote(action.case)
            case terms.Release():
                self._begin(self._release(action.case))
            case terms.Resign():
                self._resign()
                self._begin(self._released(action.case))
            case terms.Revoke():
                self._begin(self._revoke(action.case))
            case terms.Break():
                self._begin(self._break(action))

    def _vote(self, case: terms.Case) -> None:
        """Send a vote; the candidate asks until it has one, which is no news, and so can do without this one."""
        if not self._stands(case.primary):
            return
        if case != self._voted:
            LOG.warning("vote: %s may have the lock of %s released", case.candidate, case.primary)
        self._voted = case
        self._post.send(messages.Vote(case, self._position()), case.candidate)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release(self, case: terms.Case) -> None:
        """Run the release's transaction; without the own fence there is none, and the verdict begins anew."""
        if not self._stands(case.primary):
            self.tell(terms.Answered(case, Outcome.LOST))
            return
        await self._released(case)

    async def _released(self, case: terms.Case) -> None:
        """Run the transaction of a case, and tell of its end."""
        cluster = self._sight.cluster
        if cluster and cluster.leader_revision == case.leader_revision:
            self._lease = (case, cluster.leader_lease)
        outcome, revision = await self._transact(verdict.transaction(case), case.candidate)
        LOG.warning("release of the lock of %s: %s, at revision %d", case.primary, outcome, revision)
        self.tell(terms.Answered(case, outcome))

    async def _revoke(self, case: terms.Case) -> None:
        """End the released key's lease, so that the old primary finds out when it next refreshes it."""
        of, lease = self._lease or (None, 0)
        if of != case or not lease:
            return
        try:
            await self._etcd.revoke(lease)
        except EtcdError as error:
            LOG.warning("the old lease %x lives on until its end: %s", lease, error)

    async def _break(self, action: terms.Break) -> None:
        """End every case that rests on a fence, so that it may fall."""
        outcome, revision = await self._transact(verdict.breaking(action.leader_revision), self._rules.me)
        self.tell(terms.Broken(action.host, revision if outcome is Outcome.WON else None))

    async def _transact(self, wanted: terms.Transaction, who: str) -> tuple[Outcome, int]:
        """Ask etcd for a transaction; returns its outcome and revision, and not too soon when that is not known."""
        begun = clock()
        try:
            outcome, revision = await self._asked(wanted, who)
        except EtcdError as error:
            self._complaints.about("etcd", f"a transaction has no answer: {error}")
        except Exception:
            # Whatever went wrong, the verdict waits to be told of the end.
            LOG.exception("a transaction was not asked for because of an error of ours")
        else:
            self._complaints.over("etcd")
            self._unanswered = 0
            return outcome, revision
        self._unanswered += 1
        await asyncio.sleep(max(0.0, begun + RETRY_SECONDS - clock()))
        return Outcome.UNKNOWN, 0

    async def _asked(self, wanted: terms.Transaction, who: str) -> tuple[Outcome, int]:
        changes = self._changes(wanted, who)
        if changes is None:
            return Outcome.LOST, 0
        compare = [ModRevision(self._prefix + key, revision) for key, revision in wanted.compare]
        patience = TRANSACTION_SECONDS[min(self._unanswered, len(TRANSACTION_SECONDS) - 1)]
        result = await self._etcd.transaction(compare, changes, deadline_seconds=patience)
        return (Outcome.WON if result.succeeded else Outcome.LOST), result.revision

    def _changes(self, wanted: terms.Transaction, who: str) -> list[Put | Delete] | None:
        """Return what a transaction changes, in its order; None when etcd is known to have changed since its case.

        A key is kept with the value that it had at the revision that is compared, and with no other; a key that is not
        there is not made by keeping it.
        """
        compared, cluster = dict(wanted.compare), self._sight.cluster
        changes: list[Put | Delete] = [Delete(self._prefix + key) for key in wanted.delete]
        for key in wanted.keep:
            if key != terms.SYNC or cluster is None or cluster.sync_revision != compared[key]:
                return None
            if compared[key]:
                changes.append(Put(self._prefix + key, cluster.sync_value))
        return [*changes, *(Put(self._prefix + key, who.encode()) for key in wanted.touch)]
