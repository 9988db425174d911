"""Who promotes servers here, Patroni or a person: what an agent's look at its own server has to know of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pgbaton.agent.decisions import by_hand

if TYPE_CHECKING:
    from pgbaton.agent.services.postgres import Reading
    from pgbaton.agent.sight import Sight

#: Where a person promotes, a person also decides what becomes of a server that hangs.
ASK = "a person decides here: pgbaton failover ends it and promotes another one"


class Nudged(Protocol):
    """A Patroni that can be woken."""

    async def nudge(self) -> None:
        """Have it run its loop at once."""


class Promoter(Protocol):
    """Who promotes."""

    async def nudge(self) -> None:
        """Have whoever promotes look at this host's server now."""

    def is_moving(self, reading: Reading | None, now: float) -> bool:
        """Tell whether there may be another primary soon, perhaps this server: it is looked at quickly then."""

    def has_right(self, reading: Reading | None, now: float) -> bool:
        """Tell whether it is for this server to take writes."""

    def rival(self, reading: Reading | None, now: float) -> str:
        """Return what another server's word has against this one's taking writes; nothing where no word counts."""

    def spares_hung(self) -> str:
        """Return why a server that hangs is left alone; nothing when it is to be ended."""

    def spares_stuck(self, now: float) -> str:
        """Return why a primary whose disk hangs is left alone; nothing when it is to be ended."""


class ByPatroni:
    """Patroni promotes, by its lock in etcd."""

    def __init__(self, sight: Sight, patroni: Nudged) -> None:
        self._sight = sight
        self._patroni = patroni

    async def nudge(self) -> None:
        """Have Patroni run its loop; raises HttpsError."""
        await self._patroni.nudge()

    def is_moving(self, reading: Reading | None, now: float) -> bool:
        """Tell whether lock and server do not fit together yet."""
        del now
        cluster = self._sight.cluster
        if cluster is None:
            return False
        if cluster.leader == self._sight.settings.me:
            return reading is None or reading.in_recovery
        return cluster.leader is None or takes_writes(reading)

    def has_right(self, reading: Reading | None, now: float) -> bool:
        """Tell whether the leader lock is this host's; of a server that takes no writes only while etcd answers."""
        return self._sight.leads and (takes_writes(reading) or self._sight.asks_quorum(now))

    def rival(self, reading: Reading | None, now: float) -> str:
        """Return nothing: the lock says whose right it is."""
        del reading, now
        return ""

    def spares_hung(self) -> str:
        """Return that an operator has taken the cluster into his own hands, or that nobody knows whether he has."""
        cluster = self._sight.cluster
        if cluster is None:
            return "etcd does not say whether the cluster is paused"
        return "the cluster is paused" if cluster.paused else ""

    def spares_stuck(self, now: float) -> str:
        """Return why nobody would take over from a server that ends here; nothing when somebody may.

        A lock that is nobody's was this host's: its Patroni may hang too, and others are not promoted before its server
        has ended.
        """
        cluster = self._sight.cluster
        if cluster is None:
            return "etcd does not say who leads"
        if cluster.paused:
            return "the cluster is paused"
        if cluster.leader not in {None, self._sight.settings.me}:
            return f"{cluster.leader} has the leader lock"
        if not cluster.fails_over:
            return "Patroni would start it again here first (primary_start_timeout)"
        return "" if self._sight.has_successor(now) else "no synchronous standby says that it is one"


class ByHand:
    """A person promotes. What agents see is told; what becomes of a server is never theirs to decide."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    async def nudge(self) -> None:
        """Leave it to systemd to start a server again that has crashed, and to a person to promote another one."""

    def is_moving(self, reading: Reading | None, now: float) -> bool:
        """Tell whether this server is a standby, and nobody is heard to take writes: it may be promoted soon."""
        if reading is None or not reading.in_recovery:
            return False
        said = (self._sight.said(host.name, now) for host in self._sight.settings.databases)
        return all(each is None or each.role != "primary" for each in said)

    def has_right(self, reading: Reading | None, now: float) -> bool:
        """Tell whether it takes writes, and no other server's word speaks against that."""
        return takes_writes(reading) and not self.rival(reading, now)

    def rival(self, reading: Reading | None, now: float) -> str:
        """Return which other server was promoted later, or at the same time; nothing when none says so."""
        if reading is None or reading.in_recovery:
            return ""
        settings = self._sight.settings
        names = (host.name for host in settings.databases if host.name != settings.me)
        return by_hand.rival(reading.timeline, {name: self._sight.said(name, now) for name in names})

    def spares_hung(self) -> str:
        """Return that this is for a person to decide."""
        return ASK

    def spares_stuck(self, now: float) -> str:
        """Return that this is for a person to decide."""
        del now
        return ASK


def takes_writes(reading: Reading | None) -> bool:
    """Tell whether a server says that it is out of recovery."""
    return reading is not None and not reading.in_recovery
