"""Failover where a person promotes: never beside a primary that may be alive, with what may be lost in sight."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error, RefusedError
from pgbaton.operate import candidates
from pgbaton.operate.checks import Check, failed, listing, require, size
from pgbaton.operate.hand import control, promotion
from pgbaton.operate.hand.sight import Sight, look
from pgbaton.operate.members import database_names
from pgbaton.operate.operation import not_streaming
from pgbaton.operate.servers import Absence, Server
from pgbaton.operate.waiting import going_on, until
from pgbaton.topology.model import ReplicationMode

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology

CONFIRM = "--old-primary-is-off"
#: What a walreceiver needs beyond its timeout to end, and between two looks at whether it has.
NOTICE_SECONDS = 1.0
PAUSE_SECONDS = 0.3


@dataclass(frozen=True)
class Prospect:
    """A server and what making it primary means.

    ``gap_bytes`` is how far it is behind the furthest standby; ``complete`` tells that it has every acknowledged write.
    """

    host: str
    gap_bytes: int
    complete: bool
    checks: tuple[Check, ...]
    position: int = 0
    restarts: bool = False

    @property
    def possible(self) -> bool:
        """Tell whether it can be made primary at all."""
        return not failed(self.checks)

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        meaning = {"gap_bytes": self.gap_bytes, "position": lsn(self.position), "complete": self.complete}
        return {"host": self.host, **meaning, "obstacles": [str(check) for check in failed(self.checks)]}

    def __str__(self) -> str:
        """Return the line a person decides by."""
        if not self.possible:
            return f"{self.host}: cannot be promoted; {'; '.join(map(str, failed(self.checks)))}"
        meaning = "has every acknowledged write" if self.complete else "acknowledged writes may be missing"
        if self.restarts:
            return f"{self.host}: was primary and is stopped; it would be started where it is; {meaning}"
        return f"{self.host}: at {lsn(self.position)}, {size(self.gap_bytes)} behind the furthest standby; {meaning}"


@dataclass(frozen=True)
class Intent:
    """A failover and its checks; ``fenced`` are stopped and told to follow first, ``silent`` were said to be off."""

    target: Prospect | None
    prospects: tuple[Prospect, ...]
    checks: tuple[Check, ...]
    fenced: tuple[str, ...]
    silent: tuple[str, ...]

    @property
    def needs_acceptance(self) -> bool:
        """Tell whether it may lose writes."""
        return self.target is None or not self.target.complete

    @property
    def warning(self) -> str | None:
        """Return what silent hosts mean, when there are any."""
        if not self.silent:
            return None
        who, verb = ", ".join(self.silent), "gives" if len(self.silent) == 1 else "give"
        return f"{who} {verb} no answer: if it is alive and primary, there will be two"

    def require(self) -> Prospect:
        """Return the target; raises RefusedError that names what stands against it."""
        require("failover", self.checks)
        if self.target is None:
            lines = ["failover refused, nothing was changed: no server can be promoted:", *map(str, self.prospects)]
            hint = "bring a database host back first; pgbaton status shows the whole cluster"
            raise RefusedError("\n  ".join(lines), hint=hint)
        return self.target

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "to": self.target.host if self.target else None,
            "silent": list(self.silent),
            "stopped_first": list(self.fenced),
            "needs_acceptance": self.needs_acceptance,
            "candidates": [prospect.data for prospect in self.prospects],
            "checks": [check.data for check in self.checks],
        }


def consider(topology: Topology, sight: Sight, to: str | None, *, off: Collection[str]) -> Intent:
    """Run every check of a failover; ``off`` are the hosts that were said to be off. Pure.

    Without a name the fittest standby is taken; a primary that is stopped is started only when it is named.
    """
    prospects = tuple(prospect(topology, sight, host) for host in database_names(topology))
    named = [each for each in prospects if each.host == to or (to is None and not each.restarts)]
    possible = sorted((each for each in named if each.possible), key=lambda each: (not each.complete, each.gap_bytes))
    target = possible[0] if possible else None
    own = tuple(check for each in named if to is not None for check in each.checks)
    fenced = tuple(host for host in sight.former if target is None or host != target.host)
    checks = (no_primary(sight), all_answer(sight, off), *nobody_sends(topology, sight), *own)
    return Intent(target, prospects, checks, fenced, sight.silent)


def no_primary(sight: Sight) -> Check:
    """Check that no server that can be reached takes writes."""
    primaries = sight.view.primaries
    fix = "pgbaton switchover moves a living primary; stop its PostgreSQL first when it must not lead"
    return Check("servers out of recovery", not primaries, listing(primaries), "none", fix)


def all_answer(sight: Sight, off: Collection[str]) -> Check:
    """Check that every database host answers, or was said to be off: each may be a primary that clients still reach."""
    unsaid = [host for host in sight.silent if host not in off]
    words = " ".join(f"{CONFIRM} {host}" for host in unsaid)
    fix = f"see that its power is off, or that it is cut from clients and hosts, then say so: {words}"
    seen = ", ".join(sight.silent) or "none"
    return Check("database hosts that give no answer", not unsaid, seen, "none, or known to be off", fix)


def nobody_sends(topology: Topology, sight: Sight) -> tuple[Check, ...]:
    """Check that no standby goes on receiving from a host that is said to be off, by a network for replication.

    A host that neither clients nor operators reach may be alive there. Nothing where there is no such network.
    """
    if not topology.has_replication_network or not sight.silent:
        return ()
    hearing, who = receiving(sight), ", ".join(sight.silent)
    fix = f"{who} sends WAL, so it lives: cut its power, then run failover again"
    return (Check("standbys that still receive WAL", not hearing, listing(hearing), "none", fix),)


def receiving(sight: Sight) -> tuple[str, ...]:
    """Return the standbys that stream, as far as they know yet. Pure."""
    standbys = {name: sight.standby(name) for name in sight.controls}
    return tuple(name for name, server in standbys.items() if server and server.receiving)


async def look_when_known(operation: Operation) -> Sight:
    """Look at the cluster, and again for as long as a standby needs to notice that its primary's host is gone."""
    seen = await look(operation)
    if operation.topology.has_replication_network and seen.silent and receiving(seen):
        seconds = 2 * operation.topology.timings.wal_sender_timeout + NOTICE_SECONDS
        operation.report(f"{listing(receiving(seen))} may still receive WAL: {seconds:g} s at most until that is known")
        deadline = time.monotonic() + seconds
        while receiving(seen) and time.monotonic() < deadline:
            await asyncio.sleep(PAUSE_SECONDS)
            seen = await look(operation)
    return seen


