"""Floating addresses that a cluster has no more: none may stay on a machine. Pure.

Keepalived takes an address away when it is told to leave it alone. One that was killed meanwhile, or hangs, does not;
and what took stale addresses away at its start knows of the present ones only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.deploy.steps import Cost, Kind, Stage, Step
from pgbaton.topology import load
from pgbaton.topology.addresses import floating_prefix
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pgbaton.deploy.inventory import Inventory
    from pgbaton.topology.model import Topology


@dataclass(frozen=True)
class Leaving:
    """An address that was a VIP, with its prefix length and interface, and the hosts that may have it."""

    address: str
    prefix_length: int
    interface: str
    hosts: frozenset[str]

    @property
    def subject(self) -> str:
        """Return it as ``ip address`` takes it."""
        return f"{self.address}/{self.prefix_length} dev {self.interface}"


def leaving(earlier: Iterable[str], topology: Topology) -> tuple[Leaving, ...]:
    """Return the addresses that topologies of before had as VIPs, and this one has not; ``earlier`` are their texts.

    An address that is a host's by now is left alone. A text that this version refuses says nothing.
    """
    kept = {
        *topology.network.vips,
        *(twin.ip for twin in topology.network.twin_vips),
        *(host.address for host in topology.hosts),
    }
    found: dict[str, Leaving] = {}
    for before in filter(None, (load.parse(text, "a topology applied before")[0] for text in earlier)):
        balancers = frozenset(host.name for host in before.with_role(Role.BALANCER))
        hosts = frozenset(name for name in balancers if topology.has_host(name))
        network = before.network
        floating = [(address, floating_prefix(address, network.subnet)) for address in network.vips]
        floating += [(twin.ip, twin.network.prefixlen) for twin in network.twin_vips]
        for address, prefix_length in floating:
            if address not in kept and hosts:
                gone = Leaving(str(address), prefix_length, network.interface, hosts)
                found.setdefault(gone.subject, gone)
    return tuple(found.values())


def steps(gone: Iterable[Leaving], inventories: Mapping[str, Inventory]) -> Iterator[Step]:
    """Yield what takes addresses away from every host that may have them, by then; clients of a holder are cut off."""
    for each in gone:
        for host in sorted(each.hosts & inventories.keys()):
            is_held = each.address in inventories[host].addresses
            yield Step(
                Kind.ADDRESS,
                Stage.LEFTOVERS,
                host,
                "keepalived",
                each.subject,
                "remove",
                Cost.RESTART if is_held else Cost.NOTHING,
                before="held" if is_held else "not held",
                after="gone",
            )
