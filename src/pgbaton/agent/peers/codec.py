"""The datagrams of agents: one for each message, sealed with the cluster's key, and each taken once.

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

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from pgbaton.agent.peers import bodies
from pgbaton.agent.peers.bodies import MalformedError, Reader
from pgbaton.agent.peers.messages import Challenge, Foreign, Message, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

VERSION = 1
#: What any network carries in one piece.
LONGEST_BYTES = 512
SEAL_BYTES = 16
WINDOW = 64
FRAME = struct.Struct(">BBQQ")

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
        frame = FRAME.pack(VERSION, bodies.KINDS[type(message)], self._boot, self._sequence)
        content = frame + bodies.packed_name(self._me) + bodies.pack(message)
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
        except MalformedError:
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


def _seal(key: hmac.HMAC, content: bytes, receiver: str) -> bytes:
    seal = key.copy()
    seal.update(bodies.packed_name(receiver) + content)
    return seal.digest()[:SEAL_BYTES]


def _opened(content: bytes) -> _Frame:
    version, kind, boot, sequence = FRAME.unpack_from(content)
    reader = Reader(content[FRAME.size :])
    sender = reader.name()
    is_known = version == VERSION or kind in bodies.ETERNAL_KINDS
    message = bodies.read(kind, sender, reader.rest()) if is_known else None
    return _Frame(version, boot, sequence, sender, message)
