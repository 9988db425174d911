"""What agents tell each other: one UDP datagram for each message, sealed with the cluster's key.

::

    datagram = content, seal (16 bytes)         seal = HMAC-SHA256(key, receiver's name, content), cut to 16 bytes
    content  = version (1 byte), kind (1), sender's boot id (8), sequence (8), sender's name, body
    text     = length (1 byte), UTF-8;  numbers are 8 bytes, the most significant first

The receiver's name is under the seal and not in the datagram, so what is meant for one host opens on no other. This
frame, the kinds *challenge* and *response*, and their bodies are the same in every version: agents of different
versions know of each other that they live, which is what keeps an upgrade from looking like a death.

Replay. A sender's sequence only grows, and a receiver takes each number once, within a window of 64. A sender draws a
boot id whenever it starts. What bears another boot id than the sender's last may be an old recording, so it is answered
with a random number and otherwise ignored, until that number came back under the same boot id: whoever sends it back
is alive now. Nobody's clock is trusted for any of this. That a datagram was held back on its way, and is delivered
late but in order, is not noticed.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from pgbaton.agent.decisions.terms import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

VERSION = 1
#: What any network carries in one piece.
LONGEST_BYTES = 512
SEAL_BYTES = 16
WINDOW = 64
#: Names are host names; words are for people, and cut when they are longer.
NAME_BYTES = 63
WORD_BYTES = 40
#: So many bodies are kept, packed and read: in a quiet cluster, nothing of a heartbeat changes but its number.
KEPT = 64
#: What is left of a heartbeat for the names of silent hosts: five of the longest, forty as people choose them.
SILENT_BYTES = 340
FRAME = struct.Struct(">BBQQ")

ServerRole: TypeAlias = Literal["primary", "standby", "none", "unknown"]
ROLES: tuple[ServerRole, ...] = get_args(ServerRole)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The sender is alive, and this is what it knows of itself; ``silent`` are hosts it holds to be.

    ``lock``: it believes that its Patroni holds the leader lock; of a server that takes no writes only while etcd
    answers, since the lock may be gone. ``following``: it is a standby, and streams. Of many
    silent hosts with long names some may be left out: a host that is not named was not said to be silent.
    """

    role: ServerRole
    writable: bool
    timeline: int
    position: int
    lock: bool
    following: bool
    poolers: bool
    state: str
    silent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ask:
    """The sender, the case's candidate, asks for a vote."""

    case: Case


@dataclass(frozen=True, slots=True)
class Vote:
    """The sender's vote, and the position of its server."""

    case: Case
    position: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The sender does not vote, and says in a short word why."""

    case: Case
    why: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The sender, the case's candidate, no longer asks."""

    case: Case


@dataclass(frozen=True, slots=True)
class Challenge:
    """The receiver shall send this number back, to prove that it is alive."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Response:
    """The number of a challenge."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Foreign:
    """The sender is alive and speaks another version; ``news`` the first time only."""

    version: int
    news: bool


Message: TypeAlias = Heartbeat | Ask | Vote | Refusal | Withdraw | Challenge | Response
Reason: TypeAlias = Literal["length", "forged", "malformed", "stranger", "unproven", "replayed"]


