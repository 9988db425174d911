"""The topology: one frozen value that says everything about a cluster, put together from its tables.

Types and single-value limits are with the tables, in :mod:`pgbaton.topology.tables`; rules that need more than one
value are in :mod:`pgbaton.topology.rules`. Whoever asks about a topology asks here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pgbaton.topology.addresses import Address, Subnet  # noqa: TC001 - pydantic resolves annotations at run time
from pgbaton.topology.tables.base import Section
from pgbaton.topology.tables.foreign import ForeignEtcd
from pgbaton.topology.tables.layout import Cluster, HostSpec, Network, Role
from pgbaton.topology.tables.running import Orchestration, OrchestrationKind, Security, Ssh, Timings
from pgbaton.topology.tables.servers import (
    Database,
    PoolMode,
    Postgresql,
    Replication,
    ReplicationMode,
    Tablespace,
    User,
)
from pgbaton.topology.tables.traffic import Balancing, Placement, Pooling, PrimaryCheck, ReadPolicy

__all__ = [
    "Balancing",
    "Cluster",
    "Database",
    "ForeignEtcd",
    "HostSpec",
    "Network",
    "Orchestration",
    "OrchestrationKind",
    "Placement",
    "PoolMode",
    "Pooling",
    "Postgresql",
    "PrimaryCheck",
    "ReadPolicy",
    "Replication",
    "ReplicationMode",
    "Role",
    "Security",
    "Ssh",
    "Tablespace",
    "Timings",
    "Topology",
    "User",
]

#: Where etcd tells its figures, on the loopback address only; nothing sets it.
ETCD_METRICS_PORT = 2381
#: Debian 13's PostgreSQL; Debian 12 has 15, and with it a Patroni that overwrites a lock which it has lost.
AGENTS_SINCE = 17
#: PostgreSQL that takes TLS from the first byte on, which is all that HAProxy's own checks can do.
DIRECT_TLS_SINCE = 17
#: With two agents, losing one leaves no majority that could say so.
FEWEST_VOTERS = 3

#: Each check is a TLS handshake for Patroni, in whose way it is just when there is an election. Where agents tell of
#: changes in the moment they happen, checks are for the case that the agents are gone.
SELDOM = 5

#: A dead primary's lock cannot be released while etcd has no leader. Where agents find a primary dead, etcd is to find
#: its leader dead as soon. An election too many costs milliseconds, and no lease.
SOONER = 3


class Topology(Section):
    """A whole cluster, as the topology file says it."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of this format.")
    cluster: Cluster
    hosts: Annotated[tuple[HostSpec, ...], Field(min_length=1)] = Field(description="The machines: [[hosts]] tables.")
    network: Network
    postgresql: Postgresql = Postgresql()
    users: Annotated[tuple[User, ...], Field(min_length=1)] = Field(
        default=(User(name="app"),), description="Roles of the applications: [[users]] tables."
    )
    databases: Annotated[tuple[Database, ...], Field(min_length=1)] = Field(
        default=(Database(name="app", owner="app"),), description="Databases: [[databases]] tables."
    )
    tablespaces: tuple[Tablespace, ...] = Field(
        default=(), description="Directories for tables: [[tablespaces]] tables."
    )
    replication: Replication = Replication()
    pooling: Pooling = Pooling()
    balancing: Balancing = Balancing()
    orchestration: Orchestration = Orchestration()
    etcd: ForeignEtcd = ForeignEtcd()
    timings: Timings = Timings()
    security: Security = Security()
    ssh: Ssh = Ssh()

    @property
    def name(self) -> str:
        """Return the cluster's name."""
        return self.cluster.name

    @property
    def scope(self) -> str:
        """Return Patroni's scope."""
        return self.cluster.scope or self.cluster.name

    @property
    def data_directory(self) -> str:
        """Return the servers' data directory."""
        return self.postgresql.data_directory or f"/var/lib/postgresql/{self.postgresql.version}/{self.scope}"

    @property
    def directories(self) -> tuple[str, ...]:
        """Return the directories outside of the data directory that servers write to: of WAL, of tablespaces."""
        wal = (self.postgresql.wal_directory,) if self.postgresql.wal_directory else ()
        return (*wal, *(tablespace.location for tablespace in self.tablespaces))

    @property
    def client_networks(self) -> tuple[Subnet, ...]:
        """Return the networks that may use the clients' ports."""
        own = (self.network.subnet, *(twin.network for twin in self.network.twin_vips))
        return self.security.client_networks or tuple(dict.fromkeys(own))

    @property
    def entry_address(self) -> Address:
        """Return the address clients use: the VIP, or the first balancer's where there is none."""
        return self.network.vip or self.with_role(Role.BALANCER)[0].address

    @property
    def entry_addresses(self) -> tuple[Address, ...]:
        """Return the address clients use and, where there are several VIPs, the further ones; then twins of them."""
        return (self.entry_address, *self.network.vips[1:], *(twin.ip for twin in self.network.twin_vips))

    @property
    def has_replication_network(self) -> bool:
        """Tell whether servers replicate over a network of their own."""
        return self.network.replication_subnet is not None and self.network.use_replication_subnet

    def replicates_at(self, host: HostSpec) -> Address:
        """Return the address at which other servers reach a database's, and from which it reaches theirs."""
        return (host.replication_address if self.has_replication_network else None) or host.address

    @property
    def names_by_address(self) -> dict[str, str]:
        """Return the hosts' names by every address that they have."""
        return {str(address): host.name for host in self.hosts for address in host.server_addresses}

    def with_role(self, role: Role) -> tuple[HostSpec, ...]:
        """Return the hosts that have a role, in the file's order."""
        return tuple(host for host in self.hosts if host.has(role))

    @property
    def confirmers(self) -> tuple[HostSpec, ...]:
        """Return the databases that may confirm commits, the primary among them."""
        return tuple(host for host in self.with_role(Role.DATABASE) if host.confirms)

    @property
    def readers(self) -> tuple[HostSpec, ...]:
        """Return the databases that take reads while they are standbys."""
        return tuple(host for host in self.with_role(Role.DATABASE) if host.reads)

    def is_near(self, host: HostSpec) -> bool:
        """Tell whether a host is in the cluster's own subnet, and not in another site's."""
        return host.address in self.network.subnet

    @property
    def is_manual(self) -> bool:
        """Tell whether a person promotes: there is neither Patroni nor etcd."""
        return self.orchestration.kind is OrchestrationKind.MANUAL

    @property
    def foreign_etcd(self) -> ForeignEtcd | None:
        """Return the etcd that keeps the lock when the cluster does not run its own; None when it does, or has none."""
        return None if self.is_manual or not self.etcd.endpoints else self.etcd

    @property
    def dcs_prefix(self) -> str:
        """Return below which keys of etcd Patroni keeps the cluster's record."""
        return f"{self.etcd.namespace}/{self.scope}/"

    @property
    def first_primary(self) -> HostSpec:
        """Return the database that the very first apply of a manual cluster makes its primary."""
        databases = self.with_role(Role.DATABASE)
        named = self.orchestration.primary
        return next((host for host in databases if host.name == named), databases[0])

    @property
    def primary_check(self) -> PrimaryCheck:
        """Return how HAProxy finds the primary of a manual cluster."""
        usual = PrimaryCheck.QUERY if self.postgresql.version >= DIRECT_TLS_SINCE else PrimaryCheck.SCRIPT
        return self.balancing.check or usual

    @property
    def asks_agents(self) -> bool:
        """Tell whether HAProxy finds the primary by asking agents."""
        return self.is_manual and self.primary_check is PrimaryCheck.AGENT

    @property
    def has_agents(self) -> bool:
        """Tell whether hosts have agents: as the file says, and where it says nothing, if they can run and decide.

        Where a person promotes they decide nothing, and only who asks for them has some.
        """
        wanted = self.orchestration.agent
        if self.is_manual:
            return bool(wanted)
        can_run = self.postgresql.version >= AGENTS_SINCE and len(self.electorate) >= FEWEST_VOTERS
        return can_run if wanted is None else wanted

    @property
    def parts(self) -> tuple[HostSpec, ...]:
        """Return the hosts that are a part of the cluster: all but those of applications alone."""
        return tuple(host for host in self.hosts if set(host.roles) != {Role.APPLICATION})

    @property
    def electorate(self) -> tuple[HostSpec, ...]:
        """Return the hosts that agents would run on: none in other sites.

        A cut line between sites takes no vote away from those who can be promoted, and none is needed from there: a
        server that confirms nothing has nothing to promise.
        """
        return tuple(host for host in self.parts if self.is_near(host))

    @property
    def voters(self) -> tuple[HostSpec, ...]:
        """Return the hosts that have an agent, and so a vote where Patroni elects: none without agents."""
        return self.electorate if self.has_agents else ()

    @property
    def primary_check_seconds(self) -> float:
        """Return how often HAProxy asks for the primary: seldom where agents tell it, unless that is set."""
        timings = self.timings
        is_seldom = self.has_agents and "check_interval" not in timings.model_fields_set
        return timings.check_interval * (SELDOM if is_seldom else 1)

    @property
    def etcd_election_seconds(self) -> float:
        """Return when etcd's members elect another leader: sooner where agents wait for it, unless that is set.

        Of a foreign etcd it is not known: nobody has told it anything.
        """
        timings = self.timings
        is_sooner = self.has_agents and "etcd_election" not in timings.model_fields_set
        return timings.etcd_election / (SOONER if is_sooner else 1)

    def host(self, name: str) -> HostSpec:
        """Return a host by name; raises KeyError when there is none."""
        return {host.name: host for host in self.hosts}[name]

    def has_host(self, name: str) -> bool:
        """Tell whether a host of that name exists."""
        return any(host.name == name for host in self.hosts)

    def priority(self, host: HostSpec) -> int:
        """Return a balancer's VRRP priority: its own, or 254 less one for each balancer listed before it."""
        balancers = self.with_role(Role.BALANCER)
        return host.priority or 254 - balancers.index(host)
