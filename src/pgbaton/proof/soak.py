"""Soak: hours under full load in which nothing breaks, so that whoever fails over then does it without a reason.

Its faults are made for a run, as a schedule of chaos is, and struck, measured, checked and stored by the same means.
Beside what every trial is judged by, they look whether the cluster is led as before, and tell what agents heard and
what they used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.errors import UnhealthyError
from pgbaton.proof import steadiness, upkeep
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults import agents, bench, load
from pgbaton.proof.faults.agents import PAIR, PAUSE_SECONDS, any_of, no_agents
from pgbaton.proof.faults.base import Fault, Seen, Service, steady, within
from pgbaton.proof.faults.bench import Bench
from pgbaton.proof.faults.victims import everything

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Strike
    from pgbaton.proof.steadiness import Lead
    from pgbaton.proof.target import Target
    from pgbaton.proof.upkeep import Round

Stress = Callable[["Strike", float], Awaitable[None]]

#: Which part of its time the second fault takes again; neither is shorter than what agents look back on.
PAUSED_SHARE = 1 / 6
LEAST_SECONDS = upkeep.LOOKS_BACK_SECONDS
#: Twice as many clients as the pool has connections: as one ends its transaction, another waits for the connection.
CLIENTS_PER_CONNECTION = 2
#: pgbench is ended when its time is over, and must not have ended by itself before.
SPARE_SECONDS = 300
#: On a saturated machine every step of a commit waits for a processor, and none for this long: only an outage does.
SATURATED_SECONDS = 5.0
#: What the last moment of the load leads to is to be seen as well.
LINGERING_SECONDS = 5.0
#: The processors of this machine, which are those of a lab's.
PROCESSORS = Path("/proc/stat")


@dataclass(frozen=True)
class Processors:
    """How long all processors together have run, and how long they had nothing to do, in the kernel's ticks."""

    total: int
    idle: int

    def idle_since(self, before: Processors) -> float:
        """Return the share of the time since then in which there was nothing to do."""
        return (self.idle - before.idle) / max(self.total - before.total, 1)


@dataclass(frozen=True)
class Course:
    """What a soak was like: when it began, who led then, what agents told, and which share processors had left.

    ``began`` is wall clock time, from before the load was made; ``worked_seconds`` is how long there was a load.
    """

    began: float
    before: Lead
    rounds: tuple[Round, ...]
    worked_seconds: float
    idle: float


@dataclass
class Soak:
    """One soak: for how long, what is done to the cluster beside its load, and the course of the last trial."""

    seconds: float
    stress: Stress
    course: Course | None = None

    async def inject(self, strike: Strike) -> None:
        """Keep the cluster under full load from the beginning to the end, and see what agents tell meanwhile."""
        began, before = time.time(), await steadiness.lead(strike.target)
        worker = saturating(strike.target, self.seconds)
        await bench.start(strike.target, worker)
        strike.target.report(f"pgbench works with {worker.clients} clients, for {minutes_of(self.seconds)} from now")
        working, spent = time.monotonic(), processors_now()
        watching = asyncio.ensure_future(upkeep.watch(strike.target, self.seconds))
        try:
            await self.stress(strike, self.seconds)
            rounds = await watching
        finally:
            watching.cancel()
        idle = processors_now().idle_since(spent)
        await asyncio.sleep(LINGERING_SECONDS)
        self.course = Course(began, before, rounds, time.monotonic() - working, idle)

    async def look(self, strike: Strike) -> Seen:
        """Look whether there was a load at all, while its tables are there."""
        made, again = await bench.transactions(strike), await bench.started_again(strike)
        return Seen((loaded(made, again),), remarks=(worked(made, again, self.known),))

    async def look_after(self, strike: Strike) -> Seen:
        """Look whether the cluster is led as before and was so all along, and tell of its agents."""
        course, target = self.known, strike.target
        found = await steadiness.signs(target, since=course.began)
        changed = steadiness.changes(course.before, await steadiness.lead(target))
        told = upkeep.remarks(course.rounds, detection_seconds=target.topology.timings.detection_time)
        return Seen(objections=(*changed, *steadiness.alarms(found)), remarks=told)

    @property
    def known(self) -> Course:
        """Return the course; raises UnhealthyError before there is one."""
        if self.course is None:
            message = "the soak has not come to its end, so nothing is known of it"
            raise UnhealthyError(message)
        return self.course


