"""The topology: one frozen value that says everything about a cluster.

Types and single-value limits are here; rules that need more than one value are in :mod:`pgbaton.topology.rules`.
Durations are in seconds, sizes in bytes unless the name says otherwise.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network  # noqa: TC003 - pydantic resolves annotations at run time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

IDENTIFIER = r"^[a-z_][a-z0-9_]{0,62}$"
HOST_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
SLUG = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
SETTING = r"^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$"
FAILURE_DOMAIN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
INTERFACE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$"
LOGIN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$"
LOCALE = r"^[A-Za-z][A-Za-z0-9_.@-]{0,62}$"
EXTENSION = r"^[a-z][a-z0-9_-]{0,62}$"

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Identifier = Annotated[str, Field(pattern=IDENTIFIER)]
HostName = Annotated[str, Field(pattern=HOST_NAME)]
Slug = Annotated[str, Field(pattern=SLUG)]
SettingName = Annotated[str, Field(pattern=SETTING)]
Feature = Literal["listen", "session-variables", "advisory-locks", "temporary-tables", "with-hold-cursors"]
Encoding = Literal["UTF8", "LATIN1", "LATIN9", "WIN1252", "SQL_ASCII"]


class Section(BaseModel):
    """A table of the topology file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


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
    address: IPv4Address = Field(description="The address the other hosts reach it at.")
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
    ssh: str | None = Field(
        default=None,
        description='What to give ssh as destination; by default the address. "local": the machine pgbaton runs on.',
    )

    def has(self, role: Role) -> bool:
        """Tell whether the host has a role."""
        return role in self.roles

    @property
    def confirms(self) -> bool:
        """Tell whether the host's server may confirm commits: whoever does has to be one that can be promoted."""
        return self.failover and self.synchronous


class Cluster(Section):
    """Names of the cluster."""

    name: Slug = Field(description="Name of the cluster, for people and for pgbaton's commands.")
    scope: Slug | None = Field(default=None, description="Patroni's scope; by default the cluster's name.")


class Network(Section):
    """The network that hosts and clients share, and the floating address on it."""

    subnet: IPv4Network = Field(description="The hosts' network, as 10.77.0.0/24.")
    vip: IPv4Address | None = Field(default=None, description="The address clients use; Keepalived floats it.")
    other_subnets: tuple[IPv4Network, ...] = Field(
        default=(),
        description="Networks of other sites, where applications may be, and databases that never become primary.",
    )
    gateway: IPv4Address | None = Field(
        default=None, description="The router, so that no host or VIP takes its address."
    )
    interface: Annotated[str, Field(pattern=INTERFACE)] = Field(
        default="eth0", description="Network interface that carries the hosts' addresses and the VIP."
    )
    virtual_router_id: Annotated[int, Field(ge=1, le=255)] = Field(
        default=51, description="VRRP identity; unique on the network segment."
    )
    taken_router_ids: tuple[Annotated[int, Field(ge=1, le=255)], ...] = Field(
        default=(), description="VRRP identities that others on the segment use."
    )


class Postgresql(Section):
    """The servers."""

    version: Literal[15, 17] = Field(default=17, description="Major version, the same on every database host.")
    port: Port = Field(default=5432, description="Port of every server.")
    data_directory: str | None = Field(default=None, description="By default /var/lib/postgresql/VERSION/CLUSTER.")
    wal_directory: str | None = Field(
        default=None,
        description="A directory for WAL alone, in one of its own that becomes the server's; by default in "
        "data_directory.",
    )
    max_connections: Annotated[int, Field(ge=25, le=10_000)] = Field(default=200, description="Server limit.")
    reserved_connections: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="Kept back for superusers, out of max_connections."
    )
    max_wal_senders: Annotated[int, Field(ge=3, le=100)] = Field(default=10, description="Replication connections.")
    max_replication_slots: Annotated[int, Field(ge=4, le=100)] = Field(default=10, description="Replication slots.")
    max_slot_wal_keep_size_mb: Annotated[int, Field(ge=256, le=1_000_000_000)] = Field(
        default=10_240, description="WAL a slot may hold back, in MiB; a standby further behind is cloned anew."
    )
    settings: dict[SettingName, str | int | float | bool] = Field(
        default_factory=dict, description="Further postgresql.conf settings, passed as they are."
    )


class PoolMode(StrEnum):
    """When a server connection returns to its pool."""

    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"


