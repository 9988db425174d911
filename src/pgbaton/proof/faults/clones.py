"""Faults of clones: the copy of a standby that is cut short, at either end of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.operate import reinit
from pgbaton.proof.faults.base import Fault, primary
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.power import power_off, power_on
from pgbaton.proof.faults.signals import signal_server
from pgbaton.proof.faults.standbys import a_standby, clone_anew, unnoticed
from pgbaton.proof.faults.victims import asynchronous_standby, no_asynchronous_standby
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from random import Random

    from pgbaton.proof.faults.base import Strike
    from pgbaton.proof.target import Roles

#: From the request until the copy is under way: Patroni stops the server first, and throws its data away.
BEGUN_SECONDS = 30
#: How long the host stays dark: long enough for a walsender that waits for it to give up.
DARK_SECONDS = 5.0

# Stops the copy as soon as it is under way, so that what strikes then strikes in its midst, however small the database
# is: pg_basebackup writes this file first and pg_control last. Arguments: data directory, seconds to wait.
CATCH = r"""
set -eu
deadline=$(($(date +%s) + $2))
until pids=$(pgrep -x pg_basebackup) && [ -e "$1/backup_label" ]; do
  [ "$(date +%s)" -lt "$deadline" ] || { echo "no copy is under way after $2 s" >&2; exit 1; }
  sleep 0.01
done
kill -s STOP $pids
"""
GO_ON = ("pkill", "-CONT", "-x", "pg_basebackup")


async def begin_to_clone(strike: Strike) -> None:
    """Have the standby cloned anew, and return when its copy has been stopped in its midst."""
    argv = ("sh", "-c", CATCH, "sh", strike.topology.data_directory, str(BEGUN_SECONDS))
    catching = asyncio.create_task(strike.on(strike.host).run(*argv, timeout=2 * BEGUN_SECONDS))
    try:
        await reinit.ask(strike.target.operation, strike.host)
        await catching
    finally:
        catching.cancel()
        await asyncio.gather(catching, return_exceptions=True)


async def power_off_during_clone(strike: Strike) -> None:
    """Cut the standby's power while it is cloned."""
    await begin_to_clone(strike)
    await power_off(strike)


async def kill_source_during_clone(strike: Strike) -> None:
    """Kill the primary's server while a standby is cloned from it."""
    _, source = strike.hosts
    await begin_to_clone(strike)
    await signal_server(replace(strike, hosts=(source,)), "KILL", "postmaster")
    await go_on(strike)


async def go_on(strike: Strike) -> None:
    """Let the copy go on, if it is still there."""
    await strike.on(strike.host).run(*GO_ON, check=False)


def asynchronous_standby_and_primary(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike a standby that no commit waits for, and the primary."""
    return (*asynchronous_standby(roles, random), *primary(roles, random))


FAULTS = (
    Fault(
        name="standby-power-off-during-clone",
        title="Standby powered off while it is cloned",
        does="a standby is cloned anew, and its power is cut in the midst of the copy",
        right="half a copy is never started; when its host is back, the standby is cloned anew by itself",
        victims=a_standby,
        inject=power_off_during_clone,
        heal=power_on,
        rescue=clone_anew,
        expects=unnoticed,
        needs=((Role.DATABASE, 2),),
        hold_seconds=DARK_SECONDS,
        composable=False,
    ),
    Fault(
        name="primary-killed-during-clone",
        title="Primary killed while a standby is cloned from it",
        does="a standby is cloned anew, and SIGKILL sent to the primary's postmaster in the midst of the copy",
        right="a synchronous standby takes over; the copy is given up, and the standby cloned anew by itself",
        victims=asynchronous_standby_and_primary,
        inject=kill_source_during_clone,
        heal=go_on,
        rescue=clone_anew,
        expects=no_longer_than("postmaster-killed", PRIMARY_PARTS),
        needs=((Role.DATABASE, 3),),
        obstacle=no_asynchronous_standby,
        composable=False,
    ),
)
