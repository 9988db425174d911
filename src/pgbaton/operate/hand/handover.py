"""A planned change of primary, step by step: hold clients, stop in order, see that nothing is missing, promote."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.deploy.gate import unbroken
from pgbaton.errors import Error, RefusedError, UnhealthyError
from pgbaton.operate.hand import claims, control, pausing, promotion
from pgbaton.operate.operation import not_streaming
from pgbaton.operate.servers import Server
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from pgbaton.operate.hand.control import Control
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
    standby may have been asked to become primary, whatever goes wrong starts the old one again; raises the Error that
    says what it was.
    """
    async with claims.claimed(operation, f"a switchover to {target}"):
        return await move(operation, source, target)


async def move(operation: Operation, source: str, target: str) -> HandedOver:
    """Move the primary, while nobody else changes who leads."""
    view, controls = await asyncio.gather(operation.look(), control.look(operation.topology, operation.hosts))
    if view.primaries != (source,):
        message = f"no switchover, nothing was changed: {source} is not the primary any more"
        raise RefusedError(message, hint="pgbaton status")
    others = tuple(name for name in view.running if name not in {source, target})
    begun, promoted = False, asyncio.Event()
    following = None

    async def take() -> None:
        await take_over(operation, source, target, last)
        promoted.set()

    try:
        await promotion.prepare(operation, target, detached=detached_by(controls, target))
        async with pausing.held(operation) as was_held:
            begun = True
            start = time.monotonic()
            last = await stop(operation, source, target)
            # Between two primaries nobody may be interrupted: there would be none.
            await unbroken(take())
            taken = time.monotonic() - start
            operation.report(f"{target} takes writes")
            # It takes longer than clients have to be held.
            following = asyncio.create_task(follow_all(operation, source, target, others))
            routing = await operation.until_routed(target)
    finally:
        if not begun:
            await unbroken(go_on(operation, source, target))
        if following is None and promoted.is_set():
            following = asyncio.create_task(follow_all(operation, source, target, others))
        if following is not None:
            await unbroken(following)
    return HandedOver(taken, routing, was_held)


async def stop(operation: Operation, source: str, target: str) -> Control:
    """Stop the primary in order; return what it left. Starts it again when it was not in order."""
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
    return last


async def take_over(operation: Operation, source: str, target: str, last: Control) -> None:
    """Promote the standby once it has all of the old primary; raises the Error that says who is primary otherwise.

    Once it may have been asked to, it may become primary at any later moment, whatever was answered. So the old one
    starts again only beside a standby that was not asked, or that is stopped and never came out of recovery.
    """
    try:
        await promotion.promote(operation, target, beyond=last.checkpoint)
    except promotion.NotAskedError as error:
        await start_again(operation, source, target)
        raise not_moved(source, target, error) from None
    except Error as error:
        if await came_out(operation, source, target, error):
            return
        await start_again(operation, source, target, stopped=True)
        raise not_moved(source, target, error) from None


async def came_out(operation: Operation, source: str, target: str, why: Error) -> bool:
    """Tell whether a standby that may have been asked to be primary is it; when it is not, it is stopped.

    Raises UnhealthyError when nobody can know.
    """
    server = await operation.server(target)
    if isinstance(server, Server) and not server.in_recovery:
        return True
    operation.report(f"{target} may still become primary; stopping it before anything else")
    try:
        await control.stop_for_good(operation, target)
        found = await control.ask(operation.hosts[target])
    except Error:
        found = None
    if found is None or not found.state:
        message = f"{target} was to be promoted, and nobody knows whether it was: {why.message}"
        back = f"pgbaton failover --to {source} --old-primary-is-off {target}"
        hint = f"pgbaton status; {source} is stopped, and stays so beside another primary; when {target} is off: {back}"
        raise UnhealthyError(message, hint=hint) from None
    if found.in_recovery:
        return False
    operation.report(f"{target} was promoted, later than waited for; starting it again")
    await promotion.start_as_primary(operation, target)
    return True


async def start_again(operation: Operation, source: str, target: str, *, stopped: bool = False) -> None:
    """Have everything be as it was: the standby is told to follow, then the old primary leads."""
    operation.report(f"{source} is started again; nothing was promoted")
    try:
        await promotion.unprepare(operation, target, source, stopped=stopped)
    finally:
        await control.permit(operation, source)
        await control.start(operation, source)
    await control.disarm(operation, source)
    if stopped:
        await control.start_soon(operation, target)


async def go_on(operation: Operation, source: str, target: str) -> None:
    """Have the standby go on as one: the old primary was not stopped."""
    await promotion.unprepare(operation, target, source)
    await control.confirm(operation, target)


def not_moved(source: str, target: str, why: Error) -> Error:
    """Return the error for a hand-over that was given up. Pure."""
    lines = why.message.strip().splitlines()
    reason = next((line for line in lines if "ERROR:" in line), lines[-1])
    message = f"no switchover: {source} is the primary again; {target} was not promoted. {reason}"
    return Error(message, hint=f"pgbaton logs tells why on {source} and {target}; nothing needs repair")


async def follow_all(operation: Operation, source: str, target: str, others: tuple[str, ...]) -> None:
    """Start the old primary as a standby, and have the other standbys follow."""
    await promotion.follow_as_standby(operation, source, target)
    await control.disarm(operation, source)
    await asyncio.gather(*(follow(operation, name, target) for name in others))


async def follow(operation: Operation, standby: str, primary: str) -> None:
    """Have another standby follow the new primary; one that cannot be told is told of."""
    try:
        await promotion.repoint(operation, standby, primary)
        await control.confirm(operation, standby)
    except Error as error:
        operation.report(f"{standby} does not follow {primary} yet: {error.message}; pgbaton reinit {standby}")


def detached_by(controls: dict[str, Control | None], target: str) -> tuple[str, ...]:
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
