"""Make the servers of a cluster that a person fails over: one primary, once, and standbys that copy it.

Patroni does this by itself elsewhere. Here a primary is made only where no database host has any data, and only while
every one of them answers: who is primary afterwards is on the hosts, and never decided by an apply again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgbaton.components import manual, patroni, postgres
from pgbaton.components.manual_program import slot
from pgbaton.deploy import inside, objects
from pgbaton.deploy.gate import together
from pgbaton.errors import RefusedError, UnhealthyError, UnreachableError
from pgbaton.secrets import scram_verifier
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.deploy.plan import Survey
    from pgbaton.deploy.work import Work
    from pgbaton.hosts.base import Host
    from pgbaton.secrets import ScramVerifier, Vault
    from pgbaton.topology.model import Topology

INITIALISE_SECONDS = 300
#: A copy takes as long as it takes; this only ends one that nobody waits for any more.
CLONE_SECONDS = 24 * 3600
START_SECONDS = 120
#: How soon after its start it is looked whether a server was held back.
SETTLE_SECONDS = 0.5
#: What pg_rewind reads of the server it copies from, without being superuser (PostgreSQL documentation, pg_rewind).
REWIND_FUNCTIONS = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)


def notes(topology: Topology, seen: Survey) -> tuple[str, ...]:
    """Return what a plan should say of servers that are still to be made. Pure."""
    if not topology.is_manual:
        return ()
    databases = [host.name for host in topology.with_role(Role.DATABASE)]
    empty = [name for name in databases if not seen.inventories[name].has_data]
    first = topology.first_primary.name
    if empty == databases:
        others = ", ".join(name for name in databases if name != first)
        return (f"{first} gets new data and is the primary; cloned from it: {others}",)
    return (f"without data, cloned from the primary: {', '.join(empty)}",) if empty else ()


def refuse_change_of_kind(topology: Topology, seen: Survey) -> None:
    """Raise RefusedError when the hosts' servers are run by the other kind of orchestration."""
    other, words = (patroni.UNIT, "Patroni") if topology.is_manual else (manual.UNIT, "units that a person promotes")
    for each in seen.inventories.values():
        if each.manifest and other in each.manifest.units:
            message = f"its server is run by {words}; the kind of a cluster that runs cannot be changed"
            hint = f"set orchestration.kind back; a new cluster can have kind = {topology.orchestration.kind}"
            raise RefusedError(message, where=each.host, hint=hint)


async def server(work: Work, host: str) -> None:
    """See that a host has a server's data, once its files are in place, and that the server may start.

    Raises RefusedError when a primary would have to be made beside data, or beside a host that does not answer.
    """
    holders = await data_holders(work)
    if host in holders:
        await refuse_held_back(work.hosts[host])
        return
    primaries = await inside.find_primaries(work)
    if len(primaries) == 1:
        work.report(f"{host}: cloning {primaries[0]}")
        await clone(work.topology, work.hosts, work.vault, host, primaries[0])
    elif holders or primaries:
        there, found = ", ".join(holders), ", ".join(primaries) or "none"
        message = f"it has no data, there are data on {there}, and servers out of recovery are: {found}"
        raise RefusedError(message, where=host, hint="see that one of them is primary: pgbaton failover")
    elif host != work.topology.first_primary.name:
        message = f"it has no data, and neither has {work.topology.first_primary.name}, the first primary"
        raise RefusedError(message, where=host, hint="pgbaton apply makes the primary first; run it again")
    else:
        work.report(f"{host}: making the first primary's data")
        await make_primary(work.topology, work.hosts[host], work.vault)


async def data_holders(work: Work) -> list[str]:
    """Return the database hosts that have a server's data; raises RefusedError when one does not answer."""
    names = [host.name for host in work.topology.with_role(Role.DATABASE)]
    path = f"{work.topology.data_directory}/PG_VERSION"
    try:
        found = await together(*(work.hosts[name].run("test", "-f", path, check=False) for name in names))
    except UnreachableError as error:
        message = f"no server is made while a database host cannot be asked, which may be primary: {error}"
        raise RefusedError(message, hint="bring that host back, then run apply again") from None
    return [name for name, result in zip(names, found, strict=True) if result.ok]


