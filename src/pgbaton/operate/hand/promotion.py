"""Make a standby the primary, and have the others follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.deploy.establish import new_slot_sql, slot_sql
from pgbaton.errors import CommandError, Error, UnhealthyError
from pgbaton.operate.hand import control
from pgbaton.operate.members import database_names
from pgbaton.operate.servers import Absence
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.operate.operation import Operation

PROMOTE_SECONDS = 60
#: How long a standby may take to have everything of a primary that has stopped.
LEVEL_SECONDS = 10
#: Each round has a snapshot of its own: one that is kept would hold up the very replay that is waited for.
LEVEL = """DO $$
DECLARE
  deadline timestamptz := clock_timestamp() + interval '{seconds} s';
BEGIN
  WHILE pg_last_wal_replay_lsn() - '0/0' <= {position} LOOP
    IF clock_timestamp() > deadline THEN
      RAISE EXCEPTION '{not_asked}: it has replayed % bytes of more than {position}', pg_last_wal_replay_lsn() - '0/0';
    END IF;
    COMMIT;
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;
"""
#: Words that come late, over a connection that was given up, promote nobody: the standby was told to follow again.
PREPARED = """DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_file_settings WHERE name = 'primary_conninfo' AND setting <> '') THEN
    RAISE EXCEPTION '{not_asked}: it is told to follow';
  END IF;
END $$;
"""
#: What the script says when it ends before it promotes.
NOT_ASKED = "not promoted"
#: Slots of a former primary would keep WAL for standbys that ask another one.
DROP_SLOTS = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active
"""


class NotAskedError(CommandError):
    """A standby was not promoted, and was not asked to be."""


async def prepare(operation: Operation, target: str, *, detached: Iterable[str]) -> None:
    """Get a standby ready to be primary; ``detached`` are the standbys that its commits will not wait for.

    Its slots for the others are made, and its settings written: they are in force from its promotion on.
    """
    others = [name for name in database_names(operation.topology) if name != target]
    await operation.sql(target, "".join(map(slot_sql, others)), seconds=PROMOTE_SECONDS)
    await control.tell(operation, target, "lead", *detached)


async def unprepare(operation: Operation, target: str, primary: str, *, stopped: bool = False) -> None:
    """Take back what made a standby ready: it goes on as the standby that it is, or will when it is started."""
    await control.tell(operation, target, "follow", primary)
    if not stopped:
        await control.reload(operation, target)
        await forget_slots(operation, target)


async def promote(operation: Operation, target: str, *, beyond: int | None = None) -> None:
    """Promote a standby that is prepared, once it has replayed more than ``beyond`` bytes of WAL.

    Raises NotAskedError when it has not in time, and then it stays a standby. After any other Error it may come out of
    recovery at any later moment; UnhealthyError says that it has not yet.
    """
    sql = promotion_sql(beyond)
    try:
        said = await operation.sql(target, sql, seconds=LEVEL_SECONDS + PROMOTE_SECONDS + 10)
    except CommandError as error:
        if f"ERROR:  {NOT_ASKED}" in error.message:
            raise NotAskedError(error.message, where=target) from None
        raise
    if said.splitlines()[-1:] != ["t"]:
        message = f"it did not come out of recovery within {PROMOTE_SECONDS} s"
        raise UnhealthyError(message, where=target, hint=f"pgbaton logs --host {target}")


def promotion_sql(beyond: int | None) -> str:
    """Return the SQL that waits until a standby has everything, and promotes it: one session, clients wait. Pure."""
    wait = "" if beyond is None else LEVEL.format(position=beyond, seconds=LEVEL_SECONDS, not_asked=NOT_ASKED)
    prepared = PREPARED.format(not_asked=NOT_ASKED)
    return f"{wait}{prepared}SELECT pg_reload_conf();\nSELECT pg_promote(true, {PROMOTE_SECONDS});\n"


async def start_as_primary(operation: Operation, host: str) -> None:
    """Start a server that may be primary by its own condition, and wait until it takes writes."""
    await control.start(operation, host)

    async def seen() -> str | None:
        server = await operation.server(host)
        return server.reason if isinstance(server, Absence) else ("in recovery" if server.in_recovery else None)

    await until(f"{host} takes writes", seen, seconds=operation.timeout_seconds)


async def repoint(operation: Operation, standby: str, primary: str) -> None:
    """Have a running standby follow another primary."""
    await control.tell(operation, standby, "follow", primary)
    await control.reload(operation, standby)


async def follow_as_standby(operation: Operation, host: str, primary: str) -> None:
    """Start a server that was stopped in order, and that the primary has everything of, as its standby."""
    await control.tell(operation, host, "follow", primary)
    await control.start_soon(operation, host)


async def forget_slots(operation: Operation, host: str) -> None:
    """Drop the slots that nobody uses on a standby; one that does not answer keeps them until its next change."""
    try:
        await operation.sql(host, DROP_SLOTS)
    except Error as error:
        operation.report(f"{host}: its unused slots were not dropped: {error.message.strip().splitlines()[-1]}")


async def renew_slot(operation: Operation, primary: str, standby: str) -> None:
    """Give a standby that begins anew a slot on the primary that keeps WAL from now on."""
    await operation.sql(primary, new_slot_sql(standby), seconds=PROMOTE_SECONDS)