def prospect(topology: Topology, sight: Sight, host: str) -> Prospect:
    """Return what making one server the primary means. Pure."""
    permitted = candidates.permission(topology, sight.view, host)
    if host in sight.former:
        newest = max(found.timeline for found in sight.controls.values() if found)
        found = sight.controls[host]
        newer = Check(
            f"{host} timeline",
            found is not None and found.timeline >= newest,
            str(found.timeline if found else 0),
            f"{newest}, the newest of all",
            "another server was primary after it: choose that one",
        )
        return Prospect(host, 0, complete=True, checks=(permitted, newer), restarts=True)
    server = sight.view.servers[host]
    standby = sight.standby(host)
    if standby is None:
        return Prospect(host, 0, complete=False, checks=(permitted, runs_as_standby(host, server)))
    gap = sight.best - standby.position
    return Prospect(host, gap, is_complete(topology, sight, host, gap), (permitted,), standby.position)


def runs_as_standby(host: str, server: Server | Absence) -> Check:
    """Check that a server runs as a standby."""
    if isinstance(server, Absence):
        return candidates.running(host, server)
    return Check(f"{host} as standby", passed=False, seen="primary", limit="a standby", fix="pgbaton switchover")


def is_complete(topology: Topology, sight: Sight, host: str, gap: int) -> bool:
    """Tell whether a standby has every acknowledged write for sure. Pure.

    Commits wait for as many of the attached standbys as the topology says, so it has when it is the furthest, and too
    few of the others are out of sight to have confirmed anything by themselves.
    """
    replication = topology.replication
    if replication.mode is ReplicationMode.ASYNCHRONOUS or gap > 0:
        return False
    detached = {name for found in sight.controls.values() if found for name in found.detached}
    able = [each for each in database_names(topology) if topology.host(each).confirms and each not in detached]
    leader = sight.upstream
    attached = [each for each in able if each != leader]
    if leader is None or host not in attached:
        return False
    unseen = [each for each in attached if sight.standby(each) is None]
    return len(unseen) < min(replication.count, len(attached))


def accept(target: Prospect, accepted_bytes: int | None) -> None:
    """Raise RefusedError unless the loss that was accepted beforehand covers what is known of the gap."""
    if accepted_bytes is not None and accepted_bytes >= target.gap_bytes:
        return
    limit = "none was accepted" if accepted_bytes is None else f"{size(accepted_bytes)} accepted"
    message = f"failover refused, nothing was changed: possible loss: {target}; {limit}"
    raise RefusedError(message, hint=f"--accept-loss {target.gap_bytes} --yes promotes {target.host} all the same")


