"""The snapshot: what every host of a cluster said of itself at one moment.

Nothing here is judged. A part that a host should have but could not tell about is None and named, with the reason,
in the host's ``problems``; a part that it does not have is None and named nowhere. Sizes are bytes, durations seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgbaton.observe import codec

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class UnitView:
    """A systemd unit: ``active`` is as active, failed or inactive; ``enabled`` as enabled, disabled or masked."""

    name: str
    active: str
    sub: str
    enabled: str
    restarts: int

    def __str__(self) -> str:
        """Return the unit and its state in words."""
        return f"{self.name} is {self.active} ({self.sub})"


@dataclass(frozen=True)
class ServerView:
    """A server behind a balancer; ``changed_seconds`` is how long it has had its status."""

    name: str
    status: str
    sessions: int
    changed_seconds: int
    check: str

    @property
    def up(self) -> bool:
        """Tell whether the balancer sends connections there."""
        return self.status.startswith("UP")


@dataclass(frozen=True)
class ProxyView:
    """A HAProxy proxy with its servers; ``sessions`` counts the current ones of the proxy as a whole."""

    name: str
    status: str
    sessions: int
    servers: tuple[ServerView, ...]

    @property
    def up(self) -> tuple[str, ...]:
        """Return the names of the servers that connections are sent to."""
        return tuple(server.name for server in self.servers if server.up)


@dataclass(frozen=True)
class HaproxyView:
    """A balancer's own view."""

    version: str
    uptime_seconds: int
    sessions: int
    max_connections: int
    proxies: tuple[ProxyView, ...]

    def proxy(self, name: str) -> ProxyView | None:
        """Return a proxy by name, if there is one."""
        return {proxy.name: proxy for proxy in self.proxies}.get(name)


@dataclass(frozen=True)
class PoolView:
    """All pools of one PgBouncer instance, added up; ``wait_seconds`` is the longest any client waits now."""

    instance: str
    version: str
    clients_active: int
    clients_waiting: int
    servers_active: int
    servers_idle: int
    wait_seconds: float
    paused: tuple[str, ...]


@dataclass(frozen=True)
class StandbyView:
    """One row of ``pg_stat_replication``: what the primary knows of a standby. Seconds are None while idle."""

    name: str
    address: str | None
    state: str
    sync_state: str
    write_lag_bytes: int | None
    flush_lag_bytes: int | None
    replay_lag_bytes: int | None
    write_lag_seconds: float | None
    flush_lag_seconds: float | None
    replay_lag_seconds: float | None


@dataclass(frozen=True)
class SlotView:
    """A replication slot and the WAL that is kept for it."""

    name: str
    active: bool
    wal_status: str | None
    retained_bytes: int | None


@dataclass(frozen=True)
class PostgresView:
    """A server. ``role`` is primary or standby by ``pg_is_in_recovery()`` alone; LSNs are as PostgreSQL prints them."""

    version: str
    role: str
    timeline: int | None
    current_lsn: str | None
    received_lsn: str | None
    replayed_lsn: str | None
    replay_age_seconds: float | None
    receiver: str | None
    upstream: str | None
    standbys: tuple[StandbyView, ...]
    slots: tuple[SlotView, ...]
    synchronous_standby_names: str
    pending_restart: tuple[str, ...]
    connections: int
    max_connections: int
    started_at: str

    @property
    def lsn(self) -> int | None:
        """Return the newest position the server has on disk or in hand, in bytes since the first."""
        texts = (self.current_lsn, self.received_lsn, self.replayed_lsn)
        return max((position(text) for text in texts if text), default=None)


@dataclass(frozen=True)
class MemberView:
    """What one Patroni tells of a member; ``role`` is leader, sync_standby, quorum_standby or replica."""

    name: str
    role: str
    state: str
    timeline: int | None
    lag_bytes: int | None


@dataclass(frozen=True)
class PatroniView:
    """A host's Patroni: its own state, and the cluster as it sees it."""

    version: str
    role: str
    state: str
    timeline: int | None
    pending_restart: bool
    paused: bool
    unlocked: bool
    tags: Mapping[str, Any]
    dcs_seen_seconds: float | None
    leader: str | None
    members: tuple[MemberView, ...]
    scheduled_switchover: str | None

    @property
    def synchronous(self) -> tuple[str, ...]:
        """Return the members that the DCS names as synchronous standbys."""
        return tuple(member.name for member in self.members if member.role in {"sync_standby", "quorum_standby"})


@dataclass(frozen=True)
class EtcdView:
    """A host's etcd member; ``leader`` is the leading member's name, None when this member knows none."""

    version: str
    name: str
    healthy: bool
    reason: str
    leader: str | None
    is_leader: bool
    members: tuple[str, ...]
    alarms: tuple[str, ...]
    db_size_bytes: int
    term: int
    raft_index: int


@dataclass(frozen=True)
class EndpointView:
    """An endpoint of an etcd that is elsewhere, as one host sees it: healthy when it answers for a majority.

    ``cluster`` tells one etcd from another. What the host's user may not ask, or that version does not tell, is None.
    """

    endpoint: str
    healthy: bool
    reason: str
    cluster: str | None = None
    version: str | None = None
    leader: str | None = None
    members: tuple[str, ...] | None = None
    db_size_bytes: int | None = None
    quota_bytes: int | None = None
    alarms: tuple[str, ...] | None = None


