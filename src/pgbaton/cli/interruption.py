"""Long work that ends in an orderly way when a signal asks for it."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pgbaton.cli import common
from pgbaton.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What is added to a signal's number to make an exit code.
SIGNALLED = 128


def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run work to its end; the first signal cancels it in an orderly way, later ones are asked for patience."""
    received: list[signal.Signals] = []

    async def watched() -> T:
        task = asyncio.ensure_future(work)

        def stop(number: signal.Signals) -> None:
            received.append(number)
            if len(received) == 1:
                task.cancel()
            # The terminal may be what is gone.
            common.tell(common.err(), "still cleaning up" if received[1:] else "interrupted: cleaning up")

        for number in STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return await task

    try:
        return common.run(watched())
    except asyncio.CancelledError:
        sys.exit(SIGNALLED + received[0] if received else 1)


@contextmanager
def accounted(output: str, result: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Print as JSON, where that is wanted, what work came to that ends by an error or a signal, and why it did."""
    try:
        yield
    except (Error, SystemExit) as ended:
        if output == "json":
            common.emit(output, {**result(), "error": reason(ended)}, lambda: None)
        raise


def reason(ended: Error | SystemExit) -> str:
    """Return why work ended early, in words."""
    if isinstance(ended, Error):
        return str(ended)
    names = {SIGNALLED + number: number.name for number in STOPPING}
    return f"interrupted by {names[ended.code]}" if ended.code in names else "interrupted"