class User(Section):
    """A role that can log in; pgbaton generates its password."""

    name: Identifier = Field(description="Role name.")
    connection_limit: Annotated[int, Field(ge=-1, le=10_000)] = Field(
        default=-1, description="Connections at once; -1: no limit."
    )
    roles: tuple[Identifier, ...] | None = Field(
        default=None,
        description="Roles that it is a member of, and no others, as pg_read_all_data; by default they are left alone.",
    )
    pool_mode: PoolMode | None = Field(
        default=None, description="Mode of its pools (PgBouncer 1.23 or later); by default the database's."
    )
    pool_size: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Server connections of each of its pools (1.23 or later); by default the database's."
    )
    max_user_connections: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="Server connections of all its pools on one pooler and port, reserve included (PgBouncer 1.23 or "
        "later); by default no limit.",
    )


class Database(Section):
    """A database and the role that owns it."""

    name: Identifier = Field(description="Database name.")
    owner: Identifier = Field(description="A role named in [[users]].")
    pool_size: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Server connections for this database; by default pooling.size."
    )
    pool_mode: PoolMode | None = Field(default=None, description="Mode of its pools; by default pooling.mode.")
    max_db_connections: Annotated[int, Field(ge=2, le=10_000)] | None = Field(
        default=None,
        description="Server connections to it from one pooler and port, over all users, reserve and look-ups included; "
        "by default no limit.",
    )
    features: tuple[Feature, ...] = Field(
        default=(), description="Session features that its applications use, besides pooling.features."
    )
    connection_limit: Annotated[int, Field(ge=-1, le=10_000)] = Field(
        default=-1, description="Connections to it at once, on the server; -1: no limit."
    )
    encoding: Encoding | None = Field(
        default=None, description="Set when it is created, and never changed; by default the server's, UTF8."
    )
    locale: Annotated[str, Field(pattern=LOCALE)] | None = Field(
        default=None, description="Set when it is created, and never changed; by default the server's, C.UTF-8."
    )
    extensions: tuple[Annotated[str, Field(pattern=EXTENSION)], ...] = Field(
        default=(), description='Extensions that it has, as "pg_stat_statements"; others are left alone.'
    )


class Tablespace(Section):
    """A directory outside of the data directory that tables can be put in, the same on every database host."""

    name: Identifier = Field(description="Tablespace name.")
    location: str = Field(description="Its directory, on every database host.")
    owner: Identifier = Field(description="A role named in [[users]].")


class ReplicationMode(StrEnum):
    """What an acknowledged commit means."""

    ASYNCHRONOUS = "asynchronous"
    SYNCHRONOUS = "synchronous"
    STRICT = "strict"
    QUORUM = "quorum"


class Replication(Section):
    """How commits reach the standbys."""

    mode: ReplicationMode = Field(
        default=ReplicationMode.SYNCHRONOUS,
        description=(
            "asynchronous: an acknowledged write may be lost; synchronous: it is on a standby, and the primary goes on "
            "alone when none is left; strict: writes wait when none is left; quorum: any `count` of the standbys."
        ),
    )
    count: Annotated[int, Field(ge=1, le=8)] = Field(default=1, description="Standbys that confirm a commit.")
    apply: bool = Field(
        default=False,
        description="Whether a standby has applied a commit before it confirms it (synchronous_commit = remote_apply), "
        "and not only written it to its disk, so that reads of it see it; commits wait for that.",
    )
    accept_loss: bool = Field(
        default=False,
        description=(
            "In asynchronous mode, let agents replace a silent primary before its lock expires, by a standby that may "
            "lack its last commits: those are lost, although they were acknowledged."
        ),
    )


class Placement(StrEnum):
    """The hosts PgBouncer runs on."""

    BALANCER = "balancer"
    POOLER = "pooler"
    DATABASE = "database"
    APPLICATION = "application"
    NONE = "none"


class Pooling(Section):
    """PgBouncer."""

    placement: Placement = Field(
        default=Placement.BALANCER,
        description=(
            "Where PgBouncer runs. balancer: beside HAProxy; pooler: on hosts of its own, with the role pooler; "
            "database: beside each server; application: beside each application, on hosts with the role application; "
            "none: nowhere."
        ),
    )
    mode: PoolMode = Field(default=PoolMode.TRANSACTION, description="When a server connection returns to its pool.")
    size: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=20,
        description="Server connections per database, user, pooler and port (writes, reads); processes share them.",
    )
    reserve: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=5, description="More of them under pressure; processes share them."
    )
    max_clients: Annotated[int, Field(ge=10, le=100_000)] = Field(
        default=3_000, description="Clients per pooler and port; each process may have them all."
    )
    processes: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description="PgBouncer processes on each pooler and port, among which the kernel spreads clients (PgBouncer "
        "1.21 or later): one uses one processor.",
    )
    write_port: Port = Field(default=6432, description="PgBouncer's port for writes.")
    read_port: Port = Field(default=6433, description="PgBouncer's port for reads.")
    synchronous_port: Port = Field(default=6434, description="PgBouncer's port for reads of synchronous standbys.")
    prepared_statements: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=200, description="Protocol-level prepared statements kept per connection (PgBouncer 1.21 or later)."
    )
    features: tuple[Feature, ...] = Field(
        default=(), description="Session features that the applications use; refused where the pool mode breaks them."
    )
    application_name_add_host: bool = Field(
        default=False,
        description="Add the address and port that PgBouncer sees, HAProxy's, to each client's application_name: the "
        "server's log and pg_stat_activity then lead to the client. Costs a SET whenever a server changes clients.",
    )


