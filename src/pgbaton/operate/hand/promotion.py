"""Make a standby the primary, and have the others follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.deploy.establish import new_slot_sql, slot_sql
from pgbaton.errors import Error, UnhealthyError
from pgbaton.operate.hand import control
from pgbaton.operate.members import database_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.operate.operation import Operation

PROMOTE_SECONDS = 60
#: Slots of a former primary would keep WAL for standbys that ask another one.
DROP_SLOTS = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active
"""


async def make_slots(operation: Operation, target: str) -> None:
    """See that a server keeps WAL for each other database, from now on."""
    others = [name for name in database_names(operation.topology) if name != target]
    await operation.sql(target, "".join(map(slot_sql, others)), seconds=PROMOTE_SECONDS)


async def promote(operation: Operation, target: str, *, detached: Iterable[str]) -> None:
    """Promote a standby that has slots for its own; ``detached`` are those that its commits do not wait for.

    Whose confirmation its commits wait for is in force before it takes writes. Raises UnhealthyError when it does not
    come out of recovery.
    """
    await control.tell(operation, target, "lead", *detached)
    await control.reload(operation, target)
    said = await operation.sql(target, f"SELECT pg_promote(true, {PROMOTE_SECONDS})", seconds=PROMOTE_SECONDS + 10)
    if said != "t":
        message = f"it did not come out of recovery within {PROMOTE_SECONDS} s"
        raise UnhealthyError(message, where=target, hint=f"pgbaton logs --host {target}")


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
