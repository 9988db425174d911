"""An etcd that exists already: what hosts need to ask it, and nothing of it itself.

Patroni's and the agents' settings say where it is; here are the files that both show it, at the very paths at which
those for an etcd of the cluster's own would be.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, ClassVar

from pgbaton.components import foreign_program, postgres
from pgbaton.components.base import ETCD_AUTHORITY_FILE, TLS_DIRECTORY, Component, File, OnChange, Unit, Wave
from pgbaton.components.probing import require_success
from pgbaton.errors import UnhealthyError
from pgbaton.references import secret
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import ForeignEtcd, HostSpec, Topology

PROGRAM = "/usr/lib/pgbaton/etcd.py"
SETTINGS = str(foreign_program.SETTINGS)
#: Isolated: neither the environment nor the directory it starts in decides what is imported.
RUN = ("/usr/bin/python3", "-I", "-S", PROGRAM)
#: What operators give, by the names that the vault has for it.
AUTHORITY, CERTIFICATE, KEY = "certificate/foreign-etcd-ca", "certificate/foreign-etcd", "key/foreign-etcd"
PASSWORD = "password/foreign-etcd"  # noqa: S105 - a secret's name
#: Where the certificate is, for Patroni's user and for the agent, which is root.
PATRONI_FILE, AGENT_FILE = f"{TLS_DIRECTORY}/etcd-client", f"{TLS_DIRECTORY}/agent-etcd"
#: Certificates on hosts that are not pgbaton's to renew.
GIVEN = frozenset({ETCD_AUTHORITY_FILE, f"{PATRONI_FILE}.crt", f"{AGENT_FILE}.crt"})
AGENT_UNIT = "pgbaton-agent.service"


class Foreign(Component):
    """On every host that asks the foreign etcd: databases, and all with an agent."""

    name: ClassVar[str] = "foreign-etcd"
    wave: ClassVar[Wave] = Wave.DCS

    def runs_on(self, topology: Topology, host: HostSpec) -> bool:
        """Run where there is something that asks, and no etcd of the cluster's own."""
        return topology.foreign_etcd is not None and (host.has(Role.DATABASE) or host in topology.voters)

    def packages(self, topology: Topology, host: HostSpec) -> tuple[str, ...]:
        """Return what the program is run by."""
        del topology, host
        return ("python3",)

    def files(self, topology: Topology, host: HostSpec) -> tuple[File, ...]:
        """Return certificates for whoever asks, and on databases a program that asks for operators."""
        etcd = topology.foreign_etcd
        if etcd is None:
            return ()
        is_database = host.has(Role.DATABASE)
        shown: list[File] = []
        if etcd.certificate_file and is_database:
            shown += certificate("postgres", PATRONI_FILE, postgres.PATRONI_UNIT, OnChange.RELOAD)
        if etcd.certificate_file and host in topology.voters:
            shown += certificate("root", AGENT_FILE, AGENT_UNIT, OnChange.RESTART)
        authority = (File(ETCD_AUTHORITY_FILE, secret(AUTHORITY)),) if etcd.ca_file else ()
        return (*authority, *shown, *(asking(topology, etcd) if is_database else ()))

    def units(self, topology: Topology, host: HostSpec) -> tuple[Unit, ...]:
        """Return no unit: nothing of it runs here."""
        del topology, host
        return ()

    async def probe(self, topology: Topology, host: HostSpec, hosts: Mapping[str, Host]) -> None:
        """Return when an endpoint answers with a majority behind it; hosts without databases are not asked."""
        del topology
        if not host.has(Role.DATABASE):
            return
        said = await require_success(hosts[host.name], *RUN, "health", what="the foreign etcd cannot be asked")
        told: list[dict[str, Any]] = json.loads(said)["endpoints"]
        if not any(each["ok"] for each in told):
            failed = "; ".join(f"{each['endpoint']}: {each['reason']}" for each in told)
            message = f"no endpoint of the foreign etcd answers: {failed}"
            raise UnhealthyError(message, where=host.name)


def certificate(owner: str, stem: str, unit: str, on_change: OnChange) -> Iterator[File]:
    """Yield the certificate and its key as files that one user alone can use."""
    yield File(f"{stem}.crt", secret(CERTIFICATE))
    key = secret(KEY)
    yield File(f"{stem}.key", key, mode=0o600, owner=owner, group=owner, unit=unit, on_change=on_change)


def asking(topology: Topology, etcd: ForeignEtcd) -> Iterator[File]:
    """Yield the program that asks on a database host, and what it is told."""
    yield File(PROGRAM, program("deployed()").encode(), mode=0o755)
    yield File(SETTINGS, json.dumps(settings(topology, etcd), indent=2) + "\n", mode=0o600)


def program(call: str) -> str:
    """Return the program with what is to be done as its last line."""
    return f"{inspect.getsource(foreign_program)}\n\n{call}\n"


def settings(topology: Topology, etcd: ForeignEtcd) -> dict[str, Any]:
    """Return what the program on a database host has to know; the password as a reference."""
    shown = {"certificate": f"{PATRONI_FILE}.crt", "key": f"{PATRONI_FILE}.key"} if etcd.certificate_file else {}
    return {
        **where(topology, etcd),
        **({"authority": ETCD_AUTHORITY_FILE} if etcd.ca_file else {}),
        **shown,
        **({"user": etcd.user, "password": secret(PASSWORD)} if etcd.user else {}),
    }


def where(topology: Topology, etcd: ForeignEtcd) -> dict[str, Any]:
    """Return where to ask, and for what."""
    return {"endpoints": list(etcd.places), "plain": etcd.is_plain, "prefix": topology.dcs_prefix}


def turned(topology: Topology, host: HostSpec, etcd: ForeignEtcd) -> tuple[str, ...]:
    """Return the endpoints in the order in which a host asks them: each host begins with another one.

    So the loss of a member is felt by some hosts, and not by all of them at once.
    """
    first = topology.hosts.index(host) % len(etcd.places)
    return (*etcd.places[first:], *etcd.places[:first])