@dataclass(frozen=True)
class Failover:
    """A failover that happened; parts in seconds. ``apart`` are the hosts that do not follow yet."""

    target: Prospect
    promotion: float
    routing: float
    apart: tuple[str, ...]

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        seconds = {"promotion": round(self.promotion, 3), "routing": round(self.routing, 3)}
        meaning = {"gap_bytes": self.target.gap_bytes, "complete": self.target.complete}
        return {"to": self.target.host, **meaning, "apart": list(self.apart), "seconds": seconds}


async def failover(operation: Operation, intent: Intent) -> Failover:
    """Make the target of an intent that was accepted the primary.

    Looks again first, and raises RefusedError when a primary came back or the target fell further behind. Whoever was
    primary and whose host answers is stopped, and made to follow, before anybody is promoted.
    """
    sight = await look(operation)
    now = consider(operation.topology, sight, intent.require().host, off=intent.silent)
    target = still(now, intent)
    for host in now.fenced:
        operation.report(f"{host}: stopping what is left of the old primary; it starts as a standby only from now on")
        await control.stop_for_good(operation, host)
        await control.tell(operation, host, "follow", target.host)
    start = time.monotonic()
    apart = apart_from(operation.topology, sight, target.host)
    with going_on(operation.report, f"{target.host} may be primary already: pgbaton status"):
        await lead(operation, target, detached(operation.topology, sight, target.host, apart))
    taken = time.monotonic() - start
    operation.report(f"{target.host} takes writes")
    with going_on(operation.report, f"{target.host} is the primary; balancers and standbys still follow"):
        await follow(operation, sight, target.host)
        routing = await operation.until_routed(target.host)
        operation.report(f"every balancer sends writes to {target.host}")
    return Failover(target, taken, routing, apart)


def still(now: Intent, accepted: Intent) -> Prospect:
    """Return the target when nothing got worse since the intent was accepted; raises RefusedError when it did. Pure."""
    target, before = now.require(), accepted.require()
    if target.gap_bytes > before.gap_bytes or (before.complete and not target.complete):
        message = f"failover refused, nothing was changed: since you decided, this changed: {target}"
        raise RefusedError(message, hint="decide again: pgbaton failover")
    return target


def apart_from(topology: Topology, sight: Sight, target: str) -> tuple[str, ...]:
    """Return the databases that will not follow at once: those that do not run as standbys. Pure."""
    return tuple(name for name in database_names(topology) if name != target and sight.standby(name) is None)


def detached(topology: Topology, sight: Sight, target: str, apart: tuple[str, ...]) -> tuple[str, ...]:
    """Return the standbys that commits do not wait for under the new primary. Pure.

    Those that do not follow are left out, so that writes go on; in strict mode never the last of them.
    """
    before = {name for found in sight.controls.values() if found for name in found.detached}
    out = (before | set(apart)) - {target}
    able = {host for host in database_names(topology) if topology.host(host).confirms} - {target}
    if topology.replication.mode is ReplicationMode.STRICT and not able - out:
        out = before - {target}
    return tuple(sorted(out))


async def lead(operation: Operation, target: Prospect, left_out: tuple[str, ...]) -> None:
    """Have a server take writes: promote a standby, or start the one that was primary where it is."""
    if not target.restarts:
        await promotion.prepare(operation, target.host, detached=left_out)
        await promotion.promote(operation, target.host)
        return
    await control.tell(operation, target.host, "lead", *left_out)
    await control.start(operation, target.host)

    async def seen() -> str | None:
        server = await operation.server(target.host)
        return server.reason if isinstance(server, Absence) else ("in recovery" if server.in_recovery else None)

    await until(f"{target.host} takes writes", seen, seconds=operation.timeout_seconds)


async def follow(operation: Operation, sight: Sight, primary: str) -> None:
    """Have every running standby follow the new primary; one that does not stream in time is told of."""
    standbys = [name for name in sight.controls if name != primary and sight.standby(name)]
    for standby in standbys:
        try:
            await promotion.repoint(operation, standby, primary)
            await until_streaming(operation, standby, primary)
        except Error as error:
            operation.report(f"{standby} does not follow: {error.message}; pgbaton reinit {standby}")


async def until_streaming(operation: Operation, standby: str, primary: str) -> None:
    """Wait until a standby streams from the primary."""

    async def seen() -> str | None:
        own, served = await asyncio.gather(operation.server(standby), operation.server(primary))
        return not_streaming(standby, own, served)

    await until(f"{standby} streams from {primary}", seen, seconds=operation.timeout_seconds)
    operation.report(f"{standby} streams from {primary}")


def lsn(position: int) -> str:
    """Return a position as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
