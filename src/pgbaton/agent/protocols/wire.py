"""PostgreSQL's protocol, as little as the agent needs: start up, TLS, SCRAM-SHA-256, simple queries.

PostgreSQL docs 55 ("Frontend/Backend Protocol"), version 3.0, which PgBouncer's console speaks too. A session has one
deadline for all of it, and its end never waits: neither a server that hangs nor a caller that gives up leaves anything
behind but a closed socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgbaton.agent.protocols import scram
from pgbaton.agent.protocols.connections import RefusedError, TcpAddress, UnixSocket, connect, deadline, end

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PROTOCOL_VERSION = 3 << 16
SSL_REQUEST = struct.pack("!II", 8, 80877103)
SSL_WILLING = b"S"
#: Nothing that the agent asks for is longer; who announces more speaks something else.
LONGEST_MESSAGE_BYTES = 1 << 20
#: A message: a letter, four bytes that count themselves and what follows.
HEAD_BYTES = 5
LENGTH_BYTES = 4
#: How much is shown of what a server says that is no message.
SHOWN_BYTES = 80

#: Kinds of the message AuthenticationXXX.
AUTHENTICATED = 0
SASL = 10
SASL_CONTINUE = 11
SASL_FINAL = 12

#: SQLSTATEs (PostgreSQL docs, appendix A) for what went wrong without a server's word for it.
CONNECTION_FAILURE = "08006"
PROTOCOL_VIOLATION = "08P01"
LOGIN_IMPOSSIBLE = "28000"


class ServerError(RefusedError):
    """An ErrorResponse, or the lack of a proper answer; ``fatal`` when the session ended with it."""

    def __init__(self, message: str, *, sqlstate: str, fatal: bool) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.fatal = fatal


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks, and the session's settings. Without a password, the server has to do without one too."""

    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement returned: names of columns, and rows of text, None for NULL."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()

    def records(self) -> tuple[dict[str, str | None], ...]:
        """Return each row by the names of its columns."""
        return tuple(dict(zip(self.columns, row, strict=True)) for row in self.rows)


@contextlib.asynccontextmanager
async def session(where: UnixSocket | TcpAddress, login: Login, *, deadline_seconds: float) -> AsyncIterator[Session]:
    """Give a session that is logged in; raises AbsentError, SilentError or RefusedError.

    The deadline counts for all of it: connecting, logging in, and whatever is done with the session.
    """
    async with deadline(deadline_seconds, where):
        reader, writer = await _open(where)
        try:
            opened = Session(where, reader, writer)
            await opened.log_in(login)
            try:
                yield opened
            finally:
                # A small write is done at once or not at all.
                writer.write(_message("X", b""))
        finally:
            end(writer.transport)


def unix_socket(directory: Path, port: int, *, as_uid: int | None = None) -> UnixSocket:
    """Return the Unix socket of a server or of a pooler, which PgBouncer names like PostgreSQL."""
    return UnixSocket(directory / f".s.PGSQL.{port}", as_uid=as_uid)


async def ask(where: UnixSocket | TcpAddress, login: Login, statement: str, *, deadline_seconds: float) -> Answer:
    """Return the answer to one statement, over a session of its own; raises what :func:`session` raises."""
    async with session(where, login, deadline_seconds=deadline_seconds) as only:
        return await only.query(statement)


