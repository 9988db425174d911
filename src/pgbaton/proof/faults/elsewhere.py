"""What of a proof needs etcd's members on the cluster's own hosts, where etcd is elsewhere and none of them is.

That etcd serves others too: nothing of it is broken, stopped or led elsewhere for a proof.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.proof.faults import dcs
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Fault
    from pgbaton.proof.target import Target
    from pgbaton.topology.model import HostSpec, Topology

#: Faults that strike a member, move its leadership, or ask it on its own host.
AIMED = frozenset({*(fault.name for fault in dcs.FAULTS), "primary-power-off-with-etcd-leader", "stale-sync-change"})


def lacking_members(fault: str, topology: Topology) -> str | None:
    """Return what a topology with a foreign etcd lacks for a fault; None when it will do."""
    if topology.foreign_etcd is None or fault not in AIMED:
        return None
    return f"members of etcd on hosts of {topology.name}; its etcd is elsewhere, and not pgbaton's to break"


def has_enough(fault: Fault, topology: Topology, role: Role, count: int) -> bool:
    """Tell whether so many hosts have a role; a foreign etcd stands for the members that others must be able to ask."""
    return len(topology.with_role(role)) >= count or (role is Role.DCS and lends(fault, topology))


def lends(fault: Fault, topology: Topology) -> bool:
    """Tell whether a foreign etcd will do for a fault that wants a majority of etcd beyond the hosts it strikes."""
    return topology.foreign_etcd is not None and fault.name not in AIMED


def hosts_of_etcd(topology: Topology) -> tuple[HostSpec, ...]:
    """Return the machines that etcd runs on, as far as the topology knows them."""
    if topology.foreign_etcd is None:
        return topology.with_role(Role.DCS)
    named = set(topology.etcd.hosts)
    return tuple(host for host in topology.hosts if {host.name, str(host.address)} & named)


def ports_of_etcd(topology: Topology) -> tuple[int, ...]:
    """Return the ports at which etcd is reached, by clients and by its own members."""
    if topology.foreign_etcd is None:
        return (topology.orchestration.etcd_client_port, topology.orchestration.etcd_peer_port)
    return tuple(sorted({int(place.rpartition(":")[2]) for place in topology.etcd.places}))


async def beyond_the_lab(target: Target) -> str | None:
    """Tell when nothing in the lab lies between a host and etcd."""
    members = hosts_of_etcd(target.topology)
    if len(members) < len(target.topology.etcd.places):
        return "its etcd is on machines that are not the lab's: no link to them can be cut"
    return None
