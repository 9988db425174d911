"""Waiting with a deadline, and telling what goes on without us when the wait is interrupted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgbaton.errors import UnhealthyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

#: One line of progress.
Report = Callable[[str], None]


async def until(
    what: str, look: Callable[[], Awaitable[str | None]], *, seconds: float, interval_seconds: float = 0.1
) -> float:
    """Look again and again until ``look`` returns None; return how many seconds that took.

    What ``look`` returns otherwise is what was seen instead. Raises UnhealthyError at the deadline.
    """
    start = time.monotonic()
    while (seen := await look()) is not None:
        if time.monotonic() - start > seconds:
            message = f"waited {seconds:g} s for this, in vain: {what}; seen last: {seen}"
            raise UnhealthyError(message, hint="pgbaton status shows the whole cluster")
        await asyncio.sleep(interval_seconds)
    return time.monotonic() - start


@contextmanager
def going_on(report: Report, what: str) -> Iterator[None]:
    """When the work inside is interrupted, report ``what`` goes on in the cluster all the same."""
    try:
        yield
    except asyncio.CancelledError:
        report(f"interrupted: {what}")
        raise
