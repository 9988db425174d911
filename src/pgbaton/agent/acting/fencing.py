"""Fences put up and taken down in the order in which that was decided, and which of them may be rested upon.

A fence that stands is no promise yet: it has to be on the disk too. So what the verdict is shown are not the fences in
the kernel but those of them that were put up to the end, or stood already when this agent began.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from pgbaton.agent.decisions.terms import Fence, Unfence
from pgbaton.agent.kernel.fences import FenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.kernel.fence_rules import Fence as Standing
    from pgbaton.agent.kernel.fences import Fences
    from pgbaton.agent.sight import Sight

    Order: TypeAlias = Fence | Unfence

LOG = logging.getLogger(__name__)
#: Between two looks at whether the fences still stand, and before what failed is tried again.
MEND_SECONDS = 1.0
RETRY_SECONDS = 1.0


class Fencing:
    """This host's fences at work; ``on_end`` is told of the end of each order, ``on_change`` of what stands now."""

    def __init__(
        self,
        fences: Fences,
        sight: Sight,
        complaints: Complaints,
        *,
        on_end: Callable[[Order], None],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._fences = fences
        self._sight = sight
        self._complaints = complaints
        self._on_end = on_end
        self._on_change = on_change
        self._queue: asyncio.Queue[Order] = asyncio.Queue()
        #: The last order for each host that has not come to its end.
        self._pending: dict[str, Order] = {}
        #: Hosts whose fence is on the disk.
        self._sure: set[str] = set()
        self._later: set[asyncio.TimerHandle] = set()

    async def begin(self) -> None:
        """Load the rules, and take over what stands; raises FenceError."""
        standing = await self._fences.install()
        self._sure = self._names(standing)
        strangers = sorted(self._sure - {host.name for host in self._sight.settings.others})
        if strangers:
            told = "fences against hosts that are none of the cluster's any more, and stand until somebody removes them"
            LOG.warning("%s: %s", told, ", ".join(strangers))
        self._show()

    def put(self, order: Order) -> None:
        """Take an order; what is the host's last one already need not be said twice."""
        if self._pending.get(order.host) != order:
            self._pending[order.host] = order
            self._queue.put_nowait(order)

    def stands(self, host: str) -> bool:
        """Tell whether a fence may be rested upon at this very moment: somebody may just have flushed the rules."""
        self._show()
        return host in self._sight.fenced

    async def run(self) -> NoReturn:
        """Carry out orders, one after the other, until cancelled."""
        while True:
            order = await self._queue.get()
            try:
                await self._carry_out(order)
            except (FenceError, OSError) as error:
                self._complaints.about(f"fence of {order.host}", str(error))
                self._show()
                self._end_later(order)
            else:
                self._complaints.over(f"fence of {order.host}")
                self._show()
                self._end(order)

    async def mend(self) -> NoReturn:
        """Put back fences that somebody else took away, and write down what is not yet, until cancelled."""
        while True:
            await asyncio.sleep(MEND_SECONDS)
            try:
                await self._mend()
            except (FenceError, OSError) as error:
                self._complaints.about("fences", str(error))
            else:
                self._complaints.over("fences")

    def close(self) -> None:
        """Leave everything as it stands."""
        for timer in self._later:
            timer.cancel()
        self._fences.close()

    async def _carry_out(self, order: Order) -> None:
        if isinstance(order, Unfence):
            await self._fences.unfence(order.host)
            self._sure.discard(order.host)
            LOG.warning("the fence against %s has fallen", order.host)
        elif order.host not in self._sight.fenced:
            cut = await self._fences.fence(order.host, f"silent, lock of revision {self._sight.leader_revision}")
            self._sure.add(order.host)
            LOG.warning("fenced %s; connections to it: %d ended, %d left %s", order.host, cut.ended, cut.left, cut.why)

    async def _mend(self) -> None:
        missing = await self._fences.mend()
        if missing:
            LOG.error("these fences were taken away by somebody else, and put back: %s", ", ".join(missing))
        if unsure := self._unsure():
            await self._fences.persist()
            self._sure |= unsure & self._unsure()
        self._show()

    def _unsure(self) -> set[str]:
        """Return the hosts whose fence stands, and of which nobody knows that the disk has it."""
        return self._names(self._fences.standing()) - self._sure - self._pending.keys()

    def _names(self, standing: Iterable[Standing]) -> set[str]:
        """Return who is fenced, by present names: a host may have been called otherwise when it was.

        A host that can still be met at one of its addresses is not.
        """
        stands = {fence.address: fence.host for fence in standing}
        hosts = self._fences.hosts
        strangers = {name for address, name in stands.items() if not self._is_known(address, name)}
        return {name for name, addresses in hosts.items() if stands.keys() >= set(addresses)} | strangers

    def _is_known(self, address: str, name: str) -> bool:
        """Tell whether an address, or a host by its name, is one of the cluster's."""
        hosts = self._fences.hosts
        return name in hosts or any(address in addresses for addresses in hosts.values())

    def _show(self) -> None:
        """Note which fences may be rested upon: on the disk, and in the kernel."""
        try:
            standing = self._names(self._fences.standing())
        except (FenceError, OSError) as error:
            self._complaints.about("fences", str(error))
            standing = set()
        shown = frozenset(standing & self._sure)
        if shown != self._sight.fenced:
            self._sight.fenced = shown
            self._on_change()

    def _end(self, order: Order) -> None:
        if self._pending.get(order.host) is order:
            del self._pending[order.host]
        self._on_end(order)

    def _end_later(self, order: Order) -> None:
        """Tell of the end of what failed when it may be tried again, so that nobody tries without a pause."""

        def end() -> None:
            self._later.discard(timer)
            self._end(order)

        timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, end)
        self._later.add(timer)
