"""The services beside the server, each asked now and then, and ended when it hangs: PgBouncer's processes, and Patroni.

Keepalived is asked nothing. But one that was stopped keeps its address while its peer takes it as well, so it is ended.
"""

from __future__ import annotations

import asyncio
import functools
import pwd
from typing import TYPE_CHECKING, NoReturn

from pgbaton.agent.acting import judge
from pgbaton.agent.acting.judge import Judge
from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import hung
from pgbaton.agent.decisions.hung import Outcome, Service, Verdict
from pgbaton.agent.kernel import processes
from pgbaton.agent.protocols import wire
from pgbaton.agent.protocols.connections import AbsentError, RefusedError, SilentError, UnixSocket
from pgbaton.agent.protocols.https import ConnectError, DeadlineError, HttpsError, SlowConnectError, TlsError
from pgbaton.agent.services import pgbouncer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgbaton.agent.complaints import Complaints
    from pgbaton.agent.decisions.hung import Patience
    from pgbaton.agent.kernel.processes import Process
    from pgbaton.agent.services.patroni import Patroni
    from pgbaton.agent.settings import Settings
    from pgbaton.agent.sight import Sight

PATRONI = ("patroni.service", "patroni")
KEEPALIVED = "keepalived.service"
#: The name of a pooler's process.
PGBOUNCER = "pgbouncer"
#: Between two questions to a pooler, and to Patroni.
POOLER_SECONDS = 1.0
PATRONI_SECONDS = 2.0
#: Between two looks for Keepalived's processes.
KEEPALIVED_SECONDS = 2.0


class Keeper:
    """Ask one service every so often, and at once again after a silence; end it when it hangs and may be ended."""

    def __init__(
        self,
        judge: Judge,
        ask: Callable[[], Awaitable[Outcome]],
        complaints: Complaints,
        *,
        every_seconds: float,
        may_end: Callable[[], bool] = lambda: True,
    ) -> None:
        self.judge = judge
        self._ask = ask
        self._complaints = complaints
        self._every_seconds = every_seconds
        self._may_end = may_end

    async def run(self) -> NoReturn:
        """Ask and judge, until cancelled."""
        while True:
            begun = clock()
            outcome = await self.look()
            left_seconds = 0.0 if outcome is Outcome.SILENT else begun + self._every_seconds - clock()
            await asyncio.sleep(max(0.0, left_seconds))

    async def look(self) -> Outcome:
        """Ask once, and do what follows from it."""
        question = self.judge.ask()
        outcome = await self._ask()
        if self.judge.hear(question, outcome) is Verdict.HUNG:
            self._end(question)
        return outcome

    async def end_stopped(self) -> None:
        """End the service: it was stopped."""
        self._end(self.judge.stopped())

    def _end(self, question: judge.Question) -> None:
        name = self.judge.name
        if not self._may_end():
            self._complaints.about(name, "hangs, and is left alone: the cluster is paused, or etcd does not say")
            return
        try:
            self.judge.end(question)
        except OSError as error:
            self._complaints.about(name, f"hangs, and cannot be ended: {error}; fix: CAP_KILL")


def pooler(name: str, settings: Settings, sight: Sight, complaints: Complaints) -> Keeper:
    """Return the keeper of one of the host's poolers, by its instance's name: ``write``, ``read`` or another."""
    leads_to_primary = any(each.instance == name for each in settings.pgbouncer_sockets.write)
    patience = hung.table(settings.timings)[Service.POOL_WRITE if leads_to_primary else Service.POOL_READ]
    found = functools.partial(judge.of_unit, *pooler_unit(name))
    asked = functools.partial(answer_of_console, name, settings, patience)
    return Keeper(Judge(f"PgBouncer {name}", found, patience, sight), asked, complaints, every_seconds=POOLER_SECONDS)


def patroni(client: Patroni, settings: Settings, sight: Sight, complaints: Complaints) -> Keeper:
    """Return the keeper of the host's Patroni, which is ended only in a cluster that is known not to be paused."""

    def find() -> tuple[Process, ...]:
        found = processes.main(*PATRONI)
        return (found,) if found else ()

    def may_end() -> bool:
        return sight.cluster is not None and not sight.cluster.paused

    patience = hung.table(settings.timings)[Service.PATRONI]
    asked = functools.partial(answer_of_patroni, client, patience)
    made = Judge("Patroni", find, patience, sight)
    return Keeper(made, asked, complaints, every_seconds=PATRONI_SECONDS, may_end=may_end)


def keepalived(settings: Settings, sight: Sight, complaints: Complaints) -> Keeper:
    """Return the keeper of the host's Keepalived, which only notices that it was stopped."""
    patience = hung.table(settings.timings)[Service.HAPROXY]

    async def asked() -> Outcome:
        return Outcome.ANSWERED

    made = Judge("Keepalived", lambda: processes.members(KEEPALIVED), patience, sight)
    return Keeper(made, asked, complaints, every_seconds=KEEPALIVED_SECONDS)


async def answer_of_console(name: str, settings: Settings, patience: Patience) -> Outcome:
    """Ask a pooler's console for its version, which is as much as any answer."""
    try:
        where = console(settings, name)
        await wire.ask(where, pgbouncer.login(), "SHOW VERSION", deadline_seconds=patience.deadline_seconds)
    except AbsentError:
        return Outcome.ABSENT
    except RefusedError:
        return Outcome.REFUSED
    except SilentError:
        return Outcome.SILENT
    return Outcome.ANSWERED


async def answer_of_patroni(client: Patroni, patience: Patience) -> Outcome:
    """Ask Patroni whether its loop runs; a no is an answer, and a slow loop is no reason to end it."""
    try:
        await client.is_alive(deadline_seconds=patience.deadline_seconds)
    except (SlowConnectError, DeadlineError):
        return Outcome.SILENT
    except TlsError:
        return Outcome.REFUSED
    except ConnectError:
        return Outcome.ABSENT
    except HttpsError:
        return Outcome.REFUSED
    return Outcome.ANSWERED


def console(settings: Settings, name: str) -> UnixSocket:
    """Return the Unix socket of a pooler's console, by its instance's name; raises KeyError when there is none."""
    sockets, ports = settings.pgbouncer_sockets, settings.ports
    places = {each.instance: (each.directory, ports.pool_write) for each in sockets.write}
    places |= {each.instance: (each.directory, ports.pool_read) for each in sockets.read}
    places |= {each.instance: (each.directory, ports.pool_synchronous) for each in sockets.synchronous}
    directory, port = places[name]
    return wire.unix_socket(directory, port, as_uid=uid(pgbouncer.USER))


def pooler_unit(name: str) -> tuple[str, str]:
    """Return a pooler's unit, and the name of its process."""
    return f"pgbouncer@{name}.service", PGBOUNCER


def pooler_names(settings: Settings) -> tuple[str, ...]:
    """Return the instances of all poolers of this host; none where PgBouncer does not run."""
    if not settings.is_pooler:
        return ()
    sockets = settings.pgbouncer_sockets
    return tuple(each.instance for each in (*sockets.write, *sockets.read, *sockets.synchronous))


def uid(user: str) -> int | None:
    """Return a user's number, None as long as there is none by that name."""
    try:
        return _uid(user)
    except KeyError:
        return None


@functools.cache
def _uid(user: str) -> int:
    return pwd.getpwnam(user).pw_uid
