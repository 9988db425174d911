"""A balancer's HAProxy and poolers: tell them of a new primary in the moment there is one, and hold clients until then.

Asked, decided, done, in one task and in this order, so that no answer is older than what was done last. While nothing
happens that is once a second; a heartbeat, a fence or news of etcd's begin it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.agent import haproxy, hung, keepalived, pgbouncer, processes, routing
from pgbaton.agent.hearing import clock
from pgbaton.agent.hung import Evidence, Outcome, Service, Tally
from pgbaton.agent.processes import Condition, Look
from pgbaton.agent.services import AbsentError, RefusedError, ServiceError, SilentError, UnixSocket

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pgbaton.agent.processes import Process
    from pgbaton.agent.settings import Settings
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: The backend whose servers are the databases, for writes.
BACKEND = "primary"
#: The pooler that leads to the primary.
POOLER = "write"
HAPROXY_UNIT = "haproxy.service"
HAPROXY = "haproxy"
#: Keepalived watches the directory, which therefore must outlive the agent.
TRACKED = Path("/run/pgbaton-agent-haproxy")
#: Between two turns: usually, and while clients are held.
USUAL_SECONDS = 1.0
QUICK_SECONDS = 0.02


class Balancer:
    """Lead this balancer's clients to the primary, whoever that is."""

    def __init__(self, settings: Settings, sight: Sight, *, tracked: Path = TRACKED) -> None:
        self._settings = settings
        self._sight = sight
        self._haproxy = UnixSocket(settings.haproxy_socket)
        port = settings.ports.pool_write
        self._pooler = UnixSocket(settings.pgbouncer_sockets.write / f".s.PGSQL.{port}", as_uid=uid(pgbouncer.USER))
        self._deadline = settings.timings.deadline_seconds
        self._memory = routing.Memory()
        self._alarms: tuple[str, ...] = ()
        self._soon = asyncio.Event()
        self._patience = hung.table(settings.timings)[Service.HAPROXY]
        self._tally = Tally()
        self._advice = keepalived.Advice()
        self._track = keepalived.TrackFile(tracked)
        self.leads = False

    def turn_soon(self) -> None:
        """Something changed: do not wait for the usual time."""
        self._soon.set()

    async def run(self) -> None:
        """Ask, decide and act, again and again, until cancelled."""
        while True:
            self._soon.clear()
            servers, pooling = await asyncio.gather(self._servers(), self._pooling())
            await self._route(servers, pooling)
            self._advise()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUICK_SECONDS if self._memory.held else USUAL_SECONDS):
                    await self._soon.wait()

    async def _route(self, servers: routing.Servers | None, pooling: routing.Pooling | None) -> None:
        """Decide on what is known now, and do it."""
        view = self._view(servers, pooling)
        now, patience = clock(), self._settings.timings.pause_seconds
        decision = routing.decide(self._memory, view, now_seconds=now, pause_seconds=patience)
        self._memory = decision.memory
        for alarm in decision.alarms:
            if alarm not in self._alarms:
                LOG.error("%s", alarm)
        self._alarms = decision.alarms
        for action in decision.actions:
            await self._act(action)

    def _view(self, servers: routing.Servers | None, pooling: routing.Pooling | None) -> routing.View:
        cluster, now = self._sight.cluster, clock()
        poolers = {POOLER: pooling}
        if self._sight.hearing.stalled(now):
            return routing.View(poolers=poolers)
        databases = tuple(self._database(host.name, now) for host in self._settings.databases)
        leader = cluster.leader if cluster else None
        return routing.View(databases=databases, leader=leader, servers=servers, poolers=poolers)

    def _database(self, name: str, now: float) -> routing.Database:
        said = self._sight.said(name, now)
        says = None if said is None else routing.Says(said.role, said.writable, said.timeline)
        return routing.Database(name, says, fenced=name in self._sight.fenced)

    async def _act(self, action: routing.Action) -> None:
        """Carry out one decision; what fails is decided anew with the next turn."""
        LOG.info("%s", action)
        try:
            await self._done(action)
        except ServiceError as error:
            LOG.warning("%s: %s", action, error)

    def _done(self, action: routing.Action) -> Awaitable[object]:
        who, deadline = pgbouncer.login(), self._deadline
        match action:
            case routing.Mark(server, health):
                return haproxy.set_health(self._haproxy, BACKEND, server, health, deadline_seconds=deadline)
            case routing.CutSessions(server):
                return haproxy.shutdown_sessions(self._haproxy, BACKEND, server, deadline_seconds=deadline)
            case routing.Pause():
                return pgbouncer.pause(self._pooler, who, deadline_seconds=deadline)
            case routing.Resume():
                return pgbouncer.resume(self._pooler, who, deadline_seconds=deadline)

    async def _servers(self) -> routing.Servers | None:
        """Ask HAProxy for the servers of the primary's backend; its answer also says that it does not hang."""
        process, asked = processes.main(HAPROXY_UNIT, HAPROXY), clock()
        before = processes.look(process) if process else Look(Condition.GONE)
        outcome, found = await self._asked()
        self._judge(process, before, asked, outcome)
        if found is None:
            self.leads = False
            return None
        servers = tuple(routing.Server(it.name, it.up, it.in_service) for it in found if it.backend == BACKEND)
        self.leads = sum(server.up for server in servers) == 1
        return routing.Servers(asked, servers)

    async def _asked(self) -> tuple[Outcome, tuple[haproxy.Server, ...] | None]:
        try:
            return Outcome.ANSWERED, await haproxy.servers(self._haproxy, deadline_seconds=self._deadline)
        except AbsentError:
            return Outcome.ABSENT, None
        except RefusedError:
            return Outcome.REFUSED, None
        except SilentError:
            return Outcome.SILENT, None

    def _judge(self, process: Process | None, before: Look, asked: float, outcome: Outcome) -> None:
        now = clock()
        after = processes.look(process) if process else Look(Condition.GONE)
        evidence = Evidence(
            asked_seconds=asked,
            ended_seconds=now,
            outcome=outcome,
            condition=after.condition,
            starved_seconds=hung.starved_seconds(before, after, now - asked),
            runnable_per_processor=processes.runnable_per_processor(),
            stalled=self._sight.hearing.stalled(now),
        )
        self._tally = hung.judge(self._tally, evidence, self._patience)

    async def _pooling(self) -> routing.Pooling | None:
        asked = clock()
        try:
            state = await pgbouncer.state(self._pooler, pgbouncer.login(), deadline_seconds=self._deadline)
        except ServiceError:
            return None
        return routing.Pooling(asked, state.paused, session=state.session_pooling)

    def _advise(self) -> None:
        """Give up the VIP when HAProxy here is of no use, or leads nowhere while another balancer's leads."""
        now = clock()
        peers = (host.name for host in self._settings.others if "balancer" in host.roles)
        peer_leads = any(said.poolers for name in peers if (said := self._sight.said(name, now)))
        view = keepalived.View(now, self._tally.verdict, leads=self.leads, peer_leads=peer_leads)
        self._advice = keepalived.advise(self._advice, view)
        if self._track.write(self._advice.value):
            LOG.warning("Keepalived is told %d: HAProxy here is %s", self._advice.value, self._tally.verdict)


async def let_go(settings: Settings, *, tracked: Path = TRACKED) -> None:
    """Resume this balancer's pooler, and take back what Keepalived was told: the agent is gone."""
    port = settings.ports.pool_write
    where = UnixSocket(settings.pgbouncer_sockets.write / f".s.PGSQL.{port}", as_uid=uid(pgbouncer.USER))
    with contextlib.suppress(ServiceError):
        await pgbouncer.resume(where, pgbouncer.login(), deadline_seconds=settings.timings.deadline_seconds)
    keepalived.TrackFile(tracked).write(keepalived.WELL)


def uid(user: str) -> int | None:
    """Return a user's number, None when there is none by that name."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
