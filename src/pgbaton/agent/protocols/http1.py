"""HTTP/1.1 as both ends read and write it: heads, bodies, limits (RFC 9112). No connections here."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

END_OF_HEAD = b"\r\n\r\n"
#: How long a line between chunks may be, in bytes, and how many headers may follow the last one.
CHUNK_LINE_BYTES = 1_024
MOST_TRAILERS = 16
READ_BYTES = 65_536


class MalformedError(Exception):
    """What came is no HTTP, or too much of it; ``status`` is what a server answers to that."""

    def __init__(self, message: str, status: int = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


class EndedError(MalformedError):
    """The connection ended before a message did."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a message is read, in bytes; ``line_bytes`` is of one line of a body that is read by lines."""

    head_bytes: int = 16_384
    body_bytes: int = 8 * 1024 * 1024
    line_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """A status and a body; headers have names in lower case."""

    status: int = HTTPStatus.OK
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> dict[str, Any]:
        """Return the object that the body holds; raises MalformedError when it holds none."""
        return json_object(self.body)


@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a message in its three parts, and the headers, with names in lower case."""

    first: tuple[str, str, str]
    headers: Mapping[str, str]

    def keeps_alive(self, version: str) -> bool:
        """Tell whether the connection may carry another message after this one."""
        wanted = self.headers.get("connection", "").lower()
        return version == "HTTP/1.1" and "close" not in wanted

    def length(self, limit_bytes: int) -> int | None:
        """Return the body's length in bytes, None when it is not told."""
        told = self.headers.get("content-length")
        if told is None:
            return None
        if not (told.isascii() and told.isdecimal()):
            message = f"a Content-Length that is no number: {told[:40]!r}"
            raise MalformedError(message)
        # Compared as text first: Python refuses to read numbers of many digits.
        if len(told) > len(str(limit_bytes)) + 8 or int(told) > limit_bytes:
            message = f"a body of {told[:40]} bytes; the limit is {limit_bytes}"
            raise MalformedError(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return int(told)

    def is_chunked(self) -> bool:
        """Tell whether the body comes in chunks; raises MalformedError for any other transfer coding."""
        coding = self.headers.get("transfer-encoding")
        if coding is None:
            return False
        if coding.lower() != "chunked" or "content-length" in self.headers:
            message = f"a body framed as {coding[:40]!r}; only Content-Length or chunked, and not both"
            raise MalformedError(message, HTTPStatus.NOT_IMPLEMENTED)
        return True


def json_object(text: bytes) -> dict[str, Any]:
    """Return the object that a JSON text holds; raises MalformedError when it holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    message = f"no JSON object: {text[:80]!r}"
    raise MalformedError(message)


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read a head; None when the connection ended before it began. The reader's limit bounds it."""
    try:
        raw = await reader.readuntil(END_OF_HEAD)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        message = f"the connection ended inside a head, after {error.partial[:40]!r}"
        raise EndedError(message) from None
    except asyncio.LimitOverrunError:
        message = "a head that is too long"
        raise MalformedError(message, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """Return a head's parts; raises MalformedError when it is none."""
    first, *lines = raw[: -len(END_OF_HEAD)].decode("latin-1").split("\r\n")
    one, two, three = (*first.split(" ", 2), "", "")[:3]
    if not one or not two:
        message = f"no HTTP: {first[:40]!r}"
        raise MalformedError(message)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            message = f"no header: {line[:40]!r}"
            raise MalformedError(message)
        _add(headers, name.lower(), value.strip())
    return Head((one, two, three), headers)


def _add(headers: dict[str, str], name: str, value: str) -> None:
    """Add a header; two lengths that differ would make two readers see two different messages."""
    if name not in headers:
        headers[name] = value
    elif name in {"content-length", "transfer-encoding"}:
        message = f"two headers {name}"
        raise MalformedError(message)
    else:
        headers[name] += f", {value}"


class Body:
    """A message's body, read once: as a whole, or line by line as it comes."""

    def __init__(self, reader: asyncio.StreamReader, head: Head, limits: Limits, *, until_end: bool) -> None:
        """Without a length the body is empty, or with ``until_end`` all that comes; raises MalformedError."""
        self._reader = reader
        self._limits = limits
        self._chunked = head.is_chunked()
        self._left = None if self._chunked else head.length(limits.body_bytes)
        self._ended = not (self._chunked or self._left or (until_end and self._left is None))
        self._rest = bytearray()

    async def whole(self) -> bytes:
        """Read all of it."""
        while part := await self._part():
            self._rest += part
            if len(self._rest) > self._limits.body_bytes:
                message = f"a body of more than {self._limits.body_bytes} bytes"
                raise MalformedError(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return bytes(self._rest)

    async def line(self) -> bytes | None:
        """Read the next line, without its end; None after the last one, whose end may be missing."""
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > self._limits.line_bytes:
                message = f"a line of more than {self._limits.line_bytes} bytes"
                raise MalformedError(message)
            part = await self._part()
            if not part:
                return self._take(searched, searched) if searched else None
            self._rest += part
        return self._take(end, end + 1)

    def _take(self, end: int, following: int) -> bytes:
        taken = bytes(self._rest[:end])
        del self._rest[:following]
        return taken

    async def _part(self) -> bytes:
        """Read what comes next; nothing at the end."""
        if self._ended:
            return b""
        if self._chunked:
            part = await _chunk(self._reader, self._limits)
        elif self._left:
            part, self._left = await _exactly(self._reader, self._left), 0
            self._ended = True
        else:
            part = await self._reader.read(READ_BYTES)
        self._ended = self._ended or not part
        return part


async def _chunk(reader: asyncio.StreamReader, limits: Limits) -> bytes:
    """Read a chunk; nothing when it was the last, with the headers after it, which nobody here needs."""
    size = _chunk_size(await _line(reader), limits)
    if size:
        chunk = await _exactly(reader, size)
        if await _exactly(reader, 2) == b"\r\n":
            return chunk
        message = "a chunk that is longer than it said"
        raise MalformedError(message)
    for _ in range(MOST_TRAILERS):
        if not await _line(reader):
            return b""
    message = "too many headers after a body"
    raise MalformedError(message)


def _chunk_size(line: bytes, limits: Limits) -> int:
    digits = line.split(b";")[0].strip()
    # int() takes signs, spaces and underscores too.
    if not digits or len(digits) > len(f"{limits.body_bytes:x}") or digits.strip(b"0123456789abcdefABCDEF"):
        message = f"no size of a chunk: {line[:40]!r}"
        raise MalformedError(message)
    size = int(digits, 16)
    if size > limits.body_bytes:
        message = f"a chunk of {size} bytes; the limit is {limits.body_bytes}"
        raise MalformedError(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return size


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readuntil(b"\r\n")
    except asyncio.IncompleteReadError:
        message = "the connection ended inside a body"
        raise EndedError(message) from None
    except asyncio.LimitOverrunError:
        line = b" " * (CHUNK_LINE_BYTES + 1)
    if len(line) > CHUNK_LINE_BYTES:
        message = "a line between chunks that is too long"
        raise MalformedError(message)
    return line[:-2]


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        message = f"the connection ended after {len(error.partial)} of {size} bytes"
        raise EndedError(message) from None
