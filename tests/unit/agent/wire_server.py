"""Servers on a Unix socket that speak by a script, PostgreSQL's protocol above all, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING

from pgbaton.agent.protocols.connections import UnixSocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Script = Callable[["Peer"], Awaitable[None]]

READY = b"Z\0\0\0\x05I"
LOGGED_IN = b"R" + struct.pack("!II", 8, 0) + READY


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def authentication(kind: int, data: bytes = b"") -> bytes:
    return message("R", struct.pack("!I", kind) + data)


def error(sqlstate: str, text: str, severity: str = "FATAL") -> bytes:
    return message("E", f"S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0".encode())


def columns(*names: str) -> bytes:
    described = b"".join(name.encode() + b"\0" + bytes(18) for name in names)
    return message("T", struct.pack("!H", len(names)) + described)


def row(*values: str | None) -> bytes:
    told = b"".join(
        struct.pack("!i", -1) if value is None else struct.pack("!i", len(value.encode())) + value.encode()
        for value in values
    )
    return message("D", struct.pack("!H", len(values)) + told)


class Peer:
    """The server's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.startup: dict[str, str] = {}

    async def start(self) -> None:
        (length,) = struct.unpack("!I", await self.reader.readexactly(4))
        body = await self.reader.readexactly(length - 4)
        assert body.startswith(struct.pack("!I", 196608))
        strings = body[4:].decode().split("\0")
        self.startup = dict(zip(strings[::2], strings[1::2], strict=False))

    async def hear(self) -> tuple[str, bytes]:
        kind, length = struct.unpack("!cI", await self.reader.readexactly(5))
        return kind.decode(), await self.reader.readexactly(length - 4)

    def say(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def gone(self) -> bytes:
        """Return what comes before the client is gone; nothing where it was gone before all was said to it."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


@contextlib.asynccontextmanager
async def serving(path: Path, script: Script) -> AsyncIterator[UnixSocket]:
    """Serve every connection by a script; what goes wrong in one is raised here."""
    running: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Peer(reader, writer))
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_unix_server(accept, path)
    try:
        yield UnixSocket(path)
    finally:
        server.close()
        async with asyncio.timeout(1):
            await asyncio.gather(*running)


def answering(*parts: bytes) -> Script:
    """Let everybody in and answer the first statement."""

    async def script(peer: Peer) -> None:
        await peer.start()
        peer.say(LOGGED_IN)
        await peer.hear()
        peer.say(*parts)
        await peer.gone()

    return script


def greeting(*parts: bytes, close: bool = False) -> Script:
    """Answer the start-up with these bytes."""

    async def script(peer: Peer) -> None:
        await peer.start()
        peer.say(*parts)
        if not close:
            await peer.gone()

    return script
