"""PostgreSQL under a unit of our own, where a person promotes: no Patroni, no etcd.

The unit asks before each start whether the server may be primary (:mod:`pgbaton.components.manual_program`). Whom a
server follows, and whose confirmation commits wait for, is no part of its files: operations tell it.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, ClassVar

from pgbaton.components import access, directories, manual_program, postgres
from pgbaton.components.base import TLS_DIRECTORY, Check, Component, File, OnChange, Unit, Wave
from pgbaton.components.units import HARDENING, HEADER, section
from pgbaton.references import secret
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

UNIT = postgres.SERVER_UNIT
DIRECTORY = "/etc/pgbaton/postgresql"
CONFIG = f"{DIRECTORY}/postgresql.conf"
SETTINGS = str(manual_program.SETTINGS)
PASSWORDS = f"{DIRECTORY}/pgpass"
PROGRAM = "/usr/lib/pgbaton/manual.py"
STATE_DIRECTORY = "pgbaton-postgresql"
STATE = f"/var/lib/{STATE_DIRECTORY}"
#: Isolated: neither the environment nor the directory it starts in decides what is imported.
RUN = ("/usr/bin/python3", "-I", PROGRAM)
#: The same for whoever is root on the host.
AS_SERVER = ("runuser", "-u", "postgres", "--", *RUN)
#: Has a standby ask now and then whether commits wait for it: whoever should have told it may not have come through.
CONFIRMING = "pgbaton-confirm"
CONFIRM_SECONDS = 15


class Manual(Component):
    """One on every database host of a cluster that a person fails over."""

    name: ClassVar[str] = "server"
    wave: ClassVar[Wave] = Wave.DATABASE

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run on database hosts, where there is no Patroni."""
        return topology.is_manual and host.has(Role.DATABASE)

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return the server's files, the program that guards it, and the unit."""
        shared = {"mode": 0o640, "group": "postgres", "unit": UNIT, "on_change": OnChange.RELOAD}
        logins = "".join(
            f"*:*:*:{role}:{secret(f'password/{role}')}\n" for role in (postgres.REPLICATION_ROLE, postgres.REWIND_ROLE)
        )
        return (
            File(PROGRAM, inspect.getsource(manual_program).encode(), mode=0o755),
            File(PASSWORDS, logins, mode=0o600, owner="postgres", group="postgres"),
            File(SETTINGS, json.dumps(settings(topology, host), indent=2) + "\n", **shared),  # type: ignore[arg-type]
            File(f"{DIRECTORY}/pg_hba.conf", lines(access.rules(topology)), **shared),  # type: ignore[arg-type]
            File(f"{DIRECTORY}/pg_ident.conf", lines(access.user_maps(topology)), **shared),  # type: ignore[arg-type]
            File(CONFIG, configuration(topology, host), **shared),  # type: ignore[arg-type]
            File(f"/etc/systemd/system/{UNIT}", service_unit(topology, host), unit=UNIT, on_change=OnChange.RESTART),
            *confirming(),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return the server's unit, and the timer of its word."""
        del topology, host
        return (Unit(UNIT), Unit(f"{CONFIRMING}.timer"))

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return the server's own trial of the settings that a user can choose."""
        del host
        return (postgres.trial_of(topology, CONFIG),)

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when the server runs as its files say: as the primary, or as a standby that streams."""
        await postgres.require_ready(topology, hosts[host.name], unit=UNIT, config=CONFIG)


def settings(topology: Topology, host: HostSpec) -> dict[str, object]:
    """Return what the program on a host has to know."""
    databases = topology.with_role(Role.DATABASE)
    return {
        "me": host.name,
        "hosts": {each.name: known(topology, each) for each in databases},
        "port": topology.postgresql.port,
        "version": topology.postgresql.version,
        "data_directory": topology.data_directory,
        "wal_directory": topology.postgresql.wal_directory,
        "wal_segment_size_mb": topology.postgresql.wal_segment_size_mb,
        "leftovers": directories.leftovers(topology),
        "state_directory": STATE,
        "config_file": CONFIG,
        "tls_directory": TLS_DIRECTORY,
        "passfile": PASSWORDS,
        "unit": UNIT,
        "mode": str(topology.replication.mode),
        "count": topology.replication.count,
    }


def known(topology: Topology, host: HostSpec) -> dict[str, object]:
    """Return what the program has to know of a database host; where servers replicate over a network of their own."""
    apart = {"replication_address": str(topology.replicates_at(host))} if topology.has_replication_network else {}
    return {"address": str(host.address), **apart, "confirms": host.confirms}


def configuration(topology: Topology, host: HostSpec) -> str:
    """Return postgresql.conf: what all servers have alike, then what is this one's; the user's settings come last."""
    own: dict[str, str | int | float | bool] = {
        "listen_addresses": ",".join(map(str, host.server_addresses)),
        "port": topology.postgresql.port,
        "cluster_name": topology.scope,
        "hba_file": f"{DIRECTORY}/pg_hba.conf",
        "ident_file": f"{DIRECTORY}/pg_ident.conf",
    }
    values = {**own, **postgres.shared_parameters(topology), **postgres.parameters(topology)}
    text = "".join(f"{name} = {written(value)}\n" for name, value in values.items())
    # What operations tell the server comes last, and from a directory that is not there before its first start.
    return f"{HEADER}{text}include_if_exists = '{STATE}/replication.conf'\n"


def parameters(text: str) -> dict[str, str]:
    """Return the settings that a text of :func:`configuration` has, as they are written there."""
    rows = (line.partition(" = ") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, equals, value in rows if equals}


def written(value: str | float | bool) -> str:  # noqa: FBT001 - TOML's own values
    """Return a value as postgresql.conf has it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int | float) else f"'{value}'"


