"""Two who change who leads from different machines are kept apart by the hosts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.components import manual
from pgbaton.errors import CommandError, RefusedError, UnreachableError
from pgbaton.hosts.fake import FakeHost
from pgbaton.operate.hand import claims
from pgbaton.operate.operation import Operation
from pgbaton.operate.waiting import until
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Callable

OTHERS = CommandError("exit status 1 from: manual.py\na failover from elsewhere is under way here")
#: A host whose program is of before claims.
EARLIER = CommandError("exit status 1 from: manual.py\nKeyError: 'claim'")


def cluster(*answers: str | Exception) -> tuple[Operation, list[str]]:
    """Return an operation on db1 and db2, which answer claims like this, and what they are told."""
    words: list[str] = []

    def noted(host: str, word: str, answer: str | Exception) -> Callable[[str], str | Exception]:
        def note(_: str) -> str | Exception:
            words.append(f"{host} {word}")
            return answer

        return note

    def host(name: str, answer: str | Exception) -> FakeHost:
        told: dict[tuple[str, ...], Any] = {(*manual.AS_SERVER, "claim"): noted(name, "claim", answer)}
        return FakeHost(name, answers={**told, (*manual.AS_SERVER, "release"): noted(name, "release", "")})

    hosts = {name: host(name, answer) for name, answer in zip(("db1", "db2"), answers, strict=True)}
    return Operation(load.loads(presets.text("manual")), hosts, words.append), words


async def act(operation: Operation, words: list[str]) -> None:
    async with claims.claimed(operation, "a switchover"), claims.claimed(operation, "a part of it"):
        words.append("act")


@pytest.mark.parametrize("second", ["", UnreachableError("no end after 6 s"), EARLIER])
def test_work_is_done_under_one_claim_on_all_hosts_that_answer(second: str | Exception) -> None:
    operation, words = cluster("", second)
    asyncio.run(act(operation, words))
    released = ["db1 release", "db2 release"] if second == "" else ["db1 release"]
    assert words == ["db1 claim", "db2 claim", "act", *released]


def test_work_that_another_does_is_not_begun_and_what_was_claimed_is_let_go() -> None:
    operation, words = cluster("", OTHERS)
    with pytest.raises(RefusedError, match="a failover from elsewhere is under way here"):
        asyncio.run(act(operation, words))
    assert words == ["db1 claim", "db2 claim", "db1 release"]


def test_long_work_renews_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0)
    operation, words = cluster("", "")

    async def long() -> None:
        async with claims.claimed(operation, "reinit"):
            await until("it is renewed", seen, seconds=5, interval_seconds=0)

    async def seen() -> str | None:
        return None if words.count("db2 claim") > 1 else "not yet"

    asyncio.run(long())
    assert words[-2:] == ["db1 release", "db2 release"]
