"""Faults of whole machines: power cut, one at a time or several at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgbaton.components.etcd import etcdctl
from pgbaton.lab import lifecycle
from pgbaton.operate.waiting import until
from pgbaton.proof.faults import victims
from pgbaton.proof.faults.base import (
    Fault,
    Service,
    Suite,
    predicted,
    primary,
    silence,
    steady,
    unpromised,
    vip_holder,
    within,
)
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.signals import signal_server, titled
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Expectation, Strike
    from pgbaton.proof.target import Target

#: How long the primary acknowledges, or tries to, while nothing leaves it: less than wal_sender_timeout, so that the
#: standbys do not count as gone.
LAG_SECONDS = 1.0
#: Beyond the leader lock's usual life and an election: who may be promoted has been by then.
BEYOND_TTL_SECONDS = 35.0
#: The darkness that everybody notices.
DARK_SECONDS = 5.0
#: What clients may notice of a host that serves none of them.
BLIP_SECONDS = 1.0
LEADERSHIP_SECONDS = 10.0


async def power_off(strike: Strike) -> None:
    """Cut the machines' power, of all at once."""
    await asyncio.gather(*(lifecycle.power_off(strike.target.state, host) for host in strike.hosts))


async def power_on(strike: Strike) -> None:
    """Give the machines that are off their power back; they are to rejoin by themselves."""
    state = strike.target.state
    off = [host for host in strike.hosts if lifecycle.status(state).machine(host).leader_pid is None]
    await asyncio.gather(*(lifecycle.power_on(state, host, report=strike.target.report) for host in off))


async def lag_and_power_off(strike: Strike) -> None:
    """Have the primary send nothing for a while, then cut its power: what it acknowledged meanwhile is on it alone."""
    await signal_server(strike, "STOP", "all", titled(strike, "walsender"))
    await asyncio.sleep(LAG_SECONDS)
    await power_off(strike)


async def power_off_with_etcd_leader(strike: Strike) -> None:
    """Move etcd's leadership to the primary's host, then cut its power."""
    await lead_etcd(strike.target, strike.host)
    await power_off(strike)


async def lead_etcd(target: Target, wanted: str) -> None:
    """Move etcd's leadership to a host's member; raises UnhealthyError when it does not come to lead in time.

    Agents move it away again from a primary's host within seconds, so whoever wants it there has to be quick.
    """
    control = etcdctl(target.topology)
    members = member_ids((await target.hosts[wanted].run(*control, "member", "list")).stdout)

    async def look() -> str | None:
        seen = (await target.roles()).dcs_leader
        if seen is None:
            return "etcd has no leader"
        if seen == wanted:
            return None
        # etcd answers when the leadership has moved.
        moved = await target.hosts[seen].run(*control, "move-leader", members[wanted], check=False)
        return None if moved.ok else f"etcd's leader is {seen}: {moved.stderr.strip()}"

    await until(f"etcd is led by {wanted}", look, seconds=LEADERSHIP_SECONDS)


def member_ids(listing: str) -> dict[str, str]:
    """Read the members' ids, by name, from what ``etcdctl member list`` prints. Pure."""
    rows = (line.split(", ") for line in listing.splitlines() if line.strip())
    return {name: identity for identity, _, name, *_ in rows}


async def primary_without_etcd(target: Target) -> str | None:
    """Tell when the primary's host has no member of etcd that could lead."""
    roles = await target.roles()
    return None if roles.primary in roles.dcs else f"no member of etcd runs on {roles.primary}"


def backup_silence(strike: Strike) -> Expectation:
    """Expect nothing to be noticed, unless the primary is on the same host."""
    if strike.before.primary in strike.hosts:
        return silence(strike)
    return steady(within(BLIP_SECONDS))(strike)


