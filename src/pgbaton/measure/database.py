"""The primary's side of a measurement: a schema that is made for it and goes with it, and what else is asked there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components.postgres import SOCKETS
from pgbaton.errors import RefusedError
from pgbaton.measure import profiles, room

if TYPE_CHECKING:
    from pgbaton.measure.room import Connections
    from pgbaton.proof.target import Target

QUESTION_SECONDS = 60.0
#: How long the tables may take to be made, for each unit of scale.
UNIT_SECONDS = 30.0
#: How many tables that are in the way are named.
NAMED = 5


async def sql(target: Target, name: str, text: str, *, seconds: float = QUESTION_SECONDS) -> str:
    """Run statements in the application's database as superuser, over the Unix socket of a database host."""
    port, database = str(target.topology.postgresql.port), target.topology.databases[0].name
    psql = ("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", SOCKETS, "-p", port, "-d", database, "-f", "-")
    enter = ("runuser", "-u", "postgres", "--", "env", "--chdir=/", "PGOPTIONS=-c client_min_messages=warning")
    result = await target.hosts[name].run(*enter, *psql, input=f"{text};\n", timeout=seconds)
    return result.stdout.strip()


async def refuse_foreign(target: Target, primary: str) -> None:
    """Raise RefusedError when somebody else's tables of pgbench, or schema of our name, are in the database."""
    foreign = (await sql(target, primary, profiles.FOREIGN)).split()
    where = f"database {target.topology.databases[0].name}"
    if foreign:
        named = ", ".join(foreign[:NAMED]) + (f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else "")
        message = f"there are tables of pgbench's that are not ours: {named}"
        hint = "they may be somebody's measurement under way; drop or rename them, then try again"
        raise RefusedError(message, where=where, hint=hint)
    remark = await sql(target, primary, profiles.REMARK)
    if remark not in {"", profiles.MARK}:
        message = f"there is a schema {profiles.SCHEMA} that pgbaton bench did not make"
        raise RefusedError(message, where=where, hint="rename it, then try again")


async def make_tables(target: Target, primary: str, scale: int) -> None:
    """Make the schema anew: what an interrupted measurement left goes first."""
    await sql(target, primary, profiles.DROP)
    owner = target.topology.databases[0].owner
    await sql(target, primary, profiles.tables(owner, scale), seconds=QUESTION_SECONDS + UNIT_SECONDS * scale)


async def tidy(target: Target, primary: str) -> None:
    """Make the small tables small again."""
    await sql(target, primary, profiles.TIDY)


async def drop(target: Target) -> None:
    """Drop the schema at whoever is primary now; raises UnhealthyError when nobody is."""
    await sql(target, await target.primary(), profiles.DROP)


async def connections(target: Target, primary: str) -> Connections:
    """Return how many connections the primary lets in, and has."""
    return room.parse(await sql(target, primary, room.CONNECTIONS))
