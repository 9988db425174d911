"""Who may log in to the server, from where, and by what: pg_hba.conf and pg_ident.conf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import postgres
from pgbaton.topology import placement
from pgbaton.topology.addresses import alone
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology


def check_rules(topology: Topology) -> list[str]:
    """Return the checks' part of pg_hba.conf: a certificate in the role's name, and from hosts of HAProxy alone."""
    if not topology.is_manual:
        return []
    return [
        f"hostssl postgres {postgres.CHECK_ROLE} {alone(host.address)} cert"
        for host in placement.proxied_from(topology)
    ]


def user_maps(topology: Topology) -> list[str]:
    """Return pg_ident.conf: who of the operating system is whom; the server's own user needs no map as superuser."""
    agent = [f"{postgres.AGENT_MAP} root {postgres.AGENT_ROLE}"] if topology.has_agents else []
    patroni = [] if topology.is_manual else [f"{postgres.PATRONI_MAP} postgres {postgres.REPLICATION_ROLE}"]
    return agent + patroni


def agent_rules(topology: Topology) -> list[str]:
    """Return the agents' part of pg_hba.conf, where there are agents: peer on the host, SCRAM for poolers."""
    if not topology.has_agents:
        return []
    return [
        f"local {postgres.AGENT_DATABASE} {postgres.AGENT_ROLE} peer map={postgres.AGENT_MAP}",
        *by_password(topology, postgres.AGENT_DATABASE, postgres.PROBE_ROLE),
    ]


def patroni_rules(topology: Topology) -> list[str]:
    """Return Patroni's part of pg_hba.conf: it asks its own server for its timeline, which replication alone tells.

    It does so whenever it does not know who leads, and whenever anybody asks for its state then.
    """
    if topology.is_manual:
        return []
    return [f"local replication {postgres.REPLICATION_ROLE} peer map={postgres.PATRONI_MAP}"]


def service_roles(topology: Topology) -> tuple[str, ...]:
    """Return whom no rule for everybody is for."""
    asking = (role.name for role in (*postgres.agent_roles(topology), *postgres.check_roles(topology)))
    return ("postgres", postgres.REPLICATION_ROLE, postgres.REWIND_ROLE, postgres.POOLER_ROLE, *asking)


def by_password(topology: Topology, databases: str, names: str) -> list[str]:
    """Return the rules for roles that come with a password, by the ways that clients' connections come to a server.

    They come from hosts whose HAProxy leads there, or over the Unix socket from a pool beside the server.
    """
    sources = (alone(host.address) for host in placement.proxied_from(topology))
    return [
        f"local {databases} {names} scram-sha-256",
        *(f"hostssl {databases} {names} {source} scram-sha-256" for source in sources),
    ]


def replication_sources(topology: Topology) -> list[str]:
    """Return where servers come from that follow: the network for replication alone, or both while it is not in use.

    A running cluster comes to it, and leaves it, one server after another.
    """
    is_moved, hosts = topology.has_replication_network, topology.with_role(Role.DATABASE)
    ways = ((topology.replicates_at(host),) if is_moved else host.server_addresses for host in hosts)
    return [alone(address) for way in ways for address in way]


def rewind_sources(topology: Topology) -> list[str]:
    """Return where servers come from that rewind, which is where those come from that follow.

    Where a person promotes, they also ask as that role who is primary before they start, over either network.
    """
    asking = (alone(host.address) for host in topology.with_role(Role.DATABASE)) if topology.is_manual else ()
    return list(dict.fromkeys((*replication_sources(topology), *asking)))


def rules(topology: Topology) -> list[str]:
    """Return pg_hba.conf: peer for the local superuser, certificates and SCRAM for servers, SCRAM for poolers.

    Poolers bring every role that has a password, those made by hand too; the services' own have rules of their own.
    """
    names = ",".join(database.name for database in topology.databases)
    services = ",".join(service_roles(topology))
    return [
        "local all postgres peer",
        *agent_rules(topology),
        *patroni_rules(topology),
        *check_rules(topology),
        *(
            f"hostssl replication {postgres.REPLICATION_ROLE} {source} scram-sha-256 clientcert=verify-full"
            for source in replication_sources(topology)
        ),
        *(
            f"hostssl postgres {postgres.REWIND_ROLE} {source} scram-sha-256 clientcert=verify-full"
            for source in rewind_sources(topology)
        ),
        *by_password(topology, f"{names},postgres", postgres.POOLER_ROLE),
        f"local all {services} reject",
        f"host all {services} all reject",
        *by_password(topology, names, "all"),
        "local all all reject",
        "host all all all reject",
        "host replication all all reject",
    ]
