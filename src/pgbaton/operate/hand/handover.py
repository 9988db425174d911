"""A planned change of primary, step by step: hold clients, stop in order, see that nothing is missing, promote."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.deploy.gate import unbroken
from pgbaton.errors import Error, UnhealthyError
from pgbaton.operate.hand import control, pausing, promotion
from pgbaton.operate.operation import not_streaming
from pgbaton.operate.servers import Absence
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from pgbaton.operate.operation import Operation

#: What the control file says of a server that was stopped in order.
STOPPED = "shut down"


@dataclass(frozen=True)
class HandedOver:
    """A hand-over that happened, in seconds: until the new primary took writes, and until balancers knew."""

    hand_over: float
    routing: float
    held: bool


async def hand_over(operation: Operation, source: str, target: str) -> HandedOver:
    """Move the primary from ``source`` to ``target``, which have passed the checks.

    Clients that are held go on when every balancer knows the new primary, and on every way out of here. Until the
    standby is promoted, whatever goes wrong starts the old primary again; raises the Error that says what it was.
    """
    view, controls = await asyncio.gather(operation.look(), control.look(operation.topology, operation.hosts))
    others = tuple(name for name in view.running if name not in {source, target})
    await promotion.prepare(operation, target, detached=detached_by(controls, target))
    begun, following = False, None
    try:
        async with pausing.held(operation) as was_held:
            begun = True
            start = time.monotonic()
            beyond = await stop(operation, source, target)
            # Between two primaries nobody may be interrupted: there would be none.
            await unbroken(take_over(operation, source, target, beyond))
            taken = time.monotonic() - start
            operation.report(f"{target} takes writes")
            # It takes longer than clients have to be held.
            following = asyncio.create_task(follow_all(operation, source, target, others))
            routing = await operation.until_routed(target)
    finally:
        if not begun:
            await unbroken(promotion.unprepare(operation, target, source))
        if following is not None:
            await unbroken(following)
    return HandedOver(taken, routing, was_held)


async def stop(operation: Operation, source: str, target: str) -> int:
    """Stop the primary in order; return where its WAL ends, in bytes. Starts it again when that cannot be said."""
    try:
        operation.report(f"stopping PostgreSQL on {source}")
        last = await control.stop_and_look(operation, source)
        if last.runs or last.state != STOPPED:
            message = f"it was not stopped in order (control file: {last.state or 'not readable'})"
            raise UnhealthyError(message, where=source)
    except (Error, asyncio.CancelledError) as error:
        await unbroken(start_again(operation, source, target))
        if isinstance(error, asyncio.CancelledError):
            raise
        raise not_moved(source, target, error) from None
    return last.checkpoint


async def take_over(operation: Operation, source: str, target: str, beyond: int) -> None:
    """Promote the standby once it has all of the old primary; raises the Error that says who is primary otherwise."""
    try:
        await promotion.promote(operation, target, beyond=beyond)
    except Error as error:
        server = await operation.server(target)
        if isinstance(server, Absence) or not server.in_recovery:
            message = f"{target} was to be promoted, and nobody knows whether it was: {error.message}"
            hint = f"pgbaton status; {source} is stopped, and does not start as a primary beside another one"
            raise UnhealthyError(message, hint=hint) from None
        await start_again(operation, source, target)
        raise not_moved(source, target, error) from None


async def start_again(operation: Operation, source: str, target: str) -> None:
    """Have everything be as it was: the old primary leads, the standby follows it."""
    operation.report(f"{source} is started again; nothing was promoted")
    await control.start(operation, source)
    await promotion.unprepare(operation, target, source)


def not_moved(source: str, target: str, why: Error) -> Error:
    """Return the error for a hand-over that was given up. Pure."""
    lines = why.message.strip().splitlines()
    reason = next((line for line in lines if "ERROR:" in line), lines[-1])
    message = f"no switchover: {source} is the primary again; {target} was not promoted. {reason}"
    return Error(message, hint=f"pgbaton logs tells why on {source} and {target}; nothing needs repair")


async def follow_all(operation: Operation, source: str, target: str, others: tuple[str, ...]) -> None:
    """Start the old primary as a standby, and have the other standbys follow."""
    await promotion.follow_as_standby(operation, source, target)
    await asyncio.gather(*(follow(operation, name, target) for name in others))


async def follow(operation: Operation, standby: str, primary: str) -> None:
    """Have another standby follow the new primary; one that cannot be told is told of."""
    try:
        await promotion.repoint(operation, standby, primary)
        await control.confirm(operation, standby)
    except Error as error:
        operation.report(f"{standby} does not follow {primary} yet: {error.message}; pgbaton reinit {standby}")


def detached_by(controls: dict[str, control.Control | None], target: str) -> tuple[str, ...]:
    """Return the standbys that commits are not to wait for under a new primary: those detached so far. Pure."""
    names = {name for found in controls.values() if found for name in found.detached}
    return tuple(sorted(names - {target}))


async def until_rejoined(operation: Operation, source: str, target: str) -> float:
    """Wait until the old primary streams from the new one, and forget what it kept for others; return the seconds."""

    async def look() -> str | None:
        own, served = await asyncio.gather(operation.server(source), operation.server(target))
        return not_streaming(source, own, served)

    taken = await until(f"{source} streams from {target}", look, seconds=operation.timeout_seconds)
    await control.confirm(operation, source)
    await promotion.forget_slots(operation, source)
    return taken
