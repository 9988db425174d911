"""Switchover: move the primary, as planned, to a standby that is fit for it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error, RefusedError, UnhealthyError
from pgbaton.operate import candidates, handover, held, readers
from pgbaton.operate.checks import Check, failed, listing, require
from pgbaton.operate.fences import unfenced
from pgbaton.operate.hand import handover as by_hand_over
from pgbaton.operate.waiting import going_on, until
from pgbaton.topology import placement

if TYPE_CHECKING:
    from pgbaton.operate.dcs import Dcs
    from pgbaton.operate.members import View
    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology

#: A checkpoint on a large, busy primary takes minutes; it blocks nobody.
CHECKPOINT_SECONDS = 1800


@dataclass(frozen=True)
class Intent:
    """A switchover and its checks; ``target`` is None when no standby is fit."""

    source: str | None
    target: str | None
    checks: tuple[Check, ...]

    def require(self, *, told: bool = False) -> tuple[str, str]:
        """Return source and target; raises RefusedError that names the checks that did not pass.

        ``told``: they have been shown already, and are only counted.
        """
        require("switchover", self.checks, told=told)
        if self.source is None or self.target is None:
            message = "switchover refused, nothing was changed: no primary, or no standby that is fit"
            raise RefusedError(message, hint="pgbaton status shows the whole cluster")
        return self.source, self.target

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"from": self.source, "to": self.target, "checks": [check.data for check in self.checks]}


@dataclass(frozen=True)
class Parts:
    """How long each part of a switchover took, in seconds.

    ``hand_over``: from the request until the new primary takes writes; ``routing``: from then until every balancer
    sends writes there; ``rejoin``: from then until the old primary streams as a standby, and in synchronous mode
    Patroni has a synchronous standby again.
    """

    checkpoint: float
    hand_over: float
    routing: float
    rejoin: float

    @property
    def data(self) -> dict[str, float]:
        """Return the parts for JSON, rounded to milliseconds."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Switchover:
    """A switchover that happened."""

    source: str
    target: str
    seconds: Parts
    #: Whether clients were held meanwhile, so that they saw a pause and no error.
    held: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"from": self.source, "to": self.target, "held": self.held, "seconds": self.seconds.data}


def consider(topology: Topology, view: View, to: str | None) -> Intent:
    """Run every check of a switchover; ``to`` names the new primary, None leaves the choice to the checks. Pure."""
    fit, target = candidates.choose(topology, view, to)
    return Intent(view.primary, target, (*cluster_checks(view), *fit))


def cluster_checks(view: View) -> tuple[Check, ...]:
    """Check what does not depend on the candidate."""
    primary = Check(
        "servers out of recovery",
        view.primary is not None,
        listing(view.primaries),
        "exactly one",
        "see pgbaton status; when none comes back: pgbaton failover",
    )
    record = record_checks(view, view.dcs) if view.dcs else ()
    fences = unfenced(view, view.primary) if view.primary else ()
    return (primary, *etcd_checks(view), *record, *route_checks(view), *fences)


def etcd_checks(view: View) -> tuple[Check, ...]:
    """Check that a majority of etcd answers, where there is etcd."""
    return (etcd_check(view),) if view.reading.asked else ()


def etcd_check(view: View) -> Check:
    """Check that a majority of etcd answers."""
    reading = view.reading
    reasons = "".join(f"; {name}: {reason}" for name, reason in reading.silent.items())
    seen = f"{len(reading.answered)} of {len(reading.asked)}{reasons}"
    enough = len(reading.answered) >= reading.needed
    limit = f"{reading.needed} at least"
    silent = sorted(set(reading.asked) - set(reading.answered))
    if reading.foreign:
        fix = f"see that {listing(silent)} can reach a majority of etcd.endpoints; pgbaton status tells how each is"
        return Check("databases that etcd answers", enough, seen, limit, fix)
    fix = f"see that {listing(silent)} can be reached, and that etcd.service runs there"
    return Check("etcd members that answer", enough, seen, limit, fix)


def record_checks(view: View, dcs: Dcs) -> tuple[Check, ...]:
    """Check Patroni's record: the lock is where the primary is, nothing is paused, nothing else is under way."""
    holder, pending = dcs.leader, dcs.request
    paused = "paused" if dcs.paused else "active"
    resume = "patronictl resume on a database host"
    return (
        Check(
            "leader lock", holder == view.primary, f"held by {holder or 'nobody'}", "held by the primary", "wait a loop"
        ),
        Check("Patroni", not dcs.paused, paused, "active", resume),
        Check(
            "requests under way",
            pending is None,
            pending or "none",
            "none",
            "wait, or patronictl flush on a database host",
        ),
    )


def route_checks(view: View) -> tuple[Check, ...]:
    """Check that every balancer that answers, and at least one does, sends writes to the primary alone."""
    if not view.routes:
        return ()
    heard = {name: route for name, route in view.routes.items() if not isinstance(route, str)}
    silent = [f"{name} does not answer" for name in view.routes if name not in heard]
    seen = [f"{name} sends writes to {listing(sorted(route))}" for name, route in heard.items()]
    agree = bool(heard) and all(route == frozenset(view.primaries) for route in heard.values())
    limit = "each that answers sends them to the primary"
    return (Check("balancers", agree, "; ".join(seen + silent), limit, "see pgbaton status and HAProxy's journal"),)


