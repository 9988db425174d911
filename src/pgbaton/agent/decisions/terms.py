"""The terms in which hosts settle whether a dead primary's lock may be released: what is known, promised, done. Pure.

A *case* is one attempt of a candidate against a primary. It carries the revisions of the leader key, of ``/sync``, of
the configuration and of the verdict key as the candidate saw them, and its transaction compares all of them: once one
has changed in etcd, the case can never succeed. What follows from what is in :mod:`pgbaton.agent.decisions.verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Outcome(StrEnum):
    """What became of a transaction; unknown when no answer came."""

    WON = "won"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Case:
    """One attempt to have a primary's lock released: who asks, against whom, and on which state of etcd."""

    candidate: str
    primary: str
    leader_revision: int
    sync_revision: int
    config_revision: int
    verdict_revision: int


@dataclass(frozen=True, slots=True)
class Lock:
    """What an agent last saw in etcd: ``revision`` is the store's at that time, the others are keys' mod revisions.

    ``sync`` are the standbys that ``/sync`` names, and ``quorum`` is how many of them a commit may lack: 0 when each of
    them confirms it. ``barred`` are the members that may not become primary, whatever names them. ``synchronous``,
    ``by_quorum`` and ``paused`` are of Patroni's configuration.
    """

    revision: int
    leader: str | None
    leader_revision: int
    sync_leader: str | None
    sync: frozenset[str]
    sync_revision: int
    config_revision: int
    verdict_revision: int
    quorum: int = 0
    synchronous: bool = True
    by_quorum: bool = False
    paused: bool = False
    barred: frozenset[str] = frozenset()

    @property
    def promotable(self) -> frozenset[str]:
        """Return those of ``/sync`` that Patroni would promote: who confirms commits may be barred all the same."""
        return self.sync - self.barred


@dataclass(frozen=True, slots=True)
class Rules:
    """What never changes while an agent runs: itself, all who vote, and whether it may ask at all."""

    me: str
    voters: frozenset[str]
    may_lead: bool = False
    accept_loss: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What an agent sees now.

    ``silent`` are the hosts that nothing was heard from for the detection time, by any channel; ``agreed`` those that a
    majority says the same of; ``stalled`` says that the agent itself slept and cannot tell; ``fenced`` are the hosts
    whose fence stands here; ``following`` those that are in recovery and follow the present leader, the one of
    ``lock.leader_revision``: what a host told before that key was written is no proof, it may have led in between.
    ``crashed`` says that this host's own server has ended, and not because somebody stopped it.
    """

    silent: frozenset[str] = frozenset()
    agreed: frozenset[str] = frozenset()
    stalled: bool = False
    lock: Lock | None = None
    fenced: frozenset[str] = frozenset()
    following: frozenset[str] = frozenset()
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What an agent remembers: its own case, the votes for it, what it promised, and what is under way.

    ``owed`` are votes that wait for a fence; ``remembered`` hosts whose fence was raised in this life, so that all that
    was promised on it is known; ``lowering`` hosts whose fence is on its way down, from the first thought of it to the
    end; ``revoking`` the own case that released, or may have; ``resigning`` the one by which this host gives up its own
    lock, until that is seen; ``seen`` the latest revision of etcd's store.
    """

    case: Case | None = None
    votes: frozenset[str] = frozenset()
    releasing: bool = False
    promises: frozenset[Case] = frozenset()
    owed: frozenset[Case] = frozenset()
    remembered: frozenset[str] = frozenset()
    lowering: frozenset[str] = frozenset()
    revoking: Case | None = None
    resigning: Case | None = None
    seen: int = 0


# What happened.


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by, or something in the view changed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A candidate asks for a vote; the sender was proved to be ``case.candidate``."""

    case: Case


@dataclass(frozen=True, slots=True)
class Voted:
    """A vote came in."""

    voter: str
    case: Case


@dataclass(frozen=True, slots=True)
class Fenced:
    """The fence against a host stands now, for good: no acknowledgement leaves, and a reboot keeps it."""

    host: str


@dataclass(frozen=True, slots=True)
class Unfenced:
    """An :class:`Unfence` came to its end; the view tells whether the fence fell."""

    host: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The release's transaction came to its end."""

    case: Case
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Broken:
    """The verdict key was put, at this revision; None when it was not, or when no answer came."""

    host: str
    revision: int | None


Event: TypeAlias = Tick | Asked | Voted | Fenced | Unfenced | Answered | Broken


# What is to be done.


@dataclass(frozen=True, slots=True)
class Fence:
    """Fence a host here, then say :class:`Fenced`."""

    host: str


@dataclass(frozen=True, slots=True)
class Unfence:
    """Let the fence against a host fall, then say :class:`Unfenced`."""

    host: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask every other voter."""

    case: Case


@dataclass(frozen=True, slots=True)
class Vote:
    """Send the candidate a vote."""

    case: Case


@dataclass(frozen=True, slots=True)
class Release:
    """Run ``verdict.transaction``, then say :class:`Answered`. Nothing else: the lease is for :class:`Revoke`."""

    case: Case


@dataclass(frozen=True, slots=True)
class Resign:
    """Run ``verdict.transaction`` for this host's own lock, then say :class:`Answered`; no votes are behind it."""

    case: Case


@dataclass(frozen=True, slots=True)
class Revoke:
    """Revoke the lease that the leader key of this case had; an optimisation, so one attempt with a short deadline."""

    case: Case


@dataclass(frozen=True, slots=True)
class Break:
    """Run ``verdict.breaking``, then say :class:`Broken`."""

    host: str
    leader_revision: int


Action: TypeAlias = Fence | Unfence | Ask | Vote | Release | Resign | Revoke | Break


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is asked of etcd: mod revisions that must hold, then what happens in one step.

    ``delete`` are keys that go, ``keep`` keys put again with the value they have, ``touch`` keys put with anything; in
    this order, because Patroni takes in what it watches key by key. Were ``/sync`` first, a primary could for an
    instant see it with its new revision and the lock still its own, and change it.
    """

    compare: tuple[tuple[str, int], ...]
    delete: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    touch: tuple[str, ...] = ()


LEADER, SYNC, CONFIG, VERDICT = "leader", "sync", "config", "pgbaton-verdict"
