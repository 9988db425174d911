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

#: How long a standby may take to have everything of a primary that has stopped.
LEVEL_SECONDS = 10
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
    await promotion.make_slots(operation, target)
    async with pausing.held(operation) as was_held:
        start = time.monotonic()
        await stop_level(operation, source, target)
        # Between two primaries nobody may be interrupted: there would be none.
        await unbroken(take_over(operation, source, target, detached_by(controls, target)))
        taken = time.monotonic() - start
        operation.report(f"{target} takes writes")
        routing, _ = await asyncio.gather(operation.until_routed(target), follow_all(operation, source, target, others))
    return HandedOver(taken, routing, was_held)


async def take_over(operation: Operation, source: str, target: str, detached: tuple[str, ...]) -> None:
    """Promote the standby; raises the Error that says who is primary when that fails."""
    try:
        await promotion.promote(operation, target, detached=detached)
    except Error as error:
        raise await not_promoted(operation, source, target, error) from None


async def follow_all(operation: Operation, source: str, target: str, others: tuple[str, ...]) -> None:
    """Start the old primary as a standby, and have the other standbys follow."""
    await promotion.follow_as_standby(operation, source, target)
    await asyncio.gather(*(follow(operation, name, target) for name in others))


async def follow(operation: Operation, standby: str, primary: str) -> None:
    """Have another standby follow the new primary; one that cannot be told is told of."""
    try:
        await promotion.repoint(operation, standby, primary)
    except Error as error:
        operation.report(f"{standby} does not follow {primary} yet: {error.message}; pgbaton reinit {standby}")


def detached_by(controls: dict[str, control.Control | None], target: str) -> tuple[str, ...]:
    """Return the standbys that commits are not to wait for under a new primary: those detached so far. Pure."""
    names = {name for found in controls.values() if found for name in found.detached}
    return tuple(sorted(names - {target}))


async def stop_level(operation: Operation, source: str, target: str) -> None:
    """Stop the primary in order and see that the standby has all of it; starts it again when that cannot be seen."""
    try:
        operation.report(f"stopping PostgreSQL on {source}")
        await control.stop(operation, source)
        await until_level(operation, source, target)
    except (Error, asyncio.CancelledError) as error:
        operation.report(f"{source} is started again; nothing was promoted")
        await asyncio.shield(control.start(operation, source))
        await promotion.forget_slots(operation, target)
        if isinstance(error, asyncio.CancelledError):
            raise
        message = f"no switchover: {source} is the primary again; {target} was not promoted. {error.message}"
        raise Error(message, hint=f"pgbaton logs tells why on {source} and {target}; nothing needs repair") from None


async def until_level(operation: Operation, source: str, target: str) -> None:
    """Wait until the standby has replayed the checkpoint that ends the primary's WAL; raises UnhealthyError."""
    last = await control.ask(operation.hosts[source])
    if last is None or last.runs or last.state != STOPPED:
        message = f"it was not stopped in order (control file: {last.state if last else 'not readable'})"
        raise UnhealthyError(message, where=source)
    end = last.checkpoint

    async def look() -> str | None:
        server = await operation.server(target)
        if isinstance(server, Absence):
            return server.reason
        return None if server.replayed > end else f"it has replayed {server.replayed} bytes of more than {end}"

    await until(f"{target} has all that {source} wrote", look, seconds=LEVEL_SECONDS)


async def not_promoted(operation: Operation, source: str, target: str, why: Error) -> Error:
    """Return the error for a promotion that failed; the old primary is started again when the target is a standby."""
    server = await operation.server(target)
    if not isinstance(server, Absence) and server.in_recovery:
        await control.tell(operation, target, "follow", source)
        await control.start(operation, source)
        return Error(f"no switchover: {source} is the primary again; {target} was not promoted. {why.message}")
    message = f"{target} was to be promoted, and nobody knows whether it was: {why.message}"
    hint = f"pgbaton status; {source} is stopped, and does not start as a primary beside another one"
    return UnhealthyError(message, hint=hint)


async def until_rejoined(operation: Operation, source: str, target: str) -> float:
    """Wait until the old primary streams from the new one, and forget what it kept for others; return the seconds."""

    async def look() -> str | None:
        own, served = await asyncio.gather(operation.server(source), operation.server(target))
        return not_streaming(source, own, served)

    taken = await until(f"{source} streams from {target}", look, seconds=operation.timeout_seconds)
    await promotion.forget_slots(operation, source)
    return taken
