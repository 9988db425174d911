"""Netlink, as little as fences need: packed messages, one request and its answers, errors with their meaning.

A program such as ``nft`` or ``ss`` costs a process start, 4 ms of a processor and, on a busy host, a turn in its queue.
The same question put to the kernel directly takes some 0.05 ms. Nothing here waits for anything but the kernel, which
answers while it is being asked.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NETFILTER = 12  # NETLINK_NETFILTER
SOCK_DIAG = 4  # NETLINK_SOCK_DIAG

REQUEST = 0x001
MULTI = 0x002
ACKNOWLEDGE = 0x004
DUMP = 0x300
CREATE = 0x400
#: The kernel's mark in a listing during which something changed: it has to be asked again.
INTERRUPTED = 0x010

ERROR = 2
DONE = 3

NESTED = 0x8000
TYPE_MASK = 0x3FFF
HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
STATUS = struct.Struct("=i")

#: The kernel answers at once; a longer silence is a bug of ours, and must not stop the agent.
DEADLINE_SECONDS = 2.0
RECEIVE_BYTES = 1 << 16
ATTEMPTS = 5


class NetlinkError(OSError):
    """The kernel refused a request; ``errno`` says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: the kernel's name for its kind, flags, and what it carries."""

    kind: int
    payload: bytes
    flags: int = REQUEST

    def packed(self, sequence: int) -> bytes:
        """Return the message as it goes to the kernel; the kernel repeats ``sequence`` in its answer."""
        length = HEADER.size + len(self.payload)
        return HEADER.pack(length, self.kind, self.flags, sequence, 0) + padded(self.payload)


def padded(data: bytes) -> bytes:
    """Return the data, filled up to a whole number of words."""
    return data + b"\0" * (-len(data) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + padded(value)


def nest(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that is made of attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the value of each attribute."""
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size:
            return
        yield kind & TYPE_MASK, data[offset + ATTRIBUTE.size : offset + length]
        offset += length + -length % 4


def messages(data: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, _, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size:
            return
        yield Message(kind, data[offset + HEADER.size : offset + length], flags)
        offset += length + -length % 4


def carry_out(protocol: int, *requests: Message) -> None:
    """Send requests in one datagram, and return when the kernel has acknowledged each that asks for it.

    Raises NetlinkError when it refuses one of them.
    """
    awaited = sum(1 for request in requests if request.flags & ACKNOWLEDGE)
    with opened(protocol) as kernel:
        kernel.send(b"".join(request.packed(number) for number, request in enumerate(requests, 1)))
        while awaited > 0:
            for answer in messages(kernel.recv(RECEIVE_BYTES)):
                raise_error(answer)
                awaited -= 1


def send(protocol: int, *requests: Message) -> tuple[int, ...]:
    """Send requests in one datagram, and return the errors of those that failed."""
    with opened(protocol) as kernel:
        kernel.send(b"".join(request.packed(number) for number, request in enumerate(requests, 1)))
        kernel.settimeout(0)
        errors: list[int] = []
        while True:
            try:
                answers = kernel.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return tuple(errors)
            errors += [number for answer in messages(answers) if (number := error_number(answer))]


def listing(protocol: int, request: Message) -> tuple[bytes, ...]:
    """Return what each message of a listing carries; asked again while it changes under the kernel's hands."""
    for _ in range(ATTEMPTS):
        found, whole = listed(protocol, request)
        if whole:
            return found
    message = f"the kernel's listing changed {ATTEMPTS} times while it was read; fix: ask again"
    raise NetlinkError(0, message)


def listed(protocol: int, request: Message) -> tuple[tuple[bytes, ...], bool]:
    """Return one reading of a listing, and whether nothing changed meanwhile."""
    found: list[bytes] = []
    whole = True
    with opened(protocol) as kernel:
        kernel.send(Message(request.kind, request.payload, request.flags | DUMP).packed(1))
        while True:
            for answer in messages(kernel.recv(RECEIVE_BYTES)):
                whole = whole and not answer.flags & INTERRUPTED
                if answer.kind == DONE:
                    return tuple(found), whole
                raise_error(answer)
                found.append(answer.payload)


@contextmanager
def opened(protocol: int) -> Iterator[socket.socket]:
    """Open a way to the kernel for one request: what an earlier one left unread cannot be taken for its answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as kernel:
        kernel.bind((0, 0))
        kernel.settimeout(DEADLINE_SECONDS)
        yield kernel


def raise_error(answer: Message) -> None:
    """Raise what the kernel refused."""
    if number := error_number(answer):
        raise NetlinkError(number, f"the kernel refused: {os.strerror(number)}")


def error_number(answer: Message) -> int:
    """Return the error in an answer, 0 when it is none."""
    if answer.kind != ERROR:
        return 0
    status: int = STATUS.unpack_from(answer.payload)[0]
    return -status
