"""Patroni: starts PostgreSQL, holds the leader lock, promotes a standby when the lock is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from pgbaton.components import directories, postgres
from pgbaton.components.base import (
    AUTHORITY_FILE,
    ETCD_AUTHORITY,
    ETCD_AUTHORITY_FILE,
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
from pgbaton.components.units import HARDENING, HEADER, drop_in
from pgbaton.errors import UnhealthyError
from pgbaton.references import secret
from pgbaton.topology.addresses import at_port
from pgbaton.topology.model import ReplicationMode, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

UNIT = postgres.PATRONI_UNIT
CONFIG = "/etc/patroni/config.yml"
REST_USER = "patroni"
WATCHDOG_RULE = "/etc/udev/rules.d/60-pgbaton-watchdog.rules"
#: A standby further behind than this is no candidate in asynchronous mode; Patroni's own 1 MiB leaves busy clusters
#: without any.
MAXIMUM_LAG_ON_FAILOVER = 32 * 1024 * 1024

#: How pg_basebackup copies: fast, and not after a checkpoint that is spread over minutes.
COPY = {"max-rate": "1000M", "checkpoint": "fast"}

#: What Patroni takes and its validator refuses: before 3.3 it cannot be told that its own port is taken because it is
#: running, and misses a list that it does not need; in 4.0 it does not know the quorum mode yet.
VALIDATE = """
set -e
if patroni --help | grep -q ignore-listen-port; then ignore=--ignore-listen-port; else ignore=; fi
said=$(patroni --validate-config $ignore "$1" 2>&1) && exit 0
said=$(echo "$said" | grep -v -e 'synchronous_mode quorum is not a boolean') || exit 0
[ -n "$ignore" ] || said=$(echo "$said" | grep -v -e 'already in use' -e 'bootstrap.pg_hba  *is not') || exit 0
printf '%s\\n' "$said" >&2
exit 1
"""

#: What is not as it should be yet, in words; nothing when all is. Patroni is told to reload by a signal, and gets to it
#: when it can: until the server has read its settings again, an answer says nothing about the new ones.
READY = f"""
SELECT CASE
  WHEN pg_conf_load_time() < (pg_stat_file('{CONFIG}')).modification THEN 'the server has not read its new settings yet'
  WHEN pg_is_in_recovery() AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')
  THEN 'the standby does not stream from the primary yet'
