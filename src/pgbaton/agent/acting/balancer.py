"""A balancer's HAProxy and poolers: tell them of a new primary in the moment there is one, and hold clients until then.

HAProxy is asked, then it is decided and done, in one task and in this order, so that no answer of its is older than
what was done last. While nothing happens that is once a second; a heartbeat, a fence or news of etcd's begin it at
once. The poolers take longer to say how they fare, and nobody waits for that: what they said last is known, and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pgbaton.agent.acting import judge, keepalived
from pgbaton.agent.acting.judge import Judge
from pgbaton.agent.acting.keeper import console, pooler_names, pooler_unit
from pgbaton.agent.acting.pool import NotHeldError, Pool, resume_all
from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import hung, routing
from pgbaton.agent.decisions.hung import Outcome, Service, Verdict
from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.kernel.watches import Follower
from pgbaton.agent.protocols.connections import AbsentError, RefusedError, ServiceError, SilentError, UnixSocket
from pgbaton.agent.services import haproxy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.kernel.processes import Process
    from pgbaton.agent.settings import Settings
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)
#: The backend whose servers are the databases, for writes.
BACKEND = "primary"
HAPROXY = ("haproxy.service", "haproxy")
#: The backends that lead to the poolers for writes and for reads; this host's own server there is called like the host.
POOLED_WRITE, POOLED_READ, POOLED_SYNCHRONOUS = "pooled_write", "pooled_read", "pooled_synchronous"
#: Keepalived watches the directory, which therefore must outlive the agent.
TRACKED = Path("/run/pgbaton-agent-haproxy")
#: Between two turns: usually, and while HAProxy does not answer or clients are held. What clients are held for is news,
#: and comes sooner: each turn takes processor time that a new primary on the same host may need.
USUAL_SECONDS = 1.0
UNWELL_SECONDS = 0.1
#: The wait for the order to hold, before it is asked for.
HELD_SECONDS = 0.1
#: So long the end of a HAProxy that was killed may take: its kernel closes thousands of connections.
CLOSING_SECONDS = 0.2
#: A turn in which nothing had to be done waits so long for what the poolers say of themselves.
POOLING_SECONDS = 0.1


class Balancer:
    """Lead those who come through this host's HAProxy to the primary, whoever that is.

    A host *enters* that has the VIP or may get it, *routes* whose HAProxy leads to the servers, and *holds* that has a
    pooler in front of that. Beside poolers with hosts of their own, a balancer does only the first, they the others.
    """

    def __init__(self, settings: Settings, sight: Sight, complaints: Complaints, *, tracked: Path = TRACKED) -> None:
        self._settings = settings
        self._sight = sight
        self._complaints = complaints
        me = settings.me_host
        self._enters = "balancer" in me.roles
        self._routes, self._holds = me in settings.routers, me in settings.holders
        self._haproxy = UnixSocket(settings.haproxy_socket)
        self._deadline = settings.timings.deadline_seconds
        self._memory = routing.Memory()
        self._alarms: tuple[str, ...] = ()
        self._soon = asyncio.Event()
        patience = hung.table(settings.timings)[Service.HAPROXY]
        self.judge = Judge("HAProxy", functools.partial(judge.of_unit, *HAPROXY), patience, sight)
        self._process = Follower(lambda: processes.main(*HAPROXY), self._ended)
        #: The processes that lead to the primary, whose clients are held.
        self._pools = tuple(
            Pool(each.instance, functools.partial(console, settings, each.instance), deadline_seconds=self._deadline)
            for each in (settings.pgbouncer_sockets.write if self._holds else ())
        )
        self._poolers = {
            name: Follower(functools.partial(processes.main, *pooler_unit(name)), hint)
            for name, hint in ((name, functools.partial(self._pooler_ended, name)) for name in pooler_names(settings))
        }
        self._tasks: set[asyncio.Task[None]] = set()
        #: Until when clients are held for a hand-over that is planned.
        self._planned_until = float("-inf")
        self._plan = 0
        #: How many wait for HAProxy's end before the VIP is given up: who ended it, and who saw that it ended.
        self._ending = 0
        #: How often HAProxy has ended: what was asked of one before says nothing of the next.
        self._ends = 0
        self._adviser = keepalived.Adviser(tracked, complaints)
        #: Set while the last order to every pooler was to pause.
        self._held = asyncio.Event()
        #: The one server that HAProxy leads to; None when that is none, or more than one.
        self.leads_to: str | None = None
        #: Tells whether clients do not reach the primary although HAProxy leads there.
        self.is_cut_off: Callable[[], bool] = lambda: False

    @property
    def leads(self) -> bool:
        """Tell whether clients of this balancer are led to the primary."""
        return self.leads_to is not None and not self.is_cut_off()

    @property
    def is_held(self) -> bool:
        """Tell whether clients are held here, by this agent or by whoever paused the pooler, or are about to be."""
        paused = any(pool.is_paused for pool in self._pools)
        is_served = self._sight.serving is Serving.OPEN
        return bool(self._memory.held) or paused or clock() < self._planned_until or not is_served

    @property
    def verdict(self) -> Verdict:
        """Return what is held of HAProxy."""
        return self.judge.verdict

    def turn_soon(self) -> None:
        """Something changed: do not wait for the usual time."""
        self._soon.set()

    async def run(self) -> NoReturn:
        """Ask, decide and act, again and again, until cancelled."""
        while True:
            self._soon.clear()
            await self._turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace_seconds()):
                    await self._soon.wait()

    async def hold(self, seconds: float) -> None:
        """Hold clients for a planned hand-over, for so long at most, and return when none has a server.

        Raises NotHeldError, after which nobody is held: some have a server for too long, or a pooler cannot do it.
        """
        if not self._pools:
            message = "no pooler of this host leads to the primary: nobody can be held"
            raise NotHeldError(message)
        seconds = min(seconds, self._settings.timings.pause_seconds)
        self._plan += 1
        mine, self._planned_until = self._plan, clock() + seconds
        self._soon.set()
        try:
            await self._until_quiet(clock() + seconds / 2)
        except BaseException:
            if mine == self._plan:  # a later one stands
                self.let_go()
            raise

    def let_go(self) -> None:
        """Hold clients no longer for a hand-over that was planned."""
        self._planned_until = float("-inf")
        self._soon.set()

    async def _until_quiet(self, until: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HELD_SECONDS):
                await self._held.wait()
        if self._held.is_set() and all(pool.is_held_in_quiet for pool in self._pools):
            return
        for pool in self._pools:  # whoever is quiet stays so
            await pool.until_quiet(until)

    async def end_stopped(self) -> None:
        """End HAProxy: it was stopped."""
        question = self.judge.stopped()
        self._end(question)
        await self._give_up(question.processes)

    def close(self) -> None:
        """Watch no process any more."""
        for each in (self._process, *self._poolers.values()):
            each.close()
        for pool in self._pools:
            pool.close()
        for task in self._tasks:
            task.cancel()

    def _pace_seconds(self) -> float:
        calm = self.judge.verdict is Verdict.WELL and not self._memory.held
        return USUAL_SECONDS if calm else UNWELL_SECONDS

    def _ended(self, ended: Process) -> None:
        """Give up the VIP in the moment in which HAProxy ends, before Keepalived's own question would find out."""
        LOG.warning("HAProxy, process %d, has ended", ended.pid)
        ending = (*self.judge.known, *processes.members(HAPROXY[0]))
        self.judge.gone()
        self._ends += 1
        self.leads_to = None
        self._begin(self._give_up(ending))

    async def _give_up(self, ending: tuple[Process, ...]) -> None:
        """Give up the VIP once HAProxy's processes are gone, or soon.

        Their connections end with them, and that has to reach the clients while this host still has their address: a
        client that waits for an answer would hear of it by its own keepalive alone, a second later or never.
        """
        until = clock() + CLOSING_SECONDS
        self._ending += 1
        try:
            while not all(map(processes.has_ended, ending)) and clock() < until:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(processes.LOOK_SECONDS)
        finally:
            self._ending -= 1
        if not self._ending:
            self._advise()
        self._soon.set()

    def _pooler_ended(self, name: str, ended: Process) -> None:
        """Have HAProxy lead to another balancer's pooler in the moment in which the last one here of its port ends.

        As long as another shares the port, new clients come to that one, and those that it has are not to be cut off.
        """
        for pool in self._pools:
            if pool.name == name:
                pool.ended()
                self._held.clear()
        LOG.warning("PgBouncer %s, process %d, has ended", name, ended.pid)
        sockets = self._settings.pgbouncer_sockets
        ports = {POOLED_WRITE: sockets.write, POOLED_READ: sockets.read, POOLED_SYNCHRONOUS: sockets.synchronous}
        for backend, poolers in ports.items():
            names = {each.instance for each in poolers}
            siblings = names - {name}
            if name in names and not any(processes.main(*pooler_unit(sibling)) for sibling in siblings):
                self._begin(self._avoid(backend))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _avoid(self, backend: str) -> None:
        me, seconds = self._settings.me, self._deadline
        try:
            found = await haproxy.servers(self._haproxy, deadline_seconds=seconds)
            others = [it for it in found if it.backend == backend and it.name != me]
            if any(it.up and it.in_service for it in others):
                await haproxy.set_health(self._haproxy, backend, me, "down", deadline_seconds=seconds)
        except ServiceError as error:
            LOG.warning("HAProxy finds out by itself that %s is down in %s: %s", me, backend, error)

    async def _turn(self) -> None:
        question = self.judge.ask()
        for each in (self._process, *self._poolers.values()):
            each.look()
        asking = [pool.ask() for pool in self._pools]
        ends = self._ends
        outcome, found = await self._asked()
        if ends == self._ends:
            self.judge.hear(question, outcome)
        if self._routes:
            await self._lead(self._servers(question.asked_seconds, found), asking)
        else:
            self._look_at_pools(found or ())
        if not self._ending:
            self._advise()
        if self.judge.verdict is Verdict.HUNG:
            self._end(question)

    async def _lead(self, servers: routing.Servers | None, asking: list[asyncio.Task[None]]) -> None:
        """Decide and act: at once on what is known, and again when poolers have answered, if nothing was to do."""
        is_known = not asking or any(pool.pooling for pool in self._pools)
        if is_known and (await self._route(servers) or not asking):
            return
        done, _ = await asyncio.wait(asking, timeout=POOLING_SECONDS)
        for answer in done:
            answer.result()  # raises what is an error of ours
        await self._route(servers)

    async def _route(self, servers: routing.Servers | None) -> bool:
        """Decide on what is known now, and do it; tell whether anything was done."""
        now, patience = clock(), self._settings.timings.pause_seconds
        view = self._view(servers, {pool.name: pool.known(now) for pool in self._pools})
        decision = routing.decide(self._memory, view, now_seconds=now, pause_seconds=patience)
        self._memory = decision.memory
        for alarm in decision.alarms:
            if alarm not in self._alarms:
                LOG.error("%s", alarm)
        self._alarms = decision.alarms
        done = await self._act_on(decision.actions)
        if any(done):
            self._soon.set()  # what was done is seen by asking again, and more may depend on that
        return any(done)

    def _view(self, servers: routing.Servers | None, poolers: Mapping[str, routing.Pooling | None]) -> routing.View:
        cluster, now = self._sight.cluster, clock()
        planned = now < self._planned_until
        if self._sight.hearing.stalled(now):
            return routing.View(poolers=poolers, planned=planned)
        databases = tuple(self._database(host.name, now) for host in self._settings.databases)
        leader = cluster.leader if cluster else None
        return routing.View(databases=databases, leader=leader, servers=servers, poolers=poolers, planned=planned)

    def _database(self, name: str, now: float) -> routing.Database:
        said = self._sight.said(name, now)
        says = None if said is None else routing.Says(said.role, said.writable, said.timeline)
        return routing.Database(name, says, fenced=name in self._sight.fenced)

    async def _act_on(self, actions: tuple[routing.Action, ...]) -> list[bool]:
        """Carry out what was decided, in its order, but all pauses at once: one pooler that hangs holds up no other."""
        pauses = [action for action in actions if isinstance(action, routing.Pause)]
        others = [action for action in actions if not isinstance(action, routing.Pause)]
        done = await asyncio.gather(*map(self._act, pauses))
        return [*done, *[await self._act(action) for action in others]]

    async def _act(self, action: routing.Action) -> bool:
        """Carry out one decision, and tell whether that worked; what fails is decided anew with the next turn."""
        LOG.info("%s", action)
        try:
            await self._done(action)
        except ServiceError as error:
            LOG.warning("%s: %s", action, error)
            return False
        return True

    async def _done(self, action: routing.Action) -> None:
        deadline = self._deadline
        match action:
            case routing.Mark(server, health):
                await haproxy.set_health(self._haproxy, BACKEND, server, health, deadline_seconds=deadline)
            case routing.CutSessions(server):
                await haproxy.shutdown_sessions(self._haproxy, BACKEND, server, deadline_seconds=deadline)
            case routing.Pause(name):
                await self._pool(name).pause()
                if all(pool.is_held for pool in self._pools):
                    self._held.set()
            case routing.Resume(name):
                self._held.clear()
                await self._pool(name).resume()

    def _pool(self, name: str) -> Pool:
        return next(pool for pool in self._pools if pool.name == name)

    def _servers(self, asked_seconds: float, found: tuple[haproxy.Server, ...] | None) -> routing.Servers | None:
        """Return the servers of the primary's backend."""
        servers = tuple(routing.Server(it.name, it.up, it.in_service) for it in found or () if it.backend == BACKEND)
        used = [server.name for server in servers if server.up and server.in_service]
        self.leads_to = used[0] if len(used) == 1 else None
        return None if found is None else routing.Servers(asked_seconds, servers)

    def _look_at_pools(self, found: tuple[haproxy.Server, ...]) -> None:
        """Note whether some pooler takes clients: it leads to the primary, whom agents tell of."""
        now = clock()
        is_open = any(it.backend == POOLED_WRITE and it.up and it.in_service for it in found)
        writing = [host.name for host in self._settings.databases if self._writes(host.name, now)]
        self.leads_to = writing[0] if is_open and len(writing) == 1 else None

    def _writes(self, name: str, now: float) -> bool:
        said = self._sight.said(name, now)
        return said is not None and said.role == "primary" and said.writable and name not in self._sight.fenced

    async def _asked(self) -> tuple[Outcome, tuple[haproxy.Server, ...] | None]:
        """Ask HAProxy for its servers; its answer also says that it does not hang."""
        try:
            found = await haproxy.servers(self._haproxy, deadline_seconds=self._deadline)
        except AbsentError:
            return Outcome.ABSENT, None
        except RefusedError as error:
            self._complaints.about("HAProxy's socket", str(error))
            return Outcome.REFUSED, None
        except SilentError:
            return Outcome.SILENT, None
        self._complaints.over("HAProxy's socket")
        return Outcome.ANSWERED, found

    def _end(self, question: judge.Question) -> None:
        """End a HAProxy that hangs, for systemd to start it anew."""
        try:
            self.judge.end(question)
        except OSError as error:
            self._complaints.about("HAProxy", f"hangs, and cannot be ended: {error}; fix: CAP_KILL")

    def _advise(self) -> None:
        """Give up the VIP when HAProxy here is of no use, or only another balancer leads to the primary."""
        if not self._enters:
            return
        now = clock()
        peers = (host.name for host in self._settings.others if "balancer" in host.roles)
        peer_leads = any(said.poolers for name in peers if (said := self._sight.said(name, now)))
        is_cut_off = self.leads_to is not None and not self.leads
        view = keepalived.View(now, self.verdict, leads=self.leads, peer_leads=peer_leads, cut_off=is_cut_off)
        self._adviser.tell(view)


async def let_go(settings: Settings, *, tracked: Path = TRACKED) -> None:
    """Resume this host's poolers, and take back what Keepalived was told: the agent is gone. Raises OSError."""
    me = settings.me_host
    if me in settings.holders:
        sockets = (console(settings, each.instance) for each in settings.pgbouncer_sockets.write)
        await resume_all(sockets, deadline_seconds=settings.timings.deadline_seconds)
    if "balancer" in me.roles:
        keepalived.TrackFile(tracked).write(keepalived.WELL)
