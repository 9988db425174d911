"""Patroni: as its documentation and its own sample of HAProxy say, and as pgbaton deploys it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from peer import Peer, PeerTarget

from lab import DATABASES, SUBNET, address, host
from pgbaton.cli.demo import AGENTS, STOCK
from pgbaton.components.base import AUTHORITY_FILE, TLS_DIRECTORY
from pgbaton.components.haproxy import CONFIG, UNIT
from pgbaton.hosts.files import write_file
from pgbaton.operate.bringup import bring_up
from pgbaton.operate.switchover import switchover
from pgbaton.proof.target import Roles, Target
from pgbaton.topology import load, presets
from pgbaton.topology.model import (
    Balancing,
    Cluster,
    Network,
    Orchestration,
    Postgresql,
    Replication,
    ReplicationMode,
    Role,
    Timings,
    Topology,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MANUAL = "https://patroni.readthedocs.io/en/latest"
BALANCER, BALANCER_NUMBER = "lb1", 11

#: Patroni's defaults (dynamic_configuration.html), and PostgreSQL's where pgbaton has values of its own.
TIMINGS = Timings(
    ttl=30,
    loop_wait=10,
    retry_timeout=10,
    primary_start_timeout=300,
    wal_sender_timeout=60,
    wal_retrieve_retry_interval=5,
)
SETTINGS: dict[str, str | int | float | bool] = {
    "tcp_keepalives_idle": 0,
    "tcp_keepalives_interval": 0,
    "tcp_keepalives_count": 0,
    "client_connection_check_interval": 0,
    "hot_standby_feedback": False,
}

#: Patroni's sample (haproxy.cfg in its repository), with TLS for the checks because the REST ports here ask for it.
SAMPLE = """global
    maxconn 100

defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
"""
LISTENER = """
listen {name}
    bind *:{port}
    option httpchk HEAD /{name}
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
"""
SERVER = (
    "    server {name} {address}:5432 maxconn 100 check check-ssl port 8008"
    f" verify required verifyhost {{name}} ca-file {AUTHORITY_FILE} crt {TLS_DIRECTORY}/haproxy.pem\n"
)


class PatroniDefaults(Peer):
    """Patroni's own defaults, clients through one HAProxy with Patroni's sample of a configuration."""

    name: ClassVar[str] = "patroni-defaults"
    package: ClassVar[str] = "patroni"
    title: ClassVar[str] = "Patroni, its defaults"
    documentation: ClassVar[tuple[str, ...]] = (
        f"{MANUAL}/dynamic_configuration.html",
        f"{MANUAL}/README.html",
        f"{MANUAL}/replication_modes.html",
        "https://github.com/patroni/patroni/blob/master/haproxy.cfg",
    )
    durability: ClassVar[str] = "asynchronous (its default)"
    path: ClassVar[str] = "one HAProxy, checks every 3 s, fall 3, rise 2"
    mode: ClassVar[ReplicationMode] = ReplicationMode.ASYNCHRONOUS

    def topology(self, cluster: str) -> Topology:
        """Return three database machines with etcd, and one balancer."""
        databases = (host(name, number, Role.DATABASE, Role.DCS) for name, number in DATABASES.items())
        return Topology(
            schema=1,
            cluster=Cluster(name=cluster),
            hosts=(host(BALANCER, BALANCER_NUMBER, Role.BALANCER), *databases),
            network=Network(subnet=SUBNET),
            postgresql=Postgresql(settings=SETTINGS),
            replication=Replication(mode=self.mode),
            balancing=Balancing(),
            orchestration=Orchestration(agent=False),
            timings=TIMINGS,
        )

    async def deploy(self, target: PeerTarget) -> None:
        """Let pgbaton deploy etcd, Patroni and PostgreSQL, then put Patroni's HAProxy in the place of its own path."""
        await bring_up(target.state, target.topology, report=target.report)
        balancer = target.hosts[BALANCER]
        await write_file(balancer, CONFIG, haproxy(target), mode=0o640)
        await balancer.run("systemctl", "restart", UNIT)

    async def switch_over(self, target: PeerTarget, before: Roles) -> None:
        """Ask Patroni, as its manual's page on patronictl says."""
        wanted = (before.synchronous or before.standbys)[0]
        argv = ("patronictl", "-c", "/etc/patroni/config.yml", "switchover", "--force")
        await target.as_postgres(before.primary, *argv, "--leader", before.primary, "--candidate", wanted)

    async def unsettled(self, target: PeerTarget) -> str | None:
        """Return that no standby confirms commits yet, where that is asked for: until then nobody may be promoted."""
        return await without_synchronous(target)

    def conninfo(self, target: PeerTarget, *, writes: bool) -> dict[str, str | int]:
        """Return the balancer's address; the server's certificate is its own, not the balancer's."""
        ours = Target.conninfo(target, reads=not writes)
        return {**ours, "host": str(address(BALANCER_NUMBER)), "sslmode": "verify-ca"}


