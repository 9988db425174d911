"""PgBouncer: one process for writes and one for reads, each with a pool of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

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
from pgbaton.components.postgres import AGENT_DATABASE, POOLER_ROLE, SOCKETS
from pgbaton.components.probing import require_success
from pgbaton.components.templating import render
from pgbaton.components.units import HARDENING, HEADER, section
from pgbaton.references import secret
from pgbaton.topology import placement
from pgbaton.topology.model import Placement, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

USER = "pgbouncer"
LOOPBACK = "127.0.0.1"
USERS_FILE = "/etc/pgbouncer/users.txt"
TEMPLATE_UNIT = "/etc/systemd/system/pgbouncer@.service"
#: The two processes of a host, by the name of their unit's instance.
INSTANCES = ("write", "read")
#: Both of them, for files that concern both.
UNITS = "pgbouncer@.service"

#: PgBouncer has no option that only reads its configuration: start a copy that listens nowhere, and see it live on.
VALIDATE = """
set -u
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
sed -e 's/^listen_addr *=.*/listen_addr =/' -e "s#^unix_socket_dir *=.*#unix_socket_dir = $directory#" \
  -e "s#^auth_file *=.*#auth_file = $2#" "$1" > "$directory/pgbouncer.ini"
said=$(timeout -s KILL 0.4 pgbouncer "$directory/pgbouncer.ini" 2>&1)
status=$?
[ $status -eq 137 ] && ! printf '%s\\n' "$said" | grep -E 'ERROR|FATAL' && exit 0
printf '%s\\n' "$said" >&2
exit 1
"""


class Pgbouncer(Component):
    """Two processes on every host that pools."""

    name: ClassVar[str] = "pgbouncer"
    wave: ClassVar[Wave] = Wave.POOLER

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run where the topology places it."""
        return host in placement.poolers(topology)

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return PgBouncer, and psql for its console."""
        del host
        return ("pgbouncer", f"postgresql-client-{topology.postgresql.version}")

    def users(self) -> tuple[str, ...]:
        """Return a user of its own: beside a server, the user postgres would be its superuser."""
        return (USER,)

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return the unit, the pooler's own login, and each process's configuration."""
        login = f'"{POOLER_ROLE}" "{secret(f"password/{POOLER_ROLE}")}"\n'
        return (
            File(TEMPLATE_UNIT, template_unit(topology), unit=UNITS, on_change=OnChange.RESTART),
            File(USERS_FILE, login, mode=0o600, owner=USER, group=USER, unit=UNITS, on_change=OnChange.RELOAD),
            *(configuration(topology, host, instance) for instance in INSTANCES),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Mask Debian's units, which would take the port; run the two instances of ours."""
        del topology, host
        masked = (Unit(name, masked=True) for name in ("pgbouncer.socket", "pgbouncer.service"))
        return (*masked, *(Unit(unit(instance)) for instance in INSTANCES))

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return a trial start of each configuration."""
        del topology, host
        return tuple(
            Check(("sh", "-c", VALIDATE, "sh", f"{{{path(instance)}}}", f"{{{USERS_FILE}}}"), user=USER)
            for instance in INSTANCES
        )

    def certificates(self, topology: Topology, host: HostSpec) -> tuple[Certificate, ...]:
        """Return the certificate that clients see: good for the VIP and every balancer, and for the host itself."""
        balancers = topology.with_role(Role.BALANCER)
        met = dict.fromkeys((*balancers, host))
        addresses = [str(topology.entry_address), *(str(each.address) for each in met)]
        if topology.pooling.placement is Placement.APPLICATION:
            addresses.append(LOOPBACK)
        return (
            Certificate(
                f"pgbouncer/{host.name}",
                file="pgbouncer",
                owner=USER,
                common_name=topology.name,
                addresses=tuple(dict.fromkeys(addresses)),
                dns_names=tuple(each.name for each in met),
                server=True,
                unit=UNITS,
                on_change=OnChange.RELOAD,
            ),
        )

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when both consoles answer."""
        for instance in INSTANCES:
            argv = console(topology, instance)
            await require_success(
                hosts[host.name], *argv, "-c", "SHOW VERSION", what=f"{unit(instance)} does not answer"
            )


def unit(instance: str) -> str:
    """Return the unit of an instance."""
    return f"pgbouncer@{instance}.service"


def path(instance: str) -> str:
    """Return the configuration file of an instance."""
    return f"/etc/pgbouncer/{instance}.ini"


def socket_directory(instance: str) -> str:
    """Return where an instance has its Unix socket."""
    return f"/run/pgbouncer-{instance}"


def port(topology: Topology, instance: str) -> int:
    """Return the port of an instance."""
    return topology.pooling.write_port if instance == "write" else topology.pooling.read_port


def console(topology: Topology, instance: str) -> tuple[str, ...]:
    """Return the command line that opens an instance's console on its host."""
    where = ("-h", socket_directory(instance), "-p", str(port(topology, instance)), "-U", USER, "pgbouncer")
    return ("runuser", "-u", USER, "--", "psql", "-XAt", *where)


def configuration(topology: Topology, host: HostSpec, instance: str) -> File:
    """Return an instance's configuration: where its clients come in, where its servers are."""
    server_host, server_port = way(topology, instance)
    text = render(
        "pgbouncer.ini.j2",
        header=HEADER,
        # PgBouncer knows protocol-level prepared statements since 1.21.
        prepared_statements=0 if is_bookworm(topology) else topology.pooling.prepared_statements,
        topology=topology,
        instance=instance,
        # Beside an application, nobody else is to be served.
        listen_addr=LOOPBACK if is_applications(topology) else f"{LOOPBACK},{host.address}",
        listen_port=port(topology, instance),
        # Of its own, for the agents' questions through the pool: no application may connect to it.
        agent_database=AGENT_DATABASE if topology.has_agents else None,
        server_host=server_host,
        server_port=server_port,
        by_socket=server_host.startswith("/"),
        socket_directory=socket_directory(instance),
        users_file=USERS_FILE,
        login=POOLER_ROLE,
        user=USER,
        tls=TLS_DIRECTORY,
        authority=AUTHORITY_FILE,
    )
    return File(path(instance), text, mode=0o640, group=USER, unit=unit(instance), on_change=OnChange.RELOAD)


def is_applications(topology: Topology) -> bool:
    """Tell whether PgBouncer runs beside applications."""
    return topology.pooling.placement is Placement.APPLICATION


def way(topology: Topology, instance: str) -> tuple[str, int]:
    """Return where an instance finds its servers: a host, or the directory of a Unix socket, and a port."""
    balancing, writes = topology.balancing, instance == "write"
    match topology.pooling.placement:
        case Placement.DATABASE:
            return SOCKETS, topology.postgresql.port
        case Placement.APPLICATION:
            return str(topology.entry_address), balancing.write_port if writes else balancing.read_port
        case _:
            return LOOPBACK, balancing.primary_port if writes else balancing.standby_port


def template_unit(topology: Topology) -> str:
    """Return the unit of which each instance is one."""
    head = {
        "Description": "Connection pooler for PostgreSQL (%i)",
        "After": "network.target",
        "StartLimitIntervalSec": "0",
    }
    service: dict[str, str | list[str]] = {
        **HARDENING,
        "Type": "notify",
        "User": USER,
        "Group": USER,
        "RuntimeDirectory": "pgbouncer-%i",
        "ExecStart": "/usr/sbin/pgbouncer /etc/pgbouncer/%i.ini",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "KillSignal": "SIGINT",
        "TimeoutStopSec": "10",
        "Restart": "always",
        "RestartSec": "100ms",
        "LimitNOFILE": str(topology.balancing.file_limit),
        "OOMScoreAdjust": "-500",
    }
    install = {"WantedBy": "multi-user.target"}
    return f"{HEADER}[Unit]\n{section(head)}\n[Service]\n{section(service)}\n[Install]\n{section(install)}"