def saturating(target: Target, seconds: float) -> Bench:
    """Return how pgbench leaves no connection of the pool idle: with a branch for each, since all update theirs."""
    connections = load.pool_size(target)
    clients = CLIENTS_PER_CONNECTION * connections
    return Bench(clients, int(seconds) + SPARE_SECONDS, branches=connections, again=True)


def minutes_of(seconds: float) -> str:
    """Return a duration in minutes, with the digits that matter. Pure."""
    return f"{seconds / 60:.3g} min"


def processors_now() -> Processors:
    """Return what the kernel has counted until now."""
    return processors(PROCESSORS.read_text(encoding="ascii"))


def processors(stat: str) -> Processors:
    """Read the first line of ``/proc/stat`` (proc_stat(5)): guests are in other figures already. Pure."""
    user, nice, system, idle, waiting, *interrupts = map(int, stat.splitlines()[0].split()[1:9])
    return Processors(user + nice + system + idle + waiting + sum(interrupts), idle + waiting)


async def nothing_else(strike: Strike, seconds: float) -> None:
    """Leave the load to itself."""
    del strike
    await asyncio.sleep(seconds)


async def relieve(strike: Strike) -> None:
    """End all that keeps the cluster busy, and let all agents go on."""
    await agents.relieve(strike)
    await bench.end(strike)


def loaded(made: int, again: int) -> Check:
    """Judge the load: without a transaction nothing is shown. Pure."""
    figures = {"transactions": made, "started_again": again}
    if made:
        return Check("load", Validity.VALID, (), figures)
    return Check("load", Validity.UNKNOWN, ("pgbench committed nothing: there was no load",), figures)


def worked(made: int, again: int, course: Course) -> str:
    """Return the load as a sentence. Pure."""
    return (
        f"pgbench committed {made:,} transactions, {made / course.worked_seconds:,.0f} a second, and was started again "
        f"{again} times; this machine's processors had nothing to do for {course.idle:.0%} of the time"
    )


def faults_of(minutes: float) -> tuple[Fault, ...]:
    """Return the faults of a soak of so many minutes."""
    seconds = max(60 * minutes, LEAST_SECONDS)
    return full_load(seconds), paused(max(PAUSED_SHARE * seconds, LEAST_SECONDS))


def full_load(seconds: float) -> Fault:
    """Return the fault that is none: a load that leaves no processor idle."""
    soak = Soak(seconds, nothing_else)
    return Fault(
        name="full-load",
        title="Full load",
        does=f"for {minutes_of(seconds)} pgbench keeps every connection of the pool busy, and nothing is broken",
        right="nobody is taken for dead: primary, VIP and leader lock stay where they are, and no fence is raised",
        victims=everything,
        inject=soak.inject,
        heal=bench.end,
        look=soak.look,
        look_after=soak.look_after,
        expects=steady(within(SATURATED_SECONDS)),
        needs=PAIR,
        obstacle=bench.missing,
        service=Service.AFTER_HEALING,
        composable=False,
    )


def paused(seconds: float) -> Fault:
    """Return the fault of agents that do not run for moments, on a machine on which everything waits."""
    soak = Soak(seconds, agents.pause_under_load)
    return Fault(
        name="agents-paused-under-full-load",
        title="Agents paused under full load",
        does=f"for {minutes_of(seconds)} pgbench keeps every connection of the pool busy, a program every core, and "
        f"agents are stopped for {PAUSE_SECONDS[0]:g} to {PAUSE_SECONDS[1]:g} s at random moments",
        right="an agent that did not run takes nobody for dead, nor do others its host: all stays as it is",
        victims=everything,
        inject=soak.inject,
        heal=relieve,
        look=soak.look,
        look_after=soak.look_after,
        expects=steady(within(SATURATED_SECONDS)),
        needs=PAIR,
        obstacle=any_of(no_agents, bench.missing),
        service=Service.AFTER_HEALING,
        composable=False,
    )