def lines(rules: list[str]) -> str:
    """Return a file of lines."""
    return HEADER + "".join(f"{rule}\n" for rule in rules)


def confirming() -> tuple[File, File]:
    """Return the units that have a standby ask whether commits wait for it."""
    head = {"Description": "Whether commits wait for this standby"}
    service: dict[str, str | list[str]] = {
        **HARDENING,
        "Type": "oneshot",
        "User": "postgres",
        "Group": "postgres",
        "ExecStart": f"{' '.join(RUN)} confirm",
        "TimeoutStartSec": "30",
        "ReadWritePaths": f"-{STATE}",
        # A line every few seconds would fill the journal.
        "LogLevelMax": "warning",
    }
    every = {"OnActiveSec": "5", "OnUnitInactiveSec": str(CONFIRM_SECONDS), "AccuracySec": "1"}
    texts = {
        "service": f"{HEADER}[Unit]\n{section(head)}\n[Service]\n{section(service)}",
        "timer": f"{HEADER}[Unit]\n{section(head)}\n[Timer]\n{section(every)}\n[Install]\nWantedBy=timers.target\n",
    }
    made = (
        File(f"/etc/systemd/system/{CONFIRMING}.{kind}", text, unit=f"{CONFIRMING}.timer", on_change=OnChange.RESTART)
        for kind, text in texts.items()
    )
    service_file, timer_file = made
    return service_file, timer_file


def service_unit(topology: Topology, host: HostSpec) -> str:
    """Return the unit.

    A server that crashed starts again where it is, a primary too: nobody takes over by himself, and it has everything
    that it acknowledged. After a boot of its machine it is asked for first whether anybody else has. No server starts
    before all its addresses are there: it would listen on those that are, and never on the others.
    """
    awaited = postgres.addresses_target(host)
    needed = directories.needed(topology, *awaited)
    head = {"Description": "PostgreSQL of the cluster", **needed}
    head["After"] = " ".join(filter(None, ("" if awaited else "network.target", needed.get("After"))))
    head["StartLimitIntervalSec"] = "0"
    binaries = f"/usr/lib/postgresql/{topology.postgresql.version}/bin"
    service: dict[str, str | list[str]] = {
        **HARDENING,
        "Type": "notify",
        "User": "postgres",
        "Group": "postgres",
        "Environment": [*postgres.ENVIRONMENT, "BOOT_ID=%b"],
        "ExecCondition": f"{' '.join(RUN)} condition",
        "ExecStartPre": [*directories.made(topology), f"{' '.join(RUN)} render"],
        "ExecStart": f"{binaries}/postgres -D {topology.data_directory} -c config_file={CONFIG}",
        "ExecReload": [f"{' '.join(RUN)} render", "/bin/kill -HUP $MAINPID"],
        # A fast shutdown: sessions end, what is written reaches the standbys.
        "KillMode": "mixed",
        "KillSignal": "SIGINT",
        "Restart": "on-failure",
        "RestartSec": "1s",
        # Recovery takes as long as it takes; a shutdown waits for a checkpoint, and ending it by force costs recovery.
        "TimeoutStartSec": "infinity",
        "TimeoutStopSec": "300",
        "StateDirectory": STATE_DIRECTORY,
        "StateDirectoryMode": "0700",
        **postgres.sandbox(topology),
    }
    install = {"WantedBy": "multi-user.target"}
    return f"{HEADER}[Unit]\n{section(head)}\n[Service]\n{section(service)}\n[Install]\n{section(install)}"
