"""The agent: hears the other hosts, and shortens what stock Patroni waits for when one of them falls silent.

Where a person promotes it decides nothing of that: it watches, tells, and leads balancers by the servers' own word.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from pgbaton.agent.kernel.fence_rules import STAND_IN_TABLE, TABLE
from pgbaton.components import archive, foreign, haproxy, patroni, pgbouncer, postgres
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
from pgbaton.components.units import HARDENING, HEADER, ahead, section
from pgbaton.references import secret
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import HostSpec, Topology

UNIT = "pgbaton-agent.service"
FENCES_UNIT = "pgbaton-fences.service"
PROGRAM = "/usr/lib/pgbaton/agent.pyz"
SETTINGS = "/etc/pgbaton/agent.json"
SECRETS = "/etc/pgbaton/agent-secrets.json"
PATRONI_DROP_IN = f"/etc/systemd/system/{patroni.UNIT}.d/pgbaton-agent.conf"
#: Isolated: neither the environment nor the directory it starts in decides what is imported.
RUN = f"{archive.INTERPRETER} -I {PROGRAM}"
CERTIFICATE = "agent"
ETCD_CERTIFICATE = "agent-etcd"
HEARTBEAT_KEY = "heartbeat"
STATE_DIRECTORY = "pgbaton-agent"
RUNTIME_DIRECTORY = "pgbaton-agent"

#: Between two looks at a service, and how long each may take: a server that is only busy answers within the second.
PROBE_SECONDS = 0.1
DEADLINE_SECONDS = 0.5
#: Looks that must fail before a service counts as hung.
FAILURES = 3
#: Between two logins by the clients' own way through a balancer.
PATH_SECONDS = 1.0
#: How long a pooler may hold its clients back before they are let go, whatever has become of the hand-over.
PAUSE_SECONDS = 5.0

#: Ask for an answer over mutual TLS, whatever it is. Arguments: address, port, authority, certificate, key.
ASK = """
import http.client, ssl, sys
address, port, authority, certificate, key = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.load_cert_chain(certificate, key)
connection = http.client.HTTPSConnection(address, int(port), timeout=3, context=context)
connection.request("GET", "/")
connection.getresponse()
"""


class Agent(Component):
    """One on every host that is not only an application's, where the topology asks for agents.

    They come up last: an agent may fence a host and kill a program, so all that it watches is seen to work first, and
    no restart of this very apply happens under its eyes when it is new. For a change they are restarted one at a time,
    so that a majority is always there. Where HAProxy asks them who is primary, they come up before it does.
    """

    name: ClassVar[str] = "agent"
    wave: ClassVar[Wave] = Wave.AGENT

    def comes_up_in(self, topology: Topology) -> Wave:
        """Return the last wave, or one before that of those who cannot come up without agents."""
        return Wave.POOLER if topology.asks_agents else self.wave

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run on every host that has a vote."""
        return host in topology.voters

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return what loads the fences' rules, where there may be fences."""
        del host
        return ("nftables",) if may_fence(topology) else ()

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return the program, its settings and secrets, and the units."""
        restart: dict[str, Any] = {"unit": UNIT, "on_change": OnChange.RESTART}
        text = json.dumps(settings(topology, host), indent=2) + "\n"
        hidden = json.dumps(secrets(topology, host), indent=2) + "\n"
        return (
            File(PROGRAM, archive.build(), mode=0o755, **restart),
            File(SETTINGS, text, **restart),
            File(SECRETS, hidden, mode=0o600, **restart),
            File(f"/etc/systemd/system/{UNIT}", agent_unit(topology), **restart),
            *(fence_files(host) if may_fence(topology) else ()),
        )

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return the unit that restores fences, where there may be any, and the agent's."""
        del host
        return (*((Unit(FENCES_UNIT),) if may_fence(topology) else ()), Unit(UNIT))

    def checks(self, topology: Topology, host: HostSpec) -> tuple[Check, ...]:
        """Return the agent's own reading of its settings, by the very program that will run with them."""
        del topology, host
        files = (f"{{{SETTINGS}}}", f"{{{SECRETS}}}")
        return (Check((archive.INTERPRETER, "-I", f"{{{PROGRAM}}}", "check-settings", *files)),)

    def certificates(self, topology: Topology, host: HostSpec) -> tuple[Certificate, ...]:
        """Return the certificate of its health port, with which it also asks others, and the one for etcd.

        A foreign etcd believes an authority of its own.
        """
        health = Certificate(
            f"agent/{host.name}",
            file=CERTIFICATE,
            owner="root",
            common_name=host.name,
            addresses=(str(host.address), "127.0.0.1"),
            dns_names=(host.name, "localhost"),
            server=True,
            client=True,
            unit=UNIT,
            on_change=OnChange.RESTART,
        )
        etcd = Certificate(
            f"agent-etcd/{host.name}",
            file=ETCD_CERTIFICATE,
            owner="root",
            common_name="etcd-agent",
            client=True,
            authority=ETCD_AUTHORITY,
            unit=UNIT,
            on_change=OnChange.RESTART,
        )
        return (health,) if topology.is_manual or topology.foreign_etcd else (health, etcd)

    def shared_keys(self, topology: Topology) -> tuple[str, ...]:
        """Return the key with which all agents sign what they tell each other."""
        return (HEARTBEAT_KEY,) if topology.has_agents else ()

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when it runs, has taken over the fences of before, and its health port answers."""
        seam = hosts[host.name]
        for unit in self.units(topology, host):
            await require_active(seam, unit.name)
        where = (str(host.address), str(topology.orchestration.health_port))
        tls = (AUTHORITY_FILE, f"{TLS_DIRECTORY}/{CERTIFICATE}.crt", f"{TLS_DIRECTORY}/{CERTIFICATE}.key")
        asked = (archive.INTERPRETER, "-I", "-c", ASK, *where, *tls)
        await require_success(seam, *asked, what="the agent's health port does not answer")


def settings(topology: Topology, host: HostSpec) -> dict[str, Any]:
    """Return the agent's settings on a host, as its own ``settings`` module reads them."""
    return {
        "cluster": topology.name,
        "scope": topology.scope,
        "kind": str(topology.orchestration.kind),
        "me": host.name,
        "hosts": [known(voter) for voter in topology.voters],
        "mode": str(topology.replication.mode),
        "placement": str(topology.pooling.placement),
        "accept_loss": topology.replication.accept_loss,
        "ports": ports(topology),
        "timings": {
            "heartbeat_seconds": topology.timings.heartbeat_seconds,
            "detection_seconds": topology.timings.detection_time,
            "probe_seconds": PROBE_SECONDS,
            "deadline_seconds": DEADLINE_SECONDS,
            "failures": FAILURES,
            "pause_seconds": PAUSE_SECONDS,
        },
        "postgresql": {
            "version": topology.postgresql.version,
            "data_directory": topology.data_directory,
            "socket_directory": postgres.SOCKETS,
            "role": postgres.AGENT_ROLE,
            "database": postgres.AGENT_DATABASE,
        },
        "tls": {
            "authority": AUTHORITY_FILE,
            "certificate": f"{TLS_DIRECTORY}/{CERTIFICATE}.crt",
            "key": f"{TLS_DIRECTORY}/{CERTIFICATE}.key",
            **({} if topology.is_manual else etcd_tls(topology)),
        },
        "haproxy_socket": haproxy.SOCKET,
        "pgbouncer_sockets": {
            purpose: poolers(topology, purpose) if purpose in pgbouncer.purposes(topology) else []
            for purpose in (*pgbouncer.PURPOSES, pgbouncer.SYNCHRONOUS)
        },
        "state_directory": f"/var/lib/{STATE_DIRECTORY}",
        "runtime_directory": f"/run/{RUNTIME_DIRECTORY}",
        **({"path": client_path(topology)} if host.has(Role.BALANCER) else {}),
        **({"etcd": foreign_etcd(topology, host)} if topology.foreign_etcd else {}),
    }