async def refuse_held_back(host: Host) -> None:
    """Raise UnhealthyError with the reason when the server's own condition keeps it down."""
    await asyncio.sleep(SETTLE_SECONDS)
    state = (await host.run("systemctl", "is-active", manual.UNIT, check=False)).stdout.strip()
    if state != "inactive":
        return
    asked = await host.run(*manual.AS_SERVER, "condition", check=False, timeout=START_SECONDS)
    if not asked.ok:
        hint = "pgbaton status shows the whole cluster"
        raise UnhealthyError(asked.stderr.strip() or "its server stays down", where=host.name, hint=hint)
    await host.run("systemctl", "start", manual.UNIT, timeout=START_SECONDS)


async def make_primary(topology: Topology, host: Host, vault: Vault) -> None:
    """Make a new server's data, start it as the primary, and give it the roles that standbys come with."""
    await prepare(topology, host)
    await host.run(*manual.AS_SERVER, "initialise", timeout=INITIALISE_SECONDS)
    await host.run("systemctl", "start", manual.UNIT, timeout=START_SECONDS)
    await ensure_roles(topology, host, vault)


async def clone(topology: Topology, hosts: Mapping[str, Host], vault: Vault, host: str, primary: str) -> None:
    """Copy the primary's data to a host without any, and start it as a standby."""
    await ensure_roles(topology, hosts[primary], vault)
    await objects.psql(hosts[primary], topology.postgresql.port, new_slot_sql(host))
    await prepare(topology, hosts[host])
    await hosts[host].run(*manual.AS_SERVER, "clone", primary, timeout=CLONE_SECONDS)
    await hosts[host].run("systemctl", "start", "--no-block", manual.UNIT, timeout=START_SECONDS)


async def prepare(topology: Topology, host: Host) -> None:
    """Make the directories that data and state are put into."""
    parent = topology.data_directory.rsplit("/", 1)[0]
    for path, mode in ((parent, "0755"), (manual.STATE, "0700")):
        await host.run("install", "-d", "-o", "postgres", "-g", "postgres", "-m", mode, path)


async def ensure_roles(topology: Topology, host: Host, vault: Vault) -> None:
    """Make the roles with which servers follow and rewind, where the primary has none of them yet."""
    verifiers = {
        role: scram_verifier(vault.value(f"password/{role}"))
        for role in (postgres.REPLICATION_ROLE, postgres.REWIND_ROLE)
    }
    await objects.psql(host, topology.postgresql.port, objects.PREAMBLE + roles_sql(verifiers))


def roles_sql(verifiers: Mapping[str, ScramVerifier]) -> str:
    """Return the SQL that makes the roles of replication and rewind. Pure.

    No standby is there yet that could confirm it.
    """
    attributes = {postgres.REPLICATION_ROLE: "LOGIN REPLICATION", postgres.REWIND_ROLE: "LOGIN"}
    made = "".join(
        f"SELECT $$CREATE ROLE {role} {attributes[role]} PASSWORD '{verifier}'$$\n"  # noqa: S608 - our own names
        f"WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') \\gexec\n"
        for role, verifier in verifiers.items()
    )
    granted = "".join(
        f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {postgres.REWIND_ROLE};\n" for function in REWIND_FUNCTIONS
    )
    return f"SET synchronous_commit = local;\n{made}{granted}"


def slot_sql(host: str) -> str:
    """Return the SQL that sees to the slot which keeps a standby's WAL. Pure."""
    name = slot(host)
    return (
        f"SELECT pg_create_physical_replication_slot('{name}', true)\n"  # noqa: S608 - a host's name, of letters and -
        f"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{name}');\n"
    )


def new_slot_sql(host: str) -> str:
    """Return the SQL that gives a standby which begins anew a slot that keeps WAL from now on. Pure."""
    unused = f"slot_name = '{slot(host)}' AND NOT active"
    return f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE {unused};\n{slot_sql(host)}"  # noqa: S608 - as above