FAULTS = (
    Fault(
        name="balancer-power-off",
        title="Active balancer powered off",
        does="the power of the VIP's holder is cut",
        right="the other balancer takes the VIP; the one that returns takes none back but its own of several",
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
    Fault(
        name="primary-power-off-with-etcd-leader",
        title="Primary and etcd's leader powered off",
        does="etcd's leadership is moved to the primary's host, then its power is cut",
        right="etcd elects, then a synchronous standby takes over; the old primary rejoins",
        victims=primary,
        inject=power_off_with_etcd_leader,
        heal=power_on,
        expects=predicted("primary-power-off-with-etcd-leader", PRIMARY_PARTS),
        needs=((Role.DATABASE, 2), (Role.DCS, 3)),
        obstacle=primary_without_etcd,
    ),
    Fault(
        name="lagging-primary-power-off",
        title="Lagging primary powered off",
        does=f"the primary's walsenders are stopped for {LAG_SECONDS:g} s, then the power of its host is cut",
        right="what no standby has was not acknowledged: commits wait, then a synchronous standby takes over",
        victims=primary,
        inject=lag_and_power_off,
        heal=power_on,
        expects=no_longer_than("primary-power-off", PRIMARY_PARTS, extra_seconds=LAG_SECONDS),
        needs=((Role.DATABASE, 2),),
        suite=Suite.STANDARD,
    ),
    Fault(
        name="standby-power-off",
        title="Synchronous standby powered off",
        does="the power of a synchronous standby's host is cut",
        right="commits wait until another standby is synchronous, and no longer; the standby rejoins",
        victims=victims.confirming_standby,
        inject=power_off,
        heal=power_on,
        expects=steady(predicted("standby-power-off")),
        needs=((Role.DATABASE, 2),),
        suite=Suite.STANDARD,
    ),
    Fault(
        name="asynchronous-standby-power-off",
        title="Asynchronous standby powered off",
        does="the power of a standby's host is cut that no commit waits for",
        right="writes go on undisturbed; reads move to other servers; the standby rejoins",
        victims=victims.asynchronous_standby,
        inject=power_off,
        heal=power_on,
        expects=steady(within(BLIP_SECONDS)),
        needs=((Role.DATABASE, 3),),
        obstacle=victims.no_asynchronous_standby,
    ),
    Fault(
        name="backup-balancer-power-off",
        title="Backup balancer powered off",
        does="the power of a balancer without a VIP is cut",
        right="clients notice nothing",
        victims=victims.backup_balancer,
        inject=power_off,
        heal=power_on,
        expects=backup_silence,
        needs=((Role.BALANCER, 2),),
        obstacle=victims.no_backup,
    ),
    Fault(
        name="primary-and-standby-power-off",
        title="Primary and synchronous standby powered off",
        does="the power of the primary's and a synchronous standby's hosts is cut at once",
        right="no standby that may lack acknowledged writes is promoted: no writes until one of the two is back",
        victims=victims.primary_and_confirming_standby,
        inject=power_off,
        heal=power_on,
        expects=unpromised,
        needs=((Role.DATABASE, 3),),
        service=Service.AFTER_HEALING,
        hold_seconds=BEYOND_TTL_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="primary-and-balancer-power-off",
        title="Primary and active balancer powered off",
        does="the power of the primary's host and of the VIP's holder is cut at once",
        right="the other balancer takes the VIP, a synchronous standby takes over; both hosts rejoin",
        victims=victims.primary_and_vip_holder,
        inject=power_off,
        heal=power_on,
        expects=silence,
        needs=((Role.DATABASE, 2), (Role.BALANCER, 2)),
        suite=Suite.STANDARD,
    ),
    Fault(
        name="balancers-power-off",
        title="All balancers powered off",
        does="the power of all balancers is cut at once",
        right="no way in until one is back; one of them has the VIP then, and the primary is the same",
        victims=victims.balancers,
        inject=power_off,
        heal=power_on,
        expects=steady(unpromised),
        needs=((Role.BALANCER, 1),),
        service=Service.AFTER_HEALING,
        hold_seconds=DARK_SECONDS,
    ),
    Fault(
        name="databases-power-off",
        title="All databases powered off",
        does="the power of all database hosts is cut at once",
        right="when they are back, one that has every acknowledged write is primary, and the others follow it",
        victims=victims.databases,
        inject=power_off,
        heal=power_on,
        expects=unpromised,
        needs=((Role.DATABASE, 1),),
        service=Service.AFTER_HEALING,
        hold_seconds=DARK_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="cluster-power-off",
        title="Whole cluster powered off",
        does="the power of all hosts is cut at once",
        right="when they are back, the cluster comes up by itself with every acknowledged write",
        victims=victims.everything,
        inject=power_off,
        heal=power_on,
        expects=unpromised,
        service=Service.AFTER_HEALING,
        hold_seconds=DARK_SECONDS,
    ),
)
