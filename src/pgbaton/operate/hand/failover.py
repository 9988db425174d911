"""Failover where a person promotes: never beside a primary that may be alive, with what may be lost in sight."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.deploy.gate import unbroken
from pgbaton.errors import Error, RefusedError
from pgbaton.operate import candidates
from pgbaton.operate.checks import Check, failed, listing, require, size
from pgbaton.operate.hand import claims, control, living, promotion
from pgbaton.operate.members import database_names
from pgbaton.operate.operation import not_streaming
from pgbaton.operate.servers import Absence, Server
from pgbaton.operate.waiting import going_on, until
from pgbaton.topology.model import ReplicationMode

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgbaton.operate.hand.control import Control
    from pgbaton.operate.hand.sight import Sight
    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology

CONFIRM = "--old-primary-is-off"


@dataclass(frozen=True)
class Prospect:
    """A server and what making it primary means.

    ``gap_bytes`` is how far it is behind the furthest standby; ``complete`` tells that it has every acknowledged write.
    ``doubt`` says why a server that was primary may not have; ``outdated`` that it cannot have, by how much unknown.
    """

    host: str
    gap_bytes: int
    complete: bool
    checks: tuple[Check, ...]
    position: int = 0
    restarts: bool = False
    doubt: str = ""
    outdated: bool = False

    @property
    def possible(self) -> bool:
        """Tell whether it can be made primary at all."""
        return not failed(self.checks)

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        meaning = {"gap_bytes": self.gap_bytes, "position": lsn(self.position), "complete": self.complete}
        meaning |= {"outdated": self.outdated}
        return {"host": self.host, **meaning, "obstacles": [str(check) for check in failed(self.checks)]}

    def __str__(self) -> str:
        """Return the line a person decides by."""
        if not self.possible:
            return f"{self.host}: cannot be promoted; {'; '.join(map(str, failed(self.checks)))}"
        meaning = "has every acknowledged write" if self.complete else "acknowledged writes may be missing"
        meaning = self.doubt or meaning
        if self.restarts:
            return f"{self.host}: was primary and is stopped; it would be started where it is; {meaning}"
        return f"{self.host}: at {lsn(self.position)}, {size(self.gap_bytes)} behind the furthest standby; {meaning}"


@dataclass(frozen=True)
class Intent:
    """A failover and its checks; ``fenced`` are stopped and told to follow first, ``silent`` were said to be off.

    ``named`` is the target that was asked for, None when the fittest is taken.
    """

    target: Prospect | None
    prospects: tuple[Prospect, ...]
    checks: tuple[Check, ...]
    fenced: tuple[str, ...]
    silent: tuple[str, ...]
    named: str | None = None

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
    alive = living.signs(topology, sight, {*sight.silent, *fenced})
    checks = (no_primary(sight), all_answer(sight, off), *alive, *own)
    return Intent(target, prospects, checks, fenced, sight.silent, to)


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


def prospect(topology: Topology, sight: Sight, host: str) -> Prospect:
    """Return what making one server the primary means. Pure."""
    permitted = candidates.permission(topology, sight.view, host)
    found = sight.controls[host]
    if host in sight.former and found is not None:
        return former(sight, host, found, permitted)
    server = sight.view.servers[host]
    standby = sight.standby(host)
    if standby is None:
        return Prospect(host, 0, complete=False, checks=(permitted, runs_as_standby(host, server)))
    gap, checks = sight.best - standby.position, (permitted, newest_timeline(sight, host))
    if sight.heard > sight.timeline(host):
        doubt = f"somebody was primary on timeline {sight.heard}: what was acknowledged there is missing"
        return Prospect(host, gap, complete=False, checks=checks, position=standby.position, doubt=doubt, outdated=True)
    return Prospect(host, gap, is_complete(topology, sight, host, gap), checks, standby.position)


def newest_timeline(sight: Sight, host: str) -> Check:
    """Check that no other host which answers has data of a newer timeline. Pure.

    A position says how far it is on its own timeline alone.
    """
    own, fix = sight.timeline(host), "another server was primary after it: choose that one, or a standby of it"
    return Check(f"{host} timeline", own >= sight.newest, str(own), f"{sight.newest}, the newest of all", fix)


def former(sight: Sight, host: str, found: Control, permitted: Check) -> Prospect:
    """Return what starting a server means that was primary and is stopped. Pure.

    It has all that it ever acknowledged. Whether anybody else acknowledged anything after it, the timelines of the
    others say, when all of them answer; otherwise only what it saw itself before they fell silent.
    """
    checks = (permitted, newest_timeline(sight, host))
    if found.superseded is not None:
        by, timeline = found.superseded
        doubt = f"{by} was primary after it, on timeline {timeline}: what was acknowledged there is missing"
        return Prospect(host, 0, complete=False, checks=checks, restarts=True, doubt=doubt, outdated=True)
    if sight.heard > found.timeline:
        doubt = f"somebody was primary after it, on timeline {sight.heard}: what was acknowledged there is missing"
        return Prospect(host, 0, complete=False, checks=checks, restarts=True, doubt=doubt, outdated=True)
    silent = ", ".join(sight.silent)
    doubt = f"acknowledged writes are missing if {silent} was promoted after it" if silent else ""
    return Prospect(host, 0, complete=not silent, checks=checks, restarts=True, doubt=doubt)


def runs_as_standby(host: str, server: Server | Absence) -> Check:
    """Check that a server runs as a standby."""
    if isinstance(server, Absence):
        return candidates.running(host, server)
    return Check(f"{host} as standby", passed=False, seen="primary", limit="a standby", fix="pgbaton switchover")


def is_complete(topology: Topology, sight: Sight, host: str, gap: int) -> bool:
    """Tell whether a standby has every acknowledged write for sure. Pure.

    Commits wait for as many of the attached standbys as the topology says, so it has when it is the furthest, and too
    few of the others are without a word to have confirmed anything by themselves. A word is a standby's own: that it is
    attached, and was sent what had been acknowledged before it was. What the others remember of it says nothing, since
    it may have been off when it was detached.
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
    sure = [each for each in attached if is_sure(sight, each)]
    return host in sure and len(attached) - len(sure) < min(replication.count, len(attached))


