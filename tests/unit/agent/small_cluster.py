"""A cluster of five hosts as one of its agents knows it, for tests: settings, words, and time that goes by at will."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.agent.decisions.cluster import Cluster
from pgbaton.agent.decisions.hearing import Hearing
from pgbaton.agent.peers.messages import Heartbeat
from pgbaton.agent.settings import (
    Host,
    PgbouncerSockets,
    Placement,
    Pooler,
    Ports,
    Postgresql,
    Secrets,
    Settings,
    Timings,
    Tls,
    Way,
)
from pgbaton.agent.sight import Sight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BEAT, DETECTION = 0.05, 0.25
DATABASES = ("db1", "db2", "db3")
BALANCERS = ("lb1", "lb2")
HOSTS = (
    *(Host(name, f"10.77.0.2{name[-1]}", ("database", "dcs")) for name in DATABASES),
    *(Host(name, f"10.77.0.1{name[-1]}", ("balancer", "pooler")) for name in BALANCERS),
)
#: Hosts of poolers' own, where there are such.
POOLERS = tuple(Host(f"pool{number}", f"10.77.0.3{number}", ("pooler",)) for number in (1, 2))
PORTS = Ports(
    heartbeat=7790,
    health=7791,
    postgresql=5432,
    rest=8008,
    etcd=2379,
    etcd_peer=2380,
    pool_write=6432,
    pool_read=6433,
    pool_synchronous=6434,
)
TIMINGS = Timings(
    heartbeat_seconds=BEAT,
    detection_seconds=DETECTION,
    probe_seconds=0.1,
    deadline_seconds=0.5,
    failures=3,
    pause_seconds=5.0,
)
PATH = Way(5000, "pgbaton_probe", "postgres", every_seconds=1.0)
STANDBY = Heartbeat("standby", False, 4, 1000, False, True, False, "well")  # noqa: FBT003 - a table's row
PRIMARY = replace(STANDBY, role="primary", writable=True, lock=True, following=False)
NONE = replace(STANDBY, role="none", timeline=0, position=0, following=False)


def settings(me: str = "db2", *, directory: Path = Path("/nowhere"), hosts: tuple[Host, ...] = HOSTS) -> Settings:
    """Return one host's settings; whatever they name is below the directory."""
    tls = directory / "tls"
    return Settings(
        cluster="orders",
        scope="orders",
        kind="patroni",
        me=me,
        hosts=hosts,
        mode="synchronous",
        placement="balancer",
        accept_loss=False,
        ports=PORTS,
        timings=TIMINGS,
        postgresql=Postgresql(17, directory / "data", directory, "pgbaton_agent", "postgres"),
        tls=Tls(*(tls / name for name in ("ca.crt", "me.crt", "me.key", "ca.crt", "me.crt", "me.key"))),
        haproxy_socket=directory / "haproxy",
        pgbouncer_sockets=PgbouncerSockets(
            (Pooler("write", directory / "write"),), (Pooler("read", directory / "read"),), ()
        ),
        state_directory=directory / "state",
        runtime_directory=directory / "run",
        secrets=Secrets("5a" * 32, "patroni", "one"),
    )


def hosts(placement: Placement) -> tuple[Host, ...]:
    """Return the hosts of a cluster with its pools in some place."""
    if placement != "pooler":
        return HOSTS
    plain = (replace(host, roles=tuple(role for role in host.roles if role != "pooler")) for host in HOSTS)
    return (*plain, *POOLERS)


def cluster(leader: str | None = "db1", *, leader_revision: int = 100, sync: Iterable[str] = ("db2",)) -> Cluster:
    """Return what etcd says of a healthy cluster."""
    return Cluster(
        revision=leader_revision + 10,
        leader=leader,
        leader_revision=leader_revision if leader else 0,
        leader_lease=0x1234 if leader else 0,
        sync=tuple(sync),
        sync_leader="db1",
        sync_revision=90,
        sync_quorum=0,
        mode="on",
        strict=False,
        paused=False,
        verdict_revision=7,
        config_revision=5,
        sync_value=b'{"leader": "db1", "sync_standby": "db2"}',
    )


async def until(condition: Callable[[], object]) -> None:
    """Let everything else run until something is so; it needs no time, only turns."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - whatever makes it so has no event to wait for
            await asyncio.sleep(0)


class Seen:
    """An agent's sight, and the time in it; every host is heard at its beginning."""

    def __init__(
        self, me: str = "db2", *, directory: Path = Path("/nowhere"), placement: Placement = "balancer"
    ) -> None:
        self.settings = replace(settings(me, directory=directory, hosts=hosts(placement)), placement=placement)
        self.now = 1000.0
        others = [host.name for host in self.settings.others]
        self.hearing = Hearing(others, heartbeat_seconds=BEAT, detection_seconds=DETECTION, now=self.now)
        self.sight = Sight(self.settings, self.hearing, cluster=cluster())
        for host in others:
            self.sight.hear(host, {"db1": PRIMARY}.get(host, STANDBY if host in DATABASES else NONE))
        self.sight.mine = STANDBY if me in DATABASES else NONE
        self.run(1)

    def run(self, turns: int = 1, *, without: Iterable[str] = (), echoing: Iterable[str] = ()) -> None:
        """Let heartbeats' times go by: without those of some hosts, and with only echoes of others."""
        for _ in range(turns):
            self.now += BEAT
            for host in self.settings.others:
                if host.name in echoing:
                    self.hearing.heard(host.name, self.now, "echo")
                elif host.name not in without:
                    self.hearing.heard(host.name, self.now, "heartbeat")
            self.hearing.woke(self.now)

    def sleep(self, seconds: float) -> None:
        """Let the agent oversleep."""
        self.now += seconds
        self.hearing.woke(self.now)
