"""What runs side by side, and what is said of it in the journal."""

from __future__ import annotations

import asyncio

import pytest
from small_cluster import until

from pgbaton.agent import complaints, parts
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.parts import Parts


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PAUSE_SECONDS", 0.0)


async def test_a_part_that_fails_begins_again_and_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    begun = {"well": 0, "ill": 0}

    async def well() -> None:
        begun["well"] += 1
        await asyncio.Event().wait()

    async def ill() -> None:
        begun["ill"] += 1
        message = "no disk"
        raise OSError(message)

    running = Parts(Complaints())
    running.add("well", well)
    running.add("ill", ill)
    await until(lambda: begun["ill"] >= 3)
    await running.end()
    assert begun["well"] == 1
    assert caplog.text.count("ill: failed, and begins again: OSError: no disk") == 1


async def test_a_part_that_ends_begins_again() -> None:
    begun: list[int] = []

    async def short() -> None:
        begun.append(1)

    running = Parts(Complaints())
    running.add("short", short)
    await until(lambda: len(begun) >= 3)
    await running.end()


async def test_a_part_survives_that_what_it_waited_for_was_cancelled() -> None:
    begun: list[int] = []

    async def waits() -> None:
        begun.append(1)
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    running = Parts(Complaints())
    running.add("waits", waits)
    await until(lambda: len(begun) >= 3)
    await running.end()


async def test_parts_that_were_ended_are_gone() -> None:
    ended: list[str] = []

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("lasting")

    running = Parts(Complaints())
    running.add("lasting", lasting)
    await asyncio.sleep(0)
    await running.end()
    assert ended == ["lasting"]


def test_what_lasts_is_said_when_it_begins_now_and_then_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(complaints, "clock", lambda: now)
    trouble = Complaints()
    for _ in range(5):
        trouble.about("disk", "full")
    assert caplog.messages == ["disk: full"]
    trouble.about("disk", "gone")
    assert caplog.messages == ["disk: full"]
    now += complaints.OTHER_SECONDS
    trouble.about("disk", "gone")
    assert caplog.messages[1:] == ["disk: gone"]
    now += complaints.AGAIN_SECONDS - 1
    trouble.about("disk", "gone")
    assert caplog.messages[2:] == []
    now += 1
    trouble.about("disk", "gone")
    assert caplog.messages[2:] == ["disk: gone"]
    trouble.over("disk")
    trouble.over("disk")
    assert caplog.messages[3:] == ["disk: well again"]
    trouble.about("disk", "gone")
    assert caplog.messages[4:] == ["disk: gone"]
