"""How messages are written as bytes, and read again: the body of a datagram."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pgbaton.agent.decisions.terms import Case
from pgbaton.agent.peers.messages import (
    ROLES,
    Ask,
    Challenge,
    Heartbeat,
    Message,
    Refusal,
    Response,
    Vote,
    Withdraw,
)

if TYPE_CHECKING:
    from collections.abc import Callable

#: Names are host names; words are for people, and cut when they are longer.
NAME_BYTES = 63
WORD_BYTES = 40
#: So many bodies are kept, packed and read: in a quiet cluster, nothing of a heartbeat changes but its number.
KEPT = 64
#: What is left of a heartbeat for the names of silent hosts: five of the longest, forty as people choose them.
SILENT_BYTES = 340

KINDS: dict[type[Message], int] = {Challenge: 1, Response: 2, Heartbeat: 3, Ask: 4, Vote: 5, Refusal: 6, Withdraw: 7}
#: Of every version, so that agents of any two can prove to each other that they live.
ETERNAL_KINDS = frozenset({KINDS[Challenge], KINDS[Response]})


class MalformedError(Exception):
    """The bytes are not of the form that they should have."""


@functools.lru_cache(maxsize=KEPT)
def pack(message: Message) -> bytes:
    """Return the body that says a message."""
    match message:
        case Heartbeat():
            return _heartbeat(message)
        case Ask() | Withdraw():
            return _case(message.case)
        case Vote():
            return _case(message.case) + _number(message.position)
        case Refusal():
            return _case(message.case) + _word(message.why)
        case Challenge() | Response():
            return _number(message.nonce)


def _heartbeat(message: Heartbeat) -> bytes:
    truths = (message.writable, message.lock, message.following, message.poolers)
    flags = sum(1 << bit for bit, truth in enumerate(truths) if truth)
    known = bytes((ROLES.index(message.role), flags)) + _number(message.timeline) + _number(message.position)
    return known + _word(message.state) + _names(message.silent)


def _case(case: Case) -> bytes:
    revisions = (case.leader_revision, case.sync_revision, case.config_revision, case.verdict_revision)
    return packed_name(case.candidate) + packed_name(case.primary) + b"".join(map(_number, revisions))


def _number(number: int) -> bytes:
    return number.to_bytes(8, "big")


@functools.lru_cache(maxsize=KEPT)
def packed_name(name: str) -> bytes:
    """Return a host's name as all of a datagram has it; raises ValueError for one that is empty or too long."""
    text = name.encode()
    if not 0 < len(text) <= NAME_BYTES:
        problem = f"a host name of {len(text)} bytes ({name[:NAME_BYTES]!r}), 1 to {NAME_BYTES} are wanted"
        raise ValueError(problem)
    return bytes((len(text),)) + text


def _names(names: frozenset[str]) -> bytes:
    """Return as many names as there is room for."""
    content = b""
    for name in map(packed_name, sorted(names)):
        content += name if len(content) + len(name) <= SILENT_BYTES else b""
    return content


def _word(word: str) -> bytes:
    """Cut a word to its length, at the end of a character."""
    text = word.encode(errors="replace")[:WORD_BYTES].decode(errors="ignore").encode()
    return bytes((len(text),)) + text


class Reader:
    """Take a body apart from its beginning; every method raises MalformedError when it cannot."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise MalformedError
        self._at += count
        return taken

    def byte(self, limit: int) -> int:
        """Return a number below the limit."""
        number = self.take(1)[0]
        if number >= limit:
            raise MalformedError
        return number

    def number(self) -> int:
        """Return a number of eight bytes."""
        return int.from_bytes(self.take(8), "big")

    def word(self, longest: int = WORD_BYTES) -> str:
        """Return a text of so many bytes at the most."""
        try:
            return self.take(self.byte(longest + 1)).decode()
        except UnicodeDecodeError:
            raise MalformedError from None

    def name(self) -> str:
        """Return a host's name."""
        name = self.word(NAME_BYTES)
        if not name:
            raise MalformedError
        return name

    def names(self) -> frozenset[str]:
        """Return all the names up to the end."""
        found: set[str] = set()
        while self._at < len(self._content):
            found.add(self.name())
        return frozenset(found)

    def rest(self) -> bytes:
        """Return all that was not taken yet."""
        return self._content[self._at :]

    def end(self) -> None:
        """See that nothing is left."""
        if self._at != len(self._content):
            raise MalformedError


def _read_heartbeat(reader: Reader) -> Heartbeat:
    role, flags = ROLES[reader.byte(len(ROLES))], reader.byte(16)
    return Heartbeat(
        role=role,
        writable=bool(flags & 1),
        lock=bool(flags & 2),
        following=bool(flags & 4),
        poolers=bool(flags & 8),
        timeline=reader.number(),
        position=reader.number(),
        state=reader.word(),
        silent=reader.names(),
    )


def _read_case(reader: Reader) -> Case:
    return Case(
        candidate=reader.name(),
        primary=reader.name(),
        leader_revision=reader.number(),
        sync_revision=reader.number(),
        config_revision=reader.number(),
        verdict_revision=reader.number(),
    )


READERS: dict[int, Callable[[Reader], Message]] = {
    KINDS[Challenge]: lambda reader: Challenge(reader.number()),
    KINDS[Response]: lambda reader: Response(reader.number()),
    KINDS[Heartbeat]: _read_heartbeat,
    KINDS[Ask]: lambda reader: Ask(_read_case(reader)),
    KINDS[Vote]: lambda reader: Vote(_read_case(reader), reader.number()),
    KINDS[Refusal]: lambda reader: Refusal(_read_case(reader), reader.word()),
    KINDS[Withdraw]: lambda reader: Withdraw(_read_case(reader)),
}


@functools.lru_cache(maxsize=KEPT)
def read(kind: int, sender: str, body: bytes) -> Message | None:
    """Return the message that a body is; None when it is none of this version's."""
    reader = Reader(body)
    try:
        message = READERS[kind](reader)
        reader.end()
    except (KeyError, MalformedError):
        return None
    # Nobody asks, or withdraws, in the name of another.
    return None if isinstance(message, Ask | Withdraw) and message.case.candidate != sender else message
