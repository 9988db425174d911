"""The floating addresses: which balancer is each one's own, and who takes over in which order. Pure.

A single VIP has no balancer of its own: it stays where it is, since each move cuts connections. Several are there so
that several balancers carry clients; so each has one of its own, goes back there, and the others follow in a ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbaton.topology.addresses import Address, Interface
    from pgbaton.topology.model import HostSpec, Network, Topology

#: VRRP's identities are the numbers from 1 to this.
LAST_ROUTER_ID = 255


@dataclass(frozen=True)
class Vip:
    """A floating address: its VRRP identity, and the balancers by name with the priority that each has for it.

    The highest comes first. ``home`` is the balancer that it goes back to; None for one that stays where it is.
    ``twin`` is the address of the other family that moves with it.
    """

    address: Address
    router_id: int
    priorities: tuple[tuple[str, int], ...]
    home: str | None
    twin: Interface | None = None

    def priority(self, host: HostSpec) -> int:
        """Return a balancer's priority for this address; raises KeyError when it is none."""
        return dict(self.priorities)[host.name]


def floating(topology: Topology) -> tuple[Vip, ...]:
    """Return every VIP, the one of ``network.vip`` first.

    The first one's own balancer is that of the highest priority, the next one's that of the next priority.
    """
    addresses = topology.network.vips
    balancers = sorted(topology.with_role(Role.BALANCER), key=topology.priority, reverse=True)
    names = [host.name for host in balancers]
    values = [topology.priority(host) for host in balancers]
    orders = (rotated(names, place) for place in range(len(addresses)))
    is_alone = len(addresses) == 1
    twins = dict(zip(addresses, topology.network.twin_vips, strict=False))
    return tuple(
        Vip(
            address,
            router_id(topology.network, address),
            tuple(zip(order, values, strict=True)),
            None if is_alone or not order else order[0],
            twins.get(address),
        )
        for address, order in zip(addresses, orders, strict=True)
    )


def rotated(names: Sequence[str], places: int) -> list[str]:
    """Return names in the same ring, beginning so many places later."""
    start = places % len(names) if names else 0
    return [*names[start:], *names[:start]]


def router_id(network: Network, address: Address) -> int:
    """Return a floating address's VRRP identity: as far from the VIP's as the address is from the VIP, in a ring.

    So no other one's identity changes when one of several is taken out: two identities for one address would be two
    holders of it, until every balancer had heard.
    """
    distance = int(address) - int(network.vip or address)
    return (network.virtual_router_id - 1 + distance) % LAST_ROUTER_ID + 1


def homes(topology: Topology) -> dict[str, str]:
    """Return the balancer that each address goes back to, by address; nothing where there is one VIP or none."""
    return {str(vip.address): vip.home for vip in floating(topology) if vip.home is not None}
