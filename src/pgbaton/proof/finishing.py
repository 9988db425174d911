"""Work that must not be left half done: what a fault broke is mended to the end, whenever somebody interrupts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def to_the_end(work: Awaitable[T]) -> T:
    """Do work to its end; when this task is cancelled meanwhile, the work ends first, and then the task does."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait((task,))
        raise
