"""Whom a fault strikes, beyond the primary and the holder of the VIP, and what a cluster lacks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.errors import UnhealthyError
from pgbaton.proof.faults.base import primary, vip_holder
from pgbaton.topology import placement
from pgbaton.topology.model import Placement

if TYPE_CHECKING:
    from random import Random

    from pgbaton.proof.target import Roles, Target


def entry(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike a balancer that clients come through: the first VIP's holder, the first one where there is no VIP."""
    del random
    return (roles.vip or roles.balancers[0],)


def write_pooler(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike a host whose PgBouncer clients' writes go through."""
    return (random.choice(_some(roles.write_pools, "host with a pool for writes")),)


def read_pooler(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike a host whose PgBouncer clients' reads go through."""
    return (random.choice(_some(roles.read_pools, "host with a pool for reads")),)


def backup_balancer(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike a balancer that holds no VIP."""
    return (random.choice(_some(roles.backups, "balancer without a VIP")),)


def confirming_standby(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike a standby that commits wait for, or any standby where commits wait for none."""
    return (random.choice(_some(roles.synchronous or roles.standbys, "standby")),)


def asynchronous_standby(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike a standby that no commit waits for."""
    return (random.choice(_some(roles.asynchronous, "standby that no commit waits for")),)


def primary_and_confirming_standby(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike the primary and a standby that commits wait for."""
    return (*primary(roles, random), *confirming_standby(roles, random))


def primary_and_confirming_standbys(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike the primary and every standby that commits wait for."""
    return (*primary(roles, random), *_some(roles.synchronous, "standby that commits wait for"))


def primary_and_vip_holder(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike the primary and the VIP's holder, which may be one host."""
    return tuple(dict.fromkeys((*primary(roles, random), *vip_holder(roles, random))))


def databases(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike every database host."""
    del random
    return (roles.primary, *roles.standbys)


def balancers(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike every balancer."""
    del random
    return roles.balancers


def everything(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike every host that has a part in the cluster."""
    return tuple(dict.fromkeys((*databases(roles, random), *balancers(roles, random), *roles.dcs)))


async def no_vip(target: Target) -> str | None:
    """Tell when there is no VIP that could be held."""
    return None if target.topology.network.vip else f"{target.topology.name} has no VIP"


async def no_backup(target: Target) -> str | None:
    """Tell when every balancer holds a VIP."""
    roles = await target.roles()
    return None if roles.backups else "every balancer holds a VIP"


async def no_pooler(target: Target) -> str | None:
    """Tell when PgBouncer runs nowhere."""
    where = target.topology.pooling.placement
    return None if placement.poolers(target.topology) else f"pooling.placement is {where}: there is no PgBouncer"


async def no_pooler_on_balancers(target: Target) -> str | None:
    """Tell when PgBouncer runs elsewhere than beside HAProxy on the balancers."""
    where = target.topology.pooling.placement
    return None if where is Placement.BALANCER else f"pooling.placement is {where}: no balancer has a PgBouncer"


async def nobody_minds_poolers(target: Target) -> str | None:
    """Tell when nobody would notice a PgBouncer that hangs: HAProxy sees those behind it, agents their host's."""
    topology = target.topology
    is_seen = placement.leads_to_pools(topology) or (
        topology.has_agents and topology.pooling.placement is Placement.DATABASE
    )
    return None if is_seen else f"pooling.placement is {topology.pooling.placement}: nobody watches a PgBouncer there"


async def no_asynchronous_standby(target: Target) -> str | None:
    """Tell when commits wait for every standby, or may."""
    roles = await target.roles()
    return None if roles.asynchronous else "commits may wait for every standby, so none is asynchronous"


async def no_standby_waited_for(target: Target) -> str | None:
    """Tell when commits wait for no standby."""
    roles = await target.roles()
    return None if roles.synchronous else "commits wait for no standby"


def _some(hosts: tuple[str, ...], what: str) -> tuple[str, ...]:
    if not hosts:
        message = f"there is no {what} to strike"
        raise UnhealthyError(message, hint="pgbaton status shows the whole cluster")
    return hosts
