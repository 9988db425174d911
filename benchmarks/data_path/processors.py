"""What each hop's processes had of the processors: read from /proc on the lab's machines, before and after a run."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.measure.ways import Layout
    from pgbaton.proof.target import Target

#: The hops, by the name of their programs.
PROGRAMS = ("haproxy", "pgbouncer", "postgres")
#: Every process of a machine; one that ends meanwhile is passed over.
READ = ("sh", "-c", "cat /proc/[0-9]*/stat 2> /dev/null; true")
TICK_MICROSECONDS = 1_000_000 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Used:
    """Microseconds of processor time by program, of the balancer on the way and of the primary, since they started."""

    microseconds: Mapping[str, float]

    def since(self, before: Used) -> dict[str, float]:
        """Return how much more it is than before."""
        return {name: self.microseconds[name] - before.microseconds[name] for name in PROGRAMS}


async def look(target: Target, layout: Layout) -> Used:
    """Return what HAProxy and PgBouncer on the balancer, and PostgreSQL on the primary, have used so far."""
    hosts = target.hosts
    balancer, primary = await asyncio.gather(read(hosts[layout.balancer]), read(hosts[layout.primary]))
    return Used({**{name: balancer[name] for name in PROGRAMS[:2]}, "postgres": primary["postgres"]})


async def read(host: Host) -> dict[str, float]:
    """Return what a host's processes have used, by program."""
    return used((await host.run(*READ)).stdout.splitlines())


def used(stats: Iterable[str]) -> dict[str, float]:
    """Return microseconds by program: of all processes that live, and of their children that have ended. Pure.

    A backend's time is its postmaster's once it has ended (proc(5): cutime, cstime): nothing is lost or counted twice.
    """
    sums = dict.fromkeys(PROGRAMS, 0.0)
    for line in stats:
        head, _, rest = line.rpartition(")")
        program, fields = head.partition("(")[2], rest.split()
        if program in sums:
            sums[program] += sum(map(int, fields[11:15])) * TICK_MICROSECONDS
    return sums