def etcd_tls(topology: Topology) -> dict[str, str]:
    """Return what an agent shows to etcd, and by what it verifies it; nothing that a foreign one does without."""
    etcd = topology.foreign_etcd
    pair = {
        "etcd_certificate": f"{TLS_DIRECTORY}/{ETCD_CERTIFICATE}.crt",
        "etcd_key": f"{TLS_DIRECTORY}/{ETCD_CERTIFICATE}.key",
    }
    return {
        **({"etcd_authority": ETCD_AUTHORITY_FILE} if etcd is None or etcd.ca_file else {}),
        **(pair if etcd is None or etcd.certificate_file else {}),
    }


def foreign_etcd(topology: Topology, host: HostSpec) -> dict[str, Any]:
    """Return where an agent finds an etcd that is on none of the hosts, and below which keys."""
    etcd = topology.etcd
    return {
        "endpoints": list(foreign.turned(topology, host, etcd)),
        "plain": etcd.is_plain,
        "prefix": topology.dcs_prefix,
        **({"user": etcd.user} if etcd.user else {}),
    }


def known(voter: HostSpec) -> dict[str, Any]:
    """Return what an agent knows of a host: every address that its server may be met at, whether it is in use or not.

    A fence has to close them all, and to know an address before any server comes by it.
    """
    apart = {"replication_address": str(voter.replication_address)} if voter.replication_address else {}
    return {"name": voter.name, "address": str(voter.address), **apart, "roles": [str(role) for role in voter.roles]}


