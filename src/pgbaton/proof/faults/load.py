"""Faults of load: more clients than there is room for, and sessions that hold on to what moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgbaton.hosts import process
from pgbaton.operate.switchover import switchover
from pgbaton.proof.faults import bench
from pgbaton.proof.faults.base import Fault, Suite, primary, within
from pgbaton.proof.faults.bench import Bench
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.signals import signal_server
from pgbaton.proof.faults.victims import entry
from pgbaton.proof.parts import PRIMARY_PARTS, SWITCHOVER_PARTS
from pgbaton.proof.storm import Storm
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Strike
    from pgbaton.proof.target import Target

#: How many sessions there are for each connection of the pool, and for how long.
TIMES_POOL = 10
STORM_SECONDS = 10.0
#: Keeps a connection of the pool busy for a moment, and the server idle.
BRIEF = "SELECT pg_sleep(0.02)"
#: A write's place in a queue of ten clients a connection, each busy for 20 ms; and logins of all of them first.
QUEUED_SECONDS = 3.0
#: Longer than any switchover: held until then.
HELD_SECONDS = 60.0
SETTLED_SECONDS = 1.0
#: How pgbench works, and for how long before the fault.
BENCH = Bench(clients=10, seconds=300)
BENCH_SECONDS = 5.0


async def storm(strike: Strike) -> None:
    """Open ten times as many sessions as the pool has connections, all at once, and keep them busy."""
    target = strike.target
    sessions = TIMES_POOL * pool_size(target)
    ended = await process.run(
        *target.client_argv("pgbaton.proof.storm"),
        input=Storm(writer(target), sessions, STORM_SECONDS, BRIEF).dump(),
        timeout=3 * STORM_SECONDS,
    )
    target.report(f"the storm saw {ended.stdout.strip()}")


def pool_size(target: Target) -> int:
    """Return how many server connections the application's database has on each balancer."""
    return target.topology.databases[0].pool_size or target.topology.pooling.size


def writer(target: Target) -> dict[str, str | int]:
    """Return how the application connects for writes."""
    return target.conninfo()


async def switch_over_held(strike: Strike) -> None:
    """Move the primary while half of the pool is held by transactions that never end."""
    target = strike.target
    held = Storm(writer(target), pool_size(target) // 2, HELD_SECONDS, "SELECT pg_current_xact_id()", hold=True)
    log = target.directory / "storm.log"
    holding = await process.start(*target.client_argv("pgbaton.proof.storm"), input=held.dump(), log=log)
    try:
        await asyncio.sleep(SETTLED_SECONDS)
        await switchover(target.operation, to=None)
    finally:
        await holding.end(timeout=10)
    target.report(f"the sessions that were held saw {log.read_text(encoding='utf-8').splitlines()[-1]}")


async def kill_under_load(strike: Strike) -> None:
    """Kill the postmaster while pgbench keeps the pool busy."""
    await bench.start(strike.target, BENCH)
    await asyncio.sleep(BENCH_SECONDS)
    await signal_server(strike, "KILL", "postmaster")


FAULTS = (
    Fault(
        name="connection-storm",
        title="Connection storm",
        does="ten times as many sessions as the pool has connections log in at once and keep working for 10 s",
        right="they queue, with few errors; writers go on, and PostgreSQL and Patroni notice nothing",
        victims=entry,
        inject=storm,
        expects=within(QUEUED_SECONDS),
        needs=((Role.BALANCER, 1),),
        suite=Suite.STANDARD,
    ),
    Fault(
        name="switchover-with-held-sessions",
        title="Switchover while sessions hold the pool",
        does="half of the pool is held by transactions that do not end, and the primary is moved to a standby",
        right="those sessions are ended, every other one writes to the new primary, none stays with the old one",
        victims=primary,
        inject=switch_over_held,
        expects=no_longer_than("switchover", SWITCHOVER_PARTS),
        needs=((Role.DATABASE, 2),),
    ),
    Fault(
        name="postmaster-killed-under-load",
        title="Postmaster killed under load",
        does="SIGKILL to the primary's postmaster while pgbench keeps the pool busy",
        right="a synchronous standby takes over with everything acknowledged; the old primary is rewound and rejoins",
        victims=primary,
        inject=kill_under_load,
        heal=bench.end,
        expects=no_longer_than("postmaster-killed", PRIMARY_PARTS, extra_seconds=1.0),
        needs=((Role.DATABASE, 2),),
        obstacle=bench.missing,
    ),
)