class Session:
    """A connection that takes statements; ``parameters`` and ``notices`` are what the server told on the way."""

    def __init__(
        self, where: UnixSocket | TcpAddress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._where = where
        self._reader = reader
        self._writer = writer
        self.parameters: dict[str, str] = {}
        self.notices: list[str] = []

    async def log_in(self, login: Login) -> None:
        """Say who asks, and prove it; return when statements may come."""
        names = {"user": login.user, "database": login.database, "client_encoding": "UTF8", **dict(login.settings)}
        pairs = b"".join(_text(part) for pair in names.items() for part in pair)
        self._writer.write(_message("", struct.pack("!I", PROTOCOL_VERSION) + pairs + b"\0"))
        await self._authenticate(login)
        await self._next("Z")

    async def query(self, statement: str) -> Answer:
        """Return the answer to one statement; after a ServerError that is not fatal, another one may follow."""
        self.send(statement)
        return await self.answer()

    def send(self, statement: str) -> None:
        """Send a statement without waiting for its answer."""
        self._writer.write(_message("Q", _text(statement)))

    async def answer(self) -> Answer:
        """Return the answer to the statement that was sent."""
        answer = Answer()
        refused: ServerError | None = None
        while True:
            try:
                kind, body = await self._next("TDZ")
            except ServerError as error:
                # The first reason counts: what follows it is that the server closes the connection.
                refused = refused or error
                if error.fatal:
                    raise refused from None
                continue
            if kind == "Z":
                break
            with self._understanding(kind):
                answer = _grown(answer, kind, body)
        if refused is not None:
            raise refused
        return answer

    async def _authenticate(self, login: Login) -> None:
        kind, data = await self._authentication()
        if kind == SASL:
            with self._understanding("R"):
                await self._prove(login, data)
            kind, data = await self._authentication()
        if kind != AUTHENTICATED:
            raise self._error(LOGIN_IMPOSSIBLE, f"it wants authentication {kind}, the agent knows {scram.MECHANISM}")

    async def _prove(self, login: Login, mechanisms: bytes) -> None:
        if login.password is None:
            raise self._error(LOGIN_IMPOSSIBLE, "it wants a password, and none is set for it")
        if _text(scram.MECHANISM) not in mechanisms:
            raise self._error(LOGIN_IMPOSSIBLE, f"it offers no {scram.MECHANISM}, but {mechanisms!r}")
        nonce = scram.new_nonce()
        first = scram.first_message(login.user, nonce).encode()
        self._writer.write(_message("p", _text(scram.MECHANISM) + struct.pack("!I", len(first)) + first))
        proof = scram.prove(login.user, login.password, nonce, await self._challenge(SASL_CONTINUE))
        self._writer.write(_message("p", proof.message.encode()))
        scram.verify(proof, await self._challenge(SASL_FINAL))

    async def _challenge(self, wanted: int) -> str:
        kind, data = await self._authentication()
        if kind != wanted:
            message = f"it goes on with authentication {kind} in place of {wanted}"
            raise scram.ScramError(message)
        return data.decode()

    async def _authentication(self) -> tuple[int, bytes]:
        _, body = await self._next("R")
        with self._understanding("R"):
            (kind,) = struct.unpack_from("!I", body)
        return kind, body[4:]

    async def _next(self, wanted: str) -> tuple[str, bytes]:
        """Return the next message of a wanted kind; keep or skip what may come at any time, raise an ErrorResponse."""
        while True:
            kind, body = await self._read()
            if kind in wanted:
                return kind, body
            with self._understanding(kind):
                self._note(kind, body)

    def _note(self, kind: str, body: bytes) -> None:
        if kind == "S":
            name, value = _strings(body)
            self.parameters[name] = value
        elif kind == "N":
            self.notices.append(_fields(body)["M"])
        elif kind == "E":
            said = _fields(body)
            raise self._error(said["C"], f"it says: {said['M']}", fatal=said.get("V", said["S"]) != "ERROR")
        elif kind not in "ACIK":
            message = "not expected here"
            raise ValueError(message)

    async def _read(self) -> tuple[str, bytes]:
        try:
            head = await self._reader.readexactly(HEAD_BYTES)
            length = int.from_bytes(head[1:], "big")
            if LENGTH_BYTES <= length <= LONGEST_MESSAGE_BYTES:
                return chr(head[0]), await self._reader.readexactly(length - LENGTH_BYTES)
            # A server that cannot start a process for us says so in plain text.
            said = head + await self._reader.read(SHOWN_BYTES)
        except TimeoutError:
            raise
        except (EOFError, OSError) as error:
            raise self._error(CONNECTION_FAILURE, f"it closed the connection: {error}") from None
        raise self._error(PROTOCOL_VIOLATION, f"it does not speak PostgreSQL's protocol: {said!r}")

    @contextlib.contextmanager
    def _understanding(self, kind: str) -> Iterator[None]:
        try:
            yield
        except scram.ScramError as error:
            raise self._error(LOGIN_IMPOSSIBLE, f"no login: {error}") from None
        except (ValueError, KeyError, struct.error) as error:
            raise self._error(PROTOCOL_VIOLATION, f"a message {kind!r} is wrong: {error}") from None

    def _error(self, sqlstate: str, message: str, *, fatal: bool = True) -> ServerError:
        return ServerError(f"{self._where}: {message}", sqlstate=sqlstate, fatal=fatal)


async def _open(where: UnixSocket | TcpAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = await connect(where)
    if isinstance(where, UnixSocket) or where.tls is None:
        return await asyncio.open_connection(sock=connection)
    await _ask_for_tls(connection, where)
    try:
        name = where.tls_name or where.host
        return await asyncio.open_connection(sock=connection, ssl=where.tls, server_hostname=name)
    except TimeoutError:
        raise
    except OSError as error:
        message = f"{where}: no TLS with it: {error}"
        raise ServerError(message, sqlstate=CONNECTION_FAILURE, fatal=True) from None


async def _ask_for_tls(connection: socket.socket, where: TcpAddress) -> None:
    """Ask on the bare socket and read one byte: nothing that follows unencrypted can pass for the server's words."""
    loop = asyncio.get_running_loop()
    willing = b""
    try:
        await loop.sock_sendall(connection, SSL_REQUEST)
        willing = await loop.sock_recv(connection, 1)
    except ConnectionError:
        willing = b""
    finally:
        if willing != SSL_WILLING:
            connection.close()
    if willing != SSL_WILLING:
        message = f"{where}: it does not offer TLS, without which nothing is said; its answer: {willing!r}"
        raise ServerError(message, sqlstate=CONNECTION_FAILURE, fatal=True)


def _message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + LENGTH_BYTES) + body


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


def _strings(body: bytes) -> list[str]:
    """Return strings that end in a zero each."""
    *strings, rest = body.decode().split("\0")
    if rest:
        message = "a string does not end"
        raise ValueError(message)
    return strings


def _fields(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse or a NoticeResponse by their letters."""
    # The server's encoding is not agreed upon before the login is over.
    strings = body.decode(errors="replace").split("\0")
    return {string[0]: string[1:] for string in strings if string}


def _grown(answer: Answer, kind: str, body: bytes) -> Answer:
    if kind == "T":
        return Answer(_columns(body))
    row = _row(body)
    if len(row) != len(answer.columns):
        message = f"a row of {len(row)} values under {len(answer.columns)} columns"
        raise ValueError(message)
    return Answer(answer.columns, (*answer.rows, row))


def _columns(body: bytes) -> tuple[str, ...]:
    (count,) = struct.unpack_from("!H", body)
    names = []
    at = 2
    for _ in range(count):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode())
        # Table, column, type, size, modifier, format: 18 bytes.
        at = end + 19
    if at != len(body):
        message = "the columns do not fill it"
        raise ValueError(message)
    return tuple(names)


def _row(body: bytes) -> tuple[str | None, ...]:
    (count,) = struct.unpack_from("!H", body)
    values: list[str | None] = []
    at = 2
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        values.append(None if length < 0 else body[at : at + length].decode())
        at += max(length, 0)
    if at != len(body):
        message = "a row's values do not fill it"
        raise ValueError(message)
    return tuple(values)
