"""What operators do on purpose, and faults that strike while they do it, or while the cluster recovers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.components import patroni
from pgbaton.errors import CommandError, Error, UnhealthyError
from pgbaton.lab import lifecycle
from pgbaton.operate.switchover import switchover, when_fit
from pgbaton.operate.waiting import until
from pgbaton.proof.faults.base import Fault, Suite, predicted, primary
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.power import power_off, power_on
from pgbaton.proof.faults.signals import signal_server, signal_unit
from pgbaton.proof.faults.victims import primary_and_confirming_standby
from pgbaton.proof.parts import PRIMARY_PARTS, SWITCHOVER_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from random import Random

    from pgbaton.proof.faults.base import Act, Strike
    from pgbaton.proof.target import Roles

PAIR = ((Role.DATABASE, 2),)
TRIO = ((Role.DATABASE, 3),)
#: A hand-over takes Patroni two to four seconds from the request to a new primary, and agents less than half a one.
HANDING_OVER_SECONDS, HELD_SECONDS = 2.5, 0.5
#: From a postmaster's death to a promoted standby, the same with agents; the second death is to fall before, in and
#: after the promotion.
PROMOTING_SECONDS, RELEASED_SECONDS = (0.2, 1.4), (0.1, 0.6)
#: A server that crashes right after its promotion, when nobody else may be promoted, recovers and starts again.
RECOVERY_SECONDS = 8.0
#: From the start of Patroni on a host that is back to a standby that streams.
REJOINING_SECONDS = 3.0
#: Longer than a lock's usual life and an election.
ANOTHER_PRIMARY_SECONDS = 60.0
#: What an attempt in vain to hand over costs before the old primary, or a third server, takes writes again.
SECOND_ATTEMPT_SECONDS = 15.0


async def switch_over(strike: Strike) -> None:
    """Move the primary to a standby, as an operator would."""
    await switchover(strike.target.operation, to=None)


async def switch_over_twice(strike: Strike) -> None:
    """Move the primary, and move it again as soon as a standby is fit for that."""
    await switch_over(strike)
    await when_fit(strike.target.operation)


def during_switchover(act: Act) -> Act:
    """Return the act of doing something at a moment of chance while a switchover is under way.

    How the switchover ends is an outcome, not a failure of the trial: it is told.
    """

    async def inject(strike: Strike) -> None:
        handing_over = asyncio.Event()
        attempt = asyncio.create_task(attempt_switchover(strike, handing_over))
        await handing_over.wait()
        longest = HELD_SECONDS if strike.topology.has_agents else HANDING_OVER_SECONDS
        await asyncio.sleep(strike.random.uniform(0.0, longest))
        try:
            await act(strike)
        finally:
            await attempt

    return inject


async def attempt_switchover(strike: Strike, handing_over: asyncio.Event) -> None:
    """Move the primary to a standby that commits wait for; tell how it ended, and when the hand-over begins."""
    report = strike.target.report

    def follow(line: str) -> None:
        report(line)
        if line.startswith("handing over"):
            handing_over.set()

    operation = replace(strike.target.operation, report=follow)
    try:
        done = await switchover(operation, to=candidate(strike.before))
        report(f"the switchover went through: {done.target} is primary")
    except Error as error:
        report(f"the switchover says: {error}")
    finally:
        handing_over.set()


def candidate(roles: Roles) -> str:
    """Return the standby that a switchover moves the primary to; raises UnhealthyError when there is none."""
    fit = roles.synchronous or roles.standbys
    if not fit:
        message = "there is no standby to switch over to"
        raise UnhealthyError(message, hint="pgbaton status shows the whole cluster")
    return fit[0]


def the_candidate(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike the standby that the switchover moves the primary to."""
    del random
    return (candidate(roles),)


async def kill_server(strike: Strike) -> None:
    """Kill the postmaster; a server that is down at that moment, as between two roles, is told of."""
    try:
        await signal_server(strike, "KILL", "postmaster")
    except CommandError as error:
        strike.target.report(f"no server to kill on {strike.host}: {error.message.splitlines()[-1]}")


