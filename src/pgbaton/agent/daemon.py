"""The agent of a host: composes what hears, sees, decides and acts, and keeps its time.

One loop, one thread. Each turn reads what waits in the sockets, notes that the agent runs, and lets the verdict see
what is known now; whatever takes time is a task beside it. A turn comes with what a datagram brings, with news of etcd
or of the server, and at least once in a heartbeat's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import ssl
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.agent import cluster, fences, health, https, messages, verdict
from pgbaton.agent.balancer import Balancer, let_go
from pgbaton.agent.etcd import Etcd
from pgbaton.agent.following import Follower
from pgbaton.agent.health import Health
from pgbaton.agent.hearing import Hearing, clock
from pgbaton.agent.messages import Codec, Heartbeat
from pgbaton.agent.notify import Notifier
from pgbaton.agent.patroni import Patroni
from pgbaton.agent.ping import Pinger
from pgbaton.agent.release import Releases
from pgbaton.agent.server import Server
from pgbaton.agent.serving import Server as Listener
from pgbaton.agent.sight import Sight
from pgbaton.agent.udp import Post

if TYPE_CHECKING:
    from pgbaton.agent.http1 import Response
    from pgbaton.agent.keys import Snapshot
    from pgbaton.agent.messages import Foreign, Message
    from pgbaton.agent.serving import Request
    from pgbaton.agent.settings import Settings

LOG = logging.getLogger(__name__)
#: Between two signs of life to systemd, and two looks at whether the fences still stand.
WATCHDOG_SECONDS = 0.5
MEND_SECONDS = 1.0
GRACE_SECONDS = 0.5


class Agent:
    """Everything that runs on one host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        me, timings = settings.me_host, settings.timings
        others = {host.name: host.address for host in settings.others}
        hearing = Hearing(
            others,
            heartbeat_seconds=timings.heartbeat_seconds,
            detection_seconds=timings.detection_seconds,
            now=clock(),
        )
        self._sight = Sight(settings, hearing)
        self._hearing = hearing
        codec = Codec(me.name, settings.secrets.heartbeat_keys, secrets.randbits(64), peers=others)
        bind = (me.address, settings.ports.heartbeat)
        self._post = Post(codec, others, bind=bind, on_message=self._received)
        self._pinger = Pinger(self._echoed)
        self._fences = fences.Fences(hosts=others, ports=settings.ports, directory=settings.state_directory)
        self._etcd = Etcd(etcd_members(settings), tls=https.client_context(etcd_identity(settings)))
        prefix = f"/service/{settings.scope}/"
        self._prefix = prefix
        self._follower = Follower(self._etcd, prefix, self._learned)
        is_database = "database" in me.roles
        self._patroni = patroni_of(settings)
        self._server = Server(settings, self._sight, self._patroni, on_change=self._changed) if is_database else None
        self._balancer = Balancer(settings, self._sight) if "balancer" in me.roles else None
        rules = verdict.Rules(me.name, settings.voters, may_lead=is_database, accept_loss=settings.accept_loss)
        self._releases = Releases(
            self._sight,
            rules=rules,
            post=self._post,
            fences=self._fences,
            etcd=self._etcd,
            prefix=prefix,
            position=lambda: self._server.position if self._server else 0,
            on_fence=self._stirred,
        )
        self._listener = Listener(self._answer, tls=https.server_context(identity(settings), ssl.CERT_OPTIONAL))
        self._notifier = Notifier(os.environ)
        self._sent_seconds = float("-inf")

    async def run(self) -> None:
        """Run until told to stop."""
        self._releases.stand(await self._fences.install())
        self._post.open()
        await self._listener.start(self._settings.me_host.address, self._settings.ports.health)
        works = [self._beat(), self._follower.run(), self._releases.run(), self._keep_alive(), self._mend()]
        works += [part.run() for part in (self._server, self._balancer) if part is not None]
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        tasks = [asyncio.ensure_future(work) for work in (*works, stopped.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._notifier.stopping()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()

    async def _close(self) -> None:
        """Leave the fences standing, and nobody waiting."""
        await self._listener.close(grace_seconds=GRACE_SECONDS)
        self._post.close()
        self._pinger.close()
        self._patroni.close()
        self._etcd.close()
        self._fences.close()
        if self._balancer is not None:
            await let_go(self._settings)

    # Time.

    async def _beat(self) -> None:
        """Take a turn each heartbeat, however long the one before took."""
        interval, due = self._settings.timings.heartbeat_seconds, clock()
        while True:
            self._post.drain()
            self._turn()
            self._tell()
            due = max(due + interval, clock())
            await asyncio.sleep(due - clock())

    def _turn(self) -> None:
        """Note that the agent runs, and let the verdict see what is known now."""
        now = clock()
        self._hearing.woke(now)
        for host in self._hearing.overdue(now):
            self._pinger.send(host, self._settings.host(host).address)
        self._releases.tell(verdict.Tick())

    async def _keep_alive(self) -> None:
        """Tell systemd that the loop turns: one that does not is ended, and another lets go whom it held."""
        self._notifier.ready()
        while True:
            self._notifier.watchdog()
            await asyncio.sleep(WATCHDOG_SECONDS)

    async def _mend(self) -> None:
        """Put back fences that somebody else took away."""
        while True:
            await asyncio.sleep(MEND_SECONDS)
            try:
                missing = await self._fences.mend()
            except fences.FenceError as error:
                LOG.error("%s", error)
                continue
            if missing:
                LOG.error("these fences were taken away by somebody else, and put back: %s", ", ".join(missing))
            self._releases.stand(self._fences.standing())

    # What is learned.

    def _received(self, sender: str, message: Message | Foreign) -> None:
        now = clock()
        self._hearing.heard(sender, now, "heartbeat")
        match message:
            case Heartbeat():
                self._heard(sender, message)
            case messages.Ask():
                self._turn_for(verdict.Asked(message.case))
            case messages.Vote():
                self._turn_for(verdict.Voted(sender, message.case))
            case messages.Foreign():
                if message.news:
                    LOG.warning("%s speaks version %d; only that it lives is understood", sender, message.version)
            case _:
                pass

    def _heard(self, sender: str, said: Heartbeat) -> None:
        """Note what a host says of itself; when that is news, act on it at once."""
        before = self._sight.heartbeats.get(sender)
        self._sight.heartbeats[sender] = said
        if before is None or news(before) != news(said):
            self._stirred()
            self._turn_for(verdict.Tick())

    def _turn_for(self, event: verdict.Event) -> None:
        self._hearing.woke(clock())
        self._releases.tell(event)

    def _echoed(self, host: str) -> None:
        self._hearing.heard(host, clock(), "echo")

    def _learned(self, snapshot: Snapshot) -> None:
        """Take what etcd says."""
        before, found = self._sight.cluster, cluster.parse(self._prefix, snapshot.keys, snapshot.revision)
        self._sight.cluster = found
        if before is None or before.leader_revision != found.leader_revision:
            LOG.info("etcd: the leader is %s, at revision %d", found.leader or "nobody", found.leader_revision)
            if self._server is not None:
                self._server.look_soon()
            self._stirred()
        self._turn_for(verdict.Tick())

    def _changed(self) -> None:
        """Tell the others at once what the server of this host says now."""
        self._tell(at_once=True)
        self._stirred()

    def _stirred(self) -> None:
        """Let the balancer look now."""
        if self._balancer is not None:
            self._balancer.turn_soon()

    # What is told.

    def _tell(self, *, at_once: bool = False) -> None:
        """Send a heartbeat, when it is time for one or when there is news."""
        now = clock()
        mine = self._mine(now)
        is_news = self._sight.mine is None or news(self._sight.mine) != news(mine)
        self._sight.mine = mine
        if at_once or is_news or now - self._sent_seconds >= self._settings.timings.heartbeat_seconds / 2:
            self._sent_seconds = now
            self._post.tell_all(mine)

    def _mine(self, now: float) -> Heartbeat:
        """Return what this host says of itself."""
        silent, leads = self._hearing.silent(now), self._balancer is not None and self._balancer.leads
        if self._server is not None:
            return replace(self._server.heartbeat(), poolers=leads, silent=silent)
        return Heartbeat("none", False, 0, 0, False, False, leads, "well", silent)  # noqa: FBT003 - a table's row

    async def _answer(self, request: Request) -> Response:
        return health.answer(self._health(), request.path, request.query)

    def _health(self) -> Health:
        """Return what is told over HTTPS."""
        now, known, mine = clock(), self._sight.cluster, self._mine(clock())
        ahead = known.position if known else 0
        standby = mine.role == "standby"
        gauges = {f'heartbeat_gap_seconds{{host="{host}"}}': gap for host, gap in self._hearing.jitter(now).items()}
        return Health(
            host=self._settings.me,
            role=mine.role,
            writable=mine.writable,
            lock=mine.lock,
            following=mine.following,
            synchronous=known is not None and self._settings.me in known.sync,
            stalled=self._hearing.stalled(now),
            timeline=mine.timeline,
            lag_bytes=max(0, ahead - mine.position) if standby and ahead else None,
            server=mine.state,
            fenced=self._sight.fenced,
            silent=mine.silent,
            gauges=gauges,
        )


def news(said: Heartbeat) -> Heartbeat:
    """Return of a heartbeat what others should know before the next one: all but how far the server has come."""
    return replace(said, position=0)


def etcd_members(settings: Settings) -> list[str]:
    """Return etcd's members as this host should try them: its own first, over the loopback address."""
    port = settings.ports.etcd
    others = [f"{host.address}:{port}" for host in settings.others if "dcs" in host.roles]
    return [f"127.0.0.1:{port}", *others] if "dcs" in settings.me_host.roles else others


def identity(settings: Settings) -> https.Identity:
    """Return the certificate for the other hosts, and for Patroni."""
    tls = settings.tls
    return https.Identity(str(tls.authority), str(tls.certificate), str(tls.key))


def etcd_identity(settings: Settings) -> https.Identity:
    """Return the certificate that etcd asks for."""
    tls = settings.tls
    return https.Identity(str(tls.etcd_authority), str(tls.etcd_certificate), str(tls.etcd_key))


def patroni_of(settings: Settings) -> Patroni:
    """Return this host's Patroni."""
    return Patroni(
        settings.me_host.address,
        settings.ports.rest,
        user=settings.secrets.rest_user,
        password=settings.secrets.rest_password,
        tls=https.client_context(identity(settings)),
    )


# What the command line runs: each takes the settings and returns an exit status.


def run(settings: Settings) -> int:
    """Hear the other hosts, and act, until told to stop."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s: %(message)s")
    asyncio.run(Agent(settings).run())
    return os.EX_OK


def restore_fences(settings: Settings) -> int:
    """Put up the fences that stood before a reboot."""
    try:
        standing = asyncio.run(fences.restore(settings.state_directory))
    except fences.FenceError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_UNAVAILABLE
    for fence in standing:
        sys.stdout.write(f"fenced {fence.host} ({fence.address}): {fence.reason}\n")
    return os.EX_OK


def release_holds(settings: Settings) -> int:
    """Let clients go that an agent held, and Keepalived have its VIP."""
    if "balancer" in settings.me_host.roles:
        with contextlib.suppress(OSError):
            asyncio.run(let_go(settings))
    return os.EX_OK
