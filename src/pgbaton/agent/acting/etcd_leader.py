"""Keep etcd's leadership off the host of the primary: when that dies, etcd need not vote before a lock can be released.

Only the agent on the primary's host acts, only when etcd's leader is on that host too, and only while all is quiet.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.clock import clock
from pgbaton.agent.services.etcd import EtcdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.services.etcd import Etcd
    from pgbaton.agent.settings import Host
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: Between two looks, each of which may move the leadership once.
LOOK_SECONDS = 2.0
MOVE_SECONDS = 2.0


class EtcdLeader:
    """Move etcd's leadership away from this host while the leader lock is here; ``is_busy`` tells of a verdict."""

    def __init__(self, sight: Sight, etcd: Etcd, complaints: Complaints, *, is_busy: Callable[[], bool]) -> None:
        self._sight = sight
        self._etcd = etcd
        self._complaints = complaints
        self._is_busy = is_busy

    async def run(self) -> NoReturn:
        """Look every so often, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except EtcdError as error:
                self._complaints.about("etcd's leadership", f"stays where it is: {error}")
            else:
                self._complaints.over("etcd's leadership")

    async def look(self) -> None:
        """Move the leadership when it is here and should not be; raises EtcdError."""
        me = self._sight.settings.me
        if not self._may_move() or not await self._leads(me):
            return
        target = self._target(clock())
        if target is None or not self._may_move():
            return
        LOG.info("etcd's leadership moves from %s, where the primary is, to %s", me, target.name)
        await self._etcd.move_leader(target.name, deadline_seconds=MOVE_SECONDS)

    async def _leads(self, me: str) -> bool:
        """Tell whether etcd's leader is the member on this host; members are called like their hosts."""
        leader = await self._etcd.leader_of_cluster()
        return leader is not None and leader.name == me

    def _may_move(self) -> bool:
        """Tell whether the leader lock is here, nothing is under way, and nobody is missed."""
        sight, now = self._sight, clock()
        is_here = sight.cluster is not None and sight.cluster.leader == sight.settings.me
        is_quiet = not (self._is_busy() or sight.fenced or sight.hearing.stalled(now) or sight.hearing.silent(now))
        return is_here and is_quiet

    def _target(self, now: float) -> Host | None:
        """Return where the leadership goes: to a host that speaks, and better not to one that may be primary next."""
        missed = self._sight.hearing.overdue(now) | self._sight.hearing.unknown
        found = [host for host in self._sight.settings.others if "dcs" in host.roles and host.name not in missed]
        return min(found, key=lambda host: ("database" in host.roles, host.name), default=None)
