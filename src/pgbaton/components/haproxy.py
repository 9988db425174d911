"""HAProxy: asks every database who is primary, and leads each connection to the right place."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pgbaton.components import checking, standing
from pgbaton.components.base import (
    AUTHORITY_FILE,
    TLS_DIRECTORY,
    Certificate,
    Check,
    Component,
    File,
    OnChange,
    Unit,
    Wave,
)
from pgbaton.components.generation import is_bookworm
from pgbaton.components.probing import require_active, require_success
from pgbaton.components.templating import milliseconds, render
from pgbaton.components.units import HEADER, drop_in
from pgbaton.topology import placement
from pgbaton.topology.addresses import IPV4, IPV6
from pgbaton.topology.capacity import haproxy_connections, room
from pgbaton.topology.model import Placement, ReadPolicy, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

UNIT = "haproxy.service"
CONFIG = "/etc/haproxy/haproxy.cfg"
LOOPBACK = "127.0.0.1"
SOCKET = "/run/haproxy/admin.sock"
#: Zero while HAProxy is up, -254 when it is not: Keepalived reads it and is told of changes by the kernel.
STATE_FILE = "/run/pgbaton-haproxy-state"
DOWN = -254

#: Who is taken for the primary, by how that is found out.
PRIMARY_IS = {
    "patroni": "holds the lock and is out of recovery",
    "query": "says that it takes writes",
    "script": "says that it takes writes",
    "agent": "takes writes, and nobody was promoted after it, as its host's agent says",
}

#: What Patroni and agents say of a primary, as a regular expression in HAProxy's quotes.
PRIMARY_SAYS = r"\"role\": \"(primary|master)\""

#: Ask for /ready; the argument is where.
READY = r"""
exec 3<>"$1" || exit 1
printf 'GET /ready HTTP/1.0\r\n\r\n' >&3
IFS= read -r -t 2 line <&3
case $line in *' 200 '*) exit 0 ;; esac
echo "${line:-no answer}"
exit 1
"""


class Haproxy(Component):
    """One on every balancer, and on every host whose pool finds the servers through one of its own."""

    name: ClassVar[str] = "haproxy"
    wave: ClassVar[Wave] = Wave.BALANCER

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run on balancers and routers."""
        return host in placement.proxies(topology)

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return HAProxy."""
        del topology, host
        return ("haproxy",)

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return the configuration and the drop-in."""
        service: dict[str, str | list[str]] = {
            "ExecStartPost": f"+/bin/sh -c 'echo 0 > {STATE_FILE}'",
            "ExecStopPost": f"+/bin/sh -c 'echo {DOWN} > {STATE_FILE}'",
            "Restart": "always",
            "RestartSec": "50ms",
            "LimitNOFILE": str(topology.balancing.file_limit),
            "OOMScoreAdjust": "-500",
            "ProtectHome": "yes",
            "PrivateTmp": "yes",
            "ProtectKernelTunables": "yes",
            "ProtectKernelModules": "yes",
            "ProtectControlGroups": "yes",
            "LockPersonality": "yes",
            "RestrictRealtime": "yes",
        }
        return (
            drop_in(UNIT, service, unit_section={"StartLimitIntervalSec": "0"}),
            *(checking.files(topology) if host in placement.routers(topology) else ()),
            File(CONFIG, configuration(topology, host), mode=0o640, unit=UNIT, on_change=OnChange.RELOAD),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return HAProxy's unit."""
        del topology, host
        return (Unit(UNIT),)

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return HAProxy's own check of its configuration."""
        del topology, host
        return (Check(("/usr/sbin/haproxy", "-c", "-q", "-f", f"{{{CONFIG}}}")),)

    def certificates(self, topology: Topology, host: HostSpec) -> tuple[Certificate, ...]:
        """Return the certificate with which it asks Patroni, or the servers themselves; agents answer without one."""
        if topology.is_manual:
            return checking.certificates(topology, host, unit=UNIT)
        return (
            Certificate(
                f"haproxy/{host.name}",
                file="haproxy",
                owner="root",
                common_name=host.name,
                client=True,
                bundle=True,
                unit=UNIT,
                on_change=OnChange.RELOAD,
            ),
        )

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when it runs and has found both a primary and a pooler."""
        seam = hosts[host.name]
        await require_active(seam, UNIT)
        url = f"/dev/tcp/127.0.0.1/{topology.balancing.statistics_port}"
        await require_success(seam, "bash", "-c", READY, "bash", url, what="HAProxy has no primary or no pooler yet")


def configuration(topology: Topology, host: HostSpec) -> str:
    """Return haproxy.cfg."""
    timings, pooling = topology.timings, topology.pooling
    beside_servers = pooling.placement is Placement.DATABASE
    read_interval = checking.interval(topology, "read_check_interval", timings.read_check_interval)
    return render(
        "haproxy.cfg.j2",
        header=HEADER,
        topology=topology,
        host=host,
        enters=host.has(Role.BALANCER),
        families=any_addresses(topology),
        routes=host in placement.routers(topology),
        pools=pools(topology, host) if placement.leads_to_pools(topology) else (),
        is_local=pooling.placement is Placement.BALANCER,
        server_port=pooling.write_port if beside_servers else topology.postgresql.port,
        standby_port=pooling.read_port if beside_servers else topology.postgresql.port,
        synchronous_port=topology.balancing.synchronous_port,
        synchronous_server_port=pooling.synchronous_port if beside_servers else topology.postgresql.port,
        pooled=pooled_ports(topology),
        server_maxconn=room(topology) if placement.leads_to_servers(topology) else None,
        databases=topology.with_role(Role.DATABASE),
        readers=topology.readers,
        inter=milliseconds(timings.check_interval),
        fastinter=milliseconds(timings.check_fast_interval),
        primary_inter=milliseconds(checking.interval(topology, "check_interval", topology.primary_check_seconds)),
        read_inter=milliseconds(read_interval),
        stranded_inter=milliseconds(2 * read_interval),
        fall=timings.check_fall,
        unacknowledged=milliseconds(timings.tcp_user_timeout),
        lag_bytes=topology.balancing.max_lag_mb * 1024 * 1024,
        fallback=topology.balancing.read_policy == ReadPolicy.PRIMARY_FALLBACK,
        # Patroni tells how a standby replicates since 3.1; before that, its lag has to do.
        streaming=not is_bookworm(topology),
        maxconn=haproxy_connections(topology),
        socket=SOCKET,
        tls=TLS_DIRECTORY,
        authority=AUTHORITY_FILE,
        by=checking.method(topology),
        primary_is=PRIMARY_IS[checking.method(topology)],
        primary_says=PRIMARY_SAYS,
        asked=checking.asked(topology),
        paths=checking.paths(topology),
        patience=f" fall {checking.AGENTS_FALL}" if topology.asks_agents else "",
        alpn=standing.ALPN,
        check_file=checking.FILE,
        program=checking.PROGRAM,
        in_doubt=milliseconds(checking.in_doubt(topology)),
        fast=f" fastinter {milliseconds(checking.in_doubt(topology))}" if topology.is_manual else "",
    )


def any_addresses(topology: Topology) -> tuple[str, ...]:
    """Return what means any address, for each family that clients come with; nothing means any of IPv4.

    Where that is IPv6 alone, there is the loopback address of IPv4 besides: agents take the clients' way from there.
    """
    words = {IPV4: "", IPV6: "[::]"}
    served = sorted({each.version for each in topology.entry_addresses})
    return (*(() if IPV4 in served else (LOOPBACK,)), *(words[version] for version in served))


def pooled_ports(topology: Topology) -> tuple[tuple[str, int], ...]:
    """Return the backends in front of pools, and the port of each."""
    pooling = topology.pooling
    found = (("pooled_write", pooling.write_port), ("pooled_read", pooling.read_port))
    if topology.balancing.synchronous_port is None:
        return found
    return (*found, ("pooled_synchronous", pooling.synchronous_port))


def pools(topology: Topology, host: HostSpec) -> tuple[tuple[str, str], ...]:
    """Return the pools that a balancer leads to, by name and address: its own first, on the loopback address."""
    hosts = sorted(placement.poolers(topology), key=lambda each: each.name != host.name)
    return tuple((each.name, LOOPBACK if each.name == host.name else str(each.address)) for each in hosts)