class ReadPolicy(StrEnum):
    """Where the read port leads when no standby is fit."""

    PRIMARY_FALLBACK = "primary-fallback"
    STANDBY_ONLY = "standby-only"


class PrimaryCheck(StrEnum):
    """How HAProxy finds out what a server is, where no Patroni tells it."""

    QUERY = "query"
    SCRIPT = "script"


class Balancing(Section):
    """HAProxy."""

    write_port: Port = Field(default=5000, description="Clients' port for writes.")
    read_port: Port = Field(default=5001, description="Clients' port for reads.")
    synchronous_port: Port | None = Field(
        default=None,
        description="Clients' port for reads of synchronous standbys alone, as 5002; by default there is none.",
    )
    statistics_port: Port = Field(default=8404, description="Statistics, on the loopback address only.")
    primary_port: Port = Field(default=6000, description="Loopback port where PgBouncer finds the primary.")
    standby_port: Port = Field(default=6001, description="Loopback port where PgBouncer finds the standbys.")
    synchronous_standby_port: Port = Field(
        default=6002, description="Loopback port where PgBouncer finds the synchronous standbys."
    )
    read_policy: ReadPolicy = Field(default=ReadPolicy.PRIMARY_FALLBACK, description="When no standby is fit.")
    max_lag_mb: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=16, description="A standby further behind takes no reads, in MiB of WAL."
    )
    max_connections: Annotated[int, Field(ge=10, le=100_000)] = Field(
        default=3_000, description="Client connections per balancer and port."
    )
    file_limit: Annotated[int, Field(ge=256, le=500_000)] = Field(
        default=20_000, description="Files that one program on a balancer can open: the hosts' hard limit."
    )
    log_connections: bool = Field(
        default=False,
        description="Log each client's connection: its address and port, and those by which PgBouncer knows it.",
    )
    check: PrimaryCheck | None = Field(
        default=None,
        description=(
            'How HAProxy finds the primary where orchestration.kind is "manual". query: it asks PostgreSQL itself; '
            "script: a program that it starts for each check does. By default query, with PostgreSQL 15 script."
        ),
    )


#: Where etcd tells its figures, on the loopback address only; nothing sets it.
ETCD_METRICS_PORT = 2381


class OrchestrationKind(StrEnum):
    """Who promotes a standby."""

    PATRONI = "patroni"
    MANUAL = "manual"


class Orchestration(Section):
    """Who promotes."""

    kind: OrchestrationKind = Field(
        default=OrchestrationKind.PATRONI,
        description=(
            "patroni: Patroni with etcd promotes; manual: plain streaming replication, and a person promotes with "
            "`pgbaton failover`."
        ),
    )
    primary: HostName | None = Field(
        default=None,
        description=(
            "The database that is made primary by the very first apply of a manual cluster, by default the first that "
            "is listed; who is primary afterwards is on the hosts alone."
        ),
    )
    rest_port: Port = Field(default=8008, description="Patroni's REST port.")
    etcd_client_port: Port = Field(default=2379, description="etcd's client port.")
    etcd_peer_port: Port = Field(default=2380, description="etcd's peer port.")
    watchdog: Literal["off", "automatic", "required"] = Field(
        default="automatic", description="Whether Patroni arms /dev/watchdog: where there is one, or always."
    )
    agent: bool | None = Field(
        default=None,
        description="An agent on every host of network.subnet that is not only an application's; by default where "
        "agents can run: with Patroni, PostgreSQL 17 and three such hosts.",
    )
    heartbeat_port: Port = Field(default=7790, description="Agents' port for each other's heartbeats (UDP).")
    health_port: Port = Field(default=7791, description="Agents' port for questions about their host's health.")


#: Agents' heartbeats in a detection time, unless it is so short that they would come more often than this.
HEARTBEATS_IN_DETECTION = 5
SHORTEST_HEARTBEAT_SECONDS = 0.05


