from __future__ import annotations

import asyncio

import pytest

from pgbaton.errors import Error
from pgbaton.proof.finishing import to_the_end


async def test_work_is_done_to_its_end_before_its_task_is_cancelled() -> None:
    done: list[str] = []

    async def mend() -> None:
        await asyncio.sleep(0.05)
        done.append("mended")

    task = asyncio.create_task(to_the_end(mend()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["mended"]


async def test_what_work_returns_or_raises_is_passed_on() -> None:
    async def answer() -> int:
        return 42

    async def fail() -> None:
        message = "no power"
        raise Error(message)

    assert await to_the_end(answer()) == 42
    with pytest.raises(Error, match="no power"):
        await to_the_end(fail())
