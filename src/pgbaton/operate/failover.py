"""Failover by hand: promote a standby when there is no primary, with what that may lose in sight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error, RefusedError, UnhealthyError
from pgbaton.operate import candidates, handover
from pgbaton.operate.checks import Check, failed, listing, require, size
from pgbaton.operate.servers import Absence, Server
from pgbaton.operate.switchover import etcd_check
from pgbaton.operate.waiting import going_on

if TYPE_CHECKING:
    from pgbaton.operate.dcs import Dcs
    from pgbaton.operate.members import View
    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology


@dataclass(frozen=True)
class Prospect:
    """A standby and what promoting it means.

    ``gap_bytes`` is the distance from the last position known of the primary; ``complete`` tells that Patroni's record
    guarantees every acknowledged write to be there. ``fenced_on`` are the hosts that cannot reach it until they have
    seen it lead; None where there are no agents.
    """

    host: str
    gap_bytes: int | None
    complete: bool
    checks: tuple[Check, ...]
    fenced_on: tuple[str, ...] | None = None

    @property
    def possible(self) -> bool:
        """Tell whether the standby can be promoted at all."""
        return not failed(self.checks)

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        obstacles = [str(check) for check in failed(self.checks)]
        fences = {} if self.fenced_on is None else {"fenced_on": list(self.fenced_on)}
        meaning = {"gap_bytes": self.gap_bytes, "complete": self.complete}
        return {"host": self.host, **meaning, "obstacles": obstacles, **fences}

    def __str__(self) -> str:
        """Return the line a person decides by."""
        if not self.possible:
            return f"{self.host}: cannot be promoted; {'; '.join(map(str, failed(self.checks)))}"
        meaning = "holds every acknowledged write" if self.complete else "acknowledged writes may be missing"
        where = ", ".join(self.fenced_on or ())
        fences = f"; fenced on {where}, and out of reach there until the agents see it lead" if where else ""
        return f"{self.host}: {size(self.gap_bytes or 0)} behind the last known position; {meaning}{fences}"


@dataclass(frozen=True)
class Intent:
    """A failover and its checks; ``target`` is None when no standby can be promoted.

    ``hidden`` is the lock's holder when it is out of reach: nobody can tell whether it takes writes.
    """

    hidden: str | None
    target: Prospect | None
    prospects: tuple[Prospect, ...]
    checks: tuple[Check, ...]

    @property
    def needs_acceptance(self) -> bool:
        """Tell whether it may lose writes: the target may lack some, or the lock's holder may be alive out of reach."""
        return self.target is None or not self.target.complete or self.hidden is not None

    @property
    def warning(self) -> str | None:
        """Return what a lock held out of reach means, when it is."""
        if self.hidden is None:
            return None
        return f"{self.hidden} holds the leader lock and gives no answer: it may be alive out of reach and take writes"

    def require(self) -> Prospect:
        """Return the target; raises RefusedError that names what stands against it."""
        require("failover", self.checks)
        if self.target is None:
            message = "\n  ".join(
                ["failover refused, nothing was changed: no standby can be promoted:", *map(str, self.prospects)]
            )
            raise RefusedError(message, hint="bring a database host back first; pgbaton status shows the whole cluster")
        return self.target

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "to": self.target.host if self.target else None,
            "holder_out_of_reach": self.hidden,
            "needs_acceptance": self.needs_acceptance,
            "candidates": [prospect.data for prospect in self.prospects],
            "checks": [check.data for check in self.checks],
        }


def consider(topology: Topology, view: View, to: str | None) -> Intent:
    """Run every check of a failover; ``to`` names the new primary, None takes the one with the least to lose. Pure."""
    prospects = tuple(prospect(topology, view, host) for host in candidates.standbys(topology, view))
    named = [each for each in prospects if to in {None, each.host}]
    possible = sorted(
        (each for each in named if each.possible),
        key=lambda each: (not each.complete, bool(each.fenced_on), each.gap_bytes or 0),
    )
    own = tuple(check for each in named if to is not None for check in each.checks)
    checks = (etcd_check(view), no_primary(view), no_successor(view), *own)
    return Intent(hidden_holder(view), possible[0] if possible else None, prospects, checks)


def no_primary(view: View) -> Check:
    """Check that no server that can be reached takes writes."""
    fix = "pgbaton switchover moves a living primary; stop its PostgreSQL first when it must not lead"
    return Check("servers out of recovery", not view.primaries, listing(view.primaries), "none", fix)


def no_successor(view: View) -> Check:
    """Check that no running standby holds the lock: Patroni would be promoting it right now."""
    holder = view.dcs.leader if view.dcs else None
    waiting = holder in view.running and holder not in view.primaries
    seen = f"held by {holder}, which runs as a standby" if waiting else f"held by {holder or 'nobody'}"
    return Check("leader lock", not waiting, seen, "held by no running standby", "wait: Patroni is promoting it")


