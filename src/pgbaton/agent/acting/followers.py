"""Whoever is silent is let go at once, so that no commit waits for a standby that is gone, and nobody for its etcd.

The etcd of a silent host is shunned for as long as it is silent: its members would otherwise wait for their dead leader
for longer than they need to elect another, and Patroni with them. That cuts off nobody who could answer: a host counts
as silent when not even an echo comes from it. Where etcd is on none of the hosts, there is nothing to shun.

A synchronous standby whose server has ended, by its own agent's word, is not waited for either: Patroni is woken, and
names another one, or none, sooner than its next loop would. So it is when a standby has to be rewound.

PostgreSQL notices a silent standby by ``wal_sender_timeout``. Agents hear sooner that it is silent. Ending its
connections is all that is done: Patroni then chooses another synchronous standby, by its own rules and in its own
order. A standby that lives after all connects again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.kernel.fences import FenceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgbaton.agent.kernel.sockets import Cut
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: How often it is said again that hosts are silent; the kernel forgets it after some times as long.
SHUN_SECONDS = 0.5
#: How often, and for how long, Patroni is woken because a synchronous standby has no server any more.
LOST_AGAIN_SECONDS = 0.2
LOST_FOR_SECONDS = 1.0


class Followers:
    """Let go of silent standbys.

    ``drop`` ends a host's connections to the server, ``shun`` keeps everybody from waiting for the etcd of some (None:
    no host has any), and ``nudge`` has Patroni look.
    """

    def __init__(
        self,
        sight: Sight,
        *,
        drop: Callable[[str], Awaitable[Cut]],
        shun: Callable[..., None] | None,
        nudge: Callable[[], None],
    ) -> None:
        self._sight = sight
        self._drop = drop
        self._shun = shun
        self._nudge = nudge
        self._shunned_seconds = float("-inf")
        self._lost_since: dict[str, float] = {}
        self._lost_told_seconds = float("-inf")
        self._silent: frozenset[str] = frozenset()
        self._due: frozenset[str] = frozenset()
        self._turned = asyncio.Event()

    def turn(self, now: float) -> None:
        """See who is silent, by the primary's own word or a majority's; once for each silence.

        What the primary does not hear confirms nothing to it, whoever else hears it.
        """
        others = {host.name for host in self._sight.settings.others if {"database", "dcs"} & set(host.roles)}
        view = self._sight.view(now)
        silent = frozenset() if view.stalled else (view.silent if self._sight.leads else view.agreed) & others
        news = silent - self._silent
        self._silent = silent
        if silent and (news or now - self._shunned_seconds >= SHUN_SECONDS):
            self._shunned_seconds = now
            self._shun_all(silent)
        if news:
            self._due |= news
            self._turned.set()
        self._lost_since = {host: self._lost_since.get(host, now) for host in self._lost(now)}
        is_new = any(now - since <= LOST_FOR_SECONDS for since in self._lost_since.values())
        if is_new and now - self._lost_told_seconds >= LOST_AGAIN_SECONDS:
            self._lost_told_seconds = now
            self._nudge()

    def _lost(self, now: float) -> frozenset[str]:
        """Return the synchronous standbys of this primary that say themselves that their server has ended."""
        cluster = self._sight.cluster
        if cluster is None or not self._sight.leads:
            return frozenset()
        said = {host: self._sight.said(host, now) for host in cluster.sync}
        return frozenset(host for host, each in said.items() if each is not None and each.role == "none")

    def _shun_all(self, hosts: frozenset[str]) -> None:
        if self._shun is None:
            return
        try:
            self._shun(*sorted(hosts))
        except FenceError as error:
            LOG.warning("etcd's members may wait for %s: %s", ", ".join(sorted(hosts)), error)

    async def run(self) -> NoReturn:
        """Let go of whoever was found silent, until cancelled."""
        while True:
            await self._turned.wait()
            self._turned.clear()
            due, self._due = self._due, frozenset()
            for host in sorted(due):
                try:
                    cut = await self._drop(host)
                except (FenceError, OSError) as error:
                    LOG.warning("%s is silent, and PostgreSQL has to find out by itself: %s", host, error)
                    continue
                LOG.warning("%s is silent: %d of its connections ended, %d left %s", host, cut.ended, cut.left, cut.why)
            if self._sight.leads:
                self._nudge()
