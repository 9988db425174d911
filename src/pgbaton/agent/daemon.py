"""The agent of a host: composes what hears, sees, decides and acts, and keeps its time.

One loop, one thread. Each turn reads what waits in the sockets, notes that the agent runs, and lets the verdict see
what is known now; whatever takes time is a task beside it. A turn comes with what a datagram brings, with news of etcd
or of the server, and at least once in a heartbeat's time. No part ends the others by failing: see :class:`Parts`.

What is here is the same whoever promotes. What is there for Patroni's elections alone is in
:mod:`pgbaton.agent.election`; where a person promotes, nothing is in its place.
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

from pgbaton.agent.acting import keeper
from pgbaton.agent.acting.balancer import Balancer
from pgbaton.agent.acting.orders import Orders
from pgbaton.agent.acting.path import Path as ClientPath
from pgbaton.agent.acting.promoters import ByHand, ByPatroni
from pgbaton.agent.acting.report import Report
from pgbaton.agent.acting.server import Server
from pgbaton.agent.acting.stopped import Kept, Stopped
from pgbaton.agent.acting.vitals import Vitals
from pgbaton.agent.acting.voice import Voice, is_other
from pgbaton.agent.clock import clock
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.decisions import terms
from pgbaton.agent.decisions.hearing import Hearing
from pgbaton.agent.election import Election, NoElection
from pgbaton.agent.parts import Parts
from pgbaton.agent.peers import messages
from pgbaton.agent.peers.codec import Codec
from pgbaton.agent.peers.messages import Heartbeat
from pgbaton.agent.peers.ping import Pinger
from pgbaton.agent.peers.udp import Post
from pgbaton.agent.protocols import trust
from pgbaton.agent.protocols.serving import Bounds
from pgbaton.agent.protocols.serving import Server as Listener
from pgbaton.agent.services import clients
from pgbaton.agent.services.notify import Notifier
from pgbaton.agent.sight import Sight

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pgbaton.agent.acting.keeper import Keeper
    from pgbaton.agent.decisions.hung import Verdict
    from pgbaton.agent.peers.udp import Heard
    from pgbaton.agent.services.patroni import Patroni
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
        me = settings.me_host
        others = {host.name: host.address for host in settings.others}
        self._settings = settings
        self._complaints = complaints = Complaints()
        heartbeat, detection = settings.timings.heartbeat_seconds, settings.timings.detection_seconds
        self._hearing = Hearing(others, heartbeat_seconds=heartbeat, detection_seconds=detection, now=clock())
        self._sight = sight = Sight(settings, self._hearing)
        self._codec = Codec(me.name, settings.secrets.heartbeat_keys, randomness.randbits(64), peers=others)
        bind = (me.address, settings.ports.heartbeat)
        self._post = Post(self._codec, others, bind=bind, on_messages=self._received)
        self._pinger = Pinger(self._echoed)
        is_proxied = "balancer" in me.roles or me in settings.routers
        patroni = None if settings.is_manual else clients.patroni(settings)
        self._server = self._server_of(patroni) if "database" in me.roles else None
        self._balancer = Balancer(settings, sight, complaints) if is_proxied else None
        self._path = self._path_of(self._balancer) if self._balancer else None
        self._voice = Voice(sight, self._post, server=self._server, balancer=self._balancer)
        self._report = Report(sight, self._voice.mine, self._verdicts, path=self._path, server=self._server)
        self._election = self._election_of(patroni)
        self._keepers = (*self._election.keepers(), *self._keepers_of_poolers(), *self._keepers_of_balancer())
        with_judges: tuple[Kept | None, ...] = (self._server, self._balancer, *self._keepers)
        self._stopped = Stopped(sight, tuple(each for each in with_judges if each is not None))
        self._secrets = settings.secrets
        handover = self._election.handover
        orders = Orders(self._report, lambda: self._secrets, balancer=self._balancer, handover=handover)
        bounds = Bounds(handler_seconds=ORDER_SECONDS)
        self._listener = Listener(orders.answer, tls=trust.nobody(ssl.PROTOCOL_TLS_SERVER), bounds=bounds)
        self._trust = self._trust_of(secrets)
        self._vitals = Vitals(Notifier(os.environ), self._report, watch=self._election.watch)
        self._listening = False

    def _server_of(self, patroni: Patroni | None) -> Server:
        promoter = ByHand(self._sight) if patroni is None else ByPatroni(self._sight, patroni)
        return Server(self._settings, self._sight, promoter, self._complaints, on_change=self._changed)

    def _election_of(self, patroni: Patroni | None) -> NoElection:
        if patroni is None:
            return NoElection(self._settings)
        return Election(
            self._settings,
            self._sight,
            self._complaints,
            patroni=patroni,
            post=self._post,
            server=self._server,
            report=self._report,
            stirred=self._stirred,
            turned=self._turn,
        )

    def _keepers_of_poolers(self) -> Iterator[Keeper]:
        known = (self._settings, self._sight, self._complaints)
        yield from (keeper.pooler(name, *known) for name in keeper.pooler_names(self._settings))

    def _keepers_of_balancer(self) -> Iterator[Keeper]:
        if "balancer" in self._settings.me_host.roles:
            yield keeper.keepalived(self._settings, self._sight, self._complaints)

    def _trust_of(self, secrets: Path | None) -> trust.Trust:
        return trust.Trust(
            self._settings,
            self._complaints,
            secrets=secrets,
            on_hosts=self._trust_hosts,
            on_etcd=self._election.use_for_etcd,
            on_secrets=self._trust_secrets,
        )

    def _path_of(self, balancer: Balancer) -> ClientPath | None:
        """Return the clients' way through this balancer, where the agent is told of one."""
        way, sight = self._settings.path, self._sight
        if way is None:
            return None
        made = ClientPath(self._settings, way, sight, self._complaints, balancer=balancer, on_change=balancer.turn_soon)
        balancer.is_cut_off = lambda: made.is_broken
        return made

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
            self._election.ends()
            await parts.end()
            await self._close()

    def _begin(self, parts: Parts) -> None:
        """Begin all parts; the one that speaks comes first."""
        parts.add("heartbeats", self._beat)
        parts.add("fences", lambda: self._election.run(self._vitals.begun))
        parts.add("health port", self._listen)
        parts.add("certificates", self._trust.run)
        parts.add("systemd", self._vitals.run)
        if self._server is not None:
            parts.add("PostgreSQL", self._server.run)
        for name, work in self._election.parts():
            parts.add(name, work)
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
                await self._election.let_go()
                await self._listener.close(grace_seconds=GRACE_SECONDS)
        self._election.close()
        if self._server is not None:
            self._server.close()
        if self._balancer is not None:
            self._balancer.close()
        self._post.close()
        self._pinger.close()

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
        self._election.turn(now)

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
            self._election.tell(terms.Tick())

    def _take(self, sender: str, message: messages.Message | messages.Foreign) -> bool:
        """Take one message; tell whether it says something new of its sender."""
        match message:
            case Heartbeat():
                before = self._sight.heartbeats.get(sender)
                self._sight.hear(sender, message)
                return before is None or is_other(before, message)
            case messages.Ask():
                self._election.tell(terms.Asked(message.case))
            case messages.Vote():
                self._election.tell(terms.Voted(sender, message.case))
            case messages.Foreign():
                self._sight.forget(sender)
                if message.news:
                    LOG.warning("%s speaks version %d; only that it lives is understood", sender, message.version)
            case _:
                pass
        return False

    def _echoed(self, host: str) -> None:
        self._hearing.heard(host, clock(), "echo")

    def _changed(self) -> None:
        """Tell the others at once what the server of this host says now."""
        self._voice.tell(clock(), at_once=True)
        self._election.tell(terms.Tick())
        self._stirred()

    def _stirred(self) -> None:
        """Let the balancer look now."""
        if self._balancer is not None:
            self._balancer.turn_soon()

    def _trust_hosts(self, client: ssl.SSLContext, server: ssl.SSLContext, bare: ssl.SSLContext) -> None:
        self._election.use(client)
        self._listener.use(server)
        if self._path is not None:
            self._path.use(bare)

    def _trust_secrets(self, secrets: Secrets) -> None:
        self._codec.use(secrets.heartbeat_keys)
        self._secrets = secrets
        self._election.prove_with(secrets)
        if self._path is not None:
            self._path.prove_with(secrets)

    # What is told.

    def _verdicts(self) -> dict[str, Verdict]:
        """Return what is held of this host's services."""
        found = {each.judge.name: each.judge.verdict for each in self._keepers}
        found |= {"PostgreSQL": self._server.verdict} if self._server else {}
        return found | ({"HAProxy": self._balancer.verdict} if self._balancer else {})
