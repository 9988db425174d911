"""Reinit: throw a standby's data away and clone it anew from the cluster."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import CommandError, RefusedError, UnhealthyError
from pgbaton.operate import servers
from pgbaton.operate.checks import Check, listing, require, size
from pgbaton.operate.fences import fence_of, unfenced
from pgbaton.operate.hand import rejoin
from pgbaton.operate.members import only_primary
from pgbaton.operate.operation import not_streaming
from pgbaton.operate.rolling import start_time
from pgbaton.operate.servers import Server
from pgbaton.operate.switchover import checkpoint_first, etcd_check
from pgbaton.operate.waiting import going_on

if TYPE_CHECKING:
    from pgbaton.operate.members import View
    from pgbaton.operate.operation import Operation

#: How often the growing copy is looked at, in seconds.
INTERVAL_SECONDS = 1.0


@dataclass(frozen=True)
class Cloned:
    """A standby that was cloned anew, or rewound (``how``), and streams."""

    host: str
    primary: str
    size_bytes: int
    seconds: float
    how: str = "clone"

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "host": self.host,
            "primary": self.primary,
            "size_bytes": self.size_bytes,
            "seconds": round(self.seconds, 3),
            "how": self.how,
        }


def consider(view: View, host: str) -> str:
    """Return the primary to clone from; raises RefusedError when the host is it, or the cluster has none. Pure."""
    primary = only_primary(view, "reinit")
    holder = view.dcs.leader if view.dcs else None
    fix = "switch over first: pgbaton switchover"
    own = Check(f"{host} as standby", host not in {primary, holder}, "the primary", "a standby", fix)
    known = view.dcs is not None and host in view.dcs.members
    member = Check(f"{host} in Patroni", known, "unknown", "a member", f"start patroni.service on {host}")
    lock = Check(
        "leader lock", holder == primary, f"held by {holder or 'nobody'}", "held by the primary", "wait a loop"
    )
    require("reinit", (etcd_check(view), lock, own, member, *unfenced(view, primary)))
    return primary


def consequences(view: View, host: str) -> str:
    """Return what cloning a standby anew means for the others meanwhile. Pure."""
    left = sorted(view.streaming - {host})
    text = f"all data of {host} is thrown away and copied anew; streaming standbys meanwhile: {listing(left)}"
    text = "; ".join(filter(None, (text, fence_of(view, host))))
    if not left and view.dcs and view.dcs.strict:
        return f"{text}; writes wait until then (strict mode)"
    if not left:
        return f"{text}; a failure of the primary before the end loses the cluster's only copy"
    return text


async def reinit(operation: Operation, host: str, *, discard: bool = False) -> Cloned:
    """Clone a standby anew and wait until it streams; gives up when nothing moves for the operation's timeout.

    Where a person promotes, a server that does not stream is rewound instead, when that will do.
    """
    if operation.topology.is_manual:
        start = time.monotonic()
        source, how = await rejoin.rejoin(operation, host, discard=discard)
        return Cloned(host, source, await copied_bytes(operation, host), time.monotonic() - start, how)
    view = await operation.look()
    primary = consider(view, host)
    before = start_time(view, host)
    begin = time.monotonic()
    # The copy begins with a checkpoint that is spread over minutes when there is much to write; not after this one.
    await checkpoint_first(operation, primary)
    operation.report(f"cloning {host}")
    with going_on(operation.report, f"Patroni goes on cloning {host}; pgbaton status shows its end"):
        await ask(operation, host)
        copied = await until_cloned(operation, host, primary, before)
        if view.synchronous:
            await operation.until_synchronous()
    operation.report(f"{host} streams from {primary}")
    return Cloned(host, primary, copied, time.monotonic() - begin)


async def ask(operation: Operation, host: str) -> None:
    """Ask the standby's own Patroni; raises RefusedError with its words when it will not."""
    reply = await operation.patroni(host).reinitialize()
    if not reply.ok:
        message = f"reinit refused, nothing was changed; Patroni said: {reply.text} (HTTP {reply.status})"
        raise RefusedError(message, where=host, hint=f"pgbaton logs tells why on {host}")


async def until_cloned(operation: Operation, host: str, primary: str, before: float | None) -> int:
    """Watch the copy grow until the standby streams; return its size in bytes.

    Raises UnhealthyError when neither size nor state has changed for the operation's timeout.
    """
    total = int(await operation.sql(primary, "SELECT sum(pg_database_size(oid)) FROM pg_database"))
    last, moved = (-1, ""), time.monotonic()
    while True:
        copied, state = await progress(operation, host, primary, before)
        if state is None:
            return copied
        if (copied, state) != last:
            last, moved = (copied, state), time.monotonic()
            operation.report(f"{host}: {size(copied)} of about {size(total)}; {state}")
        if time.monotonic() - moved > operation.timeout_seconds:
            message = f"the copy has not moved for {operation.timeout_seconds:g} s: {size(copied)}; {state}"
            raise UnhealthyError(message, where=host, hint="Patroni keeps trying; pgbaton logs tells what fails")
        await asyncio.sleep(INTERVAL_SECONDS)


async def progress(operation: Operation, host: str, primary: str, before: float | None) -> tuple[int, str | None]:
    """Return the copy's size in bytes, and what it still waits for; None when the standby streams again."""
    own, served, copied = await asyncio.gather(
        operation.server(host), operation.upstreams(host, primary), copied_bytes(operation, host)
    )
    if isinstance(own, Server) and own.started == before:
        return copied, "not begun yet"
    if isinstance(own, servers.Absence):
        return copied, "copying"
    return copied, not_streaming(host, own, *served)


async def copied_bytes(operation: Operation, host: str) -> int:
    """Return the size of all of a host's server; files that vanish while they are read do not matter.

    Tablespaces are copied before anything else, so the data directory alone would seem to stand still.
    """
    topology = operation.topology
    places = (topology.data_directory, *topology.directories)
    result = await operation.hosts[host].run("du", "-sb", *places, check=False, timeout=60)
    if not result.stdout and result.exit_status and "No such file" not in result.stderr:
        raise CommandError(result.stderr.strip(), where=host)
    return sum(int(line.split()[0]) for line in result.stdout.splitlines())