async def switchover(operation: Operation, *, to: str | None) -> Switchover:
    """Move the primary to ``to``, or to the fittest standby.

    Raises RefusedError before anything is changed; after that Error or UnhealthyError, saying who is primary now.
    """
    intent = consider(operation.topology, await operation.look(), to)
    return await carry_out(operation, *intent.require())


async def when_fit(operation: Operation) -> Switchover:
    """Move the primary to the fittest standby as soon as one is fit: a standby just restarted is not at once."""

    async def look() -> str | None:
        wrong = failed(consider(operation.topology, await operation.look(), None).checks)
        return "; ".join(map(str, wrong)) or None

    await until("a standby is fit to take over", look, seconds=operation.timeout_seconds, interval_seconds=0.5)
    return await switchover(operation, to=None)


async def carry_out(operation: Operation, source: str, target: str) -> Switchover:
    """Move the primary from ``source`` to ``target``, which have passed the checks."""
    report = operation.report
    checkpoint = await checkpoint_first(operation, source)
    await readers.lead_away(operation)
    report(f"handing over from {source} to {target}")
    if operation.topology.is_manual:
        return await by_hand(operation, source, target, checkpoint)
    with going_on(
        report, f"Patroni goes on with the switchover from {source} to {target}; pgbaton status shows its end"
    ):
        hand_over, was_held = await hand_over_held(operation, source, target)
        if hand_over is None:
            hand_over = await ask(operation, source, target)
    report(f"{target} takes writes")
    with going_on(report, f"{target} is the primary; balancers and {source} still follow; see pgbaton status"):
        routing = await operation.until_routed(target)
        report(f"every balancer sends writes to {target}")
        rejoin = await operation.until_streaming(source, target) + await operation.until_synchronous()
    report(f"{source} streams from {target}")
    return Switchover(source, target, Parts(checkpoint, hand_over, routing, rejoin), was_held)


async def by_hand(operation: Operation, source: str, target: str, checkpoint: float) -> Switchover:
    """Carry out the hand-over where no Patroni does."""
    done = await by_hand_over.hand_over(operation, source, target)
    operation.report(f"every balancer sends writes to {target}")
    with going_on(operation.report, f"{target} is the primary; {source} still follows; see pgbaton status"):
        rejoin = await by_hand_over.until_rejoined(operation, source, target)
    operation.report(f"{source} streams from {target}")
    return Switchover(source, target, Parts(checkpoint, done.hand_over, done.routing, rejoin), done.held)


async def hand_over_held(operation: Operation, source: str, target: str) -> tuple[float | None, bool]:
    """Hand over with clients held, where there are agents; return the seconds, None when it has to go without.

    Raises Error when it was begun and nobody knows how it ended.
    """
    if not operation.topology.has_agents:
        return None, False
    start = time.monotonic()
    done = await held.hand_over(operation, source, target)
    if done.done:
        return time.monotonic() - start, bool(placement.holders(operation.topology))
    if not done.refused:
        raise verdict(await operation.look(), source, target, done.why)
    operation.report(f"clients are not held meanwhile: {done.why}")
    return None, False


async def checkpoint_first(operation: Operation, source: str) -> float:
    """Write dirty pages out now, so that the shutdown has little left to write; return the seconds it took."""
    operation.report(f"checkpoint on {source}")
    start = time.monotonic()
    with going_on(operation.report, f"nothing was changed; the checkpoint on {source} may still run"):
        await operation.sql(source, "CHECKPOINT", seconds=CHECKPOINT_SECONDS)
    return time.monotonic() - start


async def ask(operation: Operation, source: str, target: str) -> float:
    """Ask the primary's own Patroni to hand over; return the seconds until the target takes writes."""
    request = operation.patroni(source).switchover(source, target)
    try:
        return await handover.until_writable(operation, target, request)
    except Error as error:
        raise verdict(await operation.look(), source, target, error.message) from None


def verdict(view: View, source: str, target: str, why: str) -> Error:
    """Return the error for a switchover that missed its target, by who is primary now. Pure."""
    if view.primary == source:
        message = f"no switchover: {source} is still the primary and takes writes; {target} did not take over. {why}"
        return Error(message, hint=f"pgbaton logs tells why on {source} and {target}; nothing needs repair")
    if view.primary == target:
        return UnhealthyError(f"{target} is the primary, but later than waited for. {why}", hint="pgbaton status")
    if view.primary is not None:
        message = f"{view.primary} became the primary instead of {target}. {why}"
        return Error(message, hint=f"pgbaton switchover --to {target} tries again")
    message = f"no single primary now (out of recovery: {listing(view.primaries)}); Patroni goes on electing one. {why}"
    return UnhealthyError(message, hint="watch pgbaton status; when no primary comes: pgbaton failover")