@dataclass(frozen=True, slots=True)
class Received:
    """The sender said this now; ``reply``, when there is one, goes to the sender's configured address."""

    sender: str
    message: Message | Foreign
    reply: Message | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing that proves anything; ``sender`` is known when the seal was right, ``reply`` is as in Received."""

    reason: Reason
    sender: str | None = None
    reply: Message | None = None


class Codec:
    """Seal messages of this agent, and open those of the others; remembers of each what it has taken already.

    The first of ``keys`` seals, all of them open. ``boot`` is drawn anew at every start of the agent, from 64 bits.
    """

    def __init__(
        self,
        me: str,
        keys: Sequence[bytes],
        boot: int,
        *,
        peers: Iterable[str],
        nonces: Callable[[], int] = lambda: secrets.randbits(64),
    ) -> None:
        self._me = me
        self.use(keys)
        self._boot = boot
        self._peers = frozenset(peers) - {me}
        self._nonces = nonces
        self._sequence = 0
        self._windows: dict[str, _Window] = {}
        self._challenges: dict[str, int] = {}
        self._versions: dict[str, int] = {}

    def use(self, keys: Sequence[bytes]) -> None:
        """Seal and open with these keys from now on."""
        if not keys:
            message = "no key to seal datagrams with: the heartbeat key of this cluster is wanted"
            raise ValueError(message)
        # Each is copied for a datagram, which is cheaper than to begin with the key again.
        self._keys = tuple(hmac.new(key, digestmod=hashlib.sha256) for key in keys)

    def encode(self, message: Message, to: str) -> bytes:
        """Return the datagram that brings a message to a host; no two are the same."""
        self._sequence += 1
        frame = FRAME.pack(VERSION, KINDS[type(message)], self._boot, self._sequence)
        content = frame + _name(self._me) + _body(message)
        return content + _seal(self._keys[0], content, to)

    def decode(self, datagram: bytes) -> Received | Rejected:
        """Open a datagram; never raises, whatever it is."""
        if not FRAME.size + SEAL_BYTES < len(datagram) <= LONGEST_BYTES:
            return Rejected("length")
        content, seal = datagram[:-SEAL_BYTES], datagram[-SEAL_BYTES:]
        if not any(hmac.compare_digest(seal, _seal(key, content, self._me)) for key in self._keys):
            return Rejected("forged")
        try:
            frame = _opened(content)
        except _MalformedError:
            return Rejected("malformed")
        if frame.sender not in self._peers:
            return Rejected("stranger", frame.sender)
        return self._judge(frame)

    def _judge(self, frame: _Frame) -> Received | Rejected:
        """Say what an authentic datagram of a peer proves."""
        window = self._windows.get(frame.sender)
        if window is None or window.boot != frame.boot:
            return self._unproven(frame)
        moved = window.taking(frame.sequence)
        if moved is None:
            return Rejected("replayed", frame.sender)
        self._windows[frame.sender] = moved
        return self._taken(frame)

    def _unproven(self, frame: _Frame) -> Received | Rejected:
        """Ask who is alive now, or take the answer to that."""
        if isinstance(frame.message, Challenge):
            return Rejected("unproven", frame.sender, Response(frame.message.nonce))
        if not isinstance(frame.message, Response):
            # The same number until it comes back: the way there and back may take longer than a heartbeat's interval.
            nonce = self._challenges.setdefault(frame.sender, self._nonces())
            return Rejected("unproven", frame.sender, Challenge(nonce))
        if frame.message.nonce != self._challenges.get(frame.sender):
            return Rejected("unproven", frame.sender)
        # What was sent before the proof may have been recorded: it counts as taken.
        self._windows[frame.sender] = _Window(frame.boot, frame.sequence, seen=_ALL)
        return self._taken(frame)

    def _taken(self, frame: _Frame) -> Received | Rejected:
        message = frame.message
        if isinstance(message, Response):
            self._challenges.pop(frame.sender, None)
        if isinstance(message, Challenge):
            return Received(frame.sender, message, Response(message.nonce))
        if message is not None:
            return Received(frame.sender, message)
        if frame.version == VERSION:
            return Rejected("malformed", frame.sender)
        news = self._versions.get(frame.sender) != frame.version
        self._versions[frame.sender] = frame.version
        return Received(frame.sender, Foreign(frame.version, news))


_ALL = (1 << WINDOW) - 1


@dataclass(frozen=True, slots=True)
class _Window:
    """Which of a sender's numbers were taken: bit *n* of ``seen`` stands for ``highest`` - *n*."""

    boot: int
    highest: int
    seen: int

    def taking(self, sequence: int) -> _Window | None:
        """Return the window with a number taken; None when it was before, or is too old to tell."""
        ahead = sequence - self.highest
        if ahead > 0:
            return _Window(self.boot, sequence, (self.seen << ahead | 1) & _ALL if ahead < WINDOW else 1)
        if -ahead >= WINDOW or self.seen >> -ahead & 1:
            return None
        return _Window(self.boot, self.highest, self.seen | 1 << -ahead)


@dataclass(frozen=True, slots=True)
class _Frame:
    """An authentic datagram; ``message`` is None when its body says nothing in this version."""

    version: int
    boot: int
    sequence: int
    sender: str
    message: Message | None


class _MalformedError(Exception):
    """The bytes are not of the form that they should have."""


def _seal(key: hmac.HMAC, content: bytes, receiver: str) -> bytes:
    seal = key.copy()
    seal.update(_name(receiver) + content)
    return seal.digest()[:SEAL_BYTES]


