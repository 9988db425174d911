"""Which port is bound on which host, where it is set, and what for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.topology import placement
from pgbaton.topology.model import Role, Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgbaton.topology.model import HostSpec

    Hosts = Callable[[Topology], tuple[HostSpec, ...]]


@dataclass(frozen=True)
class Port:
    """A port that the topology file sets: its table and key there, what it is for, and the hosts that bind it."""

    section: str
    key: str
    purpose: str
    hosts: Hosts

    def number(self, topology: Topology) -> int | None:
        """Return the port; None where there is none."""
        number: int | None = getattr(getattr(topology, self.section), self.key)
        return number


def with_role(role: Role) -> Hosts:
    """Return what finds the hosts of a role."""
    return lambda topology: topology.with_role(role)


def under_patroni(hosts: Hosts) -> Hosts:
    """Return what finds hosts where Patroni and etcd run, and none where a person promotes."""
    return lambda topology: () if topology.is_manual else hosts(topology)


def asked_for(hosts: Hosts) -> Hosts:
    """Return what finds hosts where synchronous standbys have a port of their own, and none elsewhere."""
    return lambda topology: hosts(topology) if topology.balancing.synchronous_port else ()


PORTS: tuple[Port, ...] = (
    Port("postgresql", "port", "PostgreSQL", with_role(Role.DATABASE)),
    Port("orchestration", "rest_port", "Patroni", under_patroni(with_role(Role.DATABASE))),
    Port("orchestration", "etcd_client_port", "etcd's clients", under_patroni(with_role(Role.DCS))),
    Port("orchestration", "etcd_peer_port", "etcd's peers", under_patroni(with_role(Role.DCS))),
    Port("balancing", "write_port", "writes", with_role(Role.BALANCER)),
    Port("balancing", "read_port", "reads", with_role(Role.BALANCER)),
    Port("balancing", "synchronous_port", "reads of synchronous standbys", with_role(Role.BALANCER)),
    Port("balancing", "statistics_port", "HAProxy's statistics", placement.proxies),
    Port("balancing", "primary_port", "the way to the primary", placement.holders),
    Port("balancing", "standby_port", "the way to the standbys", placement.holders),
    Port(
        "balancing",
        "synchronous_standby_port",
        "the way to the synchronous standbys",
        asked_for(placement.holders),
    ),
    Port("pooling", "write_port", "PgBouncer's writes", placement.poolers),
    Port("pooling", "read_port", "PgBouncer's reads", placement.poolers),
    Port("pooling", "synchronous_port", "PgBouncer's reads of synchronous standbys", asked_for(placement.poolers)),
)
#: The same of agents, on every host that has one. The first is UDP's: one number is still one program's.
AGENT_PORTS: tuple[Port, ...] = (
    Port("orchestration", "heartbeat_port", "agents' heartbeats", lambda topology: topology.voters),
    Port("orchestration", "health_port", "the agent's health", lambda topology: topology.voters),
)


def bound(topology: Topology, host: HostSpec) -> Iterator[tuple[Port, int]]:
    """Yield the ports that are bound on a host, with their numbers."""
    for port in (*PORTS, *AGENT_PORTS):
        number = port.number(topology)
        if number is not None and host in port.hosts(topology):
            yield port, number
