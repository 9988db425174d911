"""Lists that transactions append to and read, several at a time, serializable.

A list shows the order of what was appended to it, so that reads tell which transaction came before which other.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from pgbaton.proof.history import Kind
from pgbaton.proof.workloads.base import (
    ANSWERED_BY,
    SCHEMA,
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

    from pgbaton.proof.history import Outcome
    from pgbaton.proof.workloads.base import Reply

TABLE = f"{SCHEMA}.lists"
#: Without statistics the planner takes the index; a scan of the whole table, which it would prefer for one so small,
#: would make every transaction conflict with every other.
OPTIONS = "fillfactor = 50, autovacuum_enabled = false"
TABLES = (f"CREATE TABLE {TABLE} (key bigint PRIMARY KEY, elements bigint[] NOT NULL) WITH ({OPTIONS})",)
#: How many keys are in use at a time, and after how many appends one is given up: lists are to stay short.
KEYS = 6
APPENDS_OF_KEY = 32
LONGEST_TRANSACTION = 4


class Transactions:
    """Appends what was never appended to a key before, and reads lists."""

    def __init__(self, random: Random, specs: Sequence[ClientSpec]) -> None:
        del specs
        self._random = random
        self._appended = dict.fromkeys(range(1, KEYS + 1), 0)
        self._last_key = KEYS

    def next(self, client: ClientSpec, number: int) -> Request:
        """Return the next transaction."""
        del client, number
        steps = [self._step() for _ in range(self._random.randint(1, LONGEST_TRANSACTION))]
        appends = any(call == "append" for call, *_ in steps)
        return Request("txn", steps, Kind.WRITE if appends else Kind.QUERY, script(steps), script=True)

    def learn(self, request: Request, outcome: Outcome, result: Any) -> None:  # noqa: ANN401 - any workload's
        """Go on all the same: an element is never tried again."""

    def _step(self) -> list[Any]:
        key = self._random.choice(tuple(self._appended))
        if self._random.random() < 0.5:  # noqa: PLR2004 - as likely as not
            return ["r", key, None]
        self._appended[key] += 1
        element = self._appended[key]
        if element >= APPENDS_OF_KEY:
            del self._appended[key]
            self._last_key += 1
            self._appended[self._last_key] = 0
        return ["append", key, element]


def script(steps: Sequence[Sequence[Any]]) -> str:
    """Return a transaction as one message; all values are integers of our own."""
    statements = (_append(key, element) if call == "append" else _look(key) for call, key, element in steps)
    return f"BEGIN ISOLATION LEVEL SERIALIZABLE; {'; '.join(statements)}; SELECT {ANSWERED_BY}; COMMIT"


def _append(key: int, element: int) -> str:
    return (
        f"INSERT INTO {TABLE} AS list VALUES ({key:d}, ARRAY[{element:d}])"  # noqa: S608 - integers
        f" ON CONFLICT (key) DO UPDATE SET elements = list.elements || {element:d}::bigint"
    )


def _look(key: int) -> str:
    return f"SELECT array_to_string(elements, ' ') FROM {TABLE} WHERE key = {key:d}"  # noqa: S608 - integers


def read(request: Request, replies: Sequence[Reply]) -> Reading:
    """Return what an answer means; a list that is not there yet is empty."""
    answers = replies[1 : 1 + len(request.value)]
    seen = [
        [call, key, elements(reply) if call == "r" else element]
        for (call, key, element), reply in zip(request.value, answers, strict=True)
    ]
    return stamped(replies[-2].rows[0], seen)


def elements(reply: Reply) -> list[int]:
    """Return the list that a look showed."""
    return [int(element) for row in reply.rows for element in (row[0] or "").split()]


def settle(text: str) -> Mapping[str, Any]:
    """Return all lists."""
    rows = csv.reader(io.StringIO(text))
    return {"lists": {int(key): tuple(map(int, listed.split())) for key, listed in rows}}


APPEND = Workload(
    name="append",
    does="appends to lists and reads them, several in one serializable transaction",
    tables=TABLES,
    clients=spread([ClientSpec(f"append-{number}", "append", ("txn",), 0.05) for number in range(1, 5)]),
    generator=Transactions,
    read=read,
    final=f"SELECT key, array_to_string(elements, ' ') FROM {TABLE}",  # noqa: S608 - our own name
    settle=settle,
)
