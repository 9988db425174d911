"""Ask Patroni for a new primary, and watch the server itself instead of Patroni's answer, which comes late."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgbaton.errors import Error
from pgbaton.operate.servers import Absence
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from pgbaton.operate.operation import Operation
    from pgbaton.operate.patroni_api import Reply


async def until_writable(operation: Operation, target: str, request: Coroutine[Any, Any, Reply]) -> float:
    """Send the request and wait until ``target`` takes writes; return the seconds.

    Raises Error with Patroni's own words as soon as it says that it will not be so, UnhealthyError at the deadline.
    """
    start = time.monotonic()
    asked = asyncio.create_task(request)

    async def look() -> str | None:
        return await not_writable(operation, target, asked)

    try:
        await until(f"{target} takes writes", look, seconds=operation.timeout_seconds)
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    return time.monotonic() - start


async def not_writable(operation: Operation, target: str, asked: asyncio.Task[Reply]) -> str | None:
    """Return None when the target is out of recovery, else what it is; raises Error when Patroni gave up."""
    # Patroni's answer first: what the server says after it is then newer than the answer.
    answered = asked.done()
    server = await operation.server(target)
    if not isinstance(server, Absence) and not server.in_recovery:
        return None
    if answered:
        refuse(asked.result())
    return server.reason if isinstance(server, Absence) else "in recovery"


def refuse(reply: Reply) -> None:
    """Raise Error unless Patroni reports success, or does not know: ``status unknown`` ends no wait."""
    if reply.text.startswith("Successfully") or "unknown" in reply.text:
        return
    message = f"Patroni said: {reply.text} (HTTP {reply.status})"
    raise Error(message)
