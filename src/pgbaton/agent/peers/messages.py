"""What agents tell each other. How it goes over the network: :mod:`pgbaton.agent.peers.codec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from pgbaton.agent.decisions.terms import Case

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
