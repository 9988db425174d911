"""PgBouncer's console over its Unix socket: hold clients, let them go, see who waits. PgBouncer 1.18 to 1.24.

PAUSE without a name pauses the whole process. It takes effect at once, and is *answered* only when no server is at work
any more: while a transaction runs, or hangs on a server that died, the answer stays away, yet nobody gets a server. So
:func:`pause` does not wait for the answer; it makes sure of the effect on a second connection. Closing the first one
takes nothing back, whereas a cancel request there would (admin_handle_cancel), so none is ever sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.agent.protocols import wire
from pgbaton.agent.protocols.connections import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.agent.protocols.connections import UnixSocket

#: The user that the console takes without a password when the other side's uid is PgBouncer's own.
USER = "pgbouncer"
#: The console's own name among the databases.
CONSOLE = "pgbouncer"
#: A PAUSE with nothing to wait for is answered within one turn of PgBouncer's loop. What comes next waits meanwhile.
ANSWER_SECONDS = 0.005
#: PgBouncer tells its state since this version.
TELLS_STATE = (1, 19)

#: PgBouncer has one SQLSTATE for all that its console refuses; its English is not translated.
ALREADY_PAUSED = "already suspended/paused"
NOT_PAUSED = "not paused"
NOT_FOR_THE_CONSOLE = "cannot pause admin db"

Record = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class State:
    """What a pooler does.

    ``paused`` is whether all of it is, by PAUSE without a name; ``paused_databases`` were paused by name, by somebody
    else. ``session_pooling``: some pool gives a server to a client for as long as it stays. ``waiting`` are clients
    without a server that want one, ``active`` those that have one or want none, ``busy_servers`` the servers that they
    have.
    """

    version: tuple[int, ...]
    paused: bool
    paused_databases: tuple[str, ...]
    session_pooling: bool
    waiting: int
    active: int
    busy_servers: int
    longest_wait_seconds: float


def login(password: str | None = None) -> wire.Login:
    """Return who asks the console: PgBouncer's own user on its Unix socket needs no password."""
    return wire.Login(USER, CONSOLE, password=password)


async def pause(where: UnixSocket, who: wire.Login, *, deadline_seconds: float) -> bool:
    """Give no client a server any more; return whether none has one either.

    False says that transactions are still under way, or that it was paused before. Raises AbsentError, SilentError, or
    RefusedError, after which it may be paused nevertheless: resume it.
    """
    async with wire.session(where, who, deadline_seconds=deadline_seconds) as first:
        first.send("PAUSE")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                return await _answered(first)
        async with wire.session(where, who, deadline_seconds=deadline_seconds) as second:
            if not await _paused(second, ordered=None):
                message = f"{where}: it took PAUSE and is not paused; somebody resumed it"
                raise RefusedError(message)
    return False


async def resume(where: UnixSocket, who: wire.Login, *, deadline_seconds: float) -> None:
    """Give servers to clients again; nothing happens where nothing was paused."""
    async with wire.session(where, who, deadline_seconds=deadline_seconds) as session:
        try:
            await session.query("RESUME")
        except wire.ServerError as error:
            if NOT_PAUSED not in str(error):
                raise


async def is_paused(
    where: UnixSocket, who: wire.Login, *, deadline_seconds: float, ordered: bool | None = None
) -> bool:
    """Return whether all of it is paused; raises AbsentError, SilentError or RefusedError.

    Before 1.19 PgBouncer does not tell: ``ordered`` is what the last order that it took has made of it. None has it
    asked in a way that leaves an error in its log each time.
    """
    async with wire.session(where, who, deadline_seconds=deadline_seconds) as session:
        return await _paused(session, ordered=ordered)


async def state(where: UnixSocket, who: wire.Login, *, deadline_seconds: float, ordered: bool | None = None) -> State:
    """Return what the pooler does; raises AbsentError, SilentError or RefusedError.

    ``ordered`` is that of :func:`is_paused`. The tables are long, and cost both sides more than that question.
    """
    async with wire.session(where, who, deadline_seconds=deadline_seconds) as session:
        version = _version(session)
        paused = await _paused(session, ordered=ordered)
        settings = await _shown(session, "CONFIG")
        databases = await _shown(session, "DATABASES")
        pools = await _shown(session, "POOLS")
    try:
        return summary(version, settings, databases, pools, paused=paused)
    except (KeyError, TypeError, ValueError) as error:
        message = f"{where}: its tables are not those of PgBouncer 1.18 to 1.24: {error!r}"
        raise RefusedError(message) from None


def summary(
    version: tuple[int, ...],
    settings: Iterable[Record],
    databases: Iterable[Record],
    pools: Iterable[Record],
    *,
    paused: bool,
) -> State:
    """Return the state that SHOW's tables describe; raises KeyError, TypeError or ValueError when they do not."""
    (usual,) = (record["value"] for record in settings if record["key"] == "pool_mode")
    served = [record for record in databases if record["name"] != CONSOLE]
    used = [record for record in pools if record["database"] != CONSOLE]
    modes = {record["pool_mode"] or usual for record in served} | {record["pool_mode"] for record in used}
    return State(
        version=version,
        paused=paused,
        paused_databases=tuple(str(record["name"]) for record in served if record["paused"] != "0"),
        session_pooling="session" in modes,
        waiting=sum(_whole(record["cl_waiting"]) for record in used),
        active=sum(_whole(record["cl_active"]) for record in used),
        busy_servers=sum(_whole(record["sv_active"]) for record in used),
        longest_wait_seconds=max((_waited(record) for record in used), default=0.0),
    )


async def _answered(session: wire.Session) -> bool:
    try:
        await session.answer()
    except wire.ServerError as error:
        if ALREADY_PAUSED not in str(error):
            raise
        return False
    return True


async def _paused(session: wire.Session, *, ordered: bool | None) -> bool:
    if _version(session) >= TELLS_STATE:
        return {"key": "paused", "value": "yes"} in await _shown(session, "STATE")
    if ordered is not None:
        return ordered
    try:
        # Always refused: whether anything is paused is looked at before the name.
        await session.query(f"PAUSE {CONSOLE}")
    except wire.ServerError as error:
        if ALREADY_PAUSED in str(error):
            return True
        if NOT_FOR_THE_CONSOLE not in str(error):
            raise
    return False


async def _shown(session: wire.Session, table: str) -> tuple[Record, ...]:
    return (await session.query(f"SHOW {table}")).records()


def _version(session: wire.Session) -> tuple[int, ...]:
    """Return the version, which the console tells as ``1.24.1/bouncer``."""
    told = re.match(r"(\d+)\.(\d+)", session.parameters.get("server_version", ""))
    return tuple(int(number) for number in told.groups()) if told else (0, 0)


def _waited(record: Record) -> float:
    return _whole(record["maxwait"]) + _whole(record["maxwait_us"]) / 1_000_000


def _whole(text: str | None) -> int:
    return int(text or "")
