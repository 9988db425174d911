"""Which machines there are, what each is for, and the network between them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pgbaton.topology.addresses import Address, Interface, Subnet  # noqa: TC001 - pydantic resolves annotations at run time
from pgbaton.topology.tables.base import FAILURE_DOMAIN, INTERFACE, DnsName, HostName, Section, Slug


class Role(StrEnum):
    """What a host is for."""

    BALANCER = "balancer"
    POOLER = "pooler"
    DATABASE = "database"
    DCS = "dcs"
    APPLICATION = "application"


class HostSpec(Section):
    """One machine of the cluster."""

    name: HostName = Field(description="Host name, unique in the cluster.")
    address: Address = Field(description="The address the other hosts reach it at.")
    roles: Annotated[tuple[Role, ...], Field(min_length=1)] = Field(description="What the host is for.")
    priority: Annotated[int, Field(ge=1, le=254)] | None = Field(
        default=None, description="VRRP priority of a balancer; by default the first listed has the highest."
    )
    failure_domain: Annotated[str, Field(pattern=FAILURE_DOMAIN)] | None = Field(
        default=None, description="Hosts that fail together share one (rack, zone)."
    )
    failover: bool = Field(default=True, description="Whether this database may ever become primary.")
    synchronous: bool = Field(
        default=True,
        description="Whether this database may confirm commits; one that may never become primary does not.",
    )
    reads: bool = Field(default=True, description="Whether this database takes reads while it is a standby.")
    read_weight: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None,
        description="Its share of reads among the standbys, beside the others' weights; by default all have the same.",
    )
    replicate_from: HostName | None = Field(
        default=None,
        description="The database that this one receives from, while that one is a standby; by default the primary.",
    )
    replication_address: Address | None = Field(
        default=None,
        description="The address that other databases reach this one's server at, in network.replication_subnet.",
    )
    ssh: str | None = Field(
        default=None,
        description='What to give ssh as destination; by default the address. "local": the machine pgbaton runs on.',
    )

    def has(self, role: Role) -> bool:
        """Tell whether the host has a role."""
        return role in self.roles

    @property
    def server_addresses(self) -> tuple[Address, ...]:
        """Return the addresses that the host's server listens on.

        That for replication is the first: Patroni takes it for its own connections of that kind.
        """
        return (*((self.replication_address,) if self.replication_address else ()), self.address)

    @property
    def confirms(self) -> bool:
        """Tell whether the host's server may confirm commits: whoever does has to be one that can be promoted."""
        return self.failover and self.synchronous


class Cluster(Section):
    """Names of the cluster."""

    name: Slug = Field(description="Name of the cluster, for people and for pgbaton's commands.")
    scope: Slug | None = Field(default=None, description="Patroni's scope; by default the cluster's name.")


class Network(Section):
    """The network that hosts and clients share, and the floating addresses on it."""

    subnet: Subnet = Field(description="The hosts' network, as 10.77.0.0/24 or fd00:77::/64.")
    vip: Address | None = Field(default=None, description="The address clients use; Keepalived floats it.")
    more_vips: tuple[Address, ...] = Field(
        default=(),
        description="Further such addresses, each with a balancer of its own as long as that one is well.",
    )
    twin_vips: tuple[Interface, ...] = Field(
        default=(),
        description="For clients of the other family: for each VIP, in the same order, an address that moves with it, "
        "with its network's prefix length, as 10.77.0.100/24.",
    )
    dns_names: tuple[DnsName, ...] = Field(
        default=(),
        description="Names that clients have for these addresses; certificates that they see are good for them too.",
    )
    other_subnets: tuple[Subnet, ...] = Field(
        default=(),
        description="Networks of other sites, where applications may be, and databases that never become primary.",
    )
    replication_subnet: Subnet | None = Field(
        default=None,
        description="A network for replication alone, as 10.78.0.0/24, of either family: every database has its "
        "replication_address in it, those of other sites too.",
    )
    replication_interface: Annotated[str, Field(pattern=INTERFACE)] = Field(
        default="eth1", description="Network interface that carries the databases' replication addresses."
    )
    use_replication_subnet: bool = Field(
        default=True,
        description="Whether servers replicate over replication_subnet. With false they listen there, and agents know "
        "it: the step before, and the step back, for a cluster that runs.",
    )
    gateway: Address | None = Field(default=None, description="The router, so that no host or VIP takes its address.")
    interface: Annotated[str, Field(pattern=INTERFACE)] = Field(
        default="eth0", description="Network interface that carries the hosts' addresses and the VIP."
    )
    virtual_router_id: Annotated[int, Field(ge=1, le=255)] = Field(
        default=51,
        description="VRRP identity of the VIP; unique on the network segment. A further VIP's is as far from this one "
        "as its address is from the VIP's.",
    )
    taken_router_ids: tuple[Annotated[int, Field(ge=1, le=255)], ...] = Field(
        default=(), description="VRRP identities that others on the segment use."
    )

    @property
    def vips(self) -> tuple[Address, ...]:
        """Return every floating address, the VIP first; none where there is no VIP."""
        return (self.vip, *self.more_vips) if self.vip else ()
