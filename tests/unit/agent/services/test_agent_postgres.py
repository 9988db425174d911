"""The look at a server: what its row means, and what it says instead of one."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import TYPE_CHECKING

import pytest
from wire_server import LOGGED_IN, READY, Peer, answering, columns, error, greeting, row, serving

from pgbaton.agent.protocols import wire
from pgbaton.agent.protocols.connections import AbsentError, RefusedError, SilentError
from pgbaton.agent.services import postgres
from pgbaton.agent.services.postgres import STARTING_OR_STOPPING, TOO_MANY_CONNECTIONS, Reading

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.agent.protocols.connections import UnixSocket

LOGIN = wire.Login("pgbaton_agent", "postgres", settings=(("application_name", "agent"),))
COLUMNS = tuple(field.name for field in dataclasses.fields(Reading))
PRIMARY = ("f", "3", "50463736", None, "t", "f", None, None, "12", "100")
STANDBY = ("t", "3", "50463736", "50463000", "f", "t", "0.25", "10.77.0.21", "1", "100")


async def read(where: UnixSocket, deadline_seconds: float = 2) -> Reading:
    return await postgres.read(where, LOGIN, deadline_seconds=deadline_seconds)


async def test_a_primary_reads_as_a_primary(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", answering(columns(*COLUMNS), row(*PRIMARY), READY)) as where:
        reading = await read(where)
    assert reading == Reading(
        in_recovery=False,
        timeline=3,
        position=50463736,
        replayed=50463736,
        flush_awaited=True,
        receiving=False,
        heard_seconds_ago=None,
        from_host=None,
        connections=12,
        max_connections=100,
    )


async def test_a_standby_reads_as_a_standby(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", answering(columns(*COLUMNS), row(*STANDBY), READY)) as where:
        reading = await read(where)
    assert reading == Reading(
        in_recovery=True,
        timeline=3,
        position=50463736,
        replayed=50463000,
        flush_awaited=False,
        receiving=True,
        heard_seconds_ago=0.25,
        from_host="10.77.0.21",
        connections=1,
        max_connections=100,
    )


def test_the_statement_returns_what_a_reading_is_made_of() -> None:
    selected = postgres.STATEMENT.partition(")\nselect\n")[2]
    assert tuple(re.findall(r"(?:here\.| as )(\w+)(?:,\n|\nfrom here)", selected)) == COLUMNS


def test_the_statement_knows_every_wait_for_wal_however_a_version_writes_it() -> None:
    lowered = re.findall(r"lower\(wait_event\) in \((.*?)\)", postgres.STATEMENT)
    names = {name.strip(" '") for each in lowered for name in each.split(",")}
    fifteen = {"WALWrite", "WALSync", "WALInitWrite", "WALInitSync"}
    seventeen = {"WALWrite", "WalWrite", "WalSync", "WalInitWrite", "WalInitSync"}
    assert {name.lower() for name in fifteen} == {name.lower() for name in seventeen} == names


def test_a_clock_set_back_gives_no_time_below_zero() -> None:
    record = dict(zip(COLUMNS, STANDBY, strict=True)) | {"heard_seconds_ago": "-3600.5"}
    assert postgres.reading(record).heard_seconds_ago == 0


async def test_the_server_is_told_to_stop_when_nobody_waits_any_more(tmp_path: Path) -> None:
    told: dict[str, str] = {}

    async def script(peer: Peer) -> None:
        await peer.start()
        told.update(peer.startup)
        peer.say(LOGGED_IN)
        await peer.hear()
        peer.say(columns(*COLUMNS), row(*PRIMARY), READY)

    async with serving(tmp_path / "s", script) as where:
        await read(where, deadline_seconds=0.75)
    assert told["statement_timeout"] == "750"
    assert told["search_path"] == "pg_catalog"
    assert told["application_name"] == "agent"


async def test_the_end_of_a_recovery_is_waited_for_by_the_server_itself(tmp_path: Path) -> None:
    told: dict[str, str] = {}
    asked: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.start()
        told.update(peer.startup)
        peer.say(LOGGED_IN)
        for answer in (READY, columns(*COLUMNS) + row(*PRIMARY) + READY):
            asked.append((await peer.hear())[1].decode())
            peer.say(answer)

    async with serving(tmp_path / "s", script) as where:
        reading = await postgres.read_after_recovery(where, LOGIN, within_seconds=0.25, deadline_seconds=0.5)
    assert not reading.in_recovery
    assert told["statement_timeout"] == "750"
    assert "1..31 loop" in asked[0]
    assert "pg_sleep(0.008)" in asked[0]
    assert asked[1].startswith(postgres.STATEMENT)


async def test_a_server_that_says_no_while_it_is_waited_for_has_said_no(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", answering(error("57P01", "terminating"))) as where:
        with pytest.raises(RefusedError) as refused:
            await postgres.read_after_recovery(where, LOGIN, within_seconds=0.25, deadline_seconds=0.5)
    assert refused.value.sqlstate == "57P01"


@pytest.mark.parametrize("sqlstate", [TOO_MANY_CONNECTIONS, STARTING_OR_STOPPING])
async def test_a_refusal_is_a_sign_of_life(tmp_path: Path, sqlstate: str) -> None:
    async with serving(tmp_path / "s", greeting(error(sqlstate, "not now"), close=True)) as where:
        with pytest.raises(RefusedError) as refused:
            await read(where)
    assert refused.value.sqlstate == sqlstate


async def test_a_server_that_hangs_is_silent(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", greeting()) as where:
        with pytest.raises(SilentError):
            await read(where, deadline_seconds=0.05)


async def test_a_server_that_is_not_there_is_absent(tmp_path: Path) -> None:
    with pytest.raises(AbsentError):
        await read(wire.unix_socket(tmp_path, 5432))


@pytest.mark.parametrize(
    "answer",
    [
        columns(*COLUMNS),
        columns("something"),
        columns(*COLUMNS) + row(*PRIMARY) + row(*PRIMARY),
        columns("in_recovery") + row("t"),
        columns(*COLUMNS) + row("yes", *PRIMARY[1:]),
        columns(*COLUMNS) + row("f", None, *PRIMARY[2:]),
        columns(*COLUMNS) + row("f", "x", *PRIMARY[2:]),
    ],
)
async def test_an_answer_without_a_meaning_is_refused(tmp_path: Path, answer: bytes) -> None:
    async with serving(tmp_path / "s", answering(answer, READY)) as where:
        with pytest.raises(RefusedError, match="what no server does"):
            await read(where)


async def test_many_servers_are_read_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", answering(columns(*COLUMNS), row(*STANDBY), READY)) as where:
        readings = await asyncio.gather(*(read(where) for _ in range(8)))
    assert len(set(readings)) == 1