def poolers(topology: Topology, purpose: str) -> list[dict[str, str]]:
    """Return the PgBouncer processes of a purpose, as every host that runs PgBouncer has them."""
    return [
        {"instance": instance, "directory": pgbouncer.socket_directory(instance)}
        for instance in pgbouncer.processes(topology, purpose)
    ]


def client_path(topology: Topology) -> dict[str, Any]:
    """Return how a balancer's agent takes the way that clients take."""
    return {
        "port": topology.balancing.write_port,
        "role": postgres.PROBE_ROLE,
        "database": postgres.AGENT_DATABASE,
        "every_seconds": PATH_SECONDS,
    }


def ports(topology: Topology) -> dict[str, int]:
    """Return the ports that an agent has to know."""
    orchestration = topology.orchestration
    return {
        "heartbeat": orchestration.heartbeat_port,
        "health": orchestration.health_port,
        "postgresql": topology.postgresql.port,
        "rest": orchestration.rest_port,
        "etcd": orchestration.etcd_client_port,
        "etcd_peer": orchestration.etcd_peer_port,
        "pool_write": topology.pooling.write_port,
        "pool_read": topology.pooling.read_port,
        "pool_synchronous": topology.pooling.synchronous_port,
    }


def secrets(topology: Topology, host: HostSpec) -> dict[str, str]:
    """Return the agent's secrets, as references.

    They are the same everywhere, since who writes to etcd needs none of them, unless a foreign etcd wants a password;
    balancers alone have the probe's.
    """
    login = {"etcd_password": secret(foreign.PASSWORD)} if topology.foreign_etcd and topology.etcd.user else {}
    probe = {"probe_password": secret(f"password/{postgres.PROBE_ROLE}")} if host.has(Role.BALANCER) else {}
    rest = {"rest_user": patroni.REST_USER, "rest_password": secret("password/rest")}
    return {"heartbeat_key": secret(f"key/{HEARTBEAT_KEY}"), **({} if topology.is_manual else rest), **login, **probe}


#: What root may do and the agent needs: read the server's directory, see what processes run and end those that hang,
#: change nftables and end connections, ask for echoes, be PgBouncer's user while it connects to its console.
CAPABILITIES = ("CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SETUID", "CAP_SYS_PTRACE")
#: Of these, what only fences and what is ended behind them need.
FOR_FENCES = frozenset({"CAP_NET_ADMIN"})


def capabilities(topology: Topology) -> tuple[str, ...]:
    """Return what root may do and the agent needs in this topology."""
    return tuple(each for each in CAPABILITIES if may_fence(topology) or each not in FOR_FENCES)


def may_fence(topology: Topology) -> bool:
    """Tell whether there are agents that may fence hosts: only where they vote on a primary that Patroni replaces."""
    return topology.has_agents and not topology.is_manual


def fence_files(host: HostSpec) -> tuple[File, ...]:
    """Return the unit that restores fences, and what has a server wait for it."""
    waits = (File(PATRONI_DROP_IN, patroni_drop_in()),) if host.has(Role.DATABASE) else ()
    # Its restart would let the fences fall for an instant; a changed one is good for the next boot.
    return (File(f"/etc/systemd/system/{FENCES_UNIT}", fences_unit()), *waits)


