"""The clients' own way through this balancer, taken each second: a login over TLS, and a question at its end.

It begins at HAProxy's port for writes and verifies the pooler's certificate against the cluster's authority, as a
careful client does. Where the agent has no password or no certificates for it, nobody tries, and nothing is held
against the path. A path that is broken may cost this balancer the VIP (:mod:`~pgbaton.agent.acting.keepalived`);
nothing is ended for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.acting import judge
from pgbaton.agent.acting.balancer import HAPROXY
from pgbaton.agent.acting.keeper import pooler_unit
from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import hung, path
from pgbaton.agent.decisions.hung import Evidence, Outcome, Service
from pgbaton.agent.decisions.path import Circumstances, Probe
from pgbaton.agent.kernel import processes
from pgbaton.agent.protocols import wire
from pgbaton.agent.protocols.connections import ServiceError, SilentError, TcpAddress

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from pgbaton.agent.acting.balancer import Balancer
    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.kernel.processes import Process
    from pgbaton.agent.settings import Secrets, Settings, Way
    from pgbaton.agent.sight import Sight

HOST = "127.0.0.1"
QUESTION = "SELECT pg_catalog.pg_is_in_recovery()"
#: What a server that takes writes answers.
PRIMARY = (("f",),)


class Path:
    """Try the path again and again; ``on_change`` is called when it breaks or is mended."""

    def __init__(
        self,
        settings: Settings,
        way: Way,
        sight: Sight,
        complaints: Complaints,
        *,
        balancer: Balancer,
        on_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._way = way
        self._sight = sight
        self._complaints = complaints
        self._balancer = balancer
        self._on_change = on_change
        self._patience = hung.table(settings.timings)[Service.POOL_WRITE]
        self._password = settings.secrets.probe_password
        self._tls: ssl.SSLContext | None = None
        self._state = path.Path()
        #: How long the last success took; None before the first.
        self.seconds: float | None = None

    @property
    def is_tried(self) -> bool:
        """Tell whether there are a password and certificates to try it with."""
        return self._password is not None and self._tls is not None

    @property
    def is_broken(self) -> bool:
        """Tell whether clients cannot reach the primary through this balancer."""
        return self._state.is_broken

    @property
    def failures(self) -> int:
        """Return how many probes in a row failed that ought to have worked."""
        return self._state.failures

    @property
    def reason(self) -> str:
        """Return why the path is broken; nothing while it is not."""
        return self._state.reason if self.is_broken else ""

    def use(self, tls: ssl.SSLContext) -> None:
        """Verify the pooler with these certificates from now on."""
        self._tls = tls

    def prove_with(self, secrets: Secrets) -> None:
        """Log in with this password from now on; without one, nobody tries, and nothing is held against the path."""
        self._password = secrets.probe_password
        if self._password is None:
            self._note(path.Path())

    async def run(self) -> NoReturn:
        """Try, each second, until cancelled."""
        while True:
            begun = clock()
            if self._password is not None and self._tls is not None:
                await self._try(self._password, self._tls)
            await asyncio.sleep(max(0.0, begun + self._way.every_seconds - clock()))

    async def _try(self, password: str, tls: ssl.SSLContext) -> None:
        """Take the path once, and hold of it what follows; not in an outage, which has better uses for the host."""
        asked = clock()
        before = self._circumstances(asked)
        if not path.may_count(before):
            self._note(path.untold(self._state))
            return
        found = self._processes()
        looked = judge.together(map(processes.look, found))
        outcome, failure = await self._asked(password, tls)
        now, after = clock(), judge.together(map(processes.look, found))
        if not failure:
            self.seconds = now - asked
        evidence = Evidence(asked, now, outcome, after.condition, hung.starved_seconds(looked, after, now - asked))
        is_at_work = path.is_at_work(looked, after, evidence.took_seconds)
        excused = outcome is Outcome.SILENT and (is_at_work or self._is_excused(evidence))
        probe = Probe(before, self._circumstances(now), failure, excused)
        self._note(path.judge(self._state, probe, failures=self._settings.timings.failures))

    def _is_excused(self, evidence: Evidence) -> bool:
        """Tell whether the path may have been silent because this host is busy."""
        runnable = processes.runnable_per_processor()
        return hung.is_excused(replace(evidence, runnable_per_processor=runnable), self._patience)

    async def _asked(self, password: str, tls: ssl.SSLContext) -> tuple[Outcome, str]:
        """Return how a login and its question ended, and what was wrong."""
        where = TcpAddress(HOST, self._way.port, tls=tls, tls_name=self._settings.me)
        login = wire.Login(self._way.role, self._way.database, password=password)
        try:
            answer = await wire.ask(where, login, QUESTION, deadline_seconds=self._patience.deadline_seconds)
        except SilentError as error:
            return Outcome.SILENT, str(error)
        except ServiceError as error:
            return Outcome.REFUSED, str(error)
        wrong = "" if answer.rows == PRIMARY else f"{where}: it leads to a server that takes no writes"
        return Outcome.ANSWERED, wrong

    def _circumstances(self, now: float) -> Circumstances:
        """Return what speaks for a path that works now."""
        return Circumstances(self._primary(now), held=self._balancer.is_held, stalled=self._sight.hearing.stalled(now))

    def _primary(self, now: float) -> str | None:
        """Return the one server that HAProxy leads to, when its own agent says that it takes writes."""
        name = self._balancer.leads_to
        said = self._sight.said(name, now) if name else None
        is_primary = said is not None and said.role == "primary" and said.writable and name not in self._sight.fenced
        return name if is_primary else None

    def _processes(self) -> tuple[Process, ...]:
        """Return the processes that the path may lead through on this host: of several poolers, it comes to any."""
        units = (HAPROXY, *(pooler_unit(each.instance) for each in self._settings.pgbouncer_sockets.write))
        return tuple(process for unit in units for process in judge.of_unit(*unit))

    def _note(self, held: path.Path) -> None:
        """Remember what is held of the path; say so when it breaks, and when it is mended."""
        before, self._state = self._state, held
        if before.is_broken == held.is_broken:
            return
        if held.is_broken:
            self._complaints.about("path to the primary", f"clients of this balancer do not reach it: {held.reason}")
        else:
            self._complaints.over("path to the primary")
        self._on_change()
