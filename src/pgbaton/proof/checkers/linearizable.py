"""Whether the accesses to one register can be put in one order that everybody's view agrees with. Pure.

The search is that of Wing and Gong ("Testing and verifying concurrent objects"), just in time as Lowe has it ("Testing
for linearizability"): an access takes effect no earlier than some access that returns needs it to. Four things keep it
small. Configurations are remembered by what has taken effect and by the value. A read takes effect as soon as the value
suits it, since it changes nothing. Of two configurations that differ only in which accesses of unknown outcome they
have used up, the one that used fewer stands for both: these may also never take effect. And such an access does so only
where somebody needs the value that it leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgbaton.proof.history import Operation

Value = int | None
#: The register's value, the required accesses that have taken effect and not returned, and those of unknown outcome
#: that have taken effect: both as bits.
Configuration = tuple[Value, int, int]
#: How many configurations are looked at to say what was possible, once it is clear that something was not.
EXPLAINING_STEPS = 1_000


class Act(Enum):
    """What an access does: writes, changes the value that it expects, sees a value, or sees that it is another."""

    WRITE = auto()
    CHANGE = auto()
    SEE = auto()
    MISS = auto()


@dataclass(frozen=True, slots=True)
class Access:
    """One access; ``old`` is what it expects, sees or misses, ``new`` what it leaves; ``end`` infinite if unknown."""

    act: Act
    start: float
    end: float
    old: Value = None
    new: Value = None
    operation: Operation | None = None

    @property
    def changes(self) -> bool:
        """Tell whether it leaves another value."""
        return self.act in {Act.WRITE, Act.CHANGE}

    @property
    def returns(self) -> bool:
        """Tell whether it must take effect: a look must, even the last one, at the end of time."""
        return not self.changes or self.end < math.inf

    def suits(self, value: Value) -> bool:
        """Tell whether it can take effect at a value."""
        if self.act is Act.WRITE:
            return True
        return (value != self.old) if self.act is Act.MISS else (value == self.old)


@dataclass(frozen=True)
class Misfit:
    """An access that cannot be placed, and the values that were possible while it lasted."""

    access: Access
    possible: tuple[Value, ...]


class GivenUpError(Exception):
    """The search took more steps than allowed."""


@dataclass
class Steps:
    """How many steps a search may still take."""

    left: int

    def take(self) -> None:
        """Take a step; raises GivenUpError when there is none left."""
        self.left -= 1
        if self.left < 0:
            raise GivenUpError


def misfit(accesses: Iterable[Access], steps: Steps) -> Misfit | None:
    """Return the first access that no order has a place for, None when there is an order for all.

    Raises GivenUpError when the steps do not suffice.
    """
    search = _Search(steps)
    for returning, access in _events(accesses):
        if returning:
            before = search.configurations
            if not search.end(access):
                return Misfit(access, search.values(before))
        else:
            search.begin(access)
    return None


def _events(accesses: Iterable[Access]) -> Iterator[tuple[bool, Access]]:
    """Return beginnings and returns in order; what begins as another returns may still have come before it."""
    events = []
    for number, access in enumerate(accesses):
        events.append((access.start, False, number, access))
        if access.returns:
            events.append((access.end, True, number, access))
    events.sort(key=lambda event: event[:3])
    return ((returning, access) for _, returning, _, access in events)


@dataclass
class _Search:
    """All configurations that agree with what has returned so far."""

    steps: Steps
    configurations: set[Configuration] = field(default_factory=lambda: {(None, 0, 0)})
    changes: dict[int, Access] = field(default_factory=dict)
    looks: dict[int, Access] = field(default_factory=dict)
    undecided: dict[int, Access] = field(default_factory=dict)
    twins: dict[tuple[Act, Value, Value], int] = field(default_factory=dict)
    needs_twin: dict[int, int] = field(default_factory=dict)
    bits: dict[int, int] = field(default_factory=dict)

    def begin(self, access: Access) -> None:
        """Let an access take effect from now on."""
        if not access.returns:
            self._begin_undecided(access)
            return
        taken = self.changes.keys() | self.looks.keys()
        bit = next(1 << place for place in range(len(taken) + 1) if 1 << place not in taken)
        self.bits[id(access)] = bit
        if access.changes:
            self.changes[bit] = access
            return
        self.looks[bit] = access
        self.configurations = {
            (value, done | bit, used) if access.suits(value) else (value, done, used)
            for value, done, used in self.configurations
        }

    def _begin_undecided(self, access: Access) -> None:
        """Note an access that may take effect; of several alike, the earlier are used first."""
        bit = 1 << len(self.undecided)
        signature = (access.act, access.old, access.new)
        self.needs_twin[bit] = self.twins.get(signature, 0)
        self.twins[signature] = bit
        self.undecided[bit] = access

    def end(self, access: Access) -> bool:
        """Keep the configurations in which an access has taken effect by now; tell whether there are any."""
        bit = self.bits.pop(id(access))
        kept = _Frontier()
        for value, done, used in self.configurations:
            self.steps.take()
            if done & bit:
                kept.add((value, done & ~bit, used))
            elif len(self.changes) == 1 and not self.looks and access.act is Act.WRITE:
                kept.add((access.new, done, used))  # nothing else waits that another order could help
            else:
                self._place(access, bit, (value, done, used), kept)
        self.changes.pop(bit, None)
        self.looks.pop(bit, None)
        self.configurations = kept.all
        return bool(self.configurations)

    def _place(self, access: Access, bit: int, first: Configuration, kept: _Frontier) -> None:
        """Add what comes of an access that takes effect after any of the others that may come before it."""
        seen = _Frontier()
        seen.add(first)
        todo, useful = [first], self._useful()
        while todo:
            value, done, used = configuration = todo.pop()
            if access.changes and access.suits(value):
                after = self._look((access.new, done | bit, used))
                kept.add((after[0], after[1] & ~bit, after[2]))
            for following in self._next(configuration, bit, useful):
                self.steps.take()
                if following[1] & bit:
                    kept.add((following[0], following[1] & ~bit, following[2]))
                elif seen.add(following):
                    todo.append(following)

    def _useful(self) -> list[tuple[int, Access]]:
        """Return the undecided accesses that leave a value which another one under way needs."""
        waiting = (*self.looks.values(), *self.changes.values(), *self.undecided.values())
        if any(access.act is Act.MISS for access in waiting):
            return list(self.undecided.items())
        needed = {access.old for access in waiting if access.act is not Act.WRITE}
        return [(bit, access) for bit, access in self.undecided.items() if access.new in needed]

    def _next(
        self, configuration: Configuration, placed: int, undecided: Iterable[tuple[int, Access]]
    ) -> Iterator[Configuration]:
        """Return what one further change leads to, other than the one that is being placed."""
        value, done, used = configuration
        for bit, access in self.changes.items():
            if bit != placed and not done & bit and access.suits(value):
                yield self._look((access.new, done | bit, used))
        for bit, access in undecided:
            twin = self.needs_twin[bit]
            if not used & bit and twin & used == twin and access.suits(value):
                yield self._look((access.new, done, used | bit))

    def _look(self, configuration: Configuration) -> Configuration:
        """Let every look take effect that suits the value."""
        value, done, used = configuration
        for bit, access in self.looks.items():
            if access.suits(value):
                done |= bit
        return value, done, used

    def values(self, configurations: Iterable[Configuration]) -> tuple[Value, ...]:
        """Return values that can be reached from some configurations, in order; not all where there are too many."""
        seen, todo = _Frontier(), list(configurations)
        found = {value for value, _, _ in todo}
        for _ in range(EXPLAINING_STEPS):
            if not todo:
                break
            for following in self._next(todo.pop(), 0, self.undecided.items()):
                found.add(following[0])
                if seen.add(following):
                    todo.append(following)
        return tuple(sorted(found, key=lambda value: (value is not None, value or 0)))


@dataclass
class _Frontier:
    """Configurations without those that another one stands for."""

    all: set[Configuration] = field(default_factory=set)
    used: dict[tuple[Value, int], list[int]] = field(default_factory=dict)

    def add(self, configuration: Configuration) -> bool:
        """Add a configuration; tell whether it was needed."""
        value, done, used = configuration
        others = self.used.setdefault((value, done), [])
        if any(other & ~used == 0 for other in others):
            return False
        for other in [other for other in others if used & ~other == 0]:
            others.remove(other)
            self.all.discard((value, done, other))
        others.append(used)
        self.all.add(configuration)
        return True
