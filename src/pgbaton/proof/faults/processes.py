"""Faults of single processes: killed, stopped, hung."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.proof.faults.base import Fault, Suite, predicted, primary
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Strike

# The pid file may be a stale one: only a process that works in the data directory is the postmaster.
KILL_POSTMASTER = """
set -eu
pid=$(head -n 1 "$1/postmaster.pid")
[ "$(readlink -f /proc/$pid/cwd)" = "$(readlink -f "$1")" ]
kill -KILL "$pid"
"""


async def kill_postmaster(strike: Strike) -> None:
    """Kill PostgreSQL's first process, as the kernel does when memory runs out."""
    await strike.on(strike.host).run("sh", "-c", KILL_POSTMASTER, "sh", strike.topology.data_directory)


FAULTS = (
    Fault(
        name="postmaster-killed",
        title="Postmaster killed",
        does="SIGKILL to PostgreSQL's first process on the primary",
        right="a synchronous standby takes over; the old primary rejoins",
        victims=primary,
        inject=kill_postmaster,
        expects=predicted("postmaster-killed", PRIMARY_PARTS),
        needs=((Role.DATABASE, 2),),
        suite=Suite.SMOKE,
    ),
)
