"""Faults of one network of two, where replication has one of its own: the other goes on working.

Each is half of what a partition is, and harder to see: hosts that cannot replicate hear each other well, and hosts that
cannot be reached replicate well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.lab.record import CLIENTS, REPLICATION
from pgbaton.proof.faults.agents import any_of, look_for_fences
from pgbaton.proof.faults.base import Fault, predicted, primary, steady
from pgbaton.proof.faults.expectations import as_without_agents
from pgbaton.proof.faults.partitions import (
    BEYOND_TTL_SECONDS,
    MAJORITY,
    PAIR,
    around,
    between,
    from_each_other,
    mending,
    parting,
)
from pgbaton.proof.faults.victims import no_standby_waited_for, primary_and_confirming_standby
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.topology.model import ReplicationMode

if TYPE_CHECKING:
    from pgbaton.lab.record import Cut
    from pgbaton.proof.faults.base import Strike
    from pgbaton.proof.target import Target


async def no_network_of_its_own(target: Target) -> str | None:
    """Tell when replication shares its network with everything else."""
    has_one = target.topology.has_replication_network
    return None if has_one else f"{target.topology.name} has no network for replication alone"


async def strict(target: Target) -> str | None:
    """Tell when commits must wait for a standby, whatever becomes of standbys."""
    is_strict = target.topology.replication.mode is ReplicationMode.STRICT
    return "replication.mode is strict: without any standby nothing is written" if is_strict else None


def replication_from_each_other(strike: Strike) -> tuple[Cut, ...]:
    """Part the hosts struck from each other, in the network for replication."""
    return tuple(replace(cut, network=REPLICATION) for cut in from_each_other(strike))


def replication_from_all(strike: Strike) -> tuple[Cut, ...]:
    """Part the host from every other database, in the network for replication."""
    return tuple(replace(cut, network=REPLICATION) for cut in between(strike.host, strike.before.standbys))


def clients_around(strike: Strike) -> tuple[Cut, ...]:
    """Part the host from all others, in the network that clients come by."""
    return tuple(replace(cut, network=CLIENTS) for cut in around(strike))


FAULTS = (
    Fault(
        name="replication-cut-from-standby",
        title="Primary's replication to its synchronous standby cut",
        does="nothing gets through between the primary and a standby that commits wait for, in the network for "
        "replication alone",
        right="the primary stays, since all hear it; commits wait for another standby, or for none once etcd knows; "
        "none is lost, and nobody is fenced",
        victims=primary_and_confirming_standby,
        inject=parting("replication-cut-from-standby", replication_from_each_other),
        heal=mending("replication-cut-from-standby"),
        look=look_for_fences,
        # Agents hear both hosts well: PostgreSQL has to find out by itself.
        expects=steady(as_without_agents("standby-power-off")),
        needs=PAIR,
        obstacle=any_of(no_network_of_its_own, no_standby_waited_for),
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="replication-cut-from-all",
        title="Primary's replication cut from all standbys",
        does="nothing gets through between the primary and any other database, in the network for replication alone",
        right="the primary stays, and commits go on alone once etcd knows that no standby has them; none is lost, and "
        "nobody is fenced",
        victims=primary,
        inject=parting("replication-cut-from-all", replication_from_all),
        heal=mending("replication-cut-from-all"),
        look=look_for_fences,
        expects=steady(as_without_agents("standbys-lost")),
        needs=PAIR,
        obstacle=any_of(no_network_of_its_own, strict),
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="primary-cut-from-clients",
        title="Primary cut off from all but its standbys' replication",
        does="nothing gets through between the primary's host and any other, in the network that clients come by; its "
        "standbys can go on streaming",
        right="it stops and acknowledges nothing, although its standbys could confirm; a synchronous one takes over",
        victims=primary,
        inject=parting("primary-cut-from-clients", clients_around),
        heal=mending("primary-cut-from-clients"),
        expects=predicted("primary-cut-off", PRIMARY_PARTS),
        needs=MAJORITY,
        obstacle=no_network_of_its_own,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
)
