"""Long work that ends in an orderly way when a signal asks for it."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from pgbaton.cli import common

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run work to its end; the first signal cancels it in an orderly way, later ones are asked for patience."""
    received: list[signal.Signals] = []

    async def watched() -> T:
        task = asyncio.ensure_future(work)

        def stop(number: signal.Signals) -> None:
            common.err().print("still cleaning up" if received else "interrupted: cleaning up")
            received.append(number)
            if len(received) == 1:
                task.cancel()

        for number in STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return await task

    try:
        return common.run(watched())
    except asyncio.CancelledError:
        sys.exit(128 + received[0] if received else 1)
