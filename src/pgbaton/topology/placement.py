"""Where PgBouncer runs, and who leads to whom then. Pure.

A *router* is a host whose HAProxy knows who is primary. Where pools find the servers through it, it is beside them and
listens on the loopback address; elsewhere the balancers are routers, and lead whoever comes through them.
"""

from __future__ import annotations

from dataclasses import dataclass
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


def ways_in(topology: Topology) -> tuple[str, ...]:
    """Return the addresses by which balancers are reached: every VIP, or without one each balancer's own."""
    if topology.network.vips:
        return tuple(map(str, topology.network.vips))
    return tuple(str(host.address) for host in topology.with_role(Role.BALANCER))


def has_several_vips(topology: Topology) -> bool:
    """Tell whether an application connects to several VIPs, each as good as the others."""
    return len(topology.network.vips) > 1 and topology.pooling.placement is not Placement.APPLICATION


@dataclass(frozen=True)
class Entrance:
    """Where an application connects: an address, or several of which it tries one after another, and its ports.

    There is no third one, for reads of synchronous standbys, unless the topology says so.
    """

    addresses: tuple[str, ...]
    write_port: int
    read_port: int
    synchronous_port: int | None

    @property
    def hosts(self) -> str:
        """Return the addresses as libpq's ``host`` takes them."""
        return ",".join(self.addresses)


def entrance(topology: Topology) -> Entrance:
    """Return where an application connects: the pool beside it, every VIP, or without one every balancer."""
    is_own = topology.pooling.placement is Placement.APPLICATION
    ports = pool_ports(topology) if is_own else client_ports(topology)
    addresses = (LOOPBACK,) if is_own else ways_in(topology)
    write_port, read_port, *more = ports
    return Entrance(addresses, write_port, read_port, more[0] if more else None)


def client_ports(topology: Topology) -> tuple[int, ...]:
    """Return the ports that balancers have for clients."""
    balancing = topology.balancing
    return tuple(filter(None, (balancing.write_port, balancing.read_port, balancing.synchronous_port)))


def pool_ports(topology: Topology) -> tuple[int, ...]:
    """Return the ports of PgBouncer."""
    pooling = topology.pooling
    more = (pooling.synchronous_port,) if topology.balancing.synchronous_port else ()
    return (pooling.write_port, pooling.read_port, *more)


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
