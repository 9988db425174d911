"""A small HTTP/1.1 server over TLS, for checks and metrics: bounded in every direction.

A client that is slow, silent or talks nonsense costs one of a few places for a short time, and loses it at once when
the places run out. Certificates can be changed while it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from pgbaton.agent.protocols.connections import end
from pgbaton.agent.protocols.http1 import Body, Head, Limits, MalformedError, Response, read_head

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

LOGGER = logging.getLogger(__name__)
METHODS = ("GET", "HEAD", "OPTIONS", "POST")
#: How long to leave a listener alone that cannot accept, in seconds: no descriptors are left, say.
PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks. ``certified`` says that it showed a certificate that the authority signed."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""
    certified: bool = False


Handler: TypeAlias = "Callable[[Request], Awaitable[Response]]"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may take: places, bytes, and time for a request, for its answer, and between two requests."""

    connections: int = 64
    limits: Limits = field(default_factory=lambda: Limits(head_bytes=8_192, body_bytes=65_536))
    request_seconds: float = 2.0
    handler_seconds: float = 5.0
    idle_seconds: float = 15.0


@dataclass(slots=True, eq=False)
class Place:
    """A connection's place: who serves it, and whether that works for its client or waits for it."""

    task: asyncio.Task[None] | None = None
    working: bool = False


class Server:
    """Answer requests with a handler, until closed."""

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None, bounds: Bounds | None = None) -> None:
        self._handler = handler
        self._tls = tls
        self._bounds = bounds or Bounds()
        self._places: dict[Place, None] = {}  # in the order in which they began to wait
        self._accepting: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self, address: str, port: int) -> int:
        """Listen, and return the port; raises OSError when the address or the port cannot be had."""
        listener = _listener(address, port, backlog=self._bounds.connections)
        self._accepting = asyncio.create_task(self._accept(listener))
        return int(listener.getsockname()[1])

    def use(self, tls: ssl.SSLContext | None) -> None:
        """Use other certificates for connections from now on; those that are open go on."""
        self._tls = tls

    async def close(self, *, grace_seconds: float) -> None:
        """Listen no more; let answers that are being made leave, for so long, then end every connection."""
        self._closing = True
        if self._accepting is not None:
            await _ended([self._accepting])
        working = [place.task for place in self._places if place.task and place.working]
        if working:
            await asyncio.wait(working, timeout=grace_seconds)
        await _ended([place.task for place in self._places if place.task])

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:
                    LOGGER.warning("cannot accept a connection: %s; trying again in %s s", error, PAUSE_SECONDS)
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                self._admit(connection)
                await asyncio.sleep(0)  # a crowd at the door must not keep the others waiting

    def _admit(self, connection: socket.socket) -> None:
        """Give a client a place: a free one, or that of whoever keeps us waiting longest."""
        if len(self._places) >= self._bounds.connections:
            waiting = next((place for place in self._places if not place.working), None)
            if waiting is None or waiting.task is None:
                connection.close()
                return
            del self._places[waiting]
            waiting.task.cancel()
        place = Place()
        self._places[place] = None
        place.task = asyncio.create_task(self._serve(connection, place))

    async def _serve(self, connection: socket.socket, place: Place) -> None:
        """Serve one client. Whatever it does wrong ends its connection, and is nobody else's matter."""
        try:
            reader, writer = await self._open(connection)
            try:
                await self._converse(reader, writer, place)
                await self._leave(writer)
            finally:
                end(writer.transport)
        except (OSError, MalformedError) as error:
            LOGGER.debug("a client's connection ended: %s", error)
        finally:
            self._places.pop(place, None)

    async def _open(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=self._bounds.limits.head_bytes)
        protocol = asyncio.StreamReaderProtocol(reader)
        seconds = self._bounds.request_seconds if self._tls else None
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._tls, ssl_handshake_timeout=seconds, ssl_shutdown_timeout=seconds
            )
        except BaseException:
            # Whoever is cancelled before a handshake has begun would leave it to go on by itself.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            raise
        # drain() is to wait until nothing is left here. Not 0: over TLS, asyncio takes an empty buffer for a full one
        # then, and every other drain() waits in vain.
        transport.set_write_buffer_limits(high=1, low=0)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: Place) -> None:
        """Answer one request after the other, for as long as the client and we like to."""
        wait_seconds = self._bounds.request_seconds
        stays = True
        while stays and not self._closing:
            async with asyncio.timeout(wait_seconds):
                request, response, stays = await self._read(reader, writer)
            if request is not None:
                self._works(place, working=True)
                response = await self._answer(request)
            if response is None:
                return
            bare = request is not None and request.method == "HEAD"
            async with asyncio.timeout(self._bounds.request_seconds):
                writer.write(encoded(response, stays=stays and not self._closing, bare=bare))
                await writer.drain()
            self._works(place, working=False)
            wait_seconds = self._bounds.idle_seconds

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Request | None, Response | None, bool]:
        """Read a request, or return what to answer to something that is none; then whether the client may stay."""
        try:
            head = await read_head(reader)
            if head is None:
                return None, None, False
            body = Body(reader, head, self._bounds.limits, until_end=False)
            return _request(head, await _checked(head, body), writer), None, head.keeps_alive(head.first[2])
        except MalformedError as error:
            return None, Response(error.status, f"{error}\n".encode()), False

    async def _answer(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._bounds.handler_seconds):
                return await self._handler(request)
        except TimeoutError:
            LOGGER.warning("%s %s: no answer within %s s", request.method, request.path, self._bounds.handler_seconds)
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, b"no answer in time\n")
        except Exception:
            LOGGER.exception("%s %s: no answer because of an error of ours", request.method, request.path)
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"an error of ours; the journal has it\n")

    async def _leave(self, writer: asyncio.StreamWriter) -> None:
        """End a connection so that the client has read everything first."""
        writer.close()
        async with asyncio.timeout(self._bounds.request_seconds):
            await writer.wait_closed()

    def _works(self, place: Place, *, working: bool) -> None:
        """Note what a place is used for; one that begins to wait has waited shortest."""
        place.working = working
        if place in self._places and not working:
            del self._places[place]
            self._places[place] = None