class Timings(Section):
    """Durations, in seconds; the defaults are what the stock parts can bear."""

    ttl: Annotated[int, Field(ge=1, le=3600)] = Field(default=20, description="Life of the leader lock.")
    loop_wait: Annotated[int, Field(ge=1, le=3600)] = Field(default=1, description="Patroni's loop.")
    retry_timeout: Annotated[int, Field(ge=1, le=3600)] = Field(default=3, description="Patroni's patience with etcd.")
    primary_start_timeout: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=0, description="How long a crashed primary may try to restart before a standby takes over."
    )
    check_interval: Seconds = Field(default=0.2, description="HAProxy's checks of a healthy server.")
    read_check_interval: Seconds = Field(
        default=0.5, description="HAProxy's checks of a healthy standby: each is a TLS handshake for Patroni."
    )
    check_fast_interval: Seconds = Field(default=0.1, description="HAProxy's checks of a server in transition.")
    check_fall: Annotated[int, Field(ge=1, le=10)] = Field(default=2, description="Failed checks before it is down.")
    advert_interval: Annotated[float, Field(ge=0.01, le=40)] = Field(default=0.1, description="VRRP adverts.")
    balancer_check_interval: Seconds = Field(default=0.5, description="Keepalived's round trip through HAProxy.")
    wal_sender_timeout: Seconds = Field(default=2.0, description="A silent standby is dropped.")
    wal_retrieve_retry_interval: Seconds = Field(default=0.1, description="A standby looks for its primary again.")
    server_login_retry: Seconds = Field(default=0.1, description="PgBouncer tries a failed server again.")
    server_connect_timeout: Seconds = Field(default=2.0, description="PgBouncer gives up on a connection attempt.")
    query_wait: Seconds = Field(default=60.0, description="A queued client waits this long for a server.")
    tcp_user_timeout: Seconds = Field(default=3.0, description="Unacknowledged data on pool connections.")
    etcd_election: Annotated[float, Field(ge=0.1, le=50)] = Field(
        default=1.0,
        description="etcd's members elect a leader when they have not heard theirs for this long; it beats ten times "
        "as often. With agents a third of this, unless it is set.",
    )
    heartbeat_interval: Seconds | None = Field(
        default=None,
        description="Agents' heartbeats to each other; by default a fifth of detection_time, 0.05 at the least.",
    )
    detection_time: Seconds = Field(
        default=0.5, description="Agents take a host for silent that was not heard for this long: 4 heartbeats or more."
    )

    @property
    def heartbeat_seconds(self) -> float:
        """Return the time between two heartbeats of an agent."""
        if self.heartbeat_interval is not None:
            return self.heartbeat_interval
        return max(self.detection_time / HEARTBEATS_IN_DETECTION, SHORTEST_HEARTBEAT_SECONDS)


class Security(Section):
    """Who may reach what."""

    firewall: bool = Field(default=True, description="Load an nftables table that drops what is not listed.")
    client_networks: tuple[IPv4Network, ...] = Field(
        default=(), description="Networks of the applications; by default the cluster's subnet."
    )
    operator_networks: tuple[IPv4Network, ...] = Field(
        default=(), description="Networks that may use SSH; by default everywhere, because a lock-out helps nobody."
    )
    certificate_days: Annotated[int, Field(ge=2, le=3650)] = Field(default=365, description="Life of certificates.")


class Ssh(Section):
    """How the operator reaches the hosts; everything else comes from the user's own ssh_config."""

    user: Annotated[str, Field(pattern=LOGIN)] | None = Field(
        default=None, description="Login name; sudo without a password is used when it is not root."
    )
    port: Port | None = Field(default=None, description="Port of sshd.")
    identity_file: str | None = Field(default=None, description="Private key.")
    config_file: str | None = Field(default=None, description="ssh_config to use instead of the user's own.")


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
    def client_networks(self) -> tuple[IPv4Network, ...]:
        """Return the networks that may use the clients' ports."""
        return self.security.client_networks or (self.network.subnet,)

    @property
    def entry_address(self) -> IPv4Address:
        """Return the address clients use: the VIP, or the first balancer's where there is none."""
        return self.network.vip or self.with_role(Role.BALANCER)[0].address

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
    def has_agents(self) -> bool:
        """Tell whether hosts have agents: as the file says, and where it says nothing, if they can run and decide."""
        if self.is_manual:
            return False
        wanted = self.orchestration.agent
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
        """Return the hosts that have an agent, and so a vote: none without agents."""
        return self.electorate if self.has_agents else ()

    @property
    def primary_check_seconds(self) -> float:
        """Return how often HAProxy asks for the primary: seldom where agents tell it, unless that is set."""
        timings = self.timings
        is_seldom = self.has_agents and "check_interval" not in timings.model_fields_set
        return timings.check_interval * (SELDOM if is_seldom else 1)

    @property
    def etcd_election_seconds(self) -> float:
        """Return when etcd's members elect another leader: sooner where agents wait for it, unless that is set."""
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