def _opened(content: bytes) -> _Frame:
    version, kind, boot, sequence = FRAME.unpack_from(content)
    reader = _Reader(content[FRAME.size :])
    sender = reader.name()
    return _Frame(version, boot, sequence, sender, _message(version, kind, sender, reader.rest()))


@functools.lru_cache(maxsize=KEPT)
def _message(version: int, kind: int, sender: str, body: bytes) -> Message | None:
    """Return the message of a body; None when it is in another version's language, or in none."""
    if version != VERSION and kind not in ETERNAL_KINDS:
        return None
    reader = _Reader(body)
    try:
        message = READERS[kind](reader)
        reader.end()
    except (KeyError, _MalformedError):
        return None
    # Nobody asks, or withdraws, in the name of another.
    return None if isinstance(message, Ask | Withdraw) and message.case.candidate != sender else message


# The bodies.

KINDS: dict[type[Message], int] = {Challenge: 1, Response: 2, Heartbeat: 3, Ask: 4, Vote: 5, Refusal: 6, Withdraw: 7}
#: Of every version, so that agents of any two can prove to each other that they live.
ETERNAL_KINDS = frozenset({KINDS[Challenge], KINDS[Response]})


@functools.lru_cache(maxsize=KEPT)
def _body(message: Message) -> bytes:
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
    return _name(case.candidate) + _name(case.primary) + b"".join(map(_number, revisions))


def _number(number: int) -> bytes:
    return number.to_bytes(8, "big")


@functools.lru_cache(maxsize=KEPT)
def _name(name: str) -> bytes:
    text = name.encode()
    if not 0 < len(text) <= NAME_BYTES:
        problem = f"a host name of {len(text)} bytes ({name[:NAME_BYTES]!r}), 1 to {NAME_BYTES} are wanted"
        raise ValueError(problem)
    return bytes((len(text),)) + text


def _names(names: frozenset[str]) -> bytes:
    """Return as many names as there is room for."""
    content = b""
    for name in map(_name, sorted(names)):
        content += name if len(content) + len(name) <= SILENT_BYTES else b""
    return content


def _word(word: str) -> bytes:
    """Cut a word to its length, at the end of a character."""
    text = word.encode(errors="replace")[:WORD_BYTES].decode(errors="ignore").encode()
    return bytes((len(text),)) + text


class _Reader:
    """Take a body apart from its beginning; every method raises _MalformedError when it cannot."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise _MalformedError
        self._at += count
        return taken

    def byte(self, limit: int) -> int:
        """Return a number below the limit."""
        number = self.take(1)[0]
        if number >= limit:
            raise _MalformedError
        return number

    def number(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def word(self, longest: int = WORD_BYTES) -> str:
        try:
            return self.take(self.byte(longest + 1)).decode()
        except UnicodeDecodeError:
            raise _MalformedError from None

    def name(self) -> str:
        name = self.word(NAME_BYTES)
        if not name:
            raise _MalformedError
        return name

    def names(self) -> frozenset[str]:
        """Return all the names up to the end."""
        found: set[str] = set()
        while self._at < len(self._content):
            found.add(self.name())
        return frozenset(found)

    def rest(self) -> bytes:
        return self._content[self._at :]

    def end(self) -> None:
        if self._at != len(self._content):
            raise _MalformedError


def _read_heartbeat(reader: _Reader) -> Heartbeat:
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


def _read_case(reader: _Reader) -> Case:
    return Case(
        candidate=reader.name(),
        primary=reader.name(),
        leader_revision=reader.number(),
        sync_revision=reader.number(),
        config_revision=reader.number(),
        verdict_revision=reader.number(),
    )


READERS: dict[int, Callable[[_Reader], Message]] = {
    KINDS[Challenge]: lambda reader: Challenge(reader.number()),
    KINDS[Response]: lambda reader: Response(reader.number()),
    KINDS[Heartbeat]: _read_heartbeat,
    KINDS[Ask]: lambda reader: Ask(_read_case(reader)),
    KINDS[Vote]: lambda reader: Vote(_read_case(reader), reader.number()),
    KINDS[Refusal]: lambda reader: Refusal(_read_case(reader), reader.word()),
    KINDS[Withdraw]: lambda reader: Withdraw(_read_case(reader)),
}
