"""One connection to PostgreSQL, driven through libpq without ever blocking, every step under a deadline.

libpq and psycopg wait as long as TCP does, and answer a deadline with a cancel request. A meter must do neither: it
gives up on time, leaves the server alone, and never mistakes a half answer for an acknowledgement.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import OperationalError
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, PGconn, PollingStatus, TransactionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.pq import abc

#: SQLSTATEs that leave open whether the transaction took place (PostgreSQL docs, appendix A).
UNDECIDED = frozenset({"40003", "08007"})
WARNING_SEVERITIES = frozenset({"WARNING"})


@dataclass(frozen=True)
class Deadlines:
    """How long a client waits, in seconds: for TCP to connect, for the whole login, for an answer.

    The first is short, because a lost SYN is repeated only after a second: a client that waits for that measures
    the kernel's patience, not the cluster's recovery.
    """

    connect_seconds: float = 0.25
    login_seconds: float = 3.0
    answer_seconds: float = 3.0


class ConnectFailure(Exception):  # noqa: N818 - an outcome of a measurement, caught where it is made
    """No session came about: nothing was asked of the server."""


class Rejected(Exception):  # noqa: N818 - likewise
    """The server answered that the statement was not carried out; the session goes on."""


class Undecided(Exception):  # noqa: N818 - likewise
    """Nothing certain is known about the statement; the session is of no further use."""


class Session:
    """A logged-in connection."""

    def __init__(self, connection: abc.PGconn) -> None:
        self._connection = connection
        self._warnings: list[str] = []
        connection.nonblocking = 1
        connection.notice_handler = self._note

    @classmethod
    async def open(cls, conninfo: bytes, deadlines: Deadlines) -> Session:
        """Connect and log in; raises ConnectFailure."""
        connection = PGconn.connect_start(conninfo)
        try:
            async with asyncio.timeout(deadlines.login_seconds):
                await _log_in(connection, deadlines.connect_seconds)
        except TimeoutError:
            connected = connection.status not in {ConnStatus.STARTED, ConnStatus.BAD}
            connection.finish()
            raise ConnectFailure("login: no answer" if connected else "connect: no answer") from None
        except BaseException:
            connection.finish()
            raise
        return cls(connection)

    def close(self) -> None:
        """Close the connection at once."""
        self._connection.finish()

    async def execute(self, statement: bytes, parameters: Sequence[bytes], *, timeout: float) -> str | None:
        """Run one statement in its own transaction and return the first value of its first row.

        Returns only when the server has said that it is ready for the next one, outside any transaction, and without
        a warning: an earlier "command complete" may stand for a commit that never reached a standby.
        Raises Rejected or Undecided.
        """
        self._warnings.clear()
        try:
            async with asyncio.timeout(timeout):
                results = await self._exchange(statement, parameters)
        except TimeoutError:
            message = f"no answer: within {timeout:g} s"
            raise Undecided(message) from None
        except OperationalError as error:
            message = f"connection lost: {first_line(str(error))}"
            raise Undecided(message) from None
        return self._judge(results)

    def _judge(self, results: list[abc.PGresult]) -> str | None:
        ready = self._connection.transaction_status == TransactionStatus.IDLE
        failure = next((result for result in results if result.status == ExecStatus.FATAL_ERROR), None)
        if failure is not None:
            _raise_for(failure, ready=ready)
        if not ready or len(results) != 1:
            message = "connection lost: before the server was ready again"
            raise Undecided(message)
        if self._warnings:
            raise Undecided(self._warnings[0])
        value = results[0].get_value(0, 0) if results[0].ntuples else None
        return None if value is None else value.decode()

    def _note(self, notice: abc.PGresult) -> None:
        if _field(notice, DiagnosticField.SEVERITY_NONLOCALIZED) in WARNING_SEVERITIES:
            self._warnings.append(f"warning {describe(notice)}")

    async def _exchange(self, statement: bytes, parameters: Sequence[bytes]) -> list[abc.PGresult]:
        connection = self._connection
        connection.send_query_params(statement, parameters)
        while connection.flush():
            await _ready(connection.socket, read=True, write=True)
            connection.consume_input()
        results: list[abc.PGresult] = []
        while True:
            while connection.is_busy():
                await _ready(connection.socket, read=True)
                connection.consume_input()
            result = connection.get_result()
            if result is None:
                return results
            results.append(result)


async def _log_in(connection: abc.PGconn, connect_seconds: float) -> None:
    give_up = asyncio.get_running_loop().time() + connect_seconds
    state: int = PollingStatus.WRITING
    while state != PollingStatus.OK:
        if state == PollingStatus.FAILED or connection.status == ConnStatus.BAD:
            raise ConnectFailure(_refusal(connection))
        established = connection.status != ConnStatus.STARTED
        writing = state == PollingStatus.WRITING
        async with asyncio.timeout_at(None if established else give_up):
            await _ready(connection.socket, read=not writing, write=writing)
        state = connection.connect_poll()


async def _ready(descriptor: int, *, read: bool = False, write: bool = False) -> None:
    """Wait until a socket can be read or written, as asked."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    if read:
        loop.add_reader(descriptor, wake)
    if write:
        loop.add_writer(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)


def _raise_for(failure: abc.PGresult, *, ready: bool) -> None:
    """Raise what an error result means: certain only when the session outlived it."""
    text = describe(failure)
    state = _field(failure, DiagnosticField.SQLSTATE)
    if ready and state and state not in UNDECIDED:
        raise Rejected(text)
    raise Undecided(text if state else f"connection lost: {text}")


def _refusal(connection: abc.PGconn) -> str:
    message = connection.get_error_message()
    for sign, name in (
        ("refused", "connect: refused"),
        ("No route", "connect: no route"),
        ("timed out", "connect: no answer"),
    ):
        if sign in message:
            return name
    return f"login: {first_line(message)}"


def describe(result: abc.PGresult) -> str:
    """Return ``SQLSTATE: message`` of an error or a warning."""
    state = _field(result, DiagnosticField.SQLSTATE)
    message = _field(result, DiagnosticField.MESSAGE_PRIMARY) or first_line(result.get_error_message())
    return f"{state}: {message}" if state else message


def first_line(text: str) -> str:
    """Return the last clause of a libpq message's first line, at most 120 characters."""
    line = (text.strip().splitlines() or ["unknown"])[0]
    return " ".join(line.rpartition(" failed: ")[2].split())[:120]


def _field(result: abc.PGresult, field: DiagnosticField) -> str:
    value = result.error_field(field)
    return value.decode(errors="replace") if value else ""