def agent_unit(topology: Topology) -> str:
    """Return the agent's unit."""
    fenced = {"Wants": FENCES_UNIT, "After": f"network.target {FENCES_UNIT}"}
    head = {
        "Description": "Agent of the PostgreSQL cluster",
        **(fenced if may_fence(topology) else {"After": "network.target"}),
        "StartLimitIntervalSec": "0",
    }
    service: dict[str, str | list[str]] = {
        **HARDENING,
        "Type": "notify",
        "ExecStart": f"{RUN} run",
        # However it ended: no client waits in a pooler for an agent that is gone.
        "ExecStopPost": f"-{RUN} release-holds",
        "WatchdogSec": "3",
        "Restart": "always",
        "RestartSec": "100ms",
        "TimeoutStopSec": "10",
        # Not real-time scheduling. On a saturated machine it kept the longest gap between heartbeats of 50 ms at 64 ms,
        # and a program without any priority had 99 ms: four heartbeats have room for both. A program that spins would
        # starve the server, and where kernels have CONFIG_RT_GROUP_SCHED the unit might not start at all.
        **ahead(-15),
        "OOMScoreAdjust": "-900",
        "MemoryMax": "64M",
        # One that has to be read back from a disk is late.
        "MemorySwapMax": "0",
        "StateDirectory": STATE_DIRECTORY,
        "StateDirectoryMode": "0700",
        "RuntimeDirectory": RUNTIME_DIRECTORY,
        "RuntimeDirectoryMode": "0700",
        # What says which poolers are held outlives the one who held them.
        "RuntimeDirectoryPreserve": "yes",
        # Keepalived tracks a file there, which is replaced by a rename.
        "ReadWritePaths": "/run",
        "RestrictAddressFamilies": f"{HARDENING['RestrictAddressFamilies']} AF_NETLINK",
        "CapabilityBoundingSet": " ".join(capabilities(topology)),
    }
    return unit_text(head, service, {"WantedBy": "multi-user.target"})


#: When the agent leaves a host, nobody else would take its fences down; when the host goes down, they stand to the end.
#: A dollar is two in a unit file.
DROP_FENCES = (
    'test "$$(systemctl is-system-running)" = stopping || '
    f"for table in {TABLE} {STAND_IN_TABLE}; do /usr/sbin/nft delete table inet $$table; done"
)


def fences_unit() -> str:
    """Return the unit that restores fences before there is a network, and before there is a server."""
    head = {
        "Description": "Fences that the cluster's agent left standing",
        "DefaultDependencies": "no",
        "Wants": "network-pre.target",
        "After": "local-fs.target",
        "Before": f"network-pre.target {patroni.UNIT} shutdown.target",
        "Conflicts": "shutdown.target",
        "StartLimitIntervalSec": "0",
    }
    service: dict[str, str | list[str]] = {
        **{key: value for key, value in HARDENING.items() if key != "PrivateTmp"},
        "Type": "oneshot",
        "RemainAfterExit": "yes",
        "ExecStart": f"{RUN} restore-fences",
        "ExecStop": f"-/bin/sh -c '{DROP_FENCES}'",
        "Restart": "on-failure",
        "RestartSec": "1",
        "TimeoutStartSec": "30",
        "StateDirectory": STATE_DIRECTORY,
        "StateDirectoryMode": "0700",
        "RestrictAddressFamilies": "AF_UNIX AF_NETLINK",
        "CapabilityBoundingSet": "CAP_NET_ADMIN",
    }
    return unit_text(head, service, {"WantedBy": "sysinit.target"})


def patroni_drop_in() -> str:
    """Return what keeps a server from starting while a fence that was promised is not up."""
    head = {"Wants": FENCES_UNIT, "After": FENCES_UNIT}
    # Not Requires=, which would stop the server with that unit.
    service = {"ExecStartPre": f"+/usr/bin/systemctl --quiet is-active {FENCES_UNIT}"}
    return f"{HEADER}[Unit]\n{section(head)}\n[Service]\n{section(service)}"


def unit_text(head: dict[str, str], service: dict[str, str | list[str]], install: dict[str, str]) -> str:
    """Return a unit file."""
    return f"{HEADER}[Unit]\n{section(head)}\n[Service]\n{section(service)}\n[Install]\n{section(install)}"
