"""What an agent knows at a moment: whom it heard, what they said of themselves, what etcd says, which fences stand.

The one place where knowledge from everywhere comes together; :meth:`Sight.view` is what the verdict is decided on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgbaton.agent.verdict import Lock, View

if TYPE_CHECKING:
    from pgbaton.agent.cluster import Cluster
    from pgbaton.agent.hearing import Hearing
    from pgbaton.agent.messages import Heartbeat
    from pgbaton.agent.settings import Settings


@dataclass(slots=True)
class Sight:
    """Everything known; each part is written by the one who learns it, and read by all."""

    settings: Settings
    hearing: Hearing
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    cluster: Cluster | None = None
    fenced: frozenset[str] = frozenset()
    mine: Heartbeat | None = None

    def said(self, host: str, now: float) -> Heartbeat | None:
        """Return what a host last said of itself, this one too; None when it is silent, unknown, or nobody can tell."""
        if host == self.settings.me:
            return self.mine
        if self.hearing.stalled(now) or host in self.hearing.silent(now):
            return None
        return self.heartbeats.get(host)

    def view(self, now: float) -> View:
        """Return what the verdict is decided on."""
        silent = self.hearing.silent(now)
        return View(
            silent=silent,
            agreed=self.agreed(silent),
            stalled=self.hearing.stalled(now),
            lock=None if self.cluster is None else lock(self.cluster),
            fenced=self.fenced,
            following=frozenset(host.name for host in self.settings.databases if self.follows(host.name, now)),
        )

    def agreed(self, silent: frozenset[str]) -> frozenset[str]:
        """Return the hosts that a majority of the configured ones holds to be silent, this one among them."""
        others = [heartbeat.silent for host, heartbeat in self.heartbeats.items() if host not in silent]
        counts = {host: 1 + sum(host in each for each in others) for host in silent}
        return frozenset(host for host, count in counts.items() if count >= self.settings.majority)

    def follows(self, host: str, now: float) -> bool:
        """Tell whether a server follows the present leader, by its own agent's word or by its Patroni's."""
        if self.cluster is None or self.cluster.leader in (None, host):
            return False
        said = self.said(host, now)
        if said is not None:
            return said.role == "standby" and said.following
        member = self.cluster.members.get(host)
        return member is not None and member.role == "standby" and member.replication_state == "streaming"


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
        paused=cluster.paused,
    )
