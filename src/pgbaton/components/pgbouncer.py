"""PgBouncer: processes for writes and processes for reads, each with pools of its own.

The processes of one port share it by ``so_reuseport``, and know each other as peers: a cancel request comes over a
connection of its own, to any of them, and is passed on to the one whose query it is.
"""

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
from pgbaton.components.postgres import ADDRESSES_TARGET, AGENT_DATABASE, POOLER_ROLE, SOCKETS
from pgbaton.components.probing import require_success
from pgbaton.components.templating import render
from pgbaton.components.units import HARDENING, HEADER, section
from pgbaton.references import secret
from pgbaton.topology import placement, pools
from pgbaton.topology.addresses import IPV6
from pgbaton.topology.model import Placement, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import Database, HostSpec, Topology, User

USER = "pgbouncer"
LOOPBACK = "127.0.0.1"
USERS_FILE = "/etc/pgbouncer/users.txt"
TEMPLATE_UNIT = "/etc/systemd/system/pgbouncer@.service"
#: What a process is for: each has a port. Its first process is called so, further ones write-2 and so on.
PURPOSES = ("write", "read")
SYNCHRONOUS = "synchronous"
#: All of a host's processes, for files that concern all.
UNITS = "pgbouncer@.service"
#: The most clients that wait for a process to accept them: Linux allows no more (net.core.somaxconn) unless it is told.
BACKLOG = 4096

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
    """One process for writes and one for reads on every host that pools, or several of each."""

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
            *(configuration(topology, host, instance) for instance in instances(topology)),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Mask Debian's units, which would take the port; run the instances of ours."""
        del host
        masked = (Unit(name, masked=True) for name in ("pgbouncer.socket", "pgbouncer.service"))
        return (*masked, *(Unit(unit(instance)) for instance in instances(topology)))

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return a trial start of each configuration."""
        del host
        return tuple(
            Check(("sh", "-c", VALIDATE, "sh", f"{{{path(instance)}}}", f"{{{USERS_FILE}}}"), user=USER)
            for instance in instances(topology)
        )

    def certificates(self, topology: Topology, host: HostSpec) -> tuple[Certificate, ...]:
        """Return the certificate that clients see: good for VIPs, their names, every balancer, and the host itself."""
        balancers = topology.with_role(Role.BALANCER)
        met = dict.fromkeys((*balancers, host))
        addresses = [*map(str, topology.entry_addresses), *(str(each.address) for each in met)]
        if topology.pooling.placement is Placement.APPLICATION:
            addresses.append(LOOPBACK)
        return (
            Certificate(
                f"pgbouncer/{host.name}",
                file="pgbouncer",
                owner=USER,
                common_name=topology.name,
                addresses=tuple(dict.fromkeys(addresses)),
                dns_names=tuple(dict.fromkeys((*(each.name for each in met), *topology.network.dns_names))),
                server=True,
                unit=UNITS,
                on_change=OnChange.RELOAD,
            ),
        )

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when every console answers."""
        for instance in instances(topology):
            argv = console(topology, instance)
            await require_success(
                hosts[host.name], *argv, "-c", "SHOW VERSION", what=f"{unit(instance)} does not answer"
            )


def instances(topology: Topology) -> tuple[str, ...]:
    """Return the processes of a host, by the names of their units' instances: first those of each port, then others."""
    named = [processes(topology, purpose) for purpose in purposes(topology)]
    return tuple(name for of_a_rank in zip(*named, strict=True) for name in of_a_rank)


def purposes(topology: Topology) -> tuple[str, ...]:
    """Return what a host's processes are for: writes, reads, and reads of synchronous standbys where asked for."""
    return (*PURPOSES, SYNCHRONOUS) if topology.balancing.synchronous_port else PURPOSES


def processes(topology: Topology, purpose: str) -> tuple[str, ...]:
    """Return the processes that share a purpose's port."""
    return pools.instances(purpose, topology.pooling.processes)


def purpose_of(instance: str) -> str:
    """Return what an instance is for: ``write``, ``read`` or ``synchronous``."""
    return instance.partition("-")[0]


def number_of(instance: str) -> int:
    """Return which of its port's processes an instance is, from 1 on."""
    return int(instance.partition("-")[2] or 1)


def unit(instance: str) -> str:
    """Return the unit of an instance."""
    return f"pgbouncer@{instance}.service"


def units(purpose: str) -> str:
    """Return the pattern of the units of all processes of a purpose, or of all of a host, as systemctl takes it."""
    return f"pgbouncer@{purpose}*.service"


def path(instance: str) -> str:
    """Return the configuration file of an instance."""
    return f"/etc/pgbouncer/{instance}.ini"


def socket_directory(instance: str) -> str:
    """Return where an instance has its Unix socket."""
    return f"/run/pgbouncer-{instance}"


def port(topology: Topology, instance: str) -> int:
    """Return the port of an instance."""
    pooling = topology.pooling
    ports = {"write": pooling.write_port, "read": pooling.read_port, SYNCHRONOUS: pooling.synchronous_port}
    return ports[purpose_of(instance)]


def console(topology: Topology, instance: str) -> tuple[str, ...]:
    """Return the command line that opens an instance's console on its host."""
    where = ("-h", socket_directory(instance), "-p", str(port(topology, instance)), "-U", USER, "pgbouncer")
    return ("runuser", "-u", USER, "--", "psql", "-XAt", *where)


