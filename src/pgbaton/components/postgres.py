"""PostgreSQL: packages, parameters, who may connect, roles and databases. Patroni, or a unit of ours, starts it.

What both of these have alike for the server that they start is here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pgbaton.components import standing
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
from pgbaton.components.probing import require_active, require_success
from pgbaton.components.templating import milliseconds
from pgbaton.errors import UnhealthyError
from pgbaton.topology.capacity import agent_connections, check_connections, probe_connections
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

SOCKETS = "/var/run/postgresql"
REPLICATION_ROLE = "replicator"
REWIND_ROLE = "rewind"
POOLER_ROLE = "pgbouncer"
#: The agent asks its own host's server over the Unix socket as root, and any through a pooler with a password.
AGENT_ROLE = "pgbaton_agent"
AGENT_DATABASE = "postgres"
#: Agents of balancers log in with it by the clients' own way, and ask who answers. It may do nothing else.
PROBE_ROLE = "pgbaton_probe"
AGENT_MAP = "pgbaton"
PATRONI_MAP = "patroni"
PATRONI_UNIT = "patroni.service"
#: What is reached when every interface has its addresses (systemd.special).
ADDRESSES_TARGET = "network-online.target"
#: What runs the server where a person promotes.
SERVER_UNIT = "pgbaton-postgresql.service"
#: HAProxy asks servers with it what they are, where no Patroni says so. It may do nothing else.
CHECK_ROLE = "pgbaton_check"

#: Try settings in an empty directory, as initdb does: the server reads them, takes the memory they ask for, and ends.
#: Arguments: the major version, then the settings.
TRY = """
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
version=$0
cd "$directory"
echo "$version" > PG_VERSION
: > postgresql.conf
mkdir -p base global pg_commit_ts pg_dynshmem pg_logical/mappings pg_logical/snapshots pg_multixact/members \\
  pg_multixact/offsets pg_notify pg_replslot pg_serial pg_snapshots pg_stat pg_stat_tmp pg_subtrans pg_tblspc \\
  pg_twophase pg_wal/archive_status pg_xact
