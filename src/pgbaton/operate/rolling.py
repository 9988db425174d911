"""Restart PostgreSQL host by host: standbys first, the primary last and only after it has handed over."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error, RefusedError, UnhealthyError
from pgbaton.operate import candidates, switchover
from pgbaton.operate.checks import listing, require
from pgbaton.operate.fences import fence_of, unfenced
from pgbaton.operate.hand import control
from pgbaton.operate.members import only_primary
from pgbaton.operate.servers import Absence
from pgbaton.operate.waiting import going_on, until

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgbaton.operate.members import View
    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology


@dataclass(frozen=True)
class Restarted:
    """A restart that happened; ``how`` is restart or switchover, which restarts the old primary as a standby."""

    host: str
    how: str
    seconds: float
    primary: str

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"host": self.host, "how": self.how, "seconds": round(self.seconds, 3), "primary": self.primary}


def order(topology: Topology, view: View, wanted: Collection[str], *, pending: bool) -> tuple[str, ...]:
    """Return the hosts to restart, standbys in the topology's order and the primary last. Pure.

    No host named means all; ``pending`` keeps those alone whose settings wait for a restart.
    """
    standbys = candidates.standbys(topology, view)
    chosen = [host for host in (*standbys, *view.primaries) if not wanted or host in wanted]
    return tuple(host for host in chosen if not pending or waits(view, host))


def waits(view: View, host: str) -> bool:
    """Tell whether settings of a host's server wait for a restart, by PostgreSQL's word or by Patroni's."""
    server = view.servers[host]
    record = view.dcs.members.get(host) if view.dcs else None
    return (not isinstance(server, Absence) and server.pending_restart) or (
        record is not None and record.pending_restart
    )


def plan(topology: Topology, view: View, hosts: tuple[str, ...], *, in_place: bool) -> str | None:
    """Return the host to hand over to when the primary is among those to restart. Pure.

    Raises RefusedError unless there is one primary that nobody has fenced and, for a hand-over, a standby that is fit
    for it.
    """
    primary = only_primary(view, "restart")
    if hosts:
        require("restart", unfenced(view, primary))
    if primary not in hosts or in_place:
        return None
    try:
        return switchover.consider(topology, view, None).require()[1]
    except RefusedError as error:
        hint = "--in-place restarts the primary where it is: writes stop meanwhile"
        raise RefusedError(error.message, hint=hint) from None


async def restart(operation: Operation, hosts: tuple[str, ...], *, in_place: bool) -> tuple[Restarted, ...]:
    """Restart hosts in the order given, each awaited before the next; stops at the first that does not come back."""
    plan(operation.topology, await operation.look(), hosts, in_place=in_place)
    done: list[Restarted] = []
    for index, host in enumerate(hosts):
        account = f"restarted before: {listing(hosts[:index])}; not touched: {listing(hosts[index + 1 :])}"
        try:
            with going_on(operation.report, account):
                done.append(await one(operation, host, in_place=in_place))
        except Error as error:
            error.message = f"{error.message}\n  {account}"
            raise
    return tuple(done)


async def one(operation: Operation, host: str, *, in_place: bool) -> Restarted:
    """Restart one host's PostgreSQL; the primary hands over first unless ``in_place``."""
    view = await operation.look()
    primary = only_primary(view, "restart")
    start = time.monotonic()
    if host != primary:
        await standby(operation, host, primary)
        return Restarted(host, "restart", time.monotonic() - start, primary)
    if in_place:
        await primary_in_place(operation, host)
        return Restarted(host, "restart", time.monotonic() - start, host)
    return await after_switchover(operation, host, start_time(view, host))


async def after_switchover(operation: Operation, host: str, started: float | None) -> Restarted:
    """Hand over, which restarts the old primary as a standby; restart it once more only when it was not."""
    begin = time.monotonic()
    moved = await switchover.when_fit(operation)
    server = await operation.server(host)
    if not isinstance(server, Absence) and server.started == started:
        await standby(operation, host, moved.target)
    return Restarted(host, "switchover", time.monotonic() - begin, moved.target)


async def standby(operation: Operation, host: str, primary: str) -> None:
    """Restart a standby and wait until it streams again."""
    view = await operation.look()
    before = start_time(view, host)
    operation.report("; ".join(filter(None, (f"restarting {host}", fence_of(view, host)))))
    with going_on(operation.report, f"PostgreSQL on {host} goes on restarting"):
        await ask(operation, host)
        await operation.until_streaming(host, primary, restarted_after=before)
        if view.synchronous:
            await operation.until_synchronous()
    operation.report(f"{host} streams from {primary}")


async def primary_in_place(operation: Operation, host: str) -> None:
    """Restart the primary where it is, and wait until it takes writes and every balancer sends them there."""
    await switchover.checkpoint_first(operation, host)
    operation.report(f"restarting {host} in place: writes stop meanwhile")
    otherwise = "" if operation.topology.is_manual else ", or Patroni fails over when it cannot"
    with going_on(operation.report, f"PostgreSQL on {host} goes on restarting{otherwise}"):
        await ask(operation, host)

        async def look() -> str | None:
            primaries = (await operation.look()).primaries
            return None if primaries == (host,) else f"out of recovery: {listing(primaries)}"

        await until(f"{host} takes writes", look, seconds=operation.timeout_seconds)
        await operation.until_routed(host)
    operation.report(f"{host} takes writes")


async def ask(operation: Operation, host: str) -> None:
    """Ask a host's own Patroni to restart PostgreSQL; raises UnhealthyError with its words when it did not.

    Where there is no Patroni, its unit is restarted.
    """
    if operation.topology.is_manual:
        await control.restart(operation, host)
        return
    reply = await operation.patroni(host).restart(seconds=int(operation.timeout_seconds))
    if not reply.ok:
        message = f"PostgreSQL was not restarted; Patroni said: {reply.text} (HTTP {reply.status})"
        raise UnhealthyError(message, where=host, hint=f"pgbaton logs tells why on {host}")


def start_time(view: View, host: str) -> float | None:
    """Return when a host's server started, in seconds since 1970; None when it does not answer."""
    server = view.servers[host]
    return None if isinstance(server, Absence) else server.started
