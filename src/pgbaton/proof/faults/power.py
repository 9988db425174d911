"""Faults of whole machines: power cut, one at a time or several at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgbaton.lab import lifecycle
from pgbaton.proof.faults.base import Fault, Suite, primary, silence, vip_holder
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Strike


async def power_off(strike: Strike) -> None:
    """Cut the machines' power, of all at once."""
    await asyncio.gather(*(lifecycle.power_off(strike.target.state, host) for host in strike.hosts))


async def power_on(strike: Strike) -> None:
    """Give the machines that are off their power back; they are to rejoin by themselves."""
    state = strike.target.state
    off = [host for host in strike.hosts if lifecycle.status(state).machine(host).leader_pid is None]
    await asyncio.gather(*(lifecycle.power_on(state, host, report=strike.target.report) for host in off))


FAULTS = (
    Fault(
        name="balancer-power-off",
        title="Active balancer powered off",
        does="the power of the VIP's holder is cut",
        right="the other balancer takes the VIP; the one that returns does not take it back",
        victims=vip_holder,
        inject=power_off,
        heal=power_on,
        expects=silence,
        needs=((Role.BALANCER, 2),),
        suite=Suite.SMOKE,
    ),
    Fault(
        name="primary-power-off",
        title="Primary host powered off",
        does="the power of the primary's host is cut",
        right="a synchronous standby takes over; the old primary rejoins when its host is back",
        victims=primary,
        inject=power_off,
        heal=power_on,
        expects=silence,
        needs=((Role.DATABASE, 2),),
        suite=Suite.SMOKE,
    ),
)