count=$(($# - 1))
while [ $count -gt 0 ]; do
  set -- "$@" -c "$1"
  shift
  count=$((count - 1))
done
shift
said=$("/usr/lib/postgresql/$version/bin/postgres" --check -D "$directory" "$@" -c huge_pages=off 2>&1) && exit 0
echo "$said" | grep -E 'FATAL|ERROR|HINT' >&2 || echo "$said" >&2
exit 1
"""


#: What is not as it should be yet, in words; nothing when all is. A reload is a signal, which is got to in due time:
#: until the server has read its settings again, an answer says nothing about the new ones.
READY = """
SELECT CASE
  WHEN pg_conf_load_time() < (pg_stat_file('{config}')).modification THEN 'the server has not read its new settings yet'
  WHEN pg_is_in_recovery() AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')
  THEN 'the standby does not stream from the primary yet'
END
"""
#: In the unit of whoever starts the server: its processes are no better than others for the kernel short of memory.
ENVIRONMENT = ["PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE=0"]


def unit(topology: Topology) -> str:
    """Return the unit whose start and stop are the server's."""
    return SERVER_UNIT if topology.is_manual else PATRONI_UNIT


class Postgres(Component):
    """The server, without a unit of its own."""

    name: ClassVar[str] = "postgres"
    wave: ClassVar[Wave] = Wave.DATABASE
    role: ClassVar[Role | None] = Role.DATABASE

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return the server and its client of the topology's major version."""
        del host
        version = topology.postgresql.version
        return (f"postgresql-{version}", f"postgresql-client-{version}")

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return nothing: Patroni, or what stands in its place, writes the server's own files."""
        del topology, host
        return ()

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Mask Debian's own unit: nobody else may start a server."""
        del topology, host
        return (Unit("postgresql.service", masked=True),)

    def certificates(self, topology: Topology, host: HostSpec) -> tuple[Certificate, ...]:
        """Return the server's certificate, and those with which it follows or rewinds from another server."""
        addresses, names = met_as(topology, host)
        server = Certificate(
            f"postgres/{host.name}",
            file="postgres",
            owner="postgres",
            common_name=host.name,
            addresses=addresses,
            dns_names=names,
            server=True,
            unit=unit(topology),
            on_change=OnChange.RELOAD,
        )
        return (server, *(client_certificate(topology, role, host) for role in (REPLICATION_ROLE, REWIND_ROLE)))

    def passwords(self, topology: Topology) -> tuple[str, ...]:
        """Return the roles that have passwords."""
        return (REPLICATION_ROLE, REWIND_ROLE, *(role.password for role in roles(topology)))

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when the server answers on its socket."""
        port = str(topology.postgresql.port)
        argv = ("runuser", "-u", "postgres", "--", "pg_isready", "-q", "-t", "2", "-h", SOCKETS, "-p", port)
        await require_success(hosts[host.name], *argv, what="PostgreSQL does not accept connections")


def addresses_target(host: HostSpec) -> tuple[str, ...]:
    """Return what a server with more than one address waits for: it would never listen on those that came later."""
    return (ADDRESSES_TARGET,) if host.replication_address else ()


async def require_ready(topology: Topology, seam: Host, *, unit: str, config: str) -> None:
    """Return when the server runs as a file says: as the primary, or as a standby that streams; raises UnhealthyError.

    ``config`` is the file that ``unit`` makes its settings of.
    """
    await require_active(seam, unit)
    argv = ("runuser", "-u", "postgres", "--", "psql", "-XqAt", "-h", SOCKETS, "-p", str(topology.postgresql.port))
    said = await require_success(seam, *argv, "-c", READY.format(config=config), what="PostgreSQL does not answer")
    if said.strip():
        raise UnhealthyError(said.strip(), where=seam.name)


def trial_of(topology: Topology, config: str) -> Check:
    """Return the server's own trial of the settings that a user can choose, made when a file of them changes."""
    return Check(("sh", "-c", TRY, *trial(topology), f"{{{config}}}"), user="postgres")


def sandbox(topology: Topology) -> dict[str, str]:
    """Return the end of the [Service] section of whoever starts the server: its limits, and where it may write."""
    return {
        "LimitNOFILE": "16384",
        "OOMScoreAdjust": "-900",
        "RuntimeDirectory": "postgresql",
        "RuntimeDirectoryMode": "2775",
        "RuntimeDirectoryPreserve": "yes",
        "ReadWritePaths": " ".join(f"-{path}" for path in writable(topology)),
    }


def writable(topology: Topology) -> tuple[str, ...]:
    """Return the directories below which the server may write: all else is read-only for it."""
    wal = topology.postgresql.wal_directory
    parents = [parent_of(topology.data_directory), *([parent_of(wal)] if wal else [])]
    common = {"/var/lib/postgresql", "/var/log/postgresql", "/run/postgresql", *parents}
    more = (tablespace.location for tablespace in topology.tablespaces)
    return tuple(sorted(common | {place for place in more if not is_below(place, common)}))


def parent_of(directory: str) -> str:
    """Return the directory above an absolute one."""
    return directory.rsplit("/", 1)[0]


def is_below(directory: str, places: Iterable[str]) -> bool:
    """Tell whether a directory is one of some, or in one of them."""
    return any(directory == place or directory.startswith(f"{place}/") for place in places)


def met_as(topology: Topology, host: HostSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the addresses and the names that a server is reached by: all of its own, and those of who leads there.

    Poolers find it through a listener on their own loopback address; where there are none, clients through a VIP.
    """
    met = (host, *topology.with_role(Role.BALANCER))
    own = (str(host.address), *map(str, host.server_addresses))
    entries, balancers = map(str, topology.entry_addresses), (str(each.address) for each in met)
    addresses = dict.fromkeys((*own, "127.0.0.1", *entries, *balancers))
    return tuple(addresses), tuple(dict.fromkeys((*(each.name for each in met), *topology.network.dns_names)))


def client_certificate(topology: Topology, role: str, host: HostSpec) -> Certificate:
    """Return the certificate with which a database host proves to be a role."""
    return Certificate(
        f"{role}/{host.name}",
        file=role,
        owner="postgres",
        common_name=role,
        client=True,
        unit=unit(topology),
        on_change=OnChange.RELOAD,
    )


@dataclass(frozen=True)
class DatabaseRole:
    """A login role; ``password`` names the generated password in the vault, without ``password/``.

    ``only``: it is a member of nothing but ``member_of``; without it, further memberships are left alone.
    """

    name: str
    password: str
    connection_limit: int = -1
    member_of: tuple[str, ...] = ()
    only: bool = False


@dataclass(frozen=True)
class DatabaseSpec:
    """A database, its owner, and what it has; ``encoding`` and ``locale`` are for its creation alone."""

    name: str
    owner: str
    connection_limit: int = -1
    encoding: str | None = None
    locale: str | None = None
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True)
class TablespaceSpec:
    """A tablespace, its owner and its directory on every database host."""

    name: str
    owner: str
    location: str


def roles(topology: Topology) -> tuple[DatabaseRole, ...]:
    """Return the login roles that deploying creates; those of replication and rewind are there with the primary."""
    users = tuple(
        DatabaseRole(user.name, f"user/{user.name}", user.connection_limit, user.roles or (), user.roles is not None)
        for user in topology.users
    )
    return (DatabaseRole(POOLER_ROLE, POOLER_ROLE), *agent_roles(topology), *check_roles(topology), *users)


def check_roles(topology: Topology) -> tuple[DatabaseRole, ...]:
    """Return the role of HAProxy's checks, where they ask the servers themselves."""
    if not topology.is_manual:
        return ()
    return (DatabaseRole(CHECK_ROLE, CHECK_ROLE, check_connections(topology)),)


def agent_roles(topology: Topology) -> tuple[DatabaseRole, ...]:
    """Return the agents' roles, where there are agents; their limits keep the server's connections for others."""
    if not topology.has_agents:
        return ()
    return (
        DatabaseRole(AGENT_ROLE, AGENT_ROLE, agent_connections(topology), ("pg_monitor",)),
        DatabaseRole(PROBE_ROLE, PROBE_ROLE, probe_connections(topology)),
    )


def tablespaces(topology: Topology) -> tuple[TablespaceSpec, ...]:
    """Return the tablespaces that deploying creates."""
    return tuple(TablespaceSpec(each.name, each.owner, each.location) for each in topology.tablespaces)


def databases(topology: Topology) -> tuple[DatabaseSpec, ...]:
    """Return the databases that deploying creates."""
    return tuple(
        DatabaseSpec(each.name, each.owner, each.connection_limit, each.encoding, each.locale, each.extensions)
        for each in topology.databases
    )


def lookup_sql(topology: Topology) -> str:
    """Return the SQL that gives PgBouncer the verifiers of ordinary users, and of nobody else. May be run again.

    Where a person promotes, it also lets HAProxy and the other hosts' servers ask what a server is.
    """
    return verifier_sql() + (standing.functions(CHECK_ROLE, REWIND_ROLE) if topology.is_manual else "")


def verifier_sql() -> str:
    """Return the SQL of PgBouncer's lookup."""
    return f"""
CREATE SCHEMA IF NOT EXISTS pgbaton;
REVOKE ALL ON SCHEMA pgbaton FROM PUBLIC;
GRANT USAGE ON SCHEMA pgbaton TO {POOLER_ROLE};
CREATE OR REPLACE FUNCTION pgbaton.user_lookup(wanted text, OUT username text, OUT verifier text)
  RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid
  WHERE rolname = wanted AND rolcanlogin AND NOT rolsuper AND NOT rolreplication
    AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())
$$;
REVOKE ALL ON FUNCTION pgbaton.user_lookup(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgbaton.user_lookup(text) TO {POOLER_ROLE};
"""  # noqa: S608 - a constant of this module


def parameters(topology: Topology) -> dict[str, str | int | float | bool]:
    """Return the settings that each server takes from its own Patroni file; the user's come last and win."""
    timings = topology.timings
    own: dict[str, str | int | float | bool] = {
        "ssl": True,
        "ssl_ca_file": AUTHORITY_FILE,
        "ssl_cert_file": f"{TLS_DIRECTORY}/postgres.crt",
        "ssl_key_file": f"{TLS_DIRECTORY}/postgres.key",
        "ssl_min_protocol_version": "TLSv1.2",
        "password_encryption": "scram-sha-256",
        "unix_socket_directories": SOCKETS,
        "logging_collector": False,
        "log_destination": "stderr",
        "log_line_prefix": "%m [%p] %q%u@%d %a ",
        "log_checkpoints": True,
        "log_lock_waits": True,
        "hot_standby_feedback": True,
        # A crashed server is a reason to fail over: restarting in place could expose what no standby has. Where a
        # person promotes, nobody would, and the server comes back as it was.
        "restart_after_crash": topology.is_manual,
        "superuser_reserved_connections": topology.postgresql.reserved_connections,
        "max_slot_wal_keep_size": f"{topology.postgresql.max_slot_wal_keep_size_mb}MB",
        "wal_keep_size": "256MB",
        **wal_sizes(topology.postgresql.wal_segment_size_mb),
        "wal_sender_timeout": milliseconds(timings.wal_sender_timeout),
        "wal_receiver_timeout": milliseconds(2 * timings.wal_sender_timeout),
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": milliseconds(timings.wal_retrieve_retry_interval),
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": milliseconds(2 * timings.tcp_user_timeout),
        "client_connection_check_interval": "2s",
    }
    if topology.replication.apply:
        own |= {"synchronous_commit": "remote_apply"}
    return own | topology.postgresql.settings


def wal_sizes(segment_mb: int) -> dict[str, str]:
    """Return how much WAL is kept between checkpoints: initdb would have it shrink with the segments.

    At least as much as PostgreSQL has with segments of 16 MiB, and as many segments as it takes with larger ones.
    """
    return {"min_wal_size": f"{max(80, 5 * segment_mb)}MB", "max_wal_size": f"{max(1024, 64 * segment_mb)}MB"}


def trial(topology: Topology) -> tuple[str, ...]:
    """Return the arguments with which TRY tries the settings that a user can choose."""
    chosen = {**topology.postgresql.settings, "max_connections": topology.postgresql.max_connections}
    words = {True: "on", False: "off"}
    settings = (f"{name}={words[value] if isinstance(value, bool) else value}" for name, value in chosen.items())
    return (str(topology.postgresql.version), *settings)


def shared_parameters(topology: Topology) -> dict[str, str | int]:
    """Return the settings that all servers must agree on: Patroni takes them from etcd alone."""
    return {
        "wal_level": "replica",
        "hot_standby": "on",
        "wal_log_hints": "on",
        "max_connections": topology.postgresql.max_connections,
        "max_wal_senders": topology.postgresql.max_wal_senders,
        "max_replication_slots": topology.postgresql.max_replication_slots,
        "max_worker_processes": 16,
        "max_locks_per_transaction": 128,
        "max_prepared_transactions": 0,
        "track_commit_timestamp": "off",
    }
