"""Histories that a true serial execution leaves, under clients that overlap and do not always learn what became of it.

Every operation takes effect at one moment between its start and its end, in the order of these moments; one of unknown
outcome takes effect at any moment after its start, or never.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pgbaton.lab.definition import complete
from pgbaton.proof.audit import FinalRead
from pgbaton.proof.checkers.base import Evidence
from pgbaton.proof.history import History, Kind, Operation, Outcome
from pgbaton.proof.outage import Span
from pgbaton.proof.workloads.bank import ACCOUNTS, INITIAL_BALANCE
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from random import Random

TOPOLOGY = complete(load.loads(presets.text("standard")), "demo")
PRIMARIES = ("10.77.0.21", "10.77.0.22")
BYTES_OF_WRITE = 200


@dataclass(frozen=True)
class Shape:
    """How a simulated history is made; ``values`` are so many values of registers, 0 for a new one every time."""

    operations: int = 60
    clients: int = 4
    keys: int = 3
    values: int = 0
    unknown: float = 0.1
    failed: float = 0.1
    workloads: tuple[str, ...] = ("set", "register", "bank", "append")


@dataclass
class Databases:
    """What the primary holds, and how far it has written."""

    rows: list[tuple[str, int]] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    registers: dict[int, int] = field(default_factory=dict)
    accounts: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(ACCOUNTS), INITIAL_BALANCE))
    lists: dict[int, tuple[int, ...]] = field(default_factory=dict)
    lsn: int = 1_000_000

    def apply(self, asked: Operation) -> Any:  # noqa: ANN401 - results have every shape
        """Carry an operation out and return its result."""
        self.lsn += BYTES_OF_WRITE
        return getattr(self, f"_{asked.workload}_{asked.call}")(asked)

    def _set_add(self, asked: Operation) -> None:
        self.rows.append((asked.client, asked.id))
        self.newest[asked.client] = max(asked.id, self.newest.get(asked.client, 0))

    def _set_newest(self, asked: Operation) -> int | None:
        return self.newest.get(asked.value)

    def _register_write(self, asked: Operation) -> None:
        self.registers[asked.value[0]] = asked.value[1]

    def _register_read(self, asked: Operation) -> int | None:
        return self.registers.get(asked.value[0])

    def _register_cas(self, asked: Operation) -> bool:
        key, old, new = asked.value
        if self.registers.get(key) != old:
            return False
        self.registers[key] = new
        return True

    def _bank_transfer(self, asked: Operation) -> bool:
        source, target, amount = asked.value
        if self.accounts[source] < amount:
            return False
        self.accounts[source] -= amount
        self.accounts[target] += amount
        return True

    def _bank_total(self, asked: Operation) -> list[list[int]]:
        del asked
        return [list(item) for item in self.accounts.items()]

    def _append_txn(self, asked: Operation) -> list[list[Any]]:
        done: list[list[Any]] = []
        for call, key, argument in asked.value:
            if call == "append":
                self.lists[key] = (*self.lists.get(key, ()), argument)
            done.append([call, key, argument if call == "append" else list(self.lists.get(key, ()))])
        return done


@dataclass
class Asking:
    """What clients ask next."""

    random: Random
    shape: Shape
    last: int = 0

    def next(self, client: str, number: int) -> Operation:
        """Return the next request, still without times."""
        workload = self.random.choice(self.shape.workloads)
        kind, call, value = getattr(self, f"_{workload}")()
        return Operation(client, kind, number, 0.0, 0.0, Outcome.OK, workload=workload, call=call, value=value)

    def _new(self) -> int:
        self.last += 1
        return self.last

    def _value(self) -> int:
        return self.random.randrange(self.shape.values) if self.shape.values else self._new()

    def _key(self) -> int:
        """Return one of a few keys at a time; they are given up after a while, as clients do."""
        return self.random.randrange(self.shape.keys) + self.last // 300 * self.shape.keys

    def _set(self) -> tuple[Kind, str, Any]:
        if self.random.random() < 0.3:
            return Kind.READ, "newest", f"client-{self.random.randrange(self.shape.clients)}"
        return Kind.WRITE, "add", None

    def _register(self) -> tuple[Kind, str, Any]:
        key = self._key()
        match self.random.choice(("read", "write", "cas")):
            case "read":
                return Kind.QUERY, "read", [key]
            case "write":
                return Kind.WRITE, "write", [key, self._value()]
        old = self._value() if self.shape.values else max(1, self.last - self.random.randrange(4))
        return Kind.WRITE, "cas", [key, old, self._value()]

    def _bank(self) -> tuple[Kind, str, Any]:
        if self.random.random() < 0.5:
            return self.random.choice((Kind.QUERY, Kind.READ)), "total", None
        source, target = self.random.sample(range(ACCOUNTS), 2)
        return Kind.WRITE, "transfer", [source, target, self.random.randint(1, 60)]

    def _append(self) -> tuple[Kind, str, Any]:
        steps: list[list[Any]] = []
        for _ in range(self.random.randint(1, 4)):
            key = self._key()
            steps.append(["append", key, self._new()] if self.random.random() < 0.5 else ["r", key, None])
        appends = any(step[0] == "append" for step in steps)
        return Kind.WRITE if appends else Kind.QUERY, "txn", steps


def simulate(random: Random, shape: Shape | None = None) -> Evidence:
    """Return the evidence of an execution that kept every promise."""
    drafts = _drafts(random, shape or Shape())
    databases = Databases()
    switched = drafts[len(drafts) // 2][0] if drafts else 0.0
    done = [_carry_out(draft, moment, databases, switched) for moment, draft in drafts]
    end = max((each.end for each in done), default=1.0)
    finals = tuple(
        FinalRead(
            name,
            primary=name == "db1",
            rows=tuple(databases.rows),
            registers=dict(databases.registers),
            accounts=dict(databases.accounts),
            lists=dict(databases.lists),
        )
        for name in ("db1", "db2", "db3")
    )
    history = History(tuple(sorted(done, key=lambda each: each.end)), finished=True)
    return Evidence(TOPOLOGY, history, Span(0.0, end), Span(end / 2, end), finals, holdings=())


def _drafts(random: Random, shape: Shape) -> list[tuple[float, Operation]]:
    """Return requests with the moments at which they take effect, in this order; infinite for never."""
    asking = Asking(random, shape)
    drafts: list[tuple[float, Operation]] = []
    clocks = dict.fromkeys((f"client-{number}" for number in range(shape.clients)), 0.0)
    for number in range(shape.operations):
        client = min(clocks, key=clocks.__getitem__)
        start = clocks[client] + random.uniform(0.0001, 0.002)
        end = start + random.uniform(0.0005, 0.01)
        clocks[client] = end
        asked = replace(asking.next(client, number), start=start, end=end)
        chance = random.random()
        moment = random.uniform(start, end)
        if chance < shape.failed:
            asked, moment = replace(asked, outcome=Outcome.FAIL, error="40001: could not serialize"), math.inf
        elif chance < shape.failed + shape.unknown:
            asked = replace(asked, outcome=Outcome.UNKNOWN, error="connection lost")
            moment = random.choice((moment, end + random.uniform(0, 0.1), math.inf))
        drafts.append((moment, asked))
    drafts.sort(key=lambda draft: draft[0])
    return drafts


def _carry_out(asked: Operation, moment: float, databases: Databases, switched: float) -> Operation:
    if moment == math.inf:
        return asked
    result = databases.apply(asked)
    if asked.outcome is not Outcome.OK:
        return asked
    reign = 1 if moment < switched else 2
    kind = Kind.QUERY if result is False else asked.kind
    server = PRIMARIES[reign - 1]
    return replace(asked, kind=kind, result=result, server=server, timeline=reign, lsn=databases.lsn)


def exchanged(evidence: Evidence, old: Operation, new: Operation) -> Evidence:
    """Return the evidence with one operation put in the place of another."""
    operations = tuple(new if each is old else each for each in evidence.history.operations)
    ordered = tuple(sorted(operations, key=lambda each: each.end))
    return replace(evidence, history=replace(evidence.history, operations=ordered))
