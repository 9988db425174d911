"""The image of the comparison's machines: pgbaton's own, with the peers' packages beside it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from pgbaton.lab import recipe
from pgbaton.topology.model import Cluster, HostSpec, Network, Orchestration, Postgresql, Role, Topology

PACKAGES = ("pg-auto-failover-cli", "postgresql-{postgresql}-auto-failover", "postgresql-{postgresql}-repmgr")
SYSTEM = replace(recipe.SYSTEMS["debian-13"], name="peers-debian-13", extra=PACKAGES)

SUBNET = IPv4Network("10.77.0.0/24")
DATABASES = {"db1": 21, "db2": 22, "db3": 23}


def address(number: int) -> IPv4Address:
    """Return a host's address by its number in the network."""
    return SUBNET.network_address + number


def host(name: str, number: int, *roles: Role) -> HostSpec:
    """Return one machine."""
    return HostSpec(name=name, address=address(number), roles=roles)


def machines(cluster: str, *further: HostSpec, data_directory: str) -> Topology:
    """Return three database machines and further ones, with nothing of pgbaton on them."""
    databases = (host(name, number, Role.DATABASE) for name, number in DATABASES.items())
    return Topology(
        schema=1,
        cluster=Cluster(name=cluster),
        hosts=(*further, *databases),
        network=Network(subnet=SUBNET),
        postgresql=Postgresql(data_directory=data_directory),
        orchestration=Orchestration(agent=False),
    )
