"""What an agent is told: ``agent.json`` and ``agent-secrets.json``, read into strict, frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - the file of settings is read by these annotations
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["balancer", "pooler", "database", "dcs", "application"]
Mode: TypeAlias = Literal["asynchronous", "synchronous", "strict", "quorum"]
#: Who promotes a standby: Patroni, by its lock in etcd, or a person.
Kind: TypeAlias = Literal["patroni", "manual"]
#: Where PgBouncer runs: on the hosts of that role, or nowhere.
Placement: TypeAlias = Literal["balancer", "pooler", "database", "application", "none"]

KEY_BYTES = 32


class SettingsError(Exception):
    """A setting is refused: ``key`` leads to it, ``seen`` says what is there (no secret), ``wanted`` what should be."""

    def __init__(self, *, key: str, seen: str, wanted: str, where: str = "") -> None:
        place = f"{where}: " if where else ""
        super().__init__(f"{place}{key}: seen {seen}, wanted {wanted}; fix: pgbaton apply writes this file anew")
        self.key = key
        self.seen = seen
        self.wanted = wanted

    def within(self, path: Path) -> SettingsError:
        """Return the same error with the file that it is about."""
        return SettingsError(key=self.key, seen=self.seen, wanted=self.wanted, where=str(path))


@dataclass(frozen=True, slots=True)
class Host:
    """A host that has an agent, and so a vote; a database may have a second address, for replication."""

    name: str
    address: str
    roles: tuple[Role, ...]
    replication_address: str | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return every address that the host's server may be met at."""
        return (self.address, *((self.replication_address,) if self.replication_address else ()))


@dataclass(frozen=True, slots=True)
class Ports:
    """Where things listen, the same on every host: UDP for ``heartbeat``, TCP for the others."""

    heartbeat: int
    health: int
    postgresql: int
    rest: int
    etcd: int
    etcd_peer: int
    pool_write: int
    pool_read: int
    pool_synchronous: int


@dataclass(frozen=True, slots=True)
class Timings:
    """How often, how long and how many times; ``failures`` is a count of probes."""

    heartbeat_seconds: float
    detection_seconds: float
    probe_seconds: float
    deadline_seconds: float
    failures: int
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Postgresql:
    """The server of a database host, and who the agent is there."""

    version: int
    data_directory: Path
    socket_directory: Path
    role: str
    database: str


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates and keys: for Patroni, the poolers and other agents, and those of etcd's own authority.

    Where a person promotes there is no etcd. A foreign one may want no certificate, or have no TLS at all.
    """

    authority: Path
    certificate: Path
    key: Path
    etcd_authority: Path | None = None
    etcd_certificate: Path | None = None
    etcd_key: Path | None = None


@dataclass(frozen=True, slots=True)
class ForeignEtcd:
    """An etcd that is on none of the hosts: its members as ``host:port``, and below which keys this cluster's are.

    ``plain``: they are asked without TLS.
    """

    endpoints: tuple[str, ...]
    plain: bool
    prefix: str
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Pooler:
    """A PgBouncer process: the instance of its unit, and the directory of its Unix socket."""

    instance: str
    directory: Path


@dataclass(frozen=True, slots=True)
class PgbouncerSockets:
    """The poolers of a host that has some: those that lead to the primary, and those for reads, of the synchronous too.

    Several of a kind share its port.
    """

    write: tuple[Pooler, ...]
    read: tuple[Pooler, ...]
    synchronous: tuple[Pooler, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """The way that a balancer's clients take, and who tries it: HAProxy's port for writes, a role and its database."""

    port: int
    role: str
    database: str
    every_seconds: float


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must not be printed.

    ``heartbeat_key`` may be two keys with a comma between them, while one takes the other's place on one host after
    the other: old,new everywhere, then new,old, then new. Balancers alone have ``probe_password``; ``etcd_password`` is
    that of a foreign etcd's user. Where there is no Patroni, nobody has a login to it.
    """

    heartbeat_key: str = field(repr=False)
    rest_user: str | None = None
    rest_password: str | None = field(default=None, repr=False)
    etcd_password: str | None = field(default=None, repr=False)
    probe_password: str | None = field(default=None, repr=False)

    @property
    def heartbeat_keys(self) -> tuple[bytes, ...]:
        """Return the keys that datagrams are accepted with; the first one signs."""
        return tuple(bytes.fromhex(key) for key in self.heartbeat_key.split(","))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an agent is told; ``hosts`` are all who vote, whether they can be reached or not.

    Balancers alone have a ``path``. Where a person promotes (``kind``) nobody votes, and nobody is fenced. Without
    ``etcd``, its members are the hosts with the role dcs.
    """

    cluster: str
    scope: str
    kind: Kind
    me: str
    hosts: tuple[Host, ...]
    mode: Mode
    placement: Placement
    accept_loss: bool
    ports: Ports
    timings: Timings
    postgresql: Postgresql
    tls: Tls
    haproxy_socket: Path
    pgbouncer_sockets: PgbouncerSockets
    state_directory: Path
    runtime_directory: Path
    secrets: Secrets
    path: Way | None = None
    etcd: ForeignEtcd | None = None

    @property
    def dcs_prefix(self) -> str:
        """Return below which keys of etcd Patroni's record of this cluster is."""
        return self.etcd.prefix if self.etcd else f"/service/{self.scope}/"

    @property
    def is_manual(self) -> bool:
        """Tell whether a person promotes."""
        return self.kind == "manual"

    @property
    def me_host(self) -> Host:
        """Return this agent's own host."""
        return self.host(self.me)

    @property
    def others(self) -> tuple[Host, ...]:
        """Return all hosts but this one."""
        return tuple(host for host in self.hosts if host.name != self.me)

    @property
    def voters(self) -> frozenset[str]:
        """Return the names of all who vote: the configured set, never those who can be reached."""
        return frozenset(host.name for host in self.hosts)

    @property
    def majority(self) -> int:
        """Return how many votes are more than half of all."""
        return len(self.hosts) // 2 + 1

    @property
    def databases(self) -> tuple[Host, ...]:
        """Return the hosts that have a PostgreSQL server."""
        return tuple(host for host in self.hosts if "database" in host.roles)

    @property
    def is_pooler(self) -> bool:
        """Tell whether PgBouncer runs on this host."""
        return self.placement in self.me_host.roles

    @property
    def routers(self) -> tuple[Host, ...]:
        """Return the hosts whose HAProxy leads to the servers."""
        role: Role = "pooler" if self.placement == "pooler" else "balancer"
        return tuple(host for host in self.hosts if role in host.roles)

    @property
    def holders(self) -> tuple[Host, ...]:
        """Return the hosts whose pooler can hold all of its clients: a router of its own leads them on."""
        return self.routers if self.placement in {"balancer", "pooler"} else ()

    def host(self, name: str) -> Host:
        """Return a host by name; raises KeyError when there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)
