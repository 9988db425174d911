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
from pgbaton.errors import Error
from pgbaton.topology.model import PoolMode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgbaton.operate.operation import Operation

INSTANCE = "write"
#: Transactions that last longer than this are not waited for: then clients are not held.
PAUSE_SECONDS = 5
#: After so long a pooler's own host lets clients go.
LONGEST_SECONDS = 30
TIMER = "pgbaton-resume"

# Arguments: the timer's name, seconds until it lets go, seconds that a pause may take, then psql's command line.
PAUSE = """
set -u
timer=$1 longest=$2 patience=$3
shift 3
systemctl stop "$timer.timer" 2>/dev/null
systemd-run --quiet --collect --unit="$timer" --on-active="$longest" -- "$@" -c RESUME || exit 1
timeout "$patience" "$@" -c PAUSE && exit 0
"$@" -c RESUME >/dev/null 2>&1
systemctl stop "$timer.timer" 2>/dev/null
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
    if operation.topology.pooling.mode is PoolMode.SESSION:
        operation.report("clients are not held meanwhile: whole sessions are pooled")
        return False
    names = poolers(operation)
    words = (TIMER, str(LONGEST_SECONDS), str(PAUSE_SECONDS), *console(operation))
    reasons = await asyncio.gather(*(ask(operation, name, PAUSE, *words) for name in names))
    wrong = [f"{name}: {reason}" for name, reason in zip(names, reasons, strict=True) if reason is not None]
    if not wrong:
        operation.report(f"clients are held on {', '.join(names)}")
        return True
    await resume(operation)
    operation.report(f"clients are not held meanwhile: {'; '.join(wrong)}")
    return False


async def resume(operation: Operation) -> None:
    """Let the clients of all poolers go; one that cannot be told does so by itself, and that is told."""
    names = poolers(operation)
    reasons = await asyncio.gather(*(ask(operation, name, RESUME, TIMER, *console(operation)) for name in names))
    for name, reason in zip(names, reasons, strict=True):
        if reason is not None:
            operation.report(f"{name}: its clients go on within {LONGEST_SECONDS} s by themselves: {reason}")


async def ask(operation: Operation, host: str, script: str, *words: str) -> str | None:
    """Run a script on a pooler's host; return why it failed, None when it did not."""
    try:
        result = await operation.hosts[host].run("sh", "-c", script, "sh", *words, check=False, timeout=15)
    except Error as error:
        return error.message.strip().splitlines()[-1]
    return None if result.ok else (result.stderr.strip() or "no answer").splitlines()[-1]


def poolers(operation: Operation) -> tuple[str, ...]:
    """Return the hosts that PgBouncer runs on."""
    component = pgbouncer.Pgbouncer()
    topology = operation.topology
    return tuple(host.name for host in topology.hosts if component.runs_on(topology, host))


def console(operation: Operation) -> tuple[str, ...]:
    """Return the command line that speaks to the pooler for writes on its host."""
    return (*pgbouncer.console(operation.topology, INSTANCE), "-q")
