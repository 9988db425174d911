"""A healthy cluster of the standard preset as a snapshot, without agents and with them, and ways to break parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgbaton.cli.demo import STOCK
from pgbaton.observe.collect import wanted_units
from pgbaton.observe.snapshot import (
    AgentView,
    CertificateView,
    DiskView,
    EtcdView,
    FencesView,
    FenceView,
    HaproxyView,
    HostView,
    MemberView,
    PatroniView,
    PoolView,
    PostgresView,
    ProxyView,
    ServerView,
    Snapshot,
    StandbyView,
    UnitView,
)
from pgbaton.topology import presets
from pgbaton.topology.load import loads

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

MIB = 1024**2
TOPOLOGY = loads(presets.text("standard") + STOCK)
#: As the preset is: with agents.
AGENTS = loads(presets.text("standard"))
DATABASES = ("db1", "db2", "db3")
BALANCERS = ("lb1", "lb2")


def topology(**sections: dict[str, Any]) -> Topology:
    """Return the standard topology without agents, with values of some sections replaced."""
    update = {name: getattr(TOPOLOGY, name).model_copy(update=values) for name, values in sections.items()}
    return TOPOLOGY.model_copy(update=update)


def healthy() -> Snapshot:
    """Return a cluster with nothing wrong: db1 leads, db2 is its synchronous standby, lb1 holds the VIP."""
    hosts = (*(balancer(name) for name in BALANCERS), *(database(name) for name in DATABASES))
    return Snapshot("standard", "2026-01-31T12:00:00.000+00:00", hosts)


def changed(snapshot: Snapshot, name: str, **fields: object) -> Snapshot:
    """Return a snapshot in which fields of one host are different."""
    hosts = (replace(host, **fields) if host.name == name else host for host in snapshot.hosts)
    return replace(snapshot, hosts=tuple(hosts))


def gone(snapshot: Snapshot, name: str) -> Snapshot:
    """Return a snapshot in which one host does not answer."""
    lost = HostView(name, reachable=False, reason="no end after 5 s")
    return replace(snapshot, hosts=tuple(lost if host.name == name else host for host in snapshot.hosts))


def units(name: str, of: Topology = TOPOLOGY) -> tuple[UnitView, ...]:
    """Return all units of a host, running and enabled."""
    return tuple(UnitView(unit, "active", "running", "enabled", 0) for unit in wanted_units(of)[name])


def certificates() -> tuple[CertificateView, ...]:
    """Return certificates with a year to go."""
    return (CertificateView("/etc/pgbaton/tls/ca.crt", "2036-01-01T00:00:00+00:00"),)


def server(name: str, *, up: bool) -> ServerView:
    """Return a server as a balancer sees it."""
    return ServerView(name, "UP" if up else "DOWN", 3 if up else 0, 60, "L7OK" if up else "L7STS")


def balancer(name: str) -> HostView:
    """Return a balancer that sends writes to db1 and reads to db2 and db3."""
    proxies = (
        ProxyView("write", "OPEN", 5, ()),
        ProxyView("pooled_write", "UP", 5, tuple(server(other, up=True) for other in BALANCERS)),
        ProxyView("pooled_read", "UP", 5, tuple(server(other, up=True) for other in BALANCERS)),
        ProxyView("primary", "UP", 5, tuple(server(other, up=other == "db1") for other in DATABASES)),
        ProxyView("standbys", "UP", 5, tuple(server(other, up=other != "db1") for other in DATABASES)),
    )
    return HostView(
        name,
        reachable=True,
        units=units(name),
        holds_vip=name == "lb1",
        haproxy=HaproxyView("3.0.11", 3600, 15, 8000, proxies),
        pools=tuple(PoolView(pool, "1.25.2", 5, 0, 2, 3, 0.0, ()) for pool in ("write", "read")),
        certificates=certificates(),
        clock_offset_seconds=0.0,
        packages={"haproxy": "3.0.11-1", "keepalived": "1:2.3.3-1", "pgbouncer": "1.25.2-1"},
    )


def standby(name: str, sync_state: str) -> StandbyView:
    """Return a standby that has everything, as the primary sees it."""
    return StandbyView(name, "10.77.0.22", "streaming", sync_state, 0, 0, 0, None, None, None)


def postgres(name: str) -> PostgresView:
    """Return a server: db1 is the primary."""
    primary = name == "db1"
    return PostgresView(
        version="17.12",
        role="primary" if primary else "standby",
        timeline=3,
        current_lsn="0/5000060" if primary else None,
        received_lsn=None if primary else "0/5000060",
        replayed_lsn=None if primary else "0/5000060",
        replay_age_seconds=None if primary else 12.0,
        receiver=None if primary else "streaming",
        upstream=None if primary else "10.77.0.21",
        standbys=(standby("db2", "sync"), standby("db3", "async")) if primary else (),
        slots=(),
        synchronous_standby_names="db2" if primary else "",
        pending_restart=(),
        connections=12,
        max_connections=200,
        started_at="2026-01-31T11:00:00+00:00",
    )


def patroni(name: str) -> PatroniView:
    """Return a Patroni that sees db1 lead."""
    roles = {"db1": "leader", "db2": "sync_standby", "db3": "replica"}
    return PatroniView(
        version="4.0.7",
        role="primary" if name == "db1" else "standby",
        state="running",
        timeline=3,
        pending_restart=False,
        paused=False,
        unlocked=False,
        tags={},
        dcs_seen_seconds=0.4,
        leader="db1",
        members=tuple(MemberView(member, role, "streaming", 3, 0) for member, role in roles.items()),
        scheduled_switchover=None,
    )


def etcd(name: str) -> EtcdView:
    """Return a member that follows db2."""
    return EtcdView(
        version="3.5.33",
        name=name,
        healthy=True,
        reason="",
        leader="db2",
        is_leader=name == "db2",
        members=DATABASES,
        alarms=(),
        db_size_bytes=2 * MIB,
        term=4,
        raft_index=900,
    )


def database(name: str) -> HostView:
    """Return a database host."""
    return HostView(
        name,
        reachable=True,
        units=units(name),
        postgres=postgres(name),
        patroni=patroni(name),
        etcd=etcd(name),
        certificates=certificates(),
        disk=DiskView("/var/lib/postgresql/17/standard", 100 * 1024 * MIB, 60 * 1024 * MIB),
        clock_offset_seconds=0.0,
        packages={"patroni": "4.0.7-1", "etcd-server": "3.5.33-1", "postgresql-17": "17.12-0+deb13u1"},
    )


def with_agents() -> Snapshot:
    """Return the same cluster with an agent on each host: all hear all, and no fence stands."""
    snapshot = healthy()
    for name in (*BALANCERS, *DATABASES):
        tracked = 0 if name in BALANCERS else None
        fields = {"agent": agent(name), "fences": fences(), "tracked": tracked, "units": units(name, AGENTS)}
        snapshot = changed(snapshot, name, **fields)
    return snapshot


def agent(name: str, **fields: object) -> AgentView:
    """Return an agent that is well."""
    said = AgentView(
        version="0.1.0",
        build="0123456789ab",
        role="none" if name in BALANCERS else "primary" if name == "db1" else "standby",
        writable=name == "db1",
        lock=name == "db1",
        server="well",
        stalled=False,
        isolated=False,
        fenced=(),
        silent=(),
        heard=tuple(other for other in (*BALANCERS, *DATABASES) if other != name),
    )
    return replace(said, **fields)


def fences(*hosts: str, reason: str = "silent, lock of revision 12", clients: str = "served") -> FencesView:
    """Return a kernel in which fences against these hosts stand."""
    addresses = {spec.name: str(spec.address) for spec in TOPOLOGY.hosts}
    standing = (FenceView(host, addresses.get(host, "10.77.0.99"), reason) for host in hosts)
    return FencesView(tuple(standing), clients)


def fenced(snapshot: Snapshot, host: str, *, on: tuple[str, ...]) -> Snapshot:
    """Return a snapshot in which a host is fenced on others."""
    for name in on:
        snapshot = changed(snapshot, name, fences=fences(host))
    return snapshot
