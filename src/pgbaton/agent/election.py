"""An agent's part where Patroni elects: what etcd says, votes, fences, the release of a lock, the hand-over.

Where a person promotes, :class:`NoElection` stands in its place: nobody votes, nobody is fenced, nothing is released.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.acting import etcd_leader, holds, keeper
from pgbaton.agent.acting.fencing import Fencing
from pgbaton.agent.acting.followers import Followers
from pgbaton.agent.acting.handover import Handover
from pgbaton.agent.acting.own_fence import OwnFence
from pgbaton.agent.acting.release import Releases
from pgbaton.agent.acting.resigning import Resigning
from pgbaton.agent.acting.stand_in import StandIn
from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import cluster, terms
from pgbaton.agent.kernel import fences
from pgbaton.agent.services import clients
from pgbaton.agent.services.agents import Agents
from pgbaton.agent.services.following import Follower

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

    from pgbaton.agent.acting.keeper import Keeper
    from pgbaton.agent.acting.release import Sender
    from pgbaton.agent.acting.report import Report
    from pgbaton.agent.acting.server import Server
    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.services.keys import Snapshot
    from pgbaton.agent.services.patroni import Patroni
    from pgbaton.agent.settings import Secrets, Settings
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: So long etcd's majority may be away before that is complained of.
QUORUM_SECONDS = 5.0


class NoElection:
    """Nothing to decide about who is primary."""

    handover: Handover | None = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def parts(self) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
        """Return the parts that run beside the agent's others, by name: none."""
        return iter(())

    def keepers(self) -> Iterator[Keeper]:
        """Return the keepers of services that belong to it: none."""
        return iter(())

    async def run(self, begun: Callable[[], None]) -> NoReturn:
        """Decide, until cancelled; ``begun`` is called once what was promised before is known: at once."""
        begun()
        while True:
            await asyncio.Event().wait()

    def turn(self, now: float) -> None:
        """See what is known now."""

    def tell(self, event: terms.Event) -> None:
        """Take an event that others may vote on; nobody votes here."""

    def watch(self, now: float) -> None:
        """Complain of what it needs and is not there."""

    def use(self, tls: ssl.SSLContext) -> None:
        """Show these certificates to other hosts' services."""

    def use_for_etcd(self, tls: ssl.SSLContext) -> None:
        """Show these certificates to etcd."""

    def prove_with(self, secrets: Secrets) -> None:
        """Give orders to other agents with this password."""

    def ends(self) -> None:
        """Begin nothing any more: the agent is about to end."""

    async def let_go(self) -> None:
        """Leave no client waiting: those that a pooler here was told to hold."""
        await holds.let_go_of_pool(self._settings)

    def close(self) -> None:
        """Leave everything as it stands."""


