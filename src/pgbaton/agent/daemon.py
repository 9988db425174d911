"""The agent of a host: composes what hears, sees, decides and acts, and keeps its time.

One loop, one thread. Each turn reads what waits in the sockets, notes that the agent runs, and lets the verdict see
what is known now; whatever takes time is a task beside it. A turn comes with what a datagram brings, with news of etcd
or of the server, and at least once in a heartbeat's time. No part ends the others by failing: see :class:`Parts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets as randomness
import signal
import ssl
from typing import TYPE_CHECKING

from pgbaton.agent.acting import etcd_leader, holds, keeper
from pgbaton.agent.acting.balancer import Balancer
from pgbaton.agent.acting.fencing import Fencing
from pgbaton.agent.acting.followers import Followers
from pgbaton.agent.acting.handover import Handover
from pgbaton.agent.acting.orders import Orders
from pgbaton.agent.acting.own_fence import OwnFence
from pgbaton.agent.acting.path import Path as ClientPath
from pgbaton.agent.acting.release import Releases
from pgbaton.agent.acting.report import Report
from pgbaton.agent.acting.resigning import Resigning
from pgbaton.agent.acting.server import Server
from pgbaton.agent.acting.stand_in import StandIn
from pgbaton.agent.acting.stopped import Kept, Stopped
from pgbaton.agent.acting.vitals import Vitals
from pgbaton.agent.acting.voice import Voice, is_other
from pgbaton.agent.clock import clock
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.decisions import cluster, terms
from pgbaton.agent.decisions.hearing import Hearing
from pgbaton.agent.kernel import fences
from pgbaton.agent.parts import Parts
from pgbaton.agent.peers import messages
from pgbaton.agent.peers.messages import Codec, Heartbeat
from pgbaton.agent.peers.ping import Pinger
from pgbaton.agent.peers.udp import Post
from pgbaton.agent.protocols import trust
from pgbaton.agent.protocols.serving import Bounds
from pgbaton.agent.protocols.serving import Server as Listener
from pgbaton.agent.services import clients
from pgbaton.agent.services.agents import Agents
from pgbaton.agent.services.following import Follower
from pgbaton.agent.services.notify import Notifier
from pgbaton.agent.sight import Sight

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pgbaton.agent.acting.keeper import Keeper
    from pgbaton.agent.decisions.hung import Verdict
    from pgbaton.agent.peers.udp import Heard
    from pgbaton.agent.services.keys import Snapshot
    from pgbaton.agent.settings import Secrets, Settings

LOG = logging.getLogger(__name__)
#: A hand-over waits so long for another primary.
ORDER_SECONDS = 30.0
#: At its end, an agent has so long to let go of everything, and answers so long to leave.
CLOSE_SECONDS = 3.0
GRACE_SECONDS = 0.5


class Agent:
    """Everything that runs on one host; ``secrets`` is the file that they were read from, and are again."""

    def __init__(self, settings: Settings, secrets: Path | None = None) -> None:
        me, timings = settings.me_host, settings.timings
        others = {host.name: host.address for host in settings.others}
        self._settings = settings
        self._complaints = complaints = Complaints()
        self._hearing = Hearing(
            others,
            heartbeat_seconds=timings.heartbeat_seconds,
            detection_seconds=timings.detection_seconds,
            now=clock(),
        )
        self._sight = sight = Sight(settings, self._hearing)
        self._codec = Codec(me.name, settings.secrets.heartbeat_keys, randomness.randbits(64), peers=others)
        bind = (me.address, settings.ports.heartbeat)
        self._post = Post(self._codec, others, bind=bind, on_messages=self._received)
        self._pinger = Pinger(self._echoed)
        self._prefix = settings.dcs_prefix
        self._etcd = clients.etcd(settings)
        self._follower = Follower(self._etcd, self._prefix, self._learned)
        self._fences = fences.Fences(hosts=others, ports=settings.ports, directory=settings.state_directory)
        self._fencing = Fencing(self._fences, sight, complaints, on_end=self._order_ended, on_change=self._stirred)
        is_database, is_balancer = "database" in me.roles, "balancer" in me.roles
        is_proxied = is_balancer or me in settings.routers
        self._patroni = clients.patroni(settings)
        self._server = self._server_of(settings) if is_database else None
        self._own_fence = self._own_fence_of(self._server) if self._server else None
        self._followers = self._followers_of(self._server) if self._server else None
        self._balancer = Balancer(settings, sight, complaints) if is_proxied else None
        self._path = self._path_of(self._balancer) if self._balancer else None
        self._keepers = (
            *(self._keepers_of_database() if is_database else ()),
            *(self._keepers_of_poolers() if settings.is_pooler else ()),
            *(self._keepers_of_balancer() if is_balancer else ()),
        )
        with_judges: tuple[Kept | None, ...] = (self._server, self._balancer, *self._keepers)
        self._stopped = Stopped(sight, tuple(each for each in with_judges if each is not None))
        rules = terms.Rules(me.name, settings.voters, may_lead=is_database, accept_loss=settings.accept_loss)
        self._releases = self._releases_of(rules, Resigning(sight, self._fences, self._server))
        self._voice = Voice(sight, self._post, server=self._server, balancer=self._balancer)
        self._report = Report(sight, self._voice.mine, self._verdicts, path=self._path)
        self._stand_in = (
            StandIn(settings, sight, self._patroni, complaints, told=self._report.health) if is_database else None
        )
        self._agents = Agents(settings)
        self._secrets = settings.secrets
        self._handover = Handover(sight, self._agents, self._server) if self._server is not None else None
        orders = Orders(self._report, lambda: self._secrets, balancer=self._balancer, handover=self._handover)
        bounds = Bounds(handler_seconds=ORDER_SECONDS)
        self._listener = Listener(orders.answer, tls=trust.nobody(ssl.PROTOCOL_TLS_SERVER), bounds=bounds)
        self._trust = trust.Trust(
            settings,
            complaints,
            secrets=secrets,
            on_hosts=self._trust_hosts,
            on_etcd=self._etcd.use,
            on_secrets=self._trust_secrets,
        )
        notifier = Notifier(os.environ)
        self._vitals = Vitals(notifier, self._report, complaints, etcd=self._etcd, follower=self._follower)
        self._listening = False

    def _keepers_of_database(self) -> Iterator[Keeper]:
        yield keeper.patroni(self._patroni, self._settings, self._sight, self._complaints)

    def _keepers_of_poolers(self) -> Iterator[Keeper]:
        known = (self._settings, self._sight, self._complaints)
        yield from (keeper.pooler(name, *known) for name in keeper.pooler_names(self._settings))

    def _keepers_of_balancer(self) -> Iterator[Keeper]:
        yield keeper.keepalived(self._settings, self._sight, self._complaints)

    def _followers_of(self, server: Server) -> Followers:
        # Where no host has a member of etcd, nobody waits for one of a silent host.
        shun = self._fences.shun if self._settings.etcd is None else None
        return Followers(self._sight, drop=self._fences.drop, shun=shun, nudge=server.nudge)

    def _releases_of(self, rules: terms.Rules, resigning: Resigning) -> Releases:
        return Releases(
            self._sight,
            self._complaints,
            rules=rules,
            post=self._post,
            fence=self._fencing.put,
            stands=self._fencing.stands,
            etcd=self._etcd,
            prefix=self._prefix,
            position=lambda: self._server.position if self._server else 0,
            crashed=resigning.is_wanted,
            resign=resigning.begin,
        )

    def _server_of(self, settings: Settings) -> Server:
        return Server(settings, self._sight, self._patroni, self._complaints, on_change=self._changed)

    def _path_of(self, balancer: Balancer) -> ClientPath | None:
        """Return the clients' way through this balancer, where the agent is told of one."""
        way, sight = self._settings.path, self._sight
        if way is None:
            return None
        made = ClientPath(self._settings, way, sight, self._complaints, balancer=balancer, on_change=balancer.turn_soon)
        balancer.is_cut_off = lambda: made.is_broken
        return made

    def _own_fence_of(self, server: Server) -> OwnFence:
        ask_every = self._follower.ask_every
        return OwnFence(self._sight, self._fences, self._complaints, server=server, ask_every=ask_every)

    async def run(self) -> None:
        """Run until told to stop."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        self._trust.look()
        parts = Parts(self._complaints)
        self._begin(parts)
        # What lives from here on is young: the collector need not walk through the modules again and again.
        gc.collect()
        gc.freeze()
        try:
            await stopped.wait()
        finally:
            self._vitals.ends()
            if self._handover is not None:
                self._handover.close()
            await parts.end()
            await self._close()

    def _begin(self, parts: Parts) -> None:
        """Begin all parts; the one that speaks comes first."""
        parts.add("heartbeats", self._beat)
        parts.add("fences", self._fence)
        parts.add("orders for fences", self._fencing.run)
        parts.add("etcd's keys", self._follower.run)
        parts.add("health port", self._listen)
        parts.add("certificates", self._trust.run)
        parts.add("systemd", self._vitals.run)
        if self._followers is not None:
            parts.add("standbys", self._followers.run)
        if self._server is not None and self._own_fence is not None:
            parts.add("PostgreSQL", self._server.run)
            parts.add("own fence", self._own_fence.run)
        if self._stand_in is not None:
            parts.add("standing in for Patroni", self._stand_in.run)
        if "dcs" in self._settings.me_host.roles:
            leader = etcd_leader.EtcdLeader(
                self._sight, self._etcd, self._complaints, is_busy=lambda: self._releases.is_busy
            )
            parts.add("etcd's leadership", leader.run)
        if self._balancer is not None:
            parts.add("balancer", self._balancer.run)
        if self._path is not None:
            parts.add("clients' path", self._path.run)
        parts.add("stopped services", self._stopped.run)
        for each in self._keepers:
            parts.add(each.judge.name, each.run)

    async def _close(self) -> None:
        """Leave the fences standing, and nobody waiting."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await holds.let_go_of_all(self._settings, self._own_fence)
                await self._listener.close(grace_seconds=GRACE_SECONDS)
        self._releases.close()
        self._fencing.close()
        if self._server is not None:
            self._server.close()
        if self._balancer is not None:
            self._balancer.close()
        self._post.close()
        self._pinger.close()
        self._patroni.close()
        self._agents.close()
        self._etcd.close()

    # Time.

    async def _beat(self) -> None:
        """Take a turn each heartbeat, however long the one before took."""
        self._post.open()
        interval, due = self._settings.timings.heartbeat_seconds, clock()
        while True:
            self._turn()
            turned = clock()
            self._vitals.turned(turned)
            self._voice.tell(turned)
            due = max(due + interval, clock())
            await asyncio.sleep(due - clock())

    def _turn(self) -> None:
        """Read what waits, note that the agent runs, and let everybody who decides see what is known now."""
        self._post.drain()
        now = clock()
        self._hearing.woke(now)
        for host in self._hearing.overdue(now):
            self._pinger.send(host, self._settings.host(host).address)
        self._releases.tell(terms.Tick())
        if self._own_fence is not None:
            self._own_fence.turn(now)
        if self._followers is not None:
            self._followers.turn(now)

    async def _fence(self) -> None:
        """Take over the fences that stand, from then on decide, and put back what somebody takes away.

        A full disk keeps a host from promising anything. It does not keep a primary from holding its own clients.
        """
        try:
            await self._fencing.begin()
        finally:
            self._vitals.begun()
            if self._own_fence is not None:
                self._own_fence.begin(clock())
        self._releases.begin()
        await self._fencing.mend()

    async def _listen(self) -> None:
        """Answer over HTTPS; the port may not be free at once."""
        if not self._listening:
            await self._listener.start(self._settings.me_host.address, self._settings.ports.health)
            self._listening = True
        await asyncio.Event().wait()

    # What is learned.

    def _received(self, heard: Sequence[Heard]) -> None:
        """Take what waited: whoever said anything lives, and only then is anybody judged."""
        now = clock()
        for sender, _ in heard:
            self._hearing.heard(sender, now, "heartbeat")
        self._hearing.woke(now)
        is_news = [self._take(sender, message) for sender, message in heard]
        if any(is_news):
            self._stirred()
            self._releases.tell(terms.Tick())

    def _take(self, sender: str, message: messages.Message | messages.Foreign) -> bool:
        """Take one message; tell whether it says something new of its sender."""
        match message:
            case Heartbeat():
                before = self._sight.heartbeats.get(sender)
                self._sight.hear(sender, message)
                return before is None or is_other(before, message)
            case messages.Ask():
                self._releases.tell(terms.Asked(message.case))
            case messages.Vote():
                self._releases.tell(terms.Voted(sender, message.case))
            case messages.Foreign():
                self._sight.forget(sender)
                if message.news:
                    LOG.warning("%s speaks version %d; only that it lives is understood", sender, message.version)
            case _:
                pass
        return False

    def _order_ended(self, order: terms.Fence | terms.Unfence) -> None:
        self._releases.ended(order)

    def _echoed(self, host: str) -> None:
        self._hearing.heard(host, clock(), "echo")

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
        self._turn()

    def _changed(self) -> None:
        """Tell the others at once what the server of this host says now."""
        self._voice.tell(clock(), at_once=True)
        self._releases.tell(terms.Tick())
        self._stirred()

    def _stirred(self) -> None:
        """Let the balancer look now."""
        if self._balancer is not None:
            self._balancer.turn_soon()

    def _trust_hosts(self, client: ssl.SSLContext, server: ssl.SSLContext, bare: ssl.SSLContext) -> None:
        self._patroni.use(client)
        self._agents.use(client)
        self._listener.use(server)
        if self._path is not None:
            self._path.use(bare)

    def _trust_secrets(self, secrets: Secrets) -> None:
        self._codec.use(secrets.heartbeat_keys)
        self._secrets = secrets
        self._agents.prove_with(secrets)
        self._etcd.prove_with(clients.etcd_login(self._settings, secrets))
        if self._path is not None:
            self._path.prove_with(secrets)

    # What is told.

    def _verdicts(self) -> dict[str, Verdict]:
        """Return what is held of this host's services."""
        found = {each.judge.name: each.judge.verdict for each in self._keepers}
        found |= {"PostgreSQL": self._server.verdict} if self._server else {}
        return found | ({"HAProxy": self._balancer.verdict} if self._balancer else {})