class PatroniSynchronous(PatroniDefaults):
    """The same with synchronous_mode on: what its manual says to do where no transaction may be lost."""

    name: ClassVar[str] = "patroni-synchronous"
    title: ClassVar[str] = "Patroni, its defaults, synchronous_mode"
    durability: ClassVar[str] = "synchronous: one standby (synchronous_mode)"
    mode: ClassVar[ReplicationMode] = ReplicationMode.SYNCHRONOUS


class PatroniFloor(Peer):
    """What pgbaton deploys: Patroni at the floor of its timings, clients through VIP, HAProxy and PgBouncer."""

    name: ClassVar[str] = "patroni-floor"
    package: ClassVar[str] = "patroni"
    title: ClassVar[str] = "Patroni at its floor (pgbaton)"
    documentation: ClassVar[tuple[str, ...]] = ("docs/architecture.md",)
    durability: ClassVar[str] = "synchronous: one standby"
    path: ClassVar[str] = "VIP, HAProxy, PgBouncer; checks every 0.2 s"

    def topology(self, cluster: str) -> Topology:
        """Return the preset that pgbaton begins with."""
        return load.loads(presets.text("standard", cluster=cluster) + STOCK)

    async def deploy(self, target: PeerTarget) -> None:
        """Deploy it."""
        await bring_up(target.state, target.topology, report=target.report)

    async def switch_over(self, target: PeerTarget, before: Roles) -> None:
        """Switch over as `pgbaton switchover` does."""
        del before
        await switchover(target.operation, to=None)

    async def roles(self, target: PeerTarget) -> Roles:
        """Return who has which part, balancers and etcd's members too: faults strike them as well."""
        return await Target.roles(target)

    async def until_whole(self, target: PeerTarget, *, seconds: float) -> float:
        """Wait until `pgbaton status` finds nothing wrong, of no part."""
        return await Target.until_whole(target, seconds=seconds)

    def conninfo(self, target: PeerTarget, *, writes: bool) -> dict[str, str | int]:
        """Return the VIP."""
        return Target.conninfo(target, reads=not writes)


class PatroniAgents(PatroniFloor):
    """The same with an agent on every host, as the demo has them."""

    name: ClassVar[str] = "pgbaton-agents"
    title: ClassVar[str] = "pgbaton with agents"
    documentation: ClassVar[tuple[str, ...]] = ("docs/explanation/early-release.md",)

    def topology(self, cluster: str) -> Topology:
        """Return the preset with agents."""
        return load.loads(presets.text("standard", cluster=cluster) + AGENTS)


async def without_synchronous(target: PeerTarget) -> str | None:
    """Return that nobody is synchronous yet, in a cluster that is to have one; None when all is as it should be."""
    if target.topology.replication.mode is ReplicationMode.ASYNCHRONOUS or (await target.roles()).synchronous:
        return None
    return "no standby is synchronous yet"


def haproxy(target: PeerTarget) -> str:
    """Return Patroni's sample for a cluster: the primary on the port for writes, standbys on the one for reads."""
    ports = target.topology.balancing
    return SAMPLE + "".join(
        text
        for name, port in (("primary", ports.write_port), ("replica", ports.read_port))
        for text in (LISTENER.format(name=name, port=port), *servers(target))
    )


def servers(target: PeerTarget) -> Iterator[str]:
    """Return the lines of HAProxy's servers."""
    for name, where in target.addresses.items():
        yield SERVER.format(name=name, address=where)
