"""PgBouncer's console: pausing, resuming and looking, in a version that tells its state and in one that does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from wire_server import LOGGED_IN, READY, Peer, columns, error, message, row, serving

from pgbaton.agent.protocols.connections import AbsentError, RefusedError, SilentError, UnixSocket
from pgbaton.agent.services import pgbouncer
from pgbaton.agent.services.pgbouncer import State

if TYPE_CHECKING:
    from pathlib import Path

LOGIN = pgbouncer.login()
OLD, NEW = "1.18.0", "1.24.1"
#: Tables as both versions print them, without the columns that nobody looks at.
CONFIG = columns("key", "value") + row("listen_port", "6432") + row("pool_mode", "transaction")
DATABASES = (
    columns("name", "pool_mode", "paused")
    + row("orders", None, "0")
    + row("stock", "transaction", "1")
    + row("pgbouncer", "statement", "0")
)
POOLS = (
    columns("database", "cl_active", "cl_waiting", "sv_active", "maxwait", "maxwait_us", "pool_mode")
    + row("orders", "3", "2", "1", "1", "250000", "transaction")
    + row("stock", "4", "0", "2", "0", "0", "transaction")
    + row("pgbouncer", "1", "0", "0", "0", "0", "statement")
)


def refusal(text: str) -> bytes:
    return error("08P01", text, severity="ERROR") + READY


class Console:
    """A console as PgBouncer's admin.c describes it; ``busy`` keeps PAUSE from being answered."""

    def __init__(self, version: str, *, busy: bool = False) -> None:
        self.version = version
        self.busy = busy
        self.paused = False
        self.took_pause = asyncio.Event()
        self.heard: list[str] = []
        self.shows = {"CONFIG": CONFIG, "DATABASES": DATABASES, "POOLS": POOLS}

    async def __call__(self, peer: Peer) -> None:
        await peer.start()
        assert peer.startup["user"] == peer.startup["database"] == "pgbouncer"
        peer.say(message("S", f"server_version\0{self.version}/bouncer\0".encode()), LOGGED_IN)
        while True:
            kind, body = await peer.hear()
            if kind == "X":
                return
            self.heard.append(body[:-1].decode())
            peer.say(self.answer(self.heard[-1]))

    def answer(self, statement: str) -> bytes:
        command, _, argument = statement.partition(" ")
        if command == "PAUSE":
            return self.pause(argument)
        if command == "RESUME":
            was, self.paused = self.paused, False
            return message("C", b"RESUME\0") + READY if was else refusal("pooler is not paused/suspended")
        if argument == "STATE" and self.version != OLD:
            yes = "yes" if self.paused else "no"
            return columns("key", "value") + row("active", "?") + row("paused", yes) + READY
        return self.shows.get(argument, b"") + READY if argument in self.shows else refusal("invalid command")

    def pause(self, database: str) -> bytes:
        if self.paused:
            return refusal("already suspended/paused")
        if database == "pgbouncer":
            return refusal("cannot pause admin db: pgbouncer")
        self.paused = True
        self.took_pause.set()
        return b"" if self.busy else message("C", b"PAUSE\0") + READY


async def pause(where: UnixSocket, deadline_seconds: float = 2) -> bool:
    return await pgbouncer.pause(where, LOGIN, deadline_seconds=deadline_seconds)


async def resume(where: UnixSocket) -> None:
    await pgbouncer.resume(where, LOGIN, deadline_seconds=2)


async def state(where: UnixSocket) -> State:
    return await pgbouncer.state(where, LOGIN, deadline_seconds=2)


@pytest.mark.parametrize("version", [OLD, NEW])
async def test_an_idle_pooler_is_paused_at_once(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgbouncer, "ANSWER_SECONDS", 1)
    console = Console(version)
    async with serving(tmp_path / "s", console) as where:
        assert await pause(where)
        assert console.heard == ["PAUSE"]
        assert await pgbouncer.is_paused(where, LOGIN, deadline_seconds=2)


@pytest.mark.parametrize("version", [OLD, NEW])
async def test_a_pooler_at_work_is_paused_without_waiting_for_its_work(tmp_path: Path, version: str) -> None:
    console = Console(version, busy=True)
    async with serving(tmp_path / "s", console) as where:
        assert not await pause(where)
        assert console.paused
        await resume(where)
        assert not console.paused


@pytest.mark.parametrize("version", [OLD, NEW])
async def test_what_is_paused_can_be_paused_again(tmp_path: Path, version: str) -> None:
    console = Console(version)
    async with serving(tmp_path / "s", console) as where:
        await pause(where)
        assert not await pause(where)


@pytest.mark.parametrize("version", [OLD, NEW])
async def test_what_is_not_paused_can_be_resumed(tmp_path: Path, version: str) -> None:
    console = Console(version)
    async with serving(tmp_path / "s", console) as where:
        await resume(where)
        assert not await pgbouncer.is_paused(where, LOGIN, deadline_seconds=2)
    assert not console.paused


