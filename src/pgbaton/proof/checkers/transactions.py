"""Transactions that append to lists and read them, and what depends on what among them. Pure.

A list shows the order of what was appended to it, so reads alone tell which transaction came before which other, as
Kingsbury and Alvaro found ("Elle: inferring isolation anomalies from experimental observations").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from pgbaton.proof.checkers.words import name
from pgbaton.proof.history import Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pgbaton.proof.history import History, Operation


class Read(NamedTuple):
    """What a transaction saw of a key; ``own`` of it, at the end, it had appended itself before."""

    key: int
    elements: tuple[int, ...]
    own: tuple[int, ...]

    @property
    def others(self) -> tuple[int, ...]:
        """Return what was there of others."""
        return self.elements[: len(self.elements) - len(self.own)]

    @property
    def shows_own(self) -> bool:
        """Tell whether the transaction saw what it had appended."""
        return not self.own or self.elements[-len(self.own) :] == self.own


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction; the final read of the primary is one as well, without an operation."""

    number: int
    start: float
    end: float
    outcome: Outcome
    appends: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    reads: tuple[Read, ...] = ()
    operation: Operation | None = None

    def __str__(self) -> str:
        """Return its name in findings."""
        return "the final read" if self.operation is None else name(self.operation)


def transactions(history: History, final: Mapping[int, Sequence[int]] | None) -> list[Transaction]:
    """Return the transactions on the write port, the final read of the primary after all."""
    operations = [each for each in history.operations if each.workload == "append" and each.kind is not Kind.READ]
    found = [_transaction(number, operation) for number, operation in enumerate(operations)]
    if final is not None:
        reads = tuple(Read(key, tuple(elements), ()) for key, elements in sorted(final.items()))
        found.append(Transaction(len(found), math.inf, math.inf, Outcome.OK, {}, reads))
    return found


def _transaction(number: int, operation: Operation) -> Transaction:
    known = operation.outcome is Outcome.OK
    appends: dict[int, tuple[int, ...]] = {}
    reads: list[Read] = []
    for call, key, argument in operation.result if known and operation.result else operation.value:
        if call == "append":
            appends[key] = (*appends.get(key, ()), argument)
        elif known:
            reads.append(Read(key, tuple(argument or ()), appends.get(key, ())))
    end = operation.end if known else math.inf
    return Transaction(number, operation.start, end, operation.outcome, appends, tuple(reads), operation)


class Kinds(StrEnum):
    """Why a transaction comes before another one, as the field abbreviates it."""

    WW = "ww"
    WR = "wr"
    RW = "rw"
    REAL_TIME = "rt"


class Edge(NamedTuple):
    """The source comes before the target, as key and elements show; an edge in real time has none."""

    kind: Kinds
    source: int
    target: int
    key: int = 0
    left: int = 0
    right: int = 0


@dataclass(frozen=True)
class Orders:
    """The order of elements that every key's longest list shows, and who appended each element."""

    lists: Mapping[int, tuple[int, ...]]
    writers: Mapping[tuple[int, int], Transaction]

    def agrees(self, key: int, elements: tuple[int, ...]) -> bool:
        """Tell whether a list is a beginning of the key's longest."""
        return self.lists[key][: len(elements)] == elements

    def committed(self, transaction: Transaction) -> bool:
        """Tell whether a transaction took place: acknowledged, or of unknown outcome and something of it was seen."""
        if transaction.outcome is not Outcome.UNKNOWN:
            return transaction.outcome is Outcome.OK
        return any(x in self.lists.get(key, ()) for key, appended in transaction.appends.items() for x in appended)


def orders(found: Iterable[Transaction]) -> Orders:
    """Recover the version orders."""
    lists: dict[int, tuple[int, ...]] = {}
    writers: dict[tuple[int, int], Transaction] = {}
    for transaction in found:
        writers.update({(key, x): transaction for key, appended in transaction.appends.items() for x in appended})
        for read in transaction.reads:
            if len(read.elements) > len(lists.get(read.key, ())):
                lists[read.key] = read.elements
            else:
                lists.setdefault(read.key, read.elements)
    return Orders(lists, writers)


def dependencies(found: Iterable[Transaction], known: Orders) -> Iterator[Edge]:
    """Return what the lists show: who overwrote whom, who read whose, who read before whom."""
    for key, elements in known.lists.items():
        for left, right in pairwise(elements):
            source = known.writers.get((key, left))
            yield from _edge(known, source, Kinds.WW, key=key, left=left, right=right)
    for transaction in found:
        for read in transaction.reads:
            if known.agrees(read.key, read.others):
                yield from _edges_of_read(known, transaction, read)


def _edges_of_read(known: Orders, reader: Transaction, read: Read) -> Iterator[Edge]:
    key, others, versions = read.key, read.others, known.lists[read.key]
    if others:
        writer = known.writers.get((key, others[-1]))
        if writer and writer is not reader and writer.outcome is not Outcome.FAIL:
            yield Edge(Kinds.WR, writer.number, reader.number, key, others[-1])
    if len(others) < len(versions):
        yield from _edge(known, reader, Kinds.RW, key=key, left=0, right=versions[len(others)])


def _edge(known: Orders, source: Transaction | None, kind: Kinds, *, key: int, left: int, right: int) -> Iterator[Edge]:
    """Return the edge to whoever appended ``right``, unless it is an edge to itself or of what did not happen."""
    target = known.writers.get((key, right))
    if source and target and source is not target and Outcome.FAIL not in {source.outcome, target.outcome}:
        yield Edge(kind, source.number, target.number, key, left, right)


def real_time(committed: Iterable[Transaction]) -> Iterator[Edge]:
    """Return edges by which every transaction that had ended comes before those that began later.

    Barriers, numbered below zero, keep them linear in number: an end leads to the barrier of its time, and this one to
    what begins after it and to the next barrier.
    """
    events = []
    for transaction in committed:
        events.append((transaction.start, False, transaction.number))
        if transaction.end < math.inf:
            events.append((transaction.end, True, transaction.number))
    events.sort()
    barrier, used = 0, True
    for _, ended, number in events:
        if not ended:
            used = True
            if barrier:
                yield Edge(Kinds.REAL_TIME, barrier, number)
            continue
        if used:
            barrier, used = barrier - 1, False
            if barrier < -1:
                yield Edge(Kinds.REAL_TIME, barrier + 1, barrier)
        yield Edge(Kinds.REAL_TIME, number, barrier)