@dataclass(frozen=True)
class AgentView:
    """What a host's agent says: of its server, of itself, and of the other hosts.

    ``server`` is what it holds the server to be: well, busy, suspected, hung or gone. ``heard`` are the hosts whose
    heartbeats came in the last minute, ``silent`` those of which nothing was heard for the detection time; ``fenced``
    is its own word, the kernel's is in :class:`FencesView`. ``build`` tells programs of one version apart.
    ``path`` says why clients do not reach the primary through a balancer; it is empty when they do, None where no agent
    tries. ``rival`` says which other server was promoted after this host's, where a person promotes and one was.
    """

    version: str | None
    build: str | None
    role: str
    writable: bool
    lock: bool
    server: str
    stalled: bool
    isolated: bool
    fenced: tuple[str, ...]
    silent: tuple[str, ...]
    heard: tuple[str, ...]
    path: str | None = field(default=None, metadata=codec.OPTIONAL)
    rival: str | None = field(default=None, metadata=codec.OPTIONAL)

    def hears(self, host: str) -> bool:
        """Tell whether heartbeats of another host come in."""
        return host in self.heard and host not in self.silent


@dataclass(frozen=True)
class FenceView:
    """A fence in a host's kernel: against whom, and why it was put up."""

    host: str
    address: str
    reason: str


@dataclass(frozen=True)
class FencesView:
    """What the agent has put into a host's kernel; ``clients`` of the host itself are served, held or refused."""

    standing: tuple[FenceView, ...]
    clients: str


@dataclass(frozen=True)
class CertificateView:
    """A certificate file and when it expires (ISO 8601, UTC)."""

    path: str
    expires_at: str


@dataclass(frozen=True)
class DiskView:
    """The file system that holds the data directory."""

    path: str
    size_bytes: int
    free_bytes: int

    @property
    def used_share(self) -> float:
        """Return the used part of what PostgreSQL may use, between 0 and 1."""
        return 1 - self.free_bytes / self.size_bytes if self.size_bytes else 0.0


@dataclass(frozen=True)
class Problem:
    """A part of a host that could not be asked, and why."""

    part: str
    reason: str


@dataclass(frozen=True)
class HostView:
    """One host; its clock is ahead of this machine's by at least ``clock_offset_seconds`` (behind: negative).

    ``holds_vip`` tells of the VIP; ``more_vips`` are the further ones that it holds, ``twin_vips`` those of the other
    family, each None where the cluster has none.
    ``tracked`` is what its agent tells Keepalived: 0 or nothing is well, less gives every VIP up. ``foreign_etcd`` is
    how this host sees the endpoints of an etcd that is on none of the hosts.
    """

    name: str
    reachable: bool
    reason: str | None = None
    units: tuple[UnitView, ...] = ()
    holds_vip: bool = False
    haproxy: HaproxyView | None = None
    pools: tuple[PoolView, ...] = ()
    postgres: PostgresView | None = None
    patroni: PatroniView | None = None
    etcd: EtcdView | None = None
    certificates: tuple[CertificateView, ...] = ()
    disk: DiskView | None = None
    clock_offset_seconds: float | None = None
    packages: Mapping[str, str] | None = None
    problems: tuple[Problem, ...] = ()
    agent: AgentView | None = field(default=None, metadata=codec.OPTIONAL)
    fences: FencesView | None = field(default=None, metadata=codec.OPTIONAL)
    tracked: int | None = field(default=None, metadata=codec.OPTIONAL)
    more_vips: tuple[str, ...] | None = field(default=None, metadata=codec.OPTIONAL)
    foreign_etcd: tuple[EndpointView, ...] | None = field(default=None, metadata=codec.OPTIONAL)
    twin_vips: tuple[str, ...] | None = field(default=None, metadata=codec.OPTIONAL)

    @property
    def next_expiry(self) -> CertificateView | None:
        """Return the certificate that expires first."""
        return min(self.certificates, key=lambda certificate: certificate.expires_at, default=None)

    def problem(self, part: str) -> str | None:
        """Return why a part could not be asked, or None when it could."""
        return {problem.part: problem.reason for problem in self.problems}.get(part)

    def pool(self, instance: str) -> PoolView | None:
        """Return a PgBouncer instance, if it answered."""
        return {pool.instance: pool for pool in self.pools}.get(instance)


@dataclass(frozen=True)
class Snapshot:
    """All hosts of a cluster at one moment (ISO 8601, UTC)."""

    cluster: str
    taken_at: str
    hosts: tuple[HostView, ...]

    def host(self, name: str) -> HostView:
        """Return a host by name; one that was not asked counts as unreachable."""
        return {host.name: host for host in self.hosts}.get(name) or HostView(name, reachable=False, reason="not asked")

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as JSON can carry it."""
        data: dict[str, Any] = codec.encode(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Snapshot:
        """Return the snapshot that ``to_dict`` gave."""
        return codec.decode(cls, data)


def position(lsn: str) -> int:
    """Return an LSN as a number of bytes: ``0/3000060`` is 50331744."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)
