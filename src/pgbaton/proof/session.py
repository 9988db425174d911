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

from pgbaton.proof.attempts import attempts
from pgbaton.proof.workloads.base import Reply

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


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that the server, or libpq without a SQLSTATE, answered a statement with."""

    state: str
    text: str


class Session:
    """A logged-in connection."""

    def __init__(self, connection: abc.PGconn) -> None:
        self._connection = connection
        self._warnings: list[str] = []
        connection.nonblocking = 1
        connection.notice_handler = self._note

    @classmethod
    async def open(cls, conninfo: bytes, deadlines: Deadlines) -> Session:
        """Connect and log in, to the first of the hosts named that is as asked for; raises ConnectFailure."""
        failure = ConnectFailure("connect: no host named")
        for attempt in attempts(conninfo):
            try:
                return await cls._open(attempt, deadlines)
            except ConnectFailure as error:
                failure = error
        raise failure

    @classmethod
    async def _open(cls, conninfo: bytes, deadlines: Deadlines) -> Session:
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

    @property
    def idle(self) -> bool:
        """Tell whether the server waits for the next statement, outside any transaction."""
        return self._connection.transaction_status == TransactionStatus.IDLE

    async def execute(
        self, statement: bytes, parameters: Sequence[bytes] = (), *, timeout: float, script: bool = False
    ) -> tuple[Reply, ...]:
        """Run one statement in its own transaction, or a script that ends with COMMIT, and return what was answered.

        Returns only when the server has said that it is ready for the next one, outside any transaction, and without
        a warning: an earlier "command complete" may stand for a commit that never reached a standby.
        Raises Rejected, after which a script may have left a transaction to roll back, or Undecided.
        """
        self._warnings.clear()
        try:
            async with asyncio.timeout(timeout):
                results = await self._exchange(statement, None if script else parameters)
        except TimeoutError:
            message = f"no answer: within {timeout:g} s"
            raise Undecided(message) from None
        except OperationalError as error:
            message = f"connection lost: {first_line(str(error))}"
            raise Undecided(message) from None
        status = TransactionStatus(self._connection.transaction_status)
        answers = tuple(_answer(result) for result in results)
        return judge(answers, status, self._warnings, script=script)

    def _note(self, notice: abc.PGresult) -> None:
        if _field(notice, DiagnosticField.SEVERITY_NONLOCALIZED) in WARNING_SEVERITIES:
            self._warnings.append(f"warning {describe(notice)}")

    async def _exchange(self, statement: bytes, parameters: Sequence[bytes] | None) -> list[abc.PGresult]:
        connection = self._connection
        if parameters is None:
            connection.send_query(statement)
        else:
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


def judge(
    answers: Sequence[Reply | Failure], status: TransactionStatus, warnings: Sequence[str], *, script: bool = False
) -> tuple[Reply, ...]:
    """Return what the server said, when it stands for an acknowledgement without reservation. Pure.

    ``status`` is what the session was left in, ``warnings`` what came along. Raises Rejected when the transaction
    certainly did not take place, Undecided when it may have.
    """
    replies: list[Reply] = []
    for answer in answers:
        if isinstance(answer, Failure):
            raise _meaning(answer, replies, status)
        replies.append(answer)
    last = replies[-1].tag if replies else ""
    if status != TransactionStatus.IDLE or not replies or (not script and len(replies) > 1):
        message = "connection lost: before the server was ready again"
        raise Undecided(message)
    if script and last == "ROLLBACK":
        message = "rolled back: COMMIT was answered with ROLLBACK"
        raise Rejected(message)
    if warnings:
        raise Undecided(warnings[0])
    if script and last != "COMMIT":
        message = f"no commit: the last answer was {last!r}"
        raise Undecided(message)
    return tuple(replies)


def _meaning(failure: Failure, before: Sequence[Reply], status: TransactionStatus) -> Rejected | Undecided:
    """Return what an error means: certain only when the session outlived it, and nothing was committed before it."""
    alive = status in {TransactionStatus.IDLE, TransactionStatus.INERROR}
    committed = any(reply.tag == "COMMIT" for reply in before)
    if alive and not committed and failure.state and failure.state not in UNDECIDED:
        return Rejected(failure.text)
    return Undecided(failure.text if failure.state else f"connection lost: {failure.text}")


def _answer(result: abc.PGresult) -> Reply | Failure:
    if result.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
        return Failure(_field(result, DiagnosticField.SQLSTATE), describe(result))
    columns = range(result.nfields)
    rows = tuple(
        tuple(None if (value := result.get_value(row, column)) is None else value.decode() for column in columns)
        for row in range(result.ntuples)
    )
    return Reply((result.command_status or b"").decode(), rows)


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
