"""PgBouncer's processes, each asked on its console by a script on its own host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import pgbouncer
from pgbaton.errors import Error

if TYPE_CHECKING:
    from pgbaton.operate.operation import Operation

#: A script, and the way to its host.
SECONDS = 15


async def ask(operation: Operation, host: str, instance: str, script: str, *words: str) -> str | None:
    """Run a script with ``words``, then psql's command line for the console, as its arguments.

    Returns why it failed, None when it did not.
    """
    argv = ("sh", "-c", script, "sh", *words, *pgbouncer.console(operation.topology, instance), "-q")
    try:
        result = await operation.hosts[host].run(*argv, check=False, timeout=SECONDS)
    except Error as error:
        return error.message.strip().splitlines()[-1]
    return None if result.ok else (result.stderr.strip() or "no answer").splitlines()[-1]
