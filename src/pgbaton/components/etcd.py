"""etcd: where the leader lock is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pgbaton.components.base import (
    ETCD_AUTHORITY,
    ETCD_AUTHORITY_FILE,
    TLS_DIRECTORY,
    Certificate,
    Component,
    File,
    OnChange,
    Unit,
    Wave,
)
from pgbaton.components.probing import require_success
from pgbaton.components.units import HARDENING, HEADER, ahead, drop_in
from pgbaton.topology.addresses import at_port
from pgbaton.topology.model import ETCD_METRICS_PORT, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

UNIT = "etcd.service"
#: The common name that etcd's members demand of each other.
PEER_NAME = "etcd-peer"
#: How often the leader is to be heard in the time after which it is taken for dead; etcd wants five at the least.
BEATS = 10
METRICS = f"http://127.0.0.1:{ETCD_METRICS_PORT}"


class Etcd(Component):
    """One member on every host that has a vote."""

    name: ClassVar[str] = "etcd"
    wave: ClassVar[Wave] = Wave.DCS
    role: ClassVar[Role | None] = Role.DCS

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return the server and etcdctl."""
        del topology, host
        return ("etcd-client", "etcd-server", "iproute2")

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return the settings, as an environment file, and the drop-in."""
        text = HEADER + "".join(f'{key}="{value}"\n' for key, value in settings(topology, host).items())
        return (
            File("/etc/default/etcd", text, unit=UNIT, on_change=OnChange.RESTART),
            drop_in(UNIT, {**HARDENING, **SERVICE}, unit_section={"StartLimitIntervalSec": "0"}),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return etcd's unit."""
        del topology, host
        return (Unit(UNIT),)

    def certificates(self, topology: Topology, host: HostSpec) -> tuple[Certificate, ...]:
        """Return one certificate for both ports; etcd reads it anew by itself."""
        del topology
        return (
            Certificate(
                f"etcd/{host.name}",
                file="etcd",
                owner="etcd",
                common_name=PEER_NAME,
                addresses=(str(host.address), "127.0.0.1"),
                dns_names=(host.name, "localhost"),
                server=True,
                client=True,
                authority=ETCD_AUTHORITY,
            ),
        )

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when the member answers with a quorum behind it."""
        await require_success(hosts[host.name], *etcdctl(topology), "endpoint", "health", what="etcd is not healthy")


#: Patroni's connection to etcd sends a request's head and body in two pieces, and has lost TCP_NODELAY on the way
#: (``Etcd3.set_socket_options``, 4.0 and 4.1): the second waits for the first's acknowledgement, which the kernel keeps
#: back for 40 ms. Four requests in a row are a failover's election. On this route it acknowledges at once.
QUICK_LOOPBACK = (
    "-+/sbin/ip route replace local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1 quickack 1"
)

SERVICE: dict[str, str | list[str]] = {
    "ExecStartPre": QUICK_LOOPBACK,
    "Restart": "always",
    "RestartSec": "500ms",
    "LimitNOFILE": "16384",
    "OOMScoreAdjust": "-500",
    # A lease runs out, and an election begins, when it has to wait for a busy server beside it.
    **ahead(-10),
    "ReadWritePaths": "/var/lib/etcd",
    "TimeoutStartSec": "120",
    "TimeoutStopSec": "10",
}


def etcdctl(topology: Topology) -> tuple[str, ...]:
    """Return the command line of etcdctl for the member on the same host."""
    endpoint = f"https://127.0.0.1:{topology.orchestration.etcd_client_port}"
    tls = (f"--cacert={ETCD_AUTHORITY_FILE}", f"--cert={TLS_DIRECTORY}/etcd.crt", f"--key={TLS_DIRECTORY}/etcd.key")
    return ("env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={endpoint}", *tls, "--command-timeout=3s")


def url(host: HostSpec, port: int) -> str:
    """Return where a member is reached."""
    return f"https://{at_port(host.address, port)}"


def settings(topology: Topology, host: HostSpec) -> dict[str, str]:
    """Return etcd's settings, as the environment variables it reads."""
    client, peer = topology.orchestration.etcd_client_port, topology.orchestration.etcd_peer_port
    members = topology.with_role(Role.DCS)
    tls = {"CERT_FILE": f"{TLS_DIRECTORY}/etcd.crt", "KEY_FILE": f"{TLS_DIRECTORY}/etcd.key"}
    beat = max(1, round(1000 * topology.etcd_election_seconds / BEATS))
    tls |= {"TRUSTED_CA_FILE": ETCD_AUTHORITY_FILE, "CLIENT_CERT_AUTH": "true"}
    values = {
        "NAME": host.name,
        "DATA_DIR": f"/var/lib/etcd/{topology.scope}",
        "LISTEN_CLIENT_URLS": f"{url(host, client)},https://127.0.0.1:{client}",
        "ADVERTISE_CLIENT_URLS": url(host, client),
        "LISTEN_PEER_URLS": url(host, peer),
        "INITIAL_ADVERTISE_PEER_URLS": url(host, peer),
        "INITIAL_CLUSTER": ",".join(f"{member.name}={url(member, peer)}" for member in members),
        "INITIAL_CLUSTER_STATE": "new",
        "INITIAL_CLUSTER_TOKEN": topology.scope,
        "LISTEN_METRICS_URLS": METRICS,
        "HEARTBEAT_INTERVAL": str(beat),
        "ELECTION_TIMEOUT": str(BEATS * beat),
        "AUTO_COMPACTION_MODE": "periodic",
        "AUTO_COMPACTION_RETENTION": "1h",
        "QUOTA_BACKEND_BYTES": str(2 * 1024**3),
        **tls,
        **{f"PEER_{key}": value for key, value in tls.items()},
        "PEER_CERT_ALLOWED_CN": PEER_NAME,
        "LOG_LEVEL": "warn",
    }
    return {f"ETCD_{key}": value for key, value in values.items()}
