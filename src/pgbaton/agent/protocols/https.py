"""An HTTP/1.1 client over TLS, mutual where there is a certificate: one server, connections kept, deadlines always.

What matters to whoever asks is whether a request that failed may have been carried out. ConnectError says it never
left; every other error says that it may have been.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pgbaton.agent.protocols.connections import end
from pgbaton.agent.protocols.http1 import Body, EndedError, Head, Limits, MalformedError, Response, read_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
    from typing import SupportsIndex

T = TypeVar("T")

#: What a server says in an alert about the client's certificate. With TLS 1.3 it comes when the handshake is over for
#: the client, and the request is on its way to a server that will not read it.
REFUSALS = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED", "PROTOCOL_VERSION", "DECRYPT_ERROR")
STATUS = re.compile("[1-5][0-9]{2}")
#: Statuses of an answer that has no body, and the first that is the last word on a request.
NO_BODY = (204, 304)
FINAL_STATUS = 200


class HttpsError(Exception):
    """A request failed; ``where`` is the server, as ``address:port``."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = where


class ConnectError(HttpsError):
    """There was no connection, so the request was not carried out."""


class SlowConnectError(ConnectError):
    """There was no connection in time, so the request was not carried out."""


class TlsError(ConnectError):
    """One side did not accept the other's certificate, so the request was not carried out."""


class DeadlineError(HttpsError):
    """No answer came in time; the request may have been carried out."""


class BrokenError(HttpsError):
    """The connection ended, or what came is no HTTP; the request may have been carried out."""


class HttpError(HttpsError):
    """The server answered with a status that was not wanted."""

    def __init__(self, where: str, message: str, response: Response) -> None:
        super().__init__(where, f"{message}: status {response.status}: {response.text()[:200].strip()}")
        self.status = response.status
        self.response = response


@dataclass(frozen=True, slots=True)
class Identity:
    """Files of TLS: whose certificates are believed, and the certificate and key to show."""

    authority: str
    certificate: str
    key: str


def client_context(identity: Identity) -> ssl.SSLContext:
    """Return TLS for a client: the server's certificate is checked, by its address or name too.

    Built by hand, since Python's own default differs between versions. Raises OSError when a file cannot be read.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, identity)


def bare_client_context(authority: str) -> ssl.SSLContext:
    """Return TLS for a client that shows no certificate, as applications do: some refuse one that they cannot check."""
    return _verifying(ssl.PROTOCOL_TLS_CLIENT, authority)


def server_context(identity: Identity, clients: ssl.VerifyMode) -> ssl.SSLContext:
    """Return TLS for a server; ``clients`` says whether a client has to show a certificate, may, or need not."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
    context.verify_mode = clients
    return context


def _context(protocol: int, identity: Identity) -> ssl.SSLContext:
    context = _verifying(protocol, identity.authority)
    context.load_cert_chain(identity.certificate, identity.key)
    return context


