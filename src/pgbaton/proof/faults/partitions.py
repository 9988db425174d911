"""Faults of the network between hosts: nothing gets through, both ways or one way, to all hosts or to some.

The clients' machine is always on the side of the majority: a host that is cut off from all is cut off from it too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.lab import lifecycle, links
from pgbaton.lab.record import Cut
from pgbaton.proof.faults import elsewhere
from pgbaton.proof.faults.base import Fault, Suite, predicted, primary, steady, vip_holder, within
from pgbaton.proof.faults.expectations import as_without_agents, no_longer_than
from pgbaton.proof.faults.victims import (
    confirming_standby,
    entry,
    no_standby_waited_for,
    no_vip,
    primary_and_confirming_standby,
)
from pgbaton.proof.parts import BALANCER_PARTS, PRIMARY_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgbaton.proof.faults.base import Act, Expectation, Strike
    from pgbaton.proof.target import Target

    Cuts = Callable[[Strike], Iterable[Cut]]

PAIR = ((Role.DATABASE, 2),)
MAJORITY = ((Role.DCS, 3), *PAIR)
BALANCERS = ((Role.BALANCER, 2), *PAIR)
#: Longer than a lock of the usual ttl of 20 s lives, an election of etcd's and a race for the lock included.
BEYOND_TTL_SECONDS = 30.0
#: Long enough for two holders of an address to announce it more than once.
CONTEST_SECONDS = 25.0
#: Until HAProxy has missed two answers, of two seconds' patience each, and the VIP has moved or another way is taken.
BALANCER_NOTICES_SECONDS = 6.0


#: Until a server that Patroni demotes is there again as a standby, as its agent's word to the others has it.
DEMOTION_SECONDS = 4.0


def stepped_down(strike: Strike) -> Expectation:
    """Expect that a primary's own word lets go of its lock once Patroni has given up on etcd; without agents, its end.

    Patroni finds out within a loop, and gives up after its retries.
    """
    topology = strike.topology
    if not topology.has_agents:
        return as_without_agents("primary-cut-off", PRIMARY_PARTS)(strike)
    timings = topology.timings
    patience = timings.loop_wait + timings.retry_timeout + DEMOTION_SECONDS
    return no_longer_than("primary-cut-off", PRIMARY_PARTS, extra_seconds=patience)(strike)


def maker(name: str, strike: Strike) -> str:
    """Return whose doing it is, as the lab notes it: one use of a fault takes back its own alone."""
    return " ".join((name, *strike.hosts))


def parting(name: str, cuts: Cuts) -> Act:
    """Return the act of making cuts."""

    async def act(strike: Strike) -> None:
        by = maker(name, strike)
        await links.impair(strike.target.state, *(replace(each, by=by) for each in cuts(strike)))

    return act


def mending(name: str) -> Act:
    """Return the act of taking back what a fault has done to links."""

    async def act(strike: Strike) -> None:
        await links.mend(strike.target.state, by=maker(name, strike))

    return act


def others(strike: Strike) -> tuple[str, ...]:
    """Return all other machines, the clients' among them."""
    machines = lifecycle.status(strike.target.state).machines
    return tuple(machine.name for machine in machines if machine.name != strike.host)


def inbound(strike: Strike) -> tuple[Cut, ...]:
    """Have the host hear nobody."""
    return tuple(Cut(other, strike.host) for other in others(strike))


def outbound(strike: Strike) -> tuple[Cut, ...]:
    """Have nobody hear the host."""
    return tuple(Cut(strike.host, other) for other in others(strike))


def around(strike: Strike) -> tuple[Cut, ...]:
    """Part the host from all others."""
    return (*inbound(strike), *outbound(strike))


def between(one: str, rest: Iterable[str], ports: tuple[int, ...] = ()) -> tuple[Cut, ...]:
    """Part one host from some others, both ways."""
    return tuple(cut for other in rest for cut in (Cut(one, other, ports), Cut(other, one, ports)) if other != one)


def from_etcd(strike: Strike) -> tuple[Cut, ...]:
    """Part the host from etcd's members elsewhere; one of its own is left to itself then, and has no majority."""
    members = elsewhere.hosts_of_etcd(strike.topology)
    return between(strike.host, (host.name for host in members), elsewhere.ports_of_etcd(strike.topology))


def from_each_other(strike: Strike) -> tuple[Cut, ...]:
    """Part the hosts struck from each other."""
    return between(strike.host, strike.hosts[1:])


def from_other_balancers(strike: Strike) -> tuple[Cut, ...]:
    """Part the balancer from the other ones."""
    return between(strike.host, [name for name in strike.before.balancers if name != strike.host])


def from_primary(strike: Strike) -> tuple[Cut, ...]:
    """Part the host from the primary's."""
    return between(strike.host, [strike.before.primary])


def from_databases(strike: Strike) -> tuple[Cut, ...]:
    """Part the host from every server."""
    return between(strike.host, (strike.before.primary, *strike.before.standbys))