def configuration(topology: Topology, host: HostSpec, instance: str) -> File:
    """Return an instance's configuration: where its clients come in, where its servers are."""
    purpose = purpose_of(instance)
    server_host, server_port = way(topology, purpose)
    text = render(
        "pgbouncer.ini.j2",
        header=HEADER,
        # PgBouncer knows protocol-level prepared statements since 1.21.
        prepared_statements=0 if is_bookworm(topology) else topology.pooling.prepared_statements,
        topology=topology,
        instance=instance,
        purpose=purpose,
        # Beside an application, nobody else is to be served.
        listen_addr=LOOPBACK if is_applications(topology) else f"{LOOPBACK},{host.address}",
        listen_port=port(topology, instance),
        listen_backlog=backlog(topology),
        databases=tuple(pool_settings(topology, instance, database) for database in topology.databases),
        users=(lookup_settings(topology), *(user_settings(topology, instance, user) for user in topology.users)),
        size=own_share(topology, instance, topology.pooling.size),
        reserve=own_share(topology, instance, topology.pooling.reserve),
        peers=peers(topology, instance),
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


def way(topology: Topology, purpose: str) -> tuple[str, int]:
    """Return where the processes of a purpose find their servers: a host or the directory of a socket, and a port."""
    balancing = topology.balancing
    entrances = {"write": balancing.write_port, "read": balancing.read_port, SYNCHRONOUS: balancing.synchronous_port}
    inner = {
        "write": balancing.primary_port,
        "read": balancing.standby_port,
        SYNCHRONOUS: balancing.synchronous_standby_port,
    }
    match topology.pooling.placement:
        case Placement.DATABASE:
            return SOCKETS, topology.postgresql.port
        case Placement.APPLICATION:
            return ",".join(placement.ways_in(topology)), entrances[purpose] or 0
        case _:
            return LOOPBACK, inner[purpose]


def own_share(topology: Topology, instance: str, total: int) -> int:
    """Return what one of a port's processes has of a number that is that of all together."""
    return pools.share(total, topology.pooling.processes, number_of(instance))


def pool_settings(topology: Topology, instance: str, database: Database) -> tuple[str, str]:
    """Return a database's name, and its own settings in PgBouncer's words."""
    settings = {
        "pool_size": own_share(topology, instance, database.pool_size or topology.pooling.size),
        "pool_mode": database.pool_mode,
        "max_db_connections": _shared(topology, instance, database.max_db_connections),
    }
    return database.name, _words(settings)


def user_settings(topology: Topology, instance: str, user: User) -> tuple[str, str]:
    """Return a user's name, and its own settings in PgBouncer's words; they may be none."""
    settings = {
        "pool_mode": user.pool_mode,
        "pool_size": _shared(topology, instance, user.pool_size),
        "max_user_connections": _shared(topology, instance, user.max_user_connections),
    }
    return user.name, _words(settings)


def lookup_settings(topology: Topology) -> tuple[str, str]:
    """Return PgBouncer's own role, and what keeps its look-ups to one connection for each database.

    Each login is one, and a thousand at once would fill a pool of their own: the server would have that many less.
    Before 1.23 only the number for all databases can be limited.
    """
    if not is_bookworm(topology):
        return POOLER_ROLE, _words({"pool_size": 1, "reserve_pool_size": 0})
    return POOLER_ROLE, _words({"max_user_connections": len(topology.databases) + topology.has_agents})


def peers(topology: Topology, instance: str) -> tuple[tuple[int, str], ...]:
    """Return the numbers and socket directories of all processes of an instance's port; none where there is one."""
    named = processes(topology, purpose_of(instance))
    return tuple((number_of(name), socket_directory(name)) for name in named) if len(named) > 1 else ()


def _shared(topology: Topology, instance: str, total: int | None) -> int | None:
    return None if total is None else own_share(topology, instance, total)


def _words(settings: Mapping[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items() if value is not None)


def template_unit(topology: Topology) -> str:
    """Return the unit of which each instance is one."""
    head = {
        "Description": "Connection pooler for PostgreSQL (%i)",
        **awaited(topology),
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
    text = f"{HEADER}[Unit]\n{section(head)}\n[Service]\n{section(service)}\n[Install]\n{section(install)}"
    why = "# PgBouncer reads these at its start only, so that a change here has to restart it."
    return f"{text}\n{why}\n{at_start(topology)}"


def awaited(topology: Topology) -> dict[str, str]:
    """Return what a process waits for: one that cannot listen at an address says so in its log, and goes on without it.

    One of IPv6 comes a second or two late, because Linux looks first whether somebody else has it.
    """
    is_late = topology.network.subnet.version == IPV6 and not is_applications(topology)
    return {"Wants": ADDRESSES_TARGET, "After": ADDRESSES_TARGET} if is_late else {"After": "network.target"}


def at_start(topology: Topology) -> str:
    """Return a section, which systemd does not read, of settings that a reload does not bring into effect."""
    pooling = topology.pooling
    values = {
        "Ports": f"{pooling.write_port} {pooling.read_port}",
        "Backlog": str(backlog(topology)),
        "Processes": str(pooling.processes),
    }
    return f"[X-pgbaton]\n{section(values)}"


def backlog(topology: Topology) -> int:
    """Return how many clients may wait for a process to accept them: all that HAProxy may send at once."""
    return min(topology.pooling.max_clients, BACKLOG)