def _verifying(protocol: int, authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(authority)
    return context


class Reader(asyncio.StreamReader):
    """A reader that notices what comes while nothing was asked: the end, or an answer to nobody's question."""

    asked = True
    spoilt = False

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Take what came."""
        self.spoilt = self.spoilt or not self.asked
        super().feed_data(data)

    def feed_eof(self) -> None:
        """Take that no more comes."""
        self.spoilt = True
        super().feed_eof()


@dataclass(slots=True)
class Connection:
    """A connection to a server, and whether it has carried a request before."""

    reader: Reader
    transport: asyncio.WriteTransport
    used: bool = False

    def is_alive(self) -> bool:
        """Tell whether nothing says yet that the other side is gone."""
        return not (self.reader.spoilt or self.reader.exception() or self.transport.is_closing())


class Stream:
    """An answer that has begun, and goes on line by line for as long as the server likes."""

    def __init__(self, where: str, status: int, body: Body) -> None:
        self.status = status
        self._where = where
        self._body = body

    async def line(self) -> bytes | None:
        """Wait for the next line; None at the end. Raises BrokenError."""
        try:
            return await self._body.line()
        except (OSError, MalformedError) as error:
            raise _broken(self._where, error) from error


class Client:
    """A client of one server. Safe to use from several tasks at once; each request has a connection to itself."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        most_idle: int = 2,
    ) -> None:
        self.where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self._address = address
        self._port = port
        self._tls = tls
        self._headers = {"host": self.where, "user-agent": "pgbaton", **(headers or {})}
        self._limits = limits or Limits()
        self._most_idle = most_idle
        self._idle: list[Connection] = []

    def say(self, name: str, value: str | None) -> None:
        """Send a header with every request from now on; None: no longer."""
        if value is None:
            self._headers.pop(name, None)
        else:
            self._headers[name] = value

    def use(self, tls: ssl.SSLContext | None) -> None:
        """Use other certificates from now on."""
        self._tls = tls
        self.close()

    def close(self) -> None:
        """End the connections that are kept; the client can still be used."""
        while self._idle:
            end(self._idle.pop().transport)

    async def request(
        self, method: str, path: str, body: bytes = b"", *, deadline_seconds: float, repeatable: bool = False
    ) -> Response:
        """Ask, and return the answer whatever its status.

        A connection that was kept may be dead without anybody knowing: a request that is ``repeatable`` is sent once
        more when such a one breaks. Raises ConnectError, TlsError, DeadlineError or BrokenError.
        """
        ends = _now() + deadline_seconds
        asked = self._message(method, path, body)
        connection = await self._connection(ends)
        try:
            return await self._exchange(connection, method, asked, ends)
        except BrokenError:
            if not (connection.used and repeatable):
                raise
        return await self._exchange(await self._connect(ends), method, asked, ends)

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, path: str, body: bytes = b"", *, deadline_seconds: float
    ) -> AsyncIterator[Stream]:
        """Ask for an answer that goes on; the deadline is for its beginning, and the connection ends with it.

        Raises what :meth:`request` does.
        """
        ends = _now() + deadline_seconds
        connection = await self._connect(ends)
        try:
            head = await self._watched(connection, self._begin(connection, self._message(method, path, body)), ends)
            yield Stream(self.where, _status(head), self._body(connection, head))
        finally:
            end(connection.transport)

    def _message(self, method: str, path: str, body: bytes) -> bytes:
        headers = dict(self._headers)
        if body or method not in {"GET", "HEAD", "OPTIONS"}:
            headers |= {"content-length": str(len(body)), "content-type": "application/json"}
        lines = (f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()))
        return "\r\n".join((*lines, "", "")).encode("latin-1") + body

    async def _connection(self, ends: float) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive():
                connection.reader.asked = True
                return connection
            end(connection.transport)
        return await self._connect(ends)

    async def _connect(self, ends: float) -> Connection:
        loop = asyncio.get_running_loop()
        reader = Reader(limit=self._limits.head_bytes)
        try:
            async with asyncio.timeout_at(ends):
                transport, _ = await loop.create_connection(
                    lambda: asyncio.StreamReaderProtocol(reader), self._address, self._port, ssl=self._tls
                )
        except TimeoutError:
            raise SlowConnectError(self.where, "no connection in time") from None
        except ssl.SSLError as error:
            raise TlsError(self.where, f"no TLS with it: {_said(error)}") from error
        except OSError as error:
            raise ConnectError(self.where, f"no connection: {_said(error)}") from error
        return Connection(reader, transport)

    async def _exchange(self, connection: Connection, method: str, asked: bytes, ends: float) -> Response:
        """Send a request and read its answer; keep the connection when another one may follow."""
        kept = False
        try:
            head, body = await self._watched(connection, self._answer(connection, method, asked), ends)
            kept = self._keeps(connection, head)
        finally:
            if not kept:
                end(connection.transport)
        return Response(_status(head), body, head.headers)

    def _keeps(self, connection: Connection, head: Head) -> bool:
        framed = "content-length" in head.headers or head.is_chunked()
        if not (framed and head.keeps_alive(head.first[0]) and len(self._idle) < self._most_idle):
            return False
        connection.used, connection.reader.asked = True, False
        self._idle.append(connection)
        return True

    async def _answer(self, connection: Connection, method: str, asked: bytes) -> tuple[Head, bytes]:
        head = await self._begin(connection, asked)
        if method == "HEAD" or _status(head) in NO_BODY:
            return head, b""
        return head, await self._body(connection, head).whole()

    async def _begin(self, connection: Connection, asked: bytes) -> Head:
        """Send a request and read the head of its answer. Requests are small, so nothing waits for them to leave."""
        connection.transport.write(asked)
        while True:
            head = await read_head(connection.reader)
            if head is None:
                message = "the connection ended before an answer"
                raise EndedError(message)
            if _status(head) >= FINAL_STATUS:
                return head

    def _body(self, connection: Connection, head: Head) -> Body:
        return Body(connection.reader, head, self._limits, until_end=True)

    async def _watched(self, connection: Connection, work: Awaitable[T], ends: float) -> T:
        """Return what the work comes to, and every failure as one of this module's."""
        try:
            async with asyncio.timeout_at(ends):
                return await work
        except TimeoutError:
            self.close()  # the kept ones lead to the same silent server
            raise DeadlineError(self.where, "no answer in time") from None
        except ssl.SSLError as error:
            if not connection.used and any(word in (error.reason or "") for word in REFUSALS):
                raise TlsError(self.where, f"it refuses our certificate: {error.reason}") from error
            raise _broken(self.where, error) from error
        except (OSError, MalformedError) as error:
            raise _broken(self.where, error) from error


def _broken(where: str, error: Exception) -> BrokenError:
    return BrokenError(where, f"the answer broke off: {_said(error)}")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _status(head: Head) -> int:
    version, status, _ = head.first
    if version in {"HTTP/1.1", "HTTP/1.0"} and STATUS.fullmatch(status):
        return int(status)
    message = f"no answer of HTTP: {version[:20]!r} {status[:20]!r}"
    raise MalformedError(message)


def _now() -> float:
    return asyncio.get_running_loop().time()
