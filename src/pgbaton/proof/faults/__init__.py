"""The faults: adding one is a value in a module's FAULTS, adding a module a line in CATALOGUE."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from pgbaton.errors import UsageError
from pgbaton.proof.faults import (
    agents,
    certificates,
    clocks,
    clones,
    configuration,
    damage,
    dcs,
    disks,
    elsewhere,
    hand,
    links,
    load,
    networks,
    operations,
    partitions,
    paths,
    power,
    processes,
    services,
    stale_sync,
    standbys,
)
from pgbaton.proof.faults.base import Suite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.proof.faults.base import Fault
    from pgbaton.topology.model import Topology

CATALOGUE = (
    processes,
    services,
    paths,
    operations,
    power,
    partitions,
    networks,
    links,
    dcs,
    disks,
    clocks,
    load,
    standbys,
    damage,
    clones,
    certificates,
    configuration,
    agents,
    stale_sync,
    hand,
)

FAULTS: tuple[Fault, ...] = tuple(fault for module in CATALOGUE for fault in module.FAULTS)

#: The four that the demonstration shows, in its order.
DEMONSTRATED = ("postmaster-killed", "switchover", "balancer-power-off", "primary-power-off")


def named(names: Iterable[str], *, where: str = "pgbaton prove --list shows all of them") -> tuple[Fault, ...]:
    """Return faults by name, in the order given; raises UsageError for a name that is none.

    ``where`` tells then which there are.
    """
    known = {fault.name: fault for fault in FAULTS}
    chosen = []
    for name in names:
        if name not in known:
            message = f"no fault named {name}"
            alike = get_close_matches(name, known, n=3)
            meant = f"did you mean {' or '.join(alike)}? " if alike else ""
            raise UsageError(message, hint=f"{meant}{where}")
        chosen.append(known[name])
    return tuple(chosen)


def of_suite(suite: Suite) -> tuple[Fault, ...]:
    """Return the faults of a suite, those of the smaller suites among them.

    Faults of clusters that a person fails over are in none: they are asked for by name.
    """
    suites = tuple(Suite)
    own = {fault.name for fault in hand.FAULTS}
    chosen = (fault for fault in FAULTS if suites.index(fault.suite) <= suites.index(suite))
    return tuple(fault for fault in chosen if fault.name not in own)


def choose(names: Iterable[str], topology: Topology) -> tuple[Fault, ...]:
    """Return faults by name, the demonstrated ones when none is named; raises UsageError for what cannot be."""
    chosen = named(names or DEMONSTRATED, where=f"the demo's own: {', '.join(DEMONSTRATED)}")
    for fault in chosen:
        if (reason := lacking(fault, topology)) is not None:
            message = f"{fault.name} needs {reason}"
            raise UsageError(message, hint="leave that fault out, or take a larger topology")
    return chosen


def lacking(fault: Fault, topology: Topology) -> str | None:
    """Return what a topology lacks for a fault, None when it has the hosts that it needs."""
    reason = hand.lacking_kind(fault.name, topology) or elsewhere.lacking_members(fault.name, topology)
    if reason is not None:
        return reason
    for role, count in fault.needs:
        if not elsewhere.has_enough(fault, topology, role, count):
            return f"{count} hosts with the role {role}, {topology.name} has fewer"
    return None
