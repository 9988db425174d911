"""What an agent knows at a moment: whom it heard, what they said of themselves, what etcd says, which fences stand.

The one place where knowledge from everywhere comes together; :meth:`Sight.view` is what the verdict is decided on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgbaton.agent.decisions.terms import Lock, View
from pgbaton.agent.kernel.fence_rules import Serving

if TYPE_CHECKING:
    from pgbaton.agent.decisions.cluster import Cluster
    from pgbaton.agent.decisions.hearing import Hearing
    from pgbaton.agent.peers.messages import Heartbeat
    from pgbaton.agent.settings import Settings


#: So long the holder of the leader lock has to say that it is no primary and knows of no lock of its own, until that
#: counts: a lock that was just taken is known to others a moment before its holder's agent.
ABDICATED_SECONDS = 1.0
#: A question to etcd's majority is due each second: what was answered so long ago may not be so any more.
QUORUM_SECONDS = 3.0


@dataclass(slots=True)
class Sight:
    """Everything known; each part is written by the one who learns it, and read by all.

    ``cluster`` is what etcd last said, ``quorum_seconds`` when the last question was asked to which a majority of its
    members answered. ``fenced`` are the hosts whose fence stands and may be rested upon, ``serving`` is how far this
    host serves clients, ``mine`` what it last said of itself.
    """

    settings: Settings
    hearing: Hearing
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    cluster: Cluster | None = None
    quorum_seconds: float | None = None
    fenced: frozenset[str] = frozenset()
    serving: Serving = Serving.OPEN
    mine: Heartbeat | None = None
    #: Under which leader key, as it was known here, each host was heard last.
    _heard_under: dict[str, int] = field(default_factory=dict)
    #: Since when the holder of a leader key, by its revision, has said without a break that it is no primary.
    _abdicating: dict[tuple[str, int], float] = field(default_factory=dict)

    def hear(self, host: str, said: Heartbeat) -> None:
        """Take what a host says of itself."""
        self.heartbeats[host] = said
        self._heard_under[host] = self.leader_revision

    def forget(self, host: str) -> None:
        """Take that a host speaks, and cannot be understood."""
        self.heartbeats.pop(host, None)

    @property
    def leader_revision(self) -> int:
        """Return the revision of the leader key; 0 when there is none, or nothing is known."""
        return self.cluster.leader_revision if self.cluster else 0

    @property
    def leads(self) -> bool:
        """Tell whether the leader lock is this host's, as etcd last said."""
        return self.cluster is not None and self.cluster.leader == self.settings.me

    def asks_quorum(self, now: float) -> bool:
        """Tell whether a majority of etcd's members answered lately, so that what is known of etcd is so."""
        return self.quorum_seconds is not None and now - self.quorum_seconds <= QUORUM_SECONDS

    def said(self, host: str, now: float) -> Heartbeat | None:
        """Return what a host last said of itself, this one too; None when its agent is not heard, or nobody can tell.

        A host that only answers to echoes says nothing: what its agent said before it died is not true for ever.
        """
        if host == self.settings.me:
            return self.mine
        if self.hearing.stalled(now) or host in self.hearing.mute(now):
            return None
        return self.heartbeats.get(host)

    def leading(self, now: float) -> Heartbeat | None:
        """Return what the leader says of itself: the holder of the lock, or by hand who takes writes by right."""
        if self.settings.is_manual:
            words = (self.said(host.name, now) for host in self.settings.databases)
            return next((said for said in words if said is not None and said.writable and said.lock), None)
        leader = self.cluster.leader if self.cluster else None
        return self.said(leader, now) if leader else None

    def view(self, now: float) -> View:
        """Return what the verdict is decided on."""
        silent = self.silent(now)
        return View(
            silent=silent,
            agreed=self.agreed(silent, now),
            stalled=self.hearing.stalled(now),
            lock=None if self.cluster is None else lock(self.cluster),
            fenced=self.fenced,
            following=frozenset(host for host in self.fenced if self.follows(host, now)),
        )

    def silent(self, now: float) -> frozenset[str]:
        """Return the hosts that are held to be silent: nothing comes from them, or nothing reaches them."""
        return self.hearing.silent(now) | self.deaf(now) | self.abdicated(now)

    def deaf(self, now: float) -> frozenset[str]:
        """Return the primaries that say themselves that they hear neither this host nor a majority, and serve nobody.

        What they send arrives, and what is sent to them does not. Their own agent has asked etcd too before it refused
        its clients, so to release their lock takes nothing from anybody.
        """
        if self.hearing.stalled(now):
            return frozenset()
        mute, me = self.hearing.mute(now), self.settings.me
        return frozenset(
            host
            for host, said in self.heartbeats.items()
            if host not in mute
            and said.role == "primary"
            and not said.writable
            and me in said.silent
            and len(said.silent) >= self.settings.majority
        )

    def abdicated(self, now: float) -> frozenset[str]:
        """Return the holder of the leader lock when it has said for long enough that it is no primary, and holds none.

        So it is with a primary that etcd cannot be reached from: its Patroni steps down, and cannot say so in etcd, and
        the lock would live to its end. One that is about to be promoted, or is started again, knows its lock.
        """
        before, self._abdicating = self._abdicating, {}
        leader = self.cluster.leader if self.cluster else None
        if leader is None or not self._has_stepped_down(leader, now):
            return frozenset()
        key = (leader, self.leader_revision)
        since = self._abdicating[key] = before.get(key, now)
        return frozenset({leader}) if now - since >= ABDICATED_SECONDS else frozenset()

    def _has_stepped_down(self, leader: str, now: float) -> bool:
        """Tell whether the holder of the leader lock says that it is no primary, and has said so since it has it."""
        said = self.said(leader, now)
        if leader == self.settings.me or said is None or self._heard_under.get(leader) != self.leader_revision:
            return False
        return said.role in {"standby", "none"} and not said.lock

    def agreed(self, silent: frozenset[str], now: float) -> frozenset[str]:
        """Return the hosts that a majority of the configured ones holds to be silent, this one among them."""
        if not silent:
            return silent
        mute = self.hearing.mute(now)
        others = [heartbeat.silent for host, heartbeat in self.heartbeats.items() if host not in mute]
        counts = {host: 1 + sum(host in each for each in others) for host in silent}
        return frozenset(host for host, count in counts.items() if count >= self.settings.majority)

    def follows(self, host: str, now: float) -> bool:
        """Tell whether a server follows the present leader, by its own agent's word or by its Patroni's.

        The timeline is the proof. The leader began it when it was promoted, so nobody who is on it as a standby has
        led since, whenever that was said. What is no proof is a word from before: its speaker may have led in between.
        """
        timeline, said = self.led_timeline(now), self.said(host, now)
        if not timeline or self.cluster is None or self.cluster.leader == host:
            return False
        if said is not None:
            is_new = self._heard_under.get(host) == self.leader_revision
            return is_new and said.role == "standby" and said.following and said.timeline == timeline
        member = self.cluster.members.get(host)
        is_standby = member is not None and member.role == "standby" and member.replication_state == "streaming"
        return is_standby and member is not None and member.timeline == timeline

    def has_successor(self, now: float) -> bool:
        """Tell whether a server that may be promoted in the leader's place says that it is a standby."""
        promotable = set(self.cluster.sync) - barred(self.cluster) if self.cluster else set()
        said = [self.said(host, now) for host in promotable]
        return any(each is not None and each.role == "standby" for each in said)

    def led_timeline(self, now: float) -> int:
        """Return the timeline on which the holder of the leader lock says that it takes writes; 0 when it does not."""
        leader = self.cluster.leader if self.cluster else None
        said = self.said(leader, now) if leader else None
        return said.timeline if said is not None and said.role == "primary" and said.writable else 0


def lock(cluster: Cluster) -> Lock:
    """Return what the verdict has to know of etcd."""
    return Lock(
        revision=cluster.revision,
        leader=cluster.leader,
        leader_revision=cluster.leader_revision,
        sync_leader=cluster.sync_leader,
        sync=frozenset(cluster.sync),
        sync_revision=cluster.sync_revision,
        config_revision=cluster.config_revision,
        verdict_revision=cluster.verdict_revision,
        quorum=cluster.sync_quorum,
        synchronous=cluster.mode != "off",
        by_quorum=cluster.mode == "quorum",
        paused=cluster.paused,
        barred=barred(cluster),
    )


def barred(cluster: Cluster) -> frozenset[str]:
    """Return the members whose own Patroni says that they may not become primary."""
    return frozenset(name for name, member in cluster.members.items() if member.nofailover)