async def test_asking_an_old_pooler_whether_it_is_paused_does_not_pause_it(tmp_path: Path) -> None:
    console = Console(OLD)
    async with serving(tmp_path / "s", console) as where:
        assert not await pgbouncer.is_paused(where, LOGIN, deadline_seconds=2)
    assert console.heard == ["PAUSE pgbouncer"]
    assert not console.paused


async def test_a_pause_that_somebody_took_back_is_an_error(tmp_path: Path) -> None:
    class Resumed(Console):
        def pause(self, database: str) -> bytes:
            del database
            return b""

    async with serving(tmp_path / "s", Resumed(NEW)) as where:
        with pytest.raises(RefusedError, match="somebody resumed it"):
            await pause(where)


@pytest.mark.parametrize("version", [OLD, NEW])
async def test_no_admin_no_pause(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgbouncer, "ANSWER_SECONDS", 1)

    class Strict(Console):
        def answer(self, statement: str) -> bytes:
            del statement
            return refusal("admin access needed")

    async with serving(tmp_path / "s", Strict(version)) as where:
        for refused in (pause(where), resume(where), pgbouncer.is_paused(where, LOGIN, deadline_seconds=2)):
            with pytest.raises(RefusedError, match="admin access needed"):
                await refused


async def test_a_pooler_that_hangs_is_silent(tmp_path: Path) -> None:
    async def hang(peer: Peer) -> None:
        await peer.start()
        peer.say(LOGGED_IN)
        await peer.gone()

    async with serving(tmp_path / "s", hang) as where:
        with pytest.raises(SilentError):
            await pause(where, deadline_seconds=0.05)


async def test_a_pooler_that_is_not_there_is_absent(tmp_path: Path) -> None:
    where = UnixSocket(tmp_path / "none")
    for asked in (pause(where), resume(where), state(where)):
        with pytest.raises(AbsentError):
            await asked


async def test_a_new_pooler_tells_its_state(tmp_path: Path) -> None:
    console = Console(NEW)
    async with serving(tmp_path / "s", console) as where:
        assert await state(where) == State(
            version=(1, 24),
            paused=False,
            paused_databases=("stock",),
            session_pooling=False,
            waiting=2,
            active=7,
            busy_servers=3,
            longest_wait_seconds=1.25,
        )
        await pause(where)
        assert (await state(where)).paused


async def test_an_old_pooler_is_asked_whether_it_is_paused(tmp_path: Path) -> None:
    console = Console(OLD)
    async with serving(tmp_path / "s", console) as where:
        told = await state(where)
        await pause(where)
        assert (await state(where)).paused
    assert told.version == (1, 18)
    assert told.waiting == 2
    assert not told.paused


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_old_pooler_is_not_asked_what_its_last_order_tells(tmp_path: Path, *, ordered: bool) -> None:
    console = Console(OLD)
    async with serving(tmp_path / "s", console) as where:
        told = await pgbouncer.state(where, LOGIN, deadline_seconds=2, ordered=ordered)
    assert told.paused is ordered
    assert console.heard == ["SHOW CONFIG", "SHOW DATABASES", "SHOW POOLS"]


async def test_a_new_pooler_is_asked_whatever_its_last_order_was(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", Console(NEW)) as where:
        assert not (await pgbouncer.state(where, LOGIN, deadline_seconds=2, ordered=True)).paused


@pytest.mark.parametrize(
    ("usual", "database", "pool", "session"),
    [
        ("transaction", None, "transaction", False),
        ("session", None, None, True),
        ("session", "transaction", None, False),
        ("transaction", "session", None, True),
        ("transaction", None, "session", True),
    ],
)
def test_one_pool_in_session_mode_is_session_pooling(
    usual: str, database: str | None, pool: str | None, *, session: bool
) -> None:
    counts = dict.fromkeys(("cl_active", "cl_waiting", "sv_active", "maxwait", "maxwait_us"), "0")
    summary = pgbouncer.summary(
        (1, 18),
        [{"key": "pool_mode", "value": usual}],
        [{"name": "orders", "pool_mode": database, "paused": "0"}],
        [{"database": "orders", "pool_mode": pool, **counts}] if pool else [],
        paused=False,
    )
    assert summary.session_pooling is session


@pytest.mark.parametrize("table", ["CONFIG", "DATABASES", "POOLS"])
async def test_tables_of_something_else_are_refused(tmp_path: Path, table: str) -> None:
    console = Console(NEW)
    console.shows[table] = columns("name", "key", "database") + row("x", "pool_mode", "x")
    async with serving(tmp_path / "s", console) as where:
        with pytest.raises(RefusedError, match="not those of PgBouncer"):
            await state(where)


async def test_a_caller_that_gives_up_cancels_nothing(tmp_path: Path) -> None:
    console = Console(NEW, busy=True)
    async with serving(tmp_path / "s", console) as where:
        pausing = asyncio.create_task(pause(where))
        await console.took_pause.wait()
        pausing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pausing
    assert console.paused
