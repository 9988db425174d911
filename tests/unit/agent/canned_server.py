"""A server that says what a test put into its mouth, byte for byte, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the object in the body."""
        return json.loads(self.body)


@dataclass
class Canned:
    """Answers by path, each given once, in order; a path without any is met with silence."""

    answers: defaultdict[str, deque[bytes]] = field(default_factory=lambda: defaultdict(deque))
    always: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: list[asyncio.StreamWriter] = field(default_factory=list)
    hangs_up: bool = False
    address: str = "127.0.0.1"
    port: int = 0

    @property
    def endpoint(self) -> str:
        """Return where it is, as address:port."""
        return f"{self.address}:{self.port}"

    def says(self, path: str, *answers: bytes) -> None:
        """Add answers for a path; an empty one ends the connection instead."""
        self.answers[path].extend(answers)

    def tell(self, raw: bytes) -> None:
        """Send something on the newest connection, unasked."""
        self.connections[-1].write(raw)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        self.connections.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.asked.append(asked := await read(reader))
                answer = self.answers[asked.path].popleft() if self.answers[asked.path] else None
                answer = self.always.get(asked.path) if answer is None else answer
                if answer is not None:
                    writer.write(answer)
                if answer == b"" or self.hangs_up:
                    break
        writer.close()


async def read(reader: asyncio.StreamReader) -> Asked:
    """Read a request."""
    head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    method, path, _ = head.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Asked(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@contextlib.asynccontextmanager
async def canned(tls: ssl.SSLContext | None = None, *, hangs_up: bool = False) -> AsyncIterator[Canned]:
    """Run such a server for as long as the block lasts."""
    said = Canned(hangs_up=hangs_up)
    server = await asyncio.start_server(said.serve, said.address, 0, ssl=tls)
    said.port = server.sockets[0].getsockname()[1]
    try:
        yield said
    finally:
        server.close()
        for writer in said.connections:
            writer.transport.abort()


def plain(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """Return an answer with a length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join((*lines, "", "")).encode() + body


def chunked(*chunks: bytes, status: str = "200 OK", trailer: str = "") -> bytes:
    """Return an answer in chunks, with its end when there is a trailer or the last chunk is empty."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(map(chunk, chunks)) + (f"0\r\n{trailer}\r\n\r\n".encode() if trailer else b"")


def chunk(data: bytes) -> bytes:
    """Return a chunk; an empty one is the last."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def until(holds: Callable[[], object]) -> None:
    """Return when something holds that the loop is about to bring."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what holds is inside of what is tested, which has no event for it
            await asyncio.sleep(0)