async def _checked(head: Head, body: Body) -> bytes:
    """Read a request's body when its head is one that we answer."""
    method, _, version = head.first
    if version not in {"HTTP/1.0", "HTTP/1.1"}:
        message = f"no request of HTTP/1.1: {version[:20]!r}"
        raise MalformedError(message, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if method not in METHODS:
        message = f"{method[:20]!r} is not served; {', '.join(METHODS)} are"
        raise MalformedError(message, HTTPStatus.METHOD_NOT_ALLOWED)
    if "expect" in head.headers:
        message = "bodies are small here: send it at once, without Expect"
        raise MalformedError(message, HTTPStatus.EXPECTATION_FAILED)
    return await body.whole()


def _request(head: Head, body: bytes, writer: asyncio.StreamWriter) -> Request:
    method, target, _ = head.first
    path, _, query = target.partition("?")
    peer = writer.get_extra_info("peername") or ("",)
    certified = bool(writer.get_extra_info("peercert"))
    return Request(method, path, query, head.headers, body, peer=str(peer[0]), certified=certified)


def encoded(response: Response, *, stays: bool, bare: bool = False) -> bytes:
    """Return an answer as it goes over the wire; ``bare`` is without the body, as HEAD wants it."""
    headers = {
        "content-type": "text/plain; charset=utf-8",
        **response.headers,
        "content-length": str(len(response.body)),
        "connection": "keep-alive" if stays else "close",
    }
    first = f"HTTP/1.1 {int(response.status)} {HTTPStatus(response.status).phrase}"
    lines = (first, *(f"{name}: {value}" for name, value in headers.items()), "", "")
    return "\r\n".join(lines).encode("latin-1") + (b"" if bare else response.body)


def _listener(address: str, port: int, *, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Named, because asyncio sets TCP_NODELAY for nothing else: an answer would wait for a client's delayed ACK, 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(backlog)
        listener.setblocking(False)  # noqa: FBT003 - the only form there is
    except OSError:
        listener.close()
        raise
    return listener


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks, and return when they are gone."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