class Election(NoElection):
    """This agent's part in who is primary; ``server`` is None where there is none.

    ``stirred`` has the balancer look, ``turned`` everybody who decides: etcd has news.
    """

    def __init__(
        self,
        settings: Settings,
        sight: Sight,
        complaints: Complaints,
        *,
        patroni: Patroni,
        post: Sender,
        server: Server | None,
        report: Report,
        stirred: Callable[[], None],
        turned: Callable[[], None],
    ) -> None:
        super().__init__(settings)
        others = {host.name: host.addresses for host in settings.others}
        self._sight = sight
        self._complaints = complaints
        self._patroni = patroni
        self._server = server
        self._stirred = stirred
        self._turned = turned
        self._prefix = settings.dcs_prefix
        self._etcd = clients.etcd(settings)
        self._follower = Follower(self._etcd, self._prefix, self._learned)
        self._fences = fences.Fences(hosts=others, ports=settings.ports, directory=settings.state_directory)
        self._fencing = Fencing(self._fences, sight, complaints, on_end=self._order_ended, on_change=stirred)
        self._own_fence = self._own_fence_of(server) if server else None
        self._followers = self._followers_of(server) if server else None
        self._releases = self._releases_of(post)
        self._agents = Agents(settings)
        self.handover = Handover(sight, self._agents, server) if server else None
        self._stand_in = StandIn(settings, sight, patroni, complaints, told=report.health) if server else None
        self._started_seconds = clock()

    def _own_fence_of(self, server: Server) -> OwnFence:
        ask_every = self._follower.ask_every
        return OwnFence(self._sight, self._fences, self._complaints, server=server, ask_every=ask_every)

    def _followers_of(self, server: Server) -> Followers:
        # Where no host has a member of etcd, nobody waits for one of a silent host.
        shun = self._fences.shun if self._settings.etcd is None else None
        return Followers(self._sight, drop=self._fences.drop, shun=shun, nudge=server.nudge)

    def _releases_of(self, post: Sender) -> Releases:
        settings, resigning = self._settings, Resigning(self._sight, self._fences, self._server)
        may_lead = self._server is not None
        return Releases(
            self._sight,
            self._complaints,
            rules=terms.Rules(settings.me, settings.voters, may_lead=may_lead, accept_loss=settings.accept_loss),
            post=post,
            fence=self._fencing.put,
            stands=self._fencing.stands,
            etcd=self._etcd,
            prefix=self._prefix,
            position=lambda: self._server.position if self._server else 0,
            crashed=resigning.is_wanted,
            resign=resigning.begin,
        )

    def parts(self) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
        """Yield the parts that run beside the agent's others, by name."""
        yield "orders for fences", self._fencing.run
        yield "etcd's keys", self._follower.run
        if self._followers is not None:
            yield "standbys", self._followers.run
        if self._own_fence is not None:
            yield "own fence", self._own_fence.run
        if self._stand_in is not None:
            yield "standing in for Patroni", self._stand_in.run
        if "dcs" in self._settings.me_host.roles:
            leader = etcd_leader.EtcdLeader(
                self._sight, self._etcd, self._complaints, is_busy=lambda: self._releases.is_busy
            )
            yield "etcd's leadership", leader.run

    def keepers(self) -> Iterator[Keeper]:
        """Yield the keeper of this host's Patroni."""
        if self._server is not None:
            yield keeper.patroni(self._patroni, self._settings, self._sight, self._complaints)

    async def run(self, begun: Callable[[], None]) -> NoReturn:
        """Take over the fences that stand, from then on decide, and put back what somebody takes away.

        A full disk keeps a host from promising anything. It does not keep a primary from holding its own clients.
        """
        try:
            await self._fencing.begin()
        finally:
            begun()
            if self._own_fence is not None:
                self._own_fence.begin(clock())
        self._releases.begin()
        await self._fencing.mend()

    def turn(self, now: float) -> None:
        """Let everybody who decides see what is known now."""
        self._releases.tell(terms.Tick())
        if self._own_fence is not None:
            self._own_fence.turn(now)
        if self._followers is not None:
            self._followers.turn(now)

    def tell(self, event: terms.Event) -> None:
        """Let the verdict know of an event."""
        self._releases.tell(event)

    def watch(self, now: float) -> None:
        """Complain of etcd when its majority is away for long."""
        asked = self._follower.asked_seconds
        if asked is not None and now - asked < QUORUM_SECONDS:
            self._complaints.over("etcd's majority")
        elif now - self._started_seconds >= QUORUM_SECONDS:
            reasons = "; ".join(self._etcd.trouble.values()) or "no reason is known"
            self._complaints.about("etcd's majority", f"does not answer: {reasons}")

    def use(self, tls: ssl.SSLContext) -> None:
        """Show these certificates to Patroni, and to other agents."""
        self._patroni.use(tls)
        self._agents.use(tls)

    def use_for_etcd(self, tls: ssl.SSLContext) -> None:
        """Show these certificates to etcd."""
        self._etcd.use(tls)

    def prove_with(self, secrets: Secrets) -> None:
        """Give orders to other agents, and log in to etcd, with these passwords."""
        self._agents.prove_with(secrets)
        self._etcd.prove_with(clients.etcd_login(self._settings, secrets))

    def ends(self) -> None:
        """Begin no hand-over any more that this agent would not live to see."""
        if self.handover is not None:
            self.handover.close()

    async def let_go(self) -> None:
        """Leave no client waiting, at this host's server or in its pooler."""
        await holds.let_go_of_all(self._settings, self._own_fence)

    def close(self) -> None:
        """Leave the fences standing."""
        self._releases.close()
        self._fencing.close()
        self._patroni.close()
        self._agents.close()
        self._etcd.close()

    def _order_ended(self, order: terms.Fence | terms.Unfence) -> None:
        self._releases.ended(order)

    def _learned(self, snapshot: Snapshot) -> None:
        """Take what etcd says."""
        before, found = self._sight.cluster, cluster.parse(self._prefix, snapshot.keys, snapshot.revision)
        self._sight.cluster = found
        if snapshot.confirmed:
            self._sight.quorum_seconds = self._follower.asked_seconds
        if before is not None and found.revision < before.revision:
            self._releases.begin_anew()  # another store: what was promised on the old one's revisions means nothing
        if before is None or before.leader_revision != found.leader_revision:
            LOG.info("etcd: the leader is %s, at revision %d", found.leader or "nobody", found.leader_revision)
            if self._server is not None:
                self._server.look_soon()
            self._stirred()
        self._turned()
