"""Where PgBouncer runs, and who leads to whom then. Pure.

A *router* is a host whose HAProxy knows who is primary. Where pools find the servers through it, it is beside them and
listens on the loopback address; elsewhere the balancers are routers, and lead whoever comes through them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.model import Placement, Role

if TYPE_CHECKING:
    from pgbaton.topology.model import HostSpec, Topology

LOOPBACK = "127.0.0.1"
#: The role of the hosts that have PgBouncer.
POOLED: dict[Placement, Role | None] = {
    Placement.BALANCER: Role.BALANCER,
    Placement.POOLER: Role.POOLER,
    Placement.DATABASE: Role.DATABASE,
    Placement.APPLICATION: Role.APPLICATION,
    Placement.NONE: None,
}


def poolers(topology: Topology) -> tuple[HostSpec, ...]:
    """Return the hosts that PgBouncer runs on."""
    role = POOLED[topology.pooling.placement]
    return topology.with_role(role) if role else ()


def routers(topology: Topology) -> tuple[HostSpec, ...]:
    """Return the hosts whose HAProxy leads to the servers."""
    return topology.with_role(Role.POOLER if topology.pooling.placement is Placement.POOLER else Role.BALANCER)


def proxies(topology: Topology) -> tuple[HostSpec, ...]:
    """Return the hosts that HAProxy runs on: balancers and routers, each once, in the file's order."""
    routing = routers(topology)
    return tuple(host for host in topology.hosts if host.has(Role.BALANCER) or host in routing)


def entrance(topology: Topology) -> tuple[str, int, int]:
    """Return where an application connects: an address, the port for writes and the one for reads."""
    if topology.pooling.placement is Placement.APPLICATION:
        return LOOPBACK, topology.pooling.write_port, topology.pooling.read_port
    return str(topology.entry_address), topology.balancing.write_port, topology.balancing.read_port


def is_managed(topology: Topology, host: HostSpec) -> bool:
    """Tell whether anything of the cluster is on a host: an application's own has nothing but a pool placed there."""
    return set(host.roles) != {Role.APPLICATION} or host in poolers(topology)


def proxied_from(topology: Topology) -> tuple[HostSpec, ...]:
    """Return the hosts that servers let in for clients, wherever PgBouncer is placed.

    All that could be routers: so a running cluster can be given another placement, and nobody is locked out half-way.
    """
    return tuple(host for host in topology.hosts if host.has(Role.BALANCER) or host.has(Role.POOLER))


def may_pool(host: HostSpec) -> bool:
    """Tell whether balancers may be led to a pool on a host, in some placement."""
    return host.has(Role.BALANCER) or host.has(Role.POOLER) or host.has(Role.DATABASE)


def leads_to_pools(topology: Topology) -> bool:
    """Tell whether balancers lead their clients to pools, and pools find the servers through a router of their own."""
    return topology.pooling.placement in {Placement.BALANCER, Placement.POOLER}


def leads_to_servers(topology: Topology) -> bool:
    """Tell whether balancers lead whoever comes to the servers themselves: a client, or the pool beside it."""
    return topology.pooling.placement in {Placement.APPLICATION, Placement.NONE}


def holders(topology: Topology) -> tuple[HostSpec, ...]:
    """Return the hosts whose pool can hold all of its clients while there is no primary, and lead them to the next."""
    return poolers(topology) if leads_to_pools(topology) else ()
