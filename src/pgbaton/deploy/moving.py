"""Moving the pools of a running cluster: another placement first, then other hosts. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.errors import RefusedError
from pgbaton.topology import load, placement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.blueprint import Blueprint
    from pgbaton.topology.model import Topology


def former(text: str | None) -> Topology | None:
    """Return the topology applied before, from its text; None when there was none, or it is refused by now."""
    return load.parse(text, "the topology applied before")[0] if text else None


def check(before: Topology | None, topology: Topology) -> None:
    """Refuse to place pools elsewhere and to take away the hosts that they are on at once; raises RefusedError.

    Servers and firewalls would turn those hosts away before clients have been led to the others.
    """
    if before is None or before.pooling.placement is topology.pooling.placement:
        return
    hosts = dict.fromkeys((*placement.poolers(before), *placement.routers(before)))
    gone = [host.name for host in hosts if not topology.has_host(host.name)]
    if gone:
        names = " and ".join(gone)
        message = (
            f"pooling.placement changes from {before.pooling.placement} to {topology.pooling.placement}, and {names} "
            "would be gone, where clients are led through until everything is in its new place"
        )
        raise RefusedError(message, hint=f"keep {names} in the file, apply, then take them out and apply again")


def refuse_back(undone: Iterable[Topology], topology: Topology) -> None:
    """Refuse to take a change back that moved pools; raises RefusedError.

    Files would be put back and units stopped host by host, and the pools that clients are led to would all be gone
    before the earlier ones run. An apply brings the new place up first, in whichever direction.
    """
    wanted = topology.pooling.placement
    for each in undone:
        if each.pooling.placement is not wanted:
            message = f"the last apply moved the pools (pooling.placement, from {wanted} to {each.pooling.placement})"
            hint = f'apply the earlier topology file, or this one with placement = "{wanted}": that moves them back'
            raise RefusedError(message, hint=hint)


def with_former(blueprint: Blueprint, *before: Topology) -> Blueprint:
    """Return a blueprint in which hosts are marked that had something before, so that it is taken away from them."""
    had = {host.name for each in before for host in each.hosts if placement.is_managed(each, host)}
    hosts = tuple(replace(host, was_managed=host.host in had) for host in blueprint.hosts)
    return replace(blueprint, hosts=hosts)