END
"""  # noqa: S608 - a constant of this module


class Patroni(Component):
    """One on every database host."""

    name: ClassVar[str] = "patroni"
    wave: ClassVar[Wave] = Wave.DATABASE
    role: ClassVar[Role | None] = Role.DATABASE

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run on database hosts, unless a person promotes."""
        return not topology.is_manual and super().runs_on(topology, host)

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return Patroni and what its etcd client needs, which Debian's package leaves out."""
        del topology, host
        return ("patroni", "python3-dateutil", "python3-dnspython", "python3-etcd")

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return Patroni's configuration and drop-in."""
        text = HEADER + yaml.safe_dump(configuration(topology, host), sort_keys=False, width=120)
        rule = f'{HEADER}KERNEL=="watchdog", OWNER="postgres", GROUP="postgres", MODE="0600"\n'
        return (
            File(WATCHDOG_RULE, rule),
            drop_in(UNIT, service(topology), unit_section=unit_section(topology)),
            File(CONFIG, text, mode=0o600, owner="postgres", group="postgres", unit=UNIT, on_change=OnChange.RELOAD),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return Patroni's unit."""
        del topology, host
        return (Unit(UNIT),)

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return Patroni's own validation of its configuration, and the server's of its settings."""
        del host
        settings = Check(("sh", "-c", postgres.TRY, *postgres.trial(topology), f"{{{CONFIG}}}"), user="postgres")
        return (Check(("sh", "-c", VALIDATE, "sh", f"{{{CONFIG}}}"), user="postgres"), settings)

    def certificates(self, topology: Topology, host: HostSpec) -> tuple[Certificate, ...]:
        """Return the certificate of its REST port, with which it also asks other members, and the one for etcd."""
        del topology
        return (
            Certificate(
                f"patroni/{host.name}",
                file="patroni",
                owner="postgres",
                common_name=host.name,
                addresses=(str(host.address),),
                dns_names=(host.name,),
                server=True,
                client=True,
                unit=UNIT,
                on_change=OnChange.RELOAD,
            ),
            Certificate(
                f"etcd-client/{host.name}",
                file="etcd-client",
                owner="postgres",
                common_name="etcd-client",
                client=True,
                authority=ETCD_AUTHORITY,
                unit=UNIT,
                on_change=OnChange.RELOAD,
            ),
        )

    def passwords(self, topology: Topology) -> tuple[str, ...]:
        """Return the password of unsafe REST calls."""
        return () if topology.is_manual else ("rest",)

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when the member runs as its file says: as the leader, or as a standby that streams."""
        seam = hosts[host.name]
        await require_active(seam, UNIT)
        argv = ("runuser", "-u", "postgres", "--", "psql", "-XqAt", "-h", postgres.SOCKETS)
        port = str(topology.postgresql.port)
        said = await require_success(seam, *argv, "-p", port, "-c", READY, what="PostgreSQL does not answer")
        if said.strip():
            raise UnhealthyError(said.strip(), where=host.name)


def unit_section(topology: Topology) -> dict[str, str]:
    """Return the [Unit] section of the drop-in: no server starts beside a disk that is not mounted."""
    data = topology.postgresql.data_directory
    made = {"Wants": directories.UNIT, "After": directories.UNIT} if topology.directories else {}
    return {"StartLimitIntervalSec": "0", **({"RequiresMountsFor": data} if data else {}), **made}


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


def service(topology: Topology) -> dict[str, str | list[str]]:
    """Return the [Service] section of the drop-in."""
    parent = parent_of(topology.data_directory)
    # Not Requires=, which would stop the server with that unit.
    ready = [f"+/usr/bin/systemctl --quiet is-active {directories.UNIT}"] if topology.directories else []
    return {
        **HARDENING,
        "Environment": ["PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE=0"],
        "ExecStartPre": [f"+/usr/bin/install -d -o postgres -g postgres -m 0755 {parent}", *ready],
        "Restart": "always",
        "RestartSec": "500ms",
        "TimeoutStopSec": "90",
        "LimitNOFILE": "16384",
        "OOMScoreAdjust": "-900",
        "RuntimeDirectory": "postgresql",
        "RuntimeDirectoryMode": "2775",
        "RuntimeDirectoryPreserve": "yes",
        "ReadWritePaths": " ".join(f"-{path}" for path in writable(topology)),
    }


def configuration(topology: Topology, host: HostSpec) -> dict[str, Any]:
    """Return a member's configuration file."""
    ports = topology.orchestration
    tls = {"certfile": f"{TLS_DIRECTORY}/patroni.crt", "keyfile": f"{TLS_DIRECTORY}/patroni.key"}
    rest = {"username": REST_USER, "password": secret("password/rest")}
    return {
        "scope": topology.scope,
        "name": host.name,
        "log": {"level": "INFO", "format": "%(levelname)s: %(message)s"},
        "restapi": {
            "listen": at_port(host.address, ports.rest_port),
            "connect_address": at_port(host.address, ports.rest_port),
            **tls,
            "cafile": AUTHORITY_FILE,
            "verify_client": "required",
            "authentication": rest,
        },
        "ctl": {**tls, "cacert": AUTHORITY_FILE, "authentication": {**rest}},
        "etcd3": {
            "hosts": members(topology, host),
            # The list is kept in this order: the local member first.
            "use_proxies": True,
            "protocol": "https",
            "cacert": ETCD_AUTHORITY_FILE,
            "cert": f"{TLS_DIRECTORY}/etcd-client.crt",
            "key": f"{TLS_DIRECTORY}/etcd-client.key",
        },
        "bootstrap": {
            "dcs": dynamic_configuration(topology),
            "initdb": [
                {"encoding": "UTF8"},
                {"locale": "C.UTF-8"},
                {"auth-local": "peer"},
                {"auth-host": "scram-sha-256"},
                "data-checksums",
                *({"waldir": wal} for wal in (topology.postgresql.wal_directory,) if wal),
            ],
        },
        "postgresql": server(topology, host),
        "watchdog": {"mode": topology.orchestration.watchdog, "device": "/dev/watchdog", "safety_margin": 5},
        "tags": {
            "nofailover": not host.failover,
            "noloadbalance": not host.reads,
            "clonefrom": False,
            "nosync": not host.confirms,
            **({"replicatefrom": host.replicate_from} if host.replicate_from else {}),
        },
    }


def members(topology: Topology, host: HostSpec) -> list[str]:
    """Return etcd's members as a member of Patroni should try them: its own host's first."""
    port = topology.orchestration.etcd_client_port
    others = [at_port(member.address, port) for member in topology.with_role(Role.DCS) if member.name != host.name]
    return [f"127.0.0.1:{port}", *others] if host.has(Role.DCS) else others


def server(topology: Topology, host: HostSpec) -> dict[str, Any]:
    """Return the part of a member's configuration that is about its server."""
    version, port = topology.postgresql.version, topology.postgresql.port
    return {
        "listen": at_port(host.address, port),
        "connect_address": at_port(host.address, port),
        "data_dir": topology.data_directory,
        "bin_dir": f"/usr/lib/postgresql/{version}/bin",
        "pgpass": f"/var/lib/postgresql/.pgpass-{topology.scope}",
        "use_unix_socket": True,
        "authentication": {
            "superuser": {"username": "postgres"},
            "replication": login(postgres.REPLICATION_ROLE),
            "rewind": login(postgres.REWIND_ROLE),
        },
        "parameters": postgres.parameters(topology),
        "pg_hba": postgres.access_rules(topology),
        **({"pg_ident": maps} if (maps := postgres.user_maps(topology)) else {}),
        "remove_data_directory_on_rewind_failure": True,
        "remove_data_directory_on_diverged_timelines": True,
        **cloning(topology),
    }


def cloning(topology: Topology) -> dict[str, Any]:
    """Return what a standby is cloned with: pg_basebackup, by a program of ours where directories must be emptied."""
    wal = topology.postgresql.wal_directory
    options = {**COPY, **({"waldir": wal} if wal else {})}
    made = {
        "create_replica_methods": ["clone" if topology.directories else "basebackup"],
        # Patroni falls back on it when a person asks for a copy of the leader.
        "basebackup": ["verbose", *({key: value} for key, value in options.items())],
    }
    return made | ({"clone": {"command": directories.CLONE, **options}} if topology.directories else {})


def login(role: str) -> dict[str, str]:
    """Return how a server logs in to another one as a role."""
    return {
        "username": role,
        "password": secret(f"password/{role}"),
        "sslmode": "verify-full",
        "sslrootcert": AUTHORITY_FILE,
        "sslcert": f"{TLS_DIRECTORY}/{role}.crt",
        "sslkey": f"{TLS_DIRECTORY}/{role}.key",
    }


def dynamic_configuration(topology: Topology) -> dict[str, Any]:
    """Return the settings that live in etcd: of the whole cluster, changed while it runs."""
    timings = topology.timings
    return {
        "ttl": timings.ttl,
        "loop_wait": timings.loop_wait,
        "retry_timeout": timings.retry_timeout,
        "primary_start_timeout": timings.primary_start_timeout,
        "maximum_lag_on_failover": MAXIMUM_LAG_ON_FAILOVER,
        **synchronous_mode(topology),
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": postgres.shared_parameters(topology),
        },
    }


def synchronous_mode(topology: Topology) -> dict[str, Any]:
    """Return Patroni's words for the replication mode."""
    mode = topology.replication.mode
    kind: bool | str = mode != ReplicationMode.ASYNCHRONOUS
    return {
        "synchronous_mode": "quorum" if mode == ReplicationMode.QUORUM else kind,
        "synchronous_mode_strict": mode == ReplicationMode.STRICT,
        "synchronous_node_count": topology.replication.count,
    }
