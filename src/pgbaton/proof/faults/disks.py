"""Faults of the primary's data volume: no room, and no answer. Lab machines have a small one for this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.lab.volume import POINT
from pgbaton.proof.faults.base import Fault, Service, primary, unpromised
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Expectation, Strike
    from pgbaton.proof.target import Target

PAIR = ((Role.DATABASE, 2),)
#: Long enough to see whether the server dies of it, and whether another one takes over then.
FULL_SECONDS = 30.0
#: Beyond the leader lock's usual life and an election.
HUNG_SECONDS = 40.0
#: An agent ends a server that has flushed nothing for ten seconds while somebody waited. It may be half a second until
#: it looks at that first, and as much until it looks last; the rest is for a busy machine.
STUCK_SECONDS = 12.0

FILLER = f"{POINT}/pgbaton-filler"
# Takes all the room there is, in steps of 256 MiB, then 16 MiB, 1 MiB and 4 KiB. Argument: the file to fill it with.
FILL = """
set -eu
for step in 268435456 16777216 1048576 4096; do
  while fallocate --length "$step" --offset "$(stat -c %s "$1" 2>/dev/null || echo 0)" "$1" 2>/dev/null; do :; done
done
[ "$(df --output=avail "$(dirname "$1")" | tail -n 1)" -eq 0 ]
"""
# The file system of a directory, where it is one of its own that can be frozen; nothing otherwise.
OWN = 'findmnt --noheadings --output TARGET --types ext4 --target "$1" | grep --invert-match --line-regexp /'


async def no_volume(target: Target) -> str | None:
    """Tell when a database host has its data on the file system of everything else."""
    for host in target.topology.with_role(Role.DATABASE):
        said = await target.hosts[host.name].run("sh", "-c", OWN, "sh", target.topology.data_directory, check=False)
        if said.stdout.strip() != POINT:
            return f"{host.name} has no file system of its own at {POINT} with its data"
    return None


async def fill(strike: Strike) -> None:
    """Take all the room there is on the volume."""
    await strike.on(strike.host).run("sh", "-c", FILL, "sh", FILLER)


async def make_room(strike: Strike) -> None:
    """Give the room back."""
    await strike.on(strike.host).run("rm", "-f", FILLER)


async def freeze(strike: Strike) -> None:
    """Let no write to the volume come to an end."""
    await strike.on(strike.host).run("fsfreeze", "--freeze", POINT)


async def thaw(strike: Strike) -> None:
    """Let writes go on; a volume that is not frozen refuses that, which is fine."""
    await strike.on(strike.host).run("fsfreeze", "--unfreeze", POINT, check=False)


def noticed(strike: Strike) -> Expectation:
    """Expect what a crash costs when the agent has lost its patience; without agents, what a dead host does."""
    expected = (
        no_longer_than("postmaster-killed", PRIMARY_PARTS, extra_seconds=STUCK_SECONDS)
        if strike.topology.has_agents
        else no_longer_than("primary-power-off", PRIMARY_PARTS)
    )
    return expected(strike)


FAULTS = (
    Fault(
        name="data-disk-full",
        title="Data volume full",
        does="a file takes all the room on the primary's data volume",
        right="it is shown; a standby takes over if the server dies; all is well without hand work once there is room",
        victims=primary,
        inject=fill,
        heal=make_room,
        expects=unpromised,
        needs=PAIR,
        obstacle=no_volume,
        service=Service.AFTER_HEALING,
        hold_seconds=FULL_SECONDS,
    ),
    Fault(
        name="data-disk-hangs",
        title="Data volume hangs",
        does="the primary's data volume is frozen: no write to it comes to an end",
        right="it is noticed within the life of a lock, the primary is fenced, and a synchronous standby takes over",
        victims=primary,
        inject=freeze,
        heal=thaw,
        expects=noticed,
        needs=PAIR,
        obstacle=no_volume,
        hold_seconds=HUNG_SECONDS,
    ),
)
