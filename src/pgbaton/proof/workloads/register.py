"""Registers: one value a key, written, compared and set, and read, all on the port for writes.

Every value is new, so that whoever sees one knows which write it came from.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.workloads.base import (
    ANSWERED_BY,
    SCHEMA,
    STAMP,
    WRITTEN_BY,
    ClientSpec,
    Reading,
    Request,
    Workload,
    spread,
    stamped,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from pgbaton.proof.workloads.base import Reply

TABLE = f"{SCHEMA}.registers"
#: How many keys are in use at a time: few, so that clients meet.
KEYS = 4
#: A key is given up after so many operations, or so many of unknown outcome: what may still take effect for ever
#: makes a history hard to judge.
OPERATIONS_OF_KEY = 120
UNKNOWN_OF_KEY = 6
#: How often a compare-and-set expects the value that was seen last; else it expects an older one.
HOPEFUL = 0.8

WRITE = (
    f"INSERT INTO {TABLE} (key, value) VALUES ($1::bigint, $2::bigint)"  # noqa: S608 - our own names
    f" ON CONFLICT (key) DO UPDATE SET value = excluded.value RETURNING {WRITTEN_BY}"
)
COMPARE_AND_SET = (
    f"WITH changed AS (UPDATE {TABLE} SET value = $3::bigint WHERE key = $1::bigint AND value = $2::bigint"  # noqa: S608 - our own names
    f" RETURNING key) SELECT {ANSWERED_BY}, EXISTS (SELECT FROM changed)"
)
READ = f"SELECT {ANSWERED_BY}, (SELECT value FROM {TABLE} WHERE key = $1::bigint)"  # noqa: S608 - our own names


@dataclass
class Key:
    """A key in use: what was asked of it, and the value that was seen last."""

    number: int
    operations: int = 0
    unknown: int = 0
    value: int = 0

    @property
    def worn(self) -> bool:
        """Tell whether it has had enough."""
        return self.operations >= OPERATIONS_OF_KEY or self.unknown >= UNKNOWN_OF_KEY


@dataclass
class Registers:
    """Writes, compares and reads keys by turns, with a new value every time."""

    random: Random
    specs: Sequence[ClientSpec]
    keys: dict[int, Key] = field(default_factory=lambda: {number: Key(number) for number in range(1, KEYS + 1)})
    last_key: int = KEYS
    last_value: int = 0

    def next(self, client: ClientSpec, number: int) -> Request:
        """Return the next request."""
        del number
        key = self.random.choice(tuple(self.keys.values()))
        key.operations += 1
        if key.worn:
            self._retire(key)
        match self.random.choice(client.calls):
            case "read":
                return request("read", [key.number], Kind.QUERY, READ)
            case "cas" if key.value:
                hopeful = self.random.random() < HOPEFUL
                old = key.value if hopeful else self.random.randint(1, key.value)
                return request("cas", [key.number, old, self._new()], Kind.WRITE, COMPARE_AND_SET)
            case _:
                return request("write", [key.number, self._new()], Kind.WRITE, WRITE)

    def learn(self, request: Request, outcome: Outcome, result: Any) -> None:  # noqa: ANN401 - any workload's
        """Remember the value that a key has now, as far as one can tell."""
        key = self.keys.get(request.value[0])
        if key is None:
            return
        if outcome is Outcome.UNKNOWN and request.kind is Kind.WRITE:
            key.unknown += 1
            if key.worn:
                self._retire(key)
        elif outcome is Outcome.OK and request.call == "read":
            key.value = result or 0
        elif outcome is Outcome.OK and result is not False:
            key.value = request.value[-1]

    def _new(self) -> int:
        self.last_value += 1
        return self.last_value

    def _retire(self, key: Key) -> None:
        self.last_key += 1
        del self.keys[key.number]
        self.keys[self.last_key] = Key(self.last_key)


def request(call: str, value: list[int], kind: Kind, statement: str) -> Request:
    """Return a request whose parameters are its value."""
    return Request(call, value, kind, statement, tuple(map(str, value)))


def read(request: Request, replies: Sequence[Reply]) -> Reading:
    """Return what an answer means."""
    row = replies[0].rows[0]
    match request.call:
        case "read":
            value = row[STAMP]
            return stamped(row, None if value is None else int(value))
        case "cas":
            changed = row[STAMP] == "t"
            return stamped(row, changed, changed=changed)
        case _:
            return stamped(row)


def settle(text: str) -> Mapping[str, Any]:
    """Return the value of every key."""
    return {"registers": {int(key): int(value) for key, value in csv.reader(io.StringIO(text))}}


REGISTER = Workload(
    name="register",
    does="writes, compares and sets, and reads single values on the port for writes",
    tables=(f"CREATE TABLE {TABLE} (key bigint PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 50)",),
    clients=spread([ClientSpec(f"register-{n}", "register", ("write", "cas", "read"), 0.05) for n in range(1, 5)]),
    generator=Registers,
    read=read,
    final=f"SELECT key, value FROM {TABLE}",  # noqa: S608 - our own name
    settle=settle,
)
