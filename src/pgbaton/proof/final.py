"""The final read: what every database host holds once the clients have ended and the standbys have caught up."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error
from pgbaton.operate.waiting import until
from pgbaton.proof.audit import FinalRead
from pgbaton.proof.workloads import named
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.hosts.base import Host
    from pgbaton.proof.target import Target
    from pgbaton.proof.workloads.base import Workload

#: How long a standby may take to replay all that the primary had written.
CATCH_UP_SECONDS = 60.0
READ_SECONDS = 60.0
#: A line that no table of ours holds.
BETWEEN = "-- next"
SEPARATE = f"\\echo {BETWEEN}"


async def read_all(
    target: Target, workloads: Sequence[str] = ("set",), *, seconds: float = CATCH_UP_SECONDS
) -> tuple[FinalRead, ...]:
    """Read what some workloads left on every database host, each directly and as superuser.

    Standbys have ``seconds`` to catch up; one that does not, or does not answer, is told of.
    """
    chosen = named(workloads)
    primary = await target.primary()
    position = await sql(target, primary, "SELECT pg_current_wal_flush_lsn()")
    names = [host.name for host in target.topology.with_role(Role.DATABASE)]
    return tuple(
        await asyncio.gather(*(_read(target, chosen, name, primary, position, seconds=seconds) for name in names))
    )


async def _read(
    target: Target, chosen: Sequence[Workload], name: str, primary: str, position: str, *, seconds: float
) -> FinalRead:
    is_primary = name == primary
    queries = [f"COPY ({workload.final}) TO STDOUT (FORMAT csv)" for workload in chosen if workload.final]
    try:
        caught_up = is_primary or await _catch_up(target, name, position, seconds=seconds)
        said = await sql(target, name, SEPARATE, *_separated(queries))
    except Error as error:
        return FinalRead(name, primary=is_primary, caught_up=False, problem=error.message)
    return FinalRead(name, primary=is_primary, caught_up=caught_up, **settled(chosen, said + "\n"))


def _separated(queries: Iterable[str]) -> Iterable[str]:
    return chain.from_iterable((query, SEPARATE) for query in queries)


def settled(chosen: Iterable[Workload], said: str) -> dict[str, Any]:
    """Read the answers to the final queries of some workloads, a line of BETWEEN before and after each. Pure."""
    texts = iter(said.partition(f"{BETWEEN}\n")[2].split(f"{BETWEEN}\n"))
    found: dict[str, Any] = {}
    for workload in chosen:
        if workload.settle is not None:
            found.update(workload.settle(next(texts)))
    return found


async def _catch_up(target: Target, name: str, position: str, *, seconds: float) -> bool:
    """Wait until a standby has replayed a position; tell whether it did."""
    try:
        await until_replayed(target, name, position, seconds=seconds)
    except Error as error:
        target.report(error.message)
        return False
    return True


async def until_replayed(target: Target, name: str, position: str, *, seconds: float) -> None:
    """Wait until a standby has replayed a position; raises UnhealthyError when it has not in time."""
    question = f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn, pg_last_wal_replay_lsn()"

    async def look() -> str | None:
        reached, where = (await sql(target, name, question)).split("|")
        return None if reached == "t" else f"it is at {where}"

    await until(f"{name} has replayed {position}", look, seconds=seconds)


async def sql(target: Target, name: str, *statements: str) -> str:
    """Run statements in the application's database as superuser, over the Unix socket, whoever is primary."""
    host: Host = target.hosts[name]
    port, database = str(target.topology.postgresql.port), target.topology.databases[0].name
    argv = ("runuser", "-u", "postgres", "--", "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-p", port, "-d", database)
    commands = (part for statement in statements for part in ("-c", statement))
    result = await host.run(*argv, *commands, timeout=READ_SECONDS)
    return result.stdout.strip()
