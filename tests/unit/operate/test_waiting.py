from __future__ import annotations

import asyncio

import pytest

from pgbaton.errors import Error, UnhealthyError
from pgbaton.operate.handover import refuse
from pgbaton.operate.patroni_api import Reply
from pgbaton.operate.waiting import going_on, until


async def test_waiting_ends_as_soon_as_nothing_is_missing() -> None:
    seen = iter(["in recovery", "in recovery", None])

    async def look() -> str | None:
        return next(seen)

    assert await until("db2 takes writes", look, seconds=5, interval_seconds=0) < 5
    assert list(seen) == []


async def test_a_deadline_says_what_was_waited_for_and_what_was_seen() -> None:
    async def look() -> str:
        return "in recovery"

    with pytest.raises(UnhealthyError, match="db2 takes writes; seen last: in recovery"):
        await until("db2 takes writes", look, seconds=0, interval_seconds=0.01)


async def test_an_interruption_tells_what_goes_on() -> None:
    told: list[str] = []

    async def work() -> None:
        with going_on(told.append, "Patroni goes on"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == ["interrupted: Patroni goes on"]


def test_an_error_is_no_interruption() -> None:
    told: list[str] = []
    with pytest.raises(ValueError, match="invalid literal"), going_on(told.append, "nothing"):
        int("x")
    assert told == []


@pytest.mark.parametrize(
    ("status", "text"), [(200, 'Successfully switchedover to "db2"'), (503, "Switchover status unknown")]
)
def test_answers_that_promise_or_do_not_know_end_no_wait(status: int, text: str) -> None:
    refuse(Reply(status, text))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (412, "candidate name does not match with sync_standby"),
        (503, "Switchover failed"),
        (200, 'Switchovered over to "db3" instead of "db2"'),
        (401, "not authenticated"),
    ],
)
def test_answers_that_deny_end_the_wait_with_their_words(status: int, text: str) -> None:
    with pytest.raises(Error, match=text.partition('"')[0]):
        refuse(Reply(status, text))
