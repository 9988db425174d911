"""What a fault is: how to cause it, how to undo it, and what is expected of it.

A fault acts through the hosts' seam or the lab alone, never through the cluster's own interfaces, so that what it
breaks is broken for the cluster as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pgbaton.errors import UnhealthyError
from pgbaton.proof.parts import BALANCER_PARTS, PRIMARY_PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from pgbaton.hosts.base import Host
    from pgbaton.proof.checkers.base import Check
    from pgbaton.proof.marks import Moment
    from pgbaton.proof.target import Roles, Target
    from pgbaton.topology.model import Role, Topology


class Suite(StrEnum):
    """Sets of faults, each part of the next."""

    SMOKE = "smoke"
    STANDARD = "standard"
    FULL = "full"


@dataclass(frozen=True)
class Strike:
    """One use of a fault: the cluster, the hosts it strikes, and who was what before.

    ``random`` is seeded by the trial: a fault that chooses anything chooses with it.
    """

    target: Target
    hosts: tuple[str, ...]
    before: Roles
    random: Random

    @property
    def host(self) -> str:
        """Return the first of the hosts struck."""
        return self.hosts[0]

    @property
    def topology(self) -> Topology:
        """Return the cluster's description."""
        return self.target.topology

    def on(self, name: str) -> Host:
        """Return the way to a host, as it is now."""
        return self.target.hosts[name]


@dataclass(frozen=True)
class Expectation:
    """What is expected of a fault.

    ``budget`` names its prediction, None when nothing predicts it; ``limit_seconds`` is then the longest outage of
    writes that counts as kept, None when there is no such promise. ``parts`` are those that its outage is made of.
    """

    budget: str | None
    parts: Sequence[tuple[str, Moment]] = ()
    limit_seconds: float | None = None
    keeps_primary: bool = False


class Service(StrEnum):
    """When clients are to be served again: by the cluster itself while the fault lasts, or only once it is undone."""

    RETURNS = "returns"
    AFTER_HEALING = "after healing"


@dataclass(frozen=True)
class Seen:
    """What a fault's own look at the cluster came to, beside what clients and checkers see.

    ``checks`` are judged with those of the checkers; ``objections`` say what was not as it must be although no promise
    about data was broken, ``remarks`` what is worth knowing and held against nobody.
    """

    checks: tuple[Check, ...] = ()
    objections: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


Act = Callable[[Strike], Awaitable[None]]
Look = Callable[[Strike], Awaitable[Seen]]
Obstacle = Callable[["Target"], Awaitable[str | None]]


async def nothing(strike: Strike) -> None:
    """Leave it to the cluster to mend itself."""
    del strike


async def nothing_of_its_own(strike: Strike) -> Seen:
    """Leave it to clients and checkers to see what comes of it."""
    del strike
    return Seen()


async def unobstructed(target: Target) -> str | None:
    """Find nothing in the way."""
    del target
    return None


@dataclass(frozen=True)
class Fault:
    """One way to break a cluster.

    ``does`` says what is done, ``right`` what must come of it. ``victims`` names the hosts it strikes, ``inject``
    breaks them and returns once they are broken, ``heal`` undoes what does not mend itself, and must be harmless when
    there is nothing to undo. The fault lasts at least ``hold_seconds``; ``service`` says whether clients must be
    served while it does. ``look`` is the fault's own look at the cluster at its end, ``look_after`` that when it has
    been undone and the cluster had its time to mend. ``rescue`` is what an operator does for a cluster that does not
    become whole by itself: it is tried then, and objected to. ``needs`` are roles with the number of hosts that must
    have them; ``obstacle`` tells why it cannot be made on this cluster or machine (it is then not run, which is never a
    pass). ``lab``: only lab machines can be treated so; all others are safe on a cluster in use. ``tolerates`` are
    checks that the fault breaks by its nature, each with the reason. ``composable``: it may be struck while others
    last. ``plan`` is kept beside the trial, where the fault was drawn by chance.
    """

    name: str
    title: str
    does: str
    right: str
    victims: Callable[[Roles, Random], tuple[str, ...]]
    inject: Act
    expects: Callable[[Strike], Expectation]
    heal: Act = nothing
    look: Look = nothing_of_its_own
    look_after: Look = nothing_of_its_own
    rescue: Act | None = None
    needs: tuple[tuple[Role, int], ...] = ()
    obstacle: Obstacle = unobstructed
    lab: bool = True
    service: Service = Service.RETURNS
    hold_seconds: float = 0.0
    suite: Suite = Suite.FULL
    tolerates: Mapping[str, str] = field(default_factory=dict)
    composable: bool = True
    plan: Mapping[str, Any] | None = None


def primary(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike the primary's host."""
    del random
    return (roles.primary,)


def vip_holder(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike the balancer that holds the VIP, or the first of several; raises UnhealthyError when none does."""
    del random
    if roles.vip is None:
        message = "no balancer holds the VIP"
        raise UnhealthyError(message, hint="a topology without network.vip has no active balancer to strike")
    return (roles.vip,)


def predicted(budget: str, parts: Sequence[tuple[str, Moment]] = ()) -> Callable[[Strike], Expectation]:
    """Expect what the budget predicts, whatever host is struck."""
    expectation = Expectation(budget, parts)
    return lambda strike: expectation if strike.hosts else Expectation(None)


def within(seconds: float, parts: Sequence[tuple[str, Moment]] = ()) -> Callable[[Strike], Expectation]:
    """Expect an outage of writes of at most so many seconds."""
    expectation = Expectation(None, parts, limit_seconds=seconds)
    return lambda strike: expectation if strike.hosts else Expectation(None)


def unpromised(strike: Strike) -> Expectation:
    """Expect nothing of how long writes are out; what was acknowledged must be kept all the same."""
    del strike
    return Expectation(None)


def silence(strike: Strike) -> Expectation:
    """Expect a takeover of the VIP, or a failover when a silent host is the primary's, whatever else it is."""
    if strike.before.primary in strike.hosts:
        return Expectation("primary-power-off", PRIMARY_PARTS)
    return Expectation("balancer-power-off", BALANCER_PARTS, keeps_primary=True)


def steady(expects: Callable[[Strike], Expectation]) -> Callable[[Strike], Expectation]:
    """Expect the same, and that the primary stays where it is."""
    return lambda strike: replace(expects(strike), keeps_primary=True)
