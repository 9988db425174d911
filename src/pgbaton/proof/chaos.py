"""Chaos: faults at random moments, overlapping, under one seed; and the shortest schedule that still breaks a promise.

A schedule is a fault like any other: it is struck, measured, checked and stored by the same means. What it breaks
depends on the seed and on the faults to choose from; when exactly depends on the machine, so a failure may take
several tries to show itself again.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error, UsageError
from pgbaton.proof import underway
from pgbaton.proof.faults import lacking, named
from pgbaton.proof.faults.base import Fault, Service, Strike, unpromised
from pgbaton.proof.finishing import to_the_end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from pgbaton.proof.target import Roles

#: From one act's begin to the next, and how long an act lasts, in seconds: longer than a lock lives, so that a
#: failover has time to happen, and short enough that the next fault may strike in the midst of it.
PAUSE_SECONDS = (2.0, 25.0)
LASTING_SECONDS = (1.0, 30.0)
#: The last act begins this long before the end at the latest.
TAIL_SECONDS = 15.0


@dataclass(frozen=True)
class Act:
    """One fault in a schedule: when it is struck and how long it lasts, in seconds; ``seed`` decides its victims."""

    at: float
    fault: str
    lasts: float
    seed: int


@dataclass(frozen=True)
class Schedule:
    """Acts in the order in which they begin."""

    acts: tuple[Act, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as JSON can carry it."""
        return {"acts": [asdict(act) for act in self.acts]}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Schedule:
        """Return the schedule that ``to_dict`` gave; raises UsageError for what is none."""
        try:
            acts = tuple(Act(**act) for act in data["acts"])
            require_possible(acts)
        except (KeyError, TypeError, ValueError) as error:
            message = f"not a schedule of faults: {error}"
            raise UsageError(message, hint="give the schedule.json of a trial's folder") from None
        return Schedule(tuple(sorted(acts, key=lambda act: act.at)))

    def __str__(self) -> str:
        """Return the schedule in one line."""
        return ", ".join(f"{act.at:.0f} s {act.fault} for {act.lasts:.0f} s" for act in self.acts)


def require_possible(acts: Sequence[Act]) -> None:
    """Raise ValueError or TypeError unless acts can be carried out, UsageError for a fault there is none of."""
    if not acts:
        message = "it has no acts"
        raise ValueError(message)
    named(act.fault for act in acts)
    for act in acts:
        if not (0 <= act.at < math.inf and 0 <= act.lasts < math.inf):
            message = f"{act.fault} at {act.at} s for {act.lasts} s"
            raise ValueError(message)
        Random(act.seed)  # noqa: S311 - raises TypeError for what is no seed


def draw(seed: int, seconds: float, faults: Sequence[str]) -> Schedule:
    """Return a random schedule of so many seconds; the same for the same arguments. Pure."""
    random = Random(seed)  # noqa: S311 - a choice that can be repeated, no secret
    acts: list[Act] = []
    at = random.uniform(0.0, PAUSE_SECONDS[0])
    while at < max(seconds - TAIL_SECONDS, 1.0):
        lasts = random.uniform(*LASTING_SECONDS)
        acts.append(Act(round(at, 3), random.choice(list(faults)), round(lasts, 3), random.randrange(1 << 31)))
        at += random.uniform(*PAUSE_SECONDS)
    return Schedule(tuple(acts))


def as_fault(schedule: Schedule) -> Fault:
    """Return the fault that carries a schedule out; it has returned when all its acts are undone."""

    async def inject(strike: Strike) -> None:
        await carry_out(schedule, strike)

    return Fault(
        name="chaos",
        title="Chaos",
        does=f"faults at random moments: {schedule}",
        right="nothing acknowledged is lost, and the cluster becomes whole again by itself",
        victims=everybody,
        inject=inject,
        expects=unpromised,
        service=Service.AFTER_HEALING,
        tolerates=excuses(schedule),
        composable=False,
        plan=schedule.to_dict(),
    )


def everybody(roles: Roles, random: Random) -> tuple[str, ...]:
    """Name every host that has a part."""
    del random
    return tuple(dict.fromkeys((*roles.balancers, roles.primary, *roles.standbys, *roles.dcs)))


def excuses(schedule: Schedule) -> dict[str, str]:
    """Return what the faults of a schedule break by their nature."""
    faults = named(dict.fromkeys(act.fault for act in schedule.acts))
    return {name: f"{fault.name}: {reason}" for fault in faults for name, reason in fault.tolerates.items()}


async def carry_out(schedule: Schedule, strike: Strike) -> None:
    """Strike every act at its time and undo it at its end; an act that cannot be made is told of, and left out."""
    begin = time.monotonic()
    async with asyncio.TaskGroup() as acts:
        for act in schedule.acts:
            acts.create_task(perform(act, strike, begin))


async def perform(act: Act, whole: Strike, begin: float) -> None:
    """Wait for an act's time, strike, wait for its end, undo it."""
    (fault,) = named([act.fault])
    target = whole.target
    await asyncio.sleep(max(0.0, begin + act.at - time.monotonic()))
    random = Random(act.seed)  # noqa: S311 - a choice that can be repeated, no secret
    try:
        if (reason := lacking(fault, target.topology) or await fault.obstacle(target)) is not None:
            target.report(f"{act.fault} is left out: {reason}")
            return
        roles = await current_roles(whole)
        strike = Strike(target, fault.victims(roles, random), roles, random)
        note = underway.begin(fault, strike)
    except Error as error:
        target.report(f"{act.fault} is left out: {error}")
        return
    target.report(f"{', '.join(strike.hosts)}: {fault.does}")
    try:
        await fault.inject(strike)
        await asyncio.sleep(max(0.0, begin + act.at + act.lasts - time.monotonic()))
    except Error as error:
        target.report(f"{act.fault}: {error}")
    finally:
        await to_the_end(undo(fault, strike, note))


async def undo(fault: Fault, strike: Strike, note: Path | None) -> None:
    """Undo an act; another act may have taken away what there was to undo."""
    try:
        await underway.undo(fault, strike, note)
    except Error as error:
        strike.target.report(f"{fault.name} could not be undone as usual: {error}")


async def current_roles(whole: Strike) -> Roles:
    """Return who has which part now, or had before all began when that cannot be told."""
    try:
        return await whole.target.roles()
    except Error:
        return whole.before


async def shrink(
    schedule: Schedule, fails: Callable[[Schedule], Awaitable[bool]], *, attempts: int
) -> tuple[Schedule, int]:
    """Return a schedule with as few acts as can be found that still fails, and how many tries were made.

    Ever smaller pieces are left out, and what still fails is gone on with (delta debugging, Zeller 1999). ``fails``
    tells whether a schedule breaks a promise; at most ``attempts`` are tried.
    """
    acts, pieces, tried = schedule.acts, 2, 0
    while len(acts) > 1:
        for fewer in without_a_piece(acts, pieces):
            if tried == attempts:
                return Schedule(acts), tried
            tried += 1
            if await fails(Schedule(fewer)):
                acts, pieces = fewer, max(pieces - 1, 2)
                break
        else:
            if pieces >= len(acts):
                break
            pieces = min(pieces * 2, len(acts))
    return Schedule(acts), tried


def without_a_piece(acts: tuple[Act, ...], pieces: int) -> list[tuple[Act, ...]]:
    """Return what is left of some acts without each of so many pieces of them. Pure."""
    size = -(-len(acts) // pieces)
    return [acts[:begin] + acts[begin + size :] for begin in range(0, len(acts), size)]