async def same_host(target: Target) -> str | None:
    """Tell when the active balancer is the primary's host, so that nothing lies between them."""
    roles = await target.roles()
    return "the active balancer is the primary's own host" if roles.primary == roles.vip else None


FAULTS = (
    Fault(
        name="primary-isolated",
        title="Primary cut off from all",
        does="nothing gets through between the primary's host and any other",
        right="it stops and acknowledges nothing, a synchronous standby takes over; it rejoins when it can be reached",
        victims=primary,
        inject=parting("primary-isolated", around),
        heal=mending("primary-isolated"),
        expects=predicted("primary-cut-off", PRIMARY_PARTS),
        needs=MAJORITY,
        hold_seconds=BEYOND_TTL_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="primary-deaf",
        title="Primary hears nobody",
        does="nothing gets through to the primary's host; what it sends does",
        right="it stops and acknowledges nothing, a synchronous standby takes over; it rejoins when it hears again",
        victims=primary,
        inject=parting("primary-deaf", inbound),
        heal=mending("primary-deaf"),
        expects=predicted("primary-cut-off", PRIMARY_PARTS),
        needs=MAJORITY,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="primary-mute",
        title="Nobody hears the primary",
        does="nothing that the primary's host sends gets through; what is sent to it does",
        right="it stops and acknowledges nothing, a synchronous standby takes over; it rejoins when it is heard again",
        victims=primary,
        inject=parting("primary-mute", outbound),
        heal=mending("primary-mute"),
        expects=predicted("primary-cut-off", PRIMARY_PARTS),
        needs=MAJORITY,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="primary-cut-from-etcd",
        title="Primary cut off from etcd alone",
        does="etcd's ports are closed between the primary's host and all others; everything else gets through",
        right="it steps down, a synchronous standby takes over; it rejoins when it reaches etcd again",
        victims=primary,
        inject=parting("primary-cut-from-etcd", from_etcd),
        heal=mending("primary-cut-from-etcd"),
        expects=stepped_down,
        needs=MAJORITY,
        obstacle=elsewhere.beyond_the_lab,
        hold_seconds=BEYOND_TTL_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="primary-cut-from-standby",
        title="Primary cut off from its synchronous standby alone",
        does="nothing gets through between the primary's host and that of a standby that commits wait for",
        right="the primary stays, and commits wait for another standby, or for none once etcd knows; none is lost",
        victims=primary_and_confirming_standby,
        inject=parting("primary-cut-from-standby", from_each_other),
        heal=mending("primary-cut-from-standby"),
        expects=steady(predicted("standby-power-off")),
        needs=PAIR,
        obstacle=no_standby_waited_for,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="standby-isolated",
        title="Synchronous standby cut off from all",
        does="nothing gets through between the host of a standby that commits wait for and any other",
        right="the primary stays, and commits go on without it; it rejoins when it is reached again",
        victims=confirming_standby,
        inject=parting("standby-isolated", around),
        heal=mending("standby-isolated"),
        expects=steady(predicted("standby-power-off")),
        needs=PAIR,
        obstacle=no_standby_waited_for,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="balancers-parted",
        title="Balancers cut off from each other",
        does="nothing gets through between the active balancer and the others, so that each claims the VIP",
        right="whichever is reached leads to the same primary; status shows the conflict, and it ends with the cut",
        victims=vip_holder,
        inject=parting("balancers-parted", from_other_balancers),
        heal=mending("balancers-parted"),
        expects=steady(predicted("balancer-power-off", BALANCER_PARTS)),
        needs=BALANCERS,
        obstacle=no_vip,
        hold_seconds=CONTEST_SECONDS,
        tolerates={"vip": "balancers that cannot hear each other must each take the VIP, or none would serve it"},
    ),
    Fault(
        name="balancer-cut-from-primary",
        title="Active balancer cut off from the primary alone",
        does="nothing gets through between the balancer that clients come through and the primary's host",
        right="clients are led to the primary by way of a balancer that reaches it; there is no failover",
        victims=entry,
        inject=parting("balancer-cut-from-primary", from_primary),
        heal=mending("balancer-cut-from-primary"),
        expects=steady(within(BALANCER_NOTICES_SECONDS, BALANCER_PARTS)),
        needs=BALANCERS,
        obstacle=same_host,
    ),
    Fault(
        name="balancer-cut-from-databases",
        title="Active balancer cut off from all servers",
        does="nothing gets through between the balancer that clients come through and any database host",
        right="clients are led to the primary by way of a balancer that reaches it; there is no failover",
        victims=entry,
        inject=parting("balancer-cut-from-databases", from_databases),
        heal=mending("balancer-cut-from-databases"),
        expects=steady(within(BALANCER_NOTICES_SECONDS, BALANCER_PARTS)),
        needs=BALANCERS,
        obstacle=same_host,
    ),
)
