"""Keep etcd's leadership off hosts whose death clients feel, so that etcd need not vote while they wait.

When the primary's host dies, its lock has to be released; when a synchronous standby's does, ``/sync`` has to change
before anything can be committed again. So the leadership is best with a host that is neither. Only the agent on the
leader's own host acts, only towards a better place, and only while all is quiet.
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
#: For so long nobody may have been missed. While a leader hands over it takes no changes, and to a member that has just
#: come back, and lacks what happened meanwhile, it does so in vain.
QUIET_SECONDS = 4.0


class EtcdLeader:
    """Move etcd's leadership away from this host while there is a better one; ``is_busy`` tells of a verdict."""

    def __init__(self, sight: Sight, etcd: Etcd, complaints: Complaints, *, is_busy: Callable[[], bool]) -> None:
        self._sight = sight
        self._etcd = etcd
        self._complaints = complaints
        self._is_busy = is_busy
        self._quiet_since: float | None = None

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
        if self._target() is None or not await self._leads(me):
            return
        target = self._target()
        if target is None:
            return
        LOG.info("etcd's leadership moves from %s to %s, which is neither primary nor as much needed", me, target.name)
        await self._etcd.move_leader(target.name, deadline_seconds=MOVE_SECONDS)

    async def _leads(self, me: str) -> bool:
        """Tell whether etcd's leader is the member on this host; members are called like their hosts."""
        leader = await self._etcd.leader_of_cluster()
        return leader is not None and leader.name == me

    def _target(self) -> Host | None:
        """Return a better place for the leadership, one that speaks; None when this is as good, or it is no time."""
        sight, now = self._sight, clock()
        self._quiet_since = (self._quiet_since or now) if self._is_quiet(now) else None
        if self._quiet_since is None or now - self._quiet_since < QUIET_SECONDS:
            return None
        missed = sight.hearing.overdue(now) | sight.hearing.unknown
        found = [host for host in sight.settings.others if "dcs" in host.roles and host.name not in missed]
        best = min(found, key=lambda host: (self._harm(host), host.name), default=None)
        return best if best and self._harm(best)[0] < self._harm(sight.settings.me_host)[0] else None

    def _is_quiet(self, now: float) -> bool:
        """Tell whether somebody leads, nothing is under way, and nobody is missed."""
        sight = self._sight
        if sight.cluster is None or sight.cluster.leader is None or self._is_busy() or sight.fenced:
            return False
        return not (sight.hearing.stalled(now) or sight.silent(now))

    def _harm(self, host: Host) -> tuple[int, bool]:
        """Return how much clients would feel it if etcd's leader died with a host, and whether that may change soon."""
        cluster = self._sight.cluster
        if cluster is not None and cluster.leader == host.name:
            return 2, True
        is_needed = cluster is not None and host.name in cluster.sync
        return int(is_needed), "database" in host.roles
