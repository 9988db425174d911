"""Hold clients in the poolers while the primary changes: bounded, and let go whatever happens.

Whoever pauses a pooler first has its own host let it go again after a while, so that nothing that happens to pgbaton,
or to the way there, leaves clients waiting.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pgbaton.components import pgbouncer
from pgbaton.deploy.gate import unbroken
from pgbaton.operate import poolers
from pgbaton.topology import placement, pools
from pgbaton.topology.model import PoolMode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology

PURPOSE = "write"
#: Transactions that last longer than this are not waited for: then clients are not held.
PAUSE_SECONDS = 5
#: After so long a pooler's own host lets clients go.
LONGEST_SECONDS = 30
#: The timer of each process, by its instance.
TIMER = "pgbaton-resume"

# Arguments: the timer's name, seconds until it lets go, seconds that a pause may take, then psql's command line.
PAUSE = """
set -u
timer=$1 longest=$2 patience=$3
shift 3
systemctl stop "$timer.timer" 2>/dev/null
systemd-run --quiet --collect --unit="$timer" --on-active="$longest" -- "$@" -c RESUME || exit 1
timeout "$patience" "$@" -c PAUSE && exit 0
"$@" -c RESUME >/dev/null 2>&1 && systemctl stop "$timer.timer" 2>/dev/null
echo "its transactions did not end within $patience s" >&2
exit 1
"""

# Arguments: the timer's name, then psql's command line. A pooler that is not paused any more says so, and that is all.
RESUME = """
timer=$1
shift
said=$("$@" -c RESUME 2>&1) || case $said in *"not paused"*) ;; *) echo "$said" >&2; exit 1 ;; esac
systemctl stop "$timer.timer" 2>/dev/null
exit 0
"""


@asynccontextmanager
async def held(operation: Operation) -> AsyncIterator[bool]:
    """Hold the clients of all poolers for writes meanwhile; yields whether they are held.

    Sessions cannot be held: where whole sessions are pooled, or a pooler cannot be paused, nobody is, and why is told.
    """
    paused: bool | None = None
    try:
        paused = await pause(operation)
        yield paused
    finally:
        # None: the pausing itself was interrupted, and nobody knows how far it came.
        if paused is not False:
            await unbroken(resume(operation))


async def pause(operation: Operation) -> bool:
    """Pause the poolers, all or none of them; return whether they are paused."""
    why = unheld(operation.topology)
    if why is not None:
        operation.report(f"clients are not held meanwhile: {why}")
        return False
    held_on = processes(operation.topology)
    limits = (str(LONGEST_SECONDS), str(PAUSE_SECONDS))
    reasons = await asyncio.gather(*(poolers.ask(operation, *each, PAUSE, timer(each[1]), *limits) for each in held_on))
    wrong = [f"{name}: {reason}" for (name, _), reason in zip(held_on, reasons, strict=True) if reason is not None]
    if not wrong:
        names = dict.fromkeys(name for name, _ in held_on)
        operation.report(f"clients are held on {', '.join(names)}")
        return True
    await resume(operation)
    operation.report(f"clients are not held meanwhile: {'; '.join(wrong)}")
    return False


async def resume(operation: Operation) -> None:
    """Let the clients of all poolers go; one that cannot be told does so by itself, and that is told."""
    held_on = processes(operation.topology)
    reasons = await asyncio.gather(*(poolers.ask(operation, *each, RESUME, timer(each[1])) for each in held_on))
    for (name, _), reason in zip(held_on, reasons, strict=True):
        if reason is not None:
            operation.report(f"{name}: its clients go on within {LONGEST_SECONDS} s by themselves: {reason}")


def timer(instance: str) -> str:
    """Return the name of the timer that lets an instance's clients go. Pure."""
    return f"{TIMER}-{instance}"


def unheld(topology: Topology) -> str | None:
    """Return why clients cannot be held; None when they can. Pure."""
    if not placement.holders(topology):
        return "no pool on the way to the primary could"
    pairs = ((database, user) for database in topology.databases for user in topology.users)
    if any(pools.mode(topology, *pair) is PoolMode.SESSION for pair in pairs):
        return "whole sessions are pooled"
    return None


def processes(topology: Topology) -> tuple[tuple[str, str], ...]:
    """Return the PgBouncer processes whose clients are held, each by its host and instance. Pure."""
    instances = pgbouncer.processes(topology, PURPOSE)
    return tuple((host.name, instance) for host in placement.holders(topology) for instance in instances)