def hidden_holder(view: View) -> str | None:
    """Return the host that holds the lock when it is out of reach."""
    holder = view.dcs.leader if view.dcs else None
    server = view.servers.get(holder or "")
    return holder if server is None or (isinstance(server, Absence) and not server.host_answers) else None


def prospect(topology: Topology, view: View, host: str) -> Prospect:
    """Return what promoting one standby means."""
    server = view.servers[host]
    checks = [candidates.permission(topology, view, host), candidates.running(host, server)]
    if view.dcs:
        checks.append(candidates.membership(host, view.dcs))
    gap = max(0, last_known(view) - server.position) if isinstance(server, Server) else None
    complete = view.dcs is not None and is_complete(host, view.dcs)
    fenced_on = None if view.fences is None else view.fences.get(host, ())
    return Prospect(host, gap, complete, tuple(checks), fenced_on)


def last_known(view: View) -> int:
    """Return the furthest position known: what the primary last reported to etcd, or what any standby has of it."""
    return max(view.dcs.position if view.dcs else 0, candidates.head(view.servers.values()))


def is_complete(host: str, dcs: Dcs) -> bool:
    """Tell whether the record guarantees that ``host`` has every acknowledged write.

    It does for the synchronous standbys and for the primary that wrote the record. Where any quorum of the standbys
    acknowledges, one of them alone guarantees nothing.
    """
    if not dcs.synchronous or not dcs.sync_leader:
        return False
    return host == dcs.sync_leader or (host in dcs.sync_standbys and not dcs.quorum)


def accept(target: Prospect, accepted_bytes: int | None) -> None:
    """Raise RefusedError unless the loss that was accepted beforehand covers the gap."""
    if accepted_bytes is not None and target.gap_bytes is not None and accepted_bytes >= target.gap_bytes:
        return
    limit = "none was accepted" if accepted_bytes is None else f"{size(accepted_bytes)} accepted"
    message = f"failover refused, nothing was changed: possible loss: {target}; {limit}"
    raise RefusedError(message, hint=f"--accept-loss {target.gap_bytes} --yes promotes {target.host} all the same")


@dataclass(frozen=True)
class Failover:
    """A failover that happened; parts in seconds."""

    target: Prospect
    promotion: float
    routing: float

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        seconds = {"promotion": round(self.promotion, 3), "routing": round(self.routing, 3)}
        return {
            "to": self.target.host,
            "gap_bytes": self.target.gap_bytes,
            "complete": self.target.complete,
            "seconds": seconds,
        }


async def failover(operation: Operation, intent: Intent) -> Failover:
    """Promote the target of an intent that was accepted.

    Looks again first, and raises RefusedError when a primary came back or the target fell further behind meanwhile.
    """
    target = still(consider(operation.topology, await operation.look(), intent.require().host), intent)
    operation.report(f"asking Patroni on {target.host} to take over")
    with going_on(
        operation.report, f"Patroni goes on with the failover to {target.host}; pgbaton status shows its end"
    ):
        promotion = await ask(operation, target.host)
    operation.report(f"{target.host} takes writes")
    with going_on(operation.report, f"{target.host} is the primary; balancers and standbys still follow"):
        routing = await operation.until_routed(target.host)
        operation.report(f"every balancer sends writes to {target.host}")
        await follow(operation, target.host)
    return Failover(target, promotion, routing)


def still(now: Intent, accepted: Intent) -> Prospect:
    """Return the target when nothing got worse since the intent was accepted; raises RefusedError when it did."""
    target, before = now.require(), accepted.require()
    worse = (target.gap_bytes or 0) > (before.gap_bytes or 0) or (before.complete and not target.complete)
    if worse or (now.hidden is not None and accepted.hidden is None):
        message = f"failover refused, nothing was changed: since you decided, this changed: {now.warning or target}"
        raise RefusedError(message, hint="decide again: pgbaton failover")
    return target


async def ask(operation: Operation, target: str) -> float:
    """Ask the target's own Patroni for the failover; return the seconds until the target takes writes."""
    try:
        return await handover.until_writable(operation, target, operation.patroni(target).failover(target))
    except Error as error:
        raise verdict(await operation.look(), target, error.message) from None


def verdict(view: View, target: str, why: str) -> Error:
    """Return the error for a failover that missed its target, by who is primary now. Pure."""
    if view.primary is not None and view.primary != target:
        return Error(f"{view.primary} became the primary instead of {target}. {why}", hint="pgbaton status")
    request = f" The request stays in etcd: {view.dcs.request}." if view.dcs and view.dcs.request else ""
    message = f"{target} did not take over; out of recovery: {listing(view.primaries)}.{request} {why}"
    return UnhealthyError(message, hint=f"pgbaton logs tells why on {target}")


async def follow(operation: Operation, primary: str) -> None:
    """Wait until every other running server streams from the new primary; raises UnhealthyError when one does not."""
    for standby in (await operation.look()).running:
        if standby != primary:
            await operation.until_streaming(standby, primary)
            operation.report(f"{standby} streams from {primary}")