async def kill_primary_then_standby(strike: Strike) -> None:
    """Kill the primary's server, and the standby's that takes over while it does."""
    first, second = strike.hosts
    await signal_server(replace(strike, hosts=(first,)), "KILL", "postmaster")
    await asyncio.sleep(strike.random.uniform(*(RELEASED_SECONDS if strike.topology.has_agents else PROMOTING_SECONDS)))
    await kill_server(replace(strike, hosts=(second,)))


async def kill_while_rejoining(strike: Strike) -> None:
    """Cut the primary's power, give it back when there is another one, and kill all of its Patroni as it rejoins."""
    await power_off(strike)
    await until("there is another primary", lambda: another_primary(strike), seconds=ANOTHER_PRIMARY_SECONDS)
    await lifecycle.power_on(strike.target.state, strike.host, report=strike.target.report)
    await asyncio.sleep(strike.random.uniform(0.0, REJOINING_SECONDS))
    await signal_unit(strike, patroni.UNIT, "KILL", check=False)


async def another_primary(strike: Strike) -> str | None:
    """Tell what is missing until a host other than the one struck is primary."""
    try:
        now = (await strike.target.roles()).primary
    except UnhealthyError as error:
        return error.message
    return f"{now} still is" if now == strike.host else None


FAULTS = (
    Fault(
        name="switchover",
        title="Planned switchover",
        does="the primary is moved to a standby by its operator",
        right="the chosen standby is primary, nothing is in doubt",
        victims=primary,
        inject=switch_over,
        expects=predicted("switchover", SWITCHOVER_PARTS),
        needs=PAIR,
        lab=False,
        suite=Suite.SMOKE,
    ),
    Fault(
        name="two-switchovers",
        title="Two switchovers in a row",
        does="the primary is moved to a standby, and moved again as soon as a standby is fit",
        right="each costs what one costs, nothing is in doubt",
        victims=primary,
        inject=switch_over_twice,
        expects=no_longer_than("switchover", SWITCHOVER_PARTS),
        needs=PAIR,
        lab=False,
    ),
    Fault(
        name="candidate-killed-during-switchover",
        title="Candidate killed during a switchover",
        does="SIGKILL to the postmaster of the chosen standby while the primary is handed over to it",
        right="the switchover is completed or given up; there is one primary soon, and the killed standby returns",
        victims=the_candidate,
        inject=during_switchover(kill_server),
        expects=no_longer_than("postmaster-killed", PRIMARY_PARTS, extra_seconds=SECOND_ATTEMPT_SECONDS),
        needs=PAIR,
    ),
    Fault(
        name="candidate-power-off-during-switchover",
        title="Candidate powered off during a switchover",
        does="the power of the chosen standby's host is cut while the primary is handed over to it",
        right="the old primary or a third server takes writes; the candidate rejoins when its host is back",
        victims=the_candidate,
        inject=during_switchover(power_off),
        heal=power_on,
        expects=no_longer_than("primary-power-off", PRIMARY_PARTS, extra_seconds=SECOND_ATTEMPT_SECONDS),
        needs=TRIO,
    ),
    Fault(
        name="primary-power-off-during-switchover",
        title="Primary powered off during a switchover",
        does="the power of the primary's host is cut while it is handed over",
        right="the chosen standby takes over all the same, with everything that was acknowledged",
        victims=primary,
        inject=during_switchover(power_off),
        heal=power_on,
        expects=no_longer_than("primary-power-off", PRIMARY_PARTS, extra_seconds=SECOND_ATTEMPT_SECONDS),
        needs=PAIR,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="standby-killed-during-failover",
        title="Standby killed while it takes over",
        does="SIGKILL to the primary's postmaster, then to the standby's that is about to be promoted",
        right="a server that has everything acknowledged is promoted in the end, and no other one",
        victims=primary_and_confirming_standby,
        inject=kill_primary_then_standby,
        expects=no_longer_than("primary-power-off", PRIMARY_PARTS, extra_seconds=RECOVERY_SECONDS),
        needs=PAIR,
    ),
    Fault(
        name="primary-killed-while-rejoining",
        title="Old primary killed while it rejoins",
        does="the primary's power is cut and given back, and SIGKILL to Patroni and all its children as it rejoins",
        right="a standby takes over; the old primary rejoins at its second try, whatever the first left behind",
        victims=primary,
        inject=kill_while_rejoining,
        heal=power_on,
        expects=no_longer_than("primary-power-off", PRIMARY_PARTS),
        needs=PAIR,
    ),
)
