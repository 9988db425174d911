"""Patroni: starts PostgreSQL, holds the leader lock, promotes a standby when the lock is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from pgbaton.components import access, directories, foreign, postgres
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
from pgbaton.components.units import HARDENING, HEADER, drop_in
from pgbaton.references import secret
from pgbaton.topology.addresses import at_port, bracketed
from pgbaton.topology.model import ReplicationMode, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        text = HEADER + dumped(configuration(topology, host))
        rule = f'{HEADER}KERNEL=="watchdog", OWNER="postgres", GROUP="postgres", MODE="0600"\n'
        return (
            File(WATCHDOG_RULE, rule),
            drop_in(UNIT, service(topology), unit_section=unit_section(topology, host)),
            File(CONFIG, text, mode=0o600, owner="postgres", group="postgres", unit=UNIT, on_change=OnChange.RELOAD),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return Patroni's unit."""
        del topology, host
        return (Unit(UNIT),)

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return Patroni's own validation of its configuration, and the server's of its settings."""
        del host
        own = Check(("sh", "-c", VALIDATE, "sh", f"{{{CONFIG}}}"), user="postgres")
        return (own, postgres.trial_of(topology, CONFIG))

    def certificates(self, topology: Topology, host: HostSpec) -> tuple[Certificate, ...]:
        """Return the certificate of its REST port, with which it also asks other members, and the one for etcd.

        A foreign etcd believes an authority of its own.
        """
        rest = Certificate(
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
        )
        etcd = Certificate(
            f"etcd-client/{host.name}",
            file="etcd-client",
            owner="postgres",
            common_name="etcd-client",
            client=True,
            authority=ETCD_AUTHORITY,
            unit=UNIT,
            on_change=OnChange.RELOAD,
        )
        return (rest,) if topology.foreign_etcd else (rest, etcd)

    def passwords(self, topology: Topology) -> tuple[str, ...]:
        """Return the password of unsafe REST calls."""
        return () if topology.is_manual else ("rest",)

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when the member runs as its file says: as the leader, or as a standby that streams."""
        await postgres.require_ready(topology, hosts[host.name], unit=UNIT, config=CONFIG)


def unit_section(topology: Topology, host: HostSpec) -> dict[str, str]:
    """Return the [Unit] section of the drop-in: no server starts beside a disk that is not mounted.

    Nor does one before all its addresses are there: it would listen on those that are, and never on the others.
    """
    etcd = topology.foreign_etcd
    # systemd passes over what begins with X-. Patroni reads where etcd is when it starts: so another word restarts it.
    told = {"X-Etcd": " ".join(etcd.endpoints)} if etcd else {}
    return {"StartLimitIntervalSec": "0", **directories.needed(topology, *postgres.addresses_target(host)), **told}


#: Patroni goes before whatever else wants the processors, its server and all that it starts among it, which do not
#: inherit that: on a saturated host its loop would wait for most of an election. Its session does not go before others
#: (units.ahead): what starts a server belongs to it, and works ten times as much as an election, beside a promotion.
AHEAD = {"Nice": "-10", "CPUSchedulingPolicy": "other", "CPUSchedulingResetOnFork": "yes"}


def service(topology: Topology) -> dict[str, str | list[str]]:
    """Return the [Service] section of the drop-in."""
    parent = postgres.parent_of(topology.data_directory)
    return {
        **HARDENING,
        "Environment": postgres.ENVIRONMENT,
        "ExecStartPre": [f"+/usr/bin/install -d -o postgres -g postgres -m 0755 {parent}", *directories.made(topology)],
        "Restart": "always",
        "RestartSec": "500ms",
        "TimeoutStopSec": "90",
        **AHEAD,
        **postgres.sandbox(topology),
    }


def configuration(topology: Topology, host: HostSpec) -> dict[str, Any]:
    """Return a member's configuration file."""
    ports = topology.orchestration
    tls = {"certfile": f"{TLS_DIRECTORY}/patroni.crt", "keyfile": f"{TLS_DIRECTORY}/patroni.key"}
    rest = {"username": REST_USER, "password": secret("password/rest")}
    return {
        "scope": topology.scope,
        **({"namespace": topology.etcd.namespace} if topology.foreign_etcd else {}),
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
        "etcd3": etcd_client(topology, host),
        "bootstrap": {
            "dcs": dynamic_configuration(topology),
            "initdb": [
                {"encoding": "UTF8"},
                {"locale": "C.UTF-8"},
                {"auth-local": "peer"},
                {"auth-host": "scram-sha-256"},
                "data-checksums",
                {"wal-segsize": str(topology.postgresql.wal_segment_size_mb)},
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


def etcd_client(topology: Topology, host: HostSpec) -> dict[str, Any]:
    """Return how a member of Patroni asks etcd."""
    etcd = topology.foreign_etcd
    is_certified, is_plain = (bool(etcd.certificate_file), etcd.is_plain) if etcd else (True, False)
    pair = {"cert": f"{TLS_DIRECTORY}/etcd-client.crt", "key": f"{TLS_DIRECTORY}/etcd-client.key"}
    return {
        "hosts": members(topology, host),
        # The list is kept in this order, and nothing else is asked: the local member first, or those that were named.
        "use_proxies": True,
        "protocol": "http" if is_plain else "https",
        **({} if is_plain else {"cacert": ETCD_AUTHORITY_FILE}),
        **(pair if is_certified else {}),
        **({"username": etcd.user, "password": secret(foreign.PASSWORD)} if etcd and etcd.user else {}),
    }


def dumped(values: dict[str, Any]) -> str:
    """Return a configuration as YAML; a password that others chose is quoted, since it may hold YAML's own marks."""
    text = str(yaml.safe_dump(values, sort_keys=False, width=120))
    return text.replace(secret(foreign.PASSWORD), f'"{secret(foreign.PASSWORD)}"')


def members(topology: Topology, host: HostSpec) -> list[str]:
    """Return etcd's members as a member of Patroni should try them: its own host's first."""
    if topology.foreign_etcd:
        return list(foreign.turned(topology, host, topology.foreign_etcd))
    port = topology.orchestration.etcd_client_port
    others = [at_port(member.address, port) for member in topology.with_role(Role.DCS) if member.name != host.name]
    return [f"127.0.0.1:{port}", *others] if host.has(Role.DCS) else others


def server(topology: Topology, host: HostSpec) -> dict[str, Any]:
    """Return the part of a member's configuration that is about its server."""
    version, port = topology.postgresql.version, topology.postgresql.port
    return {
        "listen": f"{','.join(map(bracketed, host.server_addresses))}:{port}",
        # Where the other members' servers reach this one, to stream, to clone and to rewind; nobody else asks for it.
        "connect_address": at_port(topology.replicates_at(host), port),
        "data_dir": topology.data_directory,
        "bin_dir": f"/usr/lib/postgresql/{version}/bin",
        "pgpass": f"/var/lib/postgresql/.pgpass-{topology.scope}",
        "use_unix_socket": True,
        # Over TCP it would be a handshake of TLS, some 20 ms of a processor, each time that a candidate is asked for
        # its timeline: in the middle of an election.
        "use_unix_socket_repl": True,
        "authentication": {
            "superuser": {"username": "postgres"},
            "replication": login(postgres.REPLICATION_ROLE),
            "rewind": login(postgres.REWIND_ROLE),
        },
        "parameters": postgres.parameters(topology),
        "pg_hba": access.rules(topology),
        **({"pg_ident": maps} if (maps := access.user_maps(topology)) else {}),
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
