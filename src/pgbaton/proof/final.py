"""The final read: what every database host holds once the clients have ended and the standbys have caught up."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import TYPE_CHECKING

from pgbaton.errors import Error
from pgbaton.operate.waiting import until
from pgbaton.proof.audit import FinalRead, WriteId
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host
    from pgbaton.proof.target import Target

#: How long a standby may take to replay all that the primary had written.
CATCH_UP_SECONDS = 60.0
READ_SECONDS = 60.0


async def read_all(target: Target, table: str, *, seconds: float = CATCH_UP_SECONDS) -> tuple[FinalRead, ...]:
    """Read a table of writes on every database host, each directly and as superuser.

    Standbys have ``seconds`` to catch up; one that does not, or does not answer, is told of.
    """
    primary = (await target.roles()).primary
    position = await sql(target, primary, "SELECT pg_current_wal_flush_lsn()")
    names = [host.name for host in target.topology.with_role(Role.DATABASE)]
    return tuple(
        await asyncio.gather(*(_read(target, table, name, primary, position, seconds=seconds) for name in names))
    )


async def _read(target: Target, table: str, name: str, primary: str, position: str, *, seconds: float) -> FinalRead:
    is_primary = name == primary
    try:
        caught_up = is_primary or await _catch_up(target, name, position, seconds=seconds)
        text = await sql(target, name, f"COPY (SELECT client, id FROM {table}) TO STDOUT (FORMAT csv)")  # noqa: S608 - our own name
    except Error as error:
        return FinalRead(name, primary=is_primary, caught_up=False, problem=error.message)
    return FinalRead(name, primary=is_primary, rows=parse(text), caught_up=caught_up)


def parse(text: str) -> tuple[WriteId, ...]:
    """Read rows of client and id as CSV. Pure."""
    return tuple((client, int(number)) for client, number in csv.reader(io.StringIO(text)))


async def _catch_up(target: Target, name: str, position: str, *, seconds: float) -> bool:
    """Wait until a standby has replayed a position; tell whether it did."""
    question = f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn, pg_last_wal_replay_lsn()"

    async def look() -> str | None:
        reached, where = (await sql(target, name, question)).split("|")
        return None if reached == "t" else f"it is at {where}"

    try:
        await until(f"{name} has replayed {position}", look, seconds=seconds)
    except Error as error:
        target.report(error.message)
        return False
    return True


async def sql(target: Target, name: str, statement: str) -> str:
    """Run a statement in the application's database as superuser, over the Unix socket, whoever is primary."""
    host: Host = target.hosts[name]
    port, database = str(target.topology.postgresql.port), target.topology.databases[0].name
    argv = ("runuser", "-u", "postgres", "--", "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-p", port, "-d", database)
    result = await host.run(*argv, "-c", statement, timeout=READ_SECONDS)
    return result.stdout.strip()