def is_sure(sight: Sight, host: str) -> bool:
    """Tell whether a standby runs, and every commit up to where it is has waited for it. Pure."""
    standby, found = sight.standby(host), sight.controls[host]
    if standby is None or found is None or found.confirms is None:
        return False
    return standby.position >= found.confirms


def accept(target: Prospect, accepted_bytes: int | None) -> None:
    """Raise RefusedError unless the loss that was accepted beforehand covers what is known of the gap.

    Where nothing is known of it, no number does.
    """
    if target.outdated:
        message = f"failover refused, nothing was changed: {target}"
        hint = f"bring the other one back; where it is lost for good, type {target.host} on a terminal, without --yes"
        raise RefusedError(message, hint=hint)
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
    primary and whose host answers is stopped before it is measured who is the furthest: its last commits go out as it
    stops. It is made to follow, and every standby is turned to the target, before that is promoted.
    """
    async with claims.claimed(operation, "a failover"):
        return await carry_out(operation, intent)


async def carry_out(operation: Operation, intent: Intent) -> Failover:
    """Fail over, while nobody else changes who leads."""
    sight = await living.settled(operation)
    now = consider(operation.topology, sight, intent.named, off=intent.silent)
    still(now, intent)
    if now.fenced:
        await living.refuse_alive(operation, sight, now.fenced)
        sight, now = await stopped(operation, intent, now.fenced)
    target = still(now, intent, fenced=now.fenced)
    for host in now.fenced:
        await control.tell(operation, host, "follow", target.host)
    await living.turn(operation, sight, target.host)
    start = time.monotonic()
    apart = apart_from(operation.topology, sight, target.host)
    with going_on(operation.report, f"{target.host} may be primary already: pgbaton status"):
        await unbroken(lead(operation, target, detached(operation.topology, sight, target.host, apart)))
    taken = time.monotonic() - start
    operation.report(f"{target.host} takes writes")
    with going_on(operation.report, f"{target.host} is the primary; balancers and standbys still follow"):
        await follow(operation, sight, target.host)
        routing = await operation.until_routed(target.host)
        operation.report(f"every balancer sends writes to {target.host}")
    return Failover(target, taken, routing, apart)


async def stopped(operation: Operation, intent: Intent, hosts: tuple[str, ...]) -> tuple[Sight, Intent]:
    """Stop what is left of old primaries; return what is seen afterwards, and what it comes to."""
    for host in hosts:
        operation.report(f"{host}: stopping what is left of the old primary; it starts as a standby only from now on")
        await control.stop_for_good(operation, host)
    sight = await living.settled(operation)
    now = consider(operation.topology, sight, intent.named, off=intent.silent)
    if now.target and now.target.host != intent.require().host:
        operation.report(f"{now.target.host} is further by now, and chosen instead of {intent.require().host}")
    return sight, now


def still(now: Intent, accepted: Intent, *, fenced: tuple[str, ...] = ()) -> Prospect:
    """Return the target when nothing got worse since the intent was accepted; raises RefusedError when it did. Pure.

    ``fenced`` are the old primaries that were stopped meanwhile.
    """
    target, before = now.require(), accepted.require()
    worse = (before.complete and not target.complete) or (target.outdated and not before.outdated)
    if target.gap_bytes > before.gap_bytes or worse:
        done = f"nobody was promoted; stopped: {listing(fenced)}" if fenced else "nothing was changed"
        message = f"failover refused, {done}: since you decided, this changed: {target}"
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
    await promotion.start_as_primary(operation, target.host)


async def follow(operation: Operation, sight: Sight, primary: str) -> None:
    """Wait until every running standby, which was turned to it, streams; one that does not in time is told of."""
    standbys = [name for name in sight.controls if name != primary and sight.standby(name)]
    for standby in standbys:
        try:
            await until_streaming(operation, standby, primary)
            await control.confirm(operation, standby)
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
