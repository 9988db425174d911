"""The set: every write adds an element of its own, so that what was acknowledged can be compared with what is there."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from pgbaton.proof.history import Kind
from pgbaton.proof.workloads.base import (
    ANSWERED_BY,
    SCHEMA,
    STAMP,
    WRITTEN_BY,
    ClientSpec,
    Port,
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

TABLE = f"{SCHEMA}.writes"
#: Without a unique index, so that a write that happened twice is seen.
TABLES = (
    f"CREATE TABLE {TABLE} (client text NOT NULL, id bigint NOT NULL)",
    f"CREATE INDEX ON {TABLE} (client, id)",
)
ADD = f"INSERT INTO {TABLE} (client, id) VALUES ($1, $2::bigint) RETURNING {WRITTEN_BY}"  # noqa: S608 - our own names
NEWEST = f"SELECT {ANSWERED_BY}, (SELECT max(id) FROM {TABLE} WHERE client = $1)"  # noqa: S608 - our own names


def clients(*, held_writers: int = 4, new_writers: int = 2, held_readers: int = 2) -> tuple[ClientSpec, ...]:
    """Return the usual clients: together some 250 writes a second, one every 4 ms.

    On a lab's few processors twice as many came as late, and took from the hosts what these need to fail over.
    """
    add, newest = ("add",), ("newest",)
    writers = [ClientSpec(f"writer-{number}", "set", add, 0.016) for number in range(1, held_writers + 1)]
    connecting = [
        ClientSpec(f"connector-{number}", "set", add, 0.25, held=False) for number in range(1, new_writers + 1)
    ]
    readers = [ClientSpec(f"reader-{number}", "set", newest, 0.05, Port.READ) for number in range(1, held_readers + 1)]
    reconnecting = ClientSpec("read-connector-1", "set", newest, 0.25, Port.READ, held=False)
    return (*spread(writers), *spread(connecting), *spread(readers), reconnecting)


class Elements:
    """Adds what was never added before, and looks for what others added."""

    def __init__(self, random: Random, specs: Sequence[ClientSpec]) -> None:
        self._random = random
        self._writers = tuple(spec.name for spec in specs if "add" in spec.calls)

    def next(self, client: ClientSpec, number: int) -> Request:
        """Return the next element to add, or whose newest element to look for."""
        if "add" in client.calls:
            return Request("add", None, Kind.WRITE, ADD, (client.name, str(number)))
        writer = self._random.choice(self._writers)
        return Request("newest", writer, Kind.READ, NEWEST, (writer,))

    def learn(self, request: Request, outcome: Outcome, result: Any) -> None:  # noqa: ANN401 - any workload's
        """Go on all the same: an element is never tried again."""


def read(request: Request, replies: Sequence[Reply]) -> Reading:
    """Return what an answer means."""
    row = replies[0].rows[0]
    if request.call == "add":
        return stamped(row)
    newest = row[STAMP]
    return stamped(row, None if newest is None else int(newest))


def settle(text: str) -> Mapping[str, Any]:
    """Return all elements of a table."""
    return {"rows": tuple((client, int(number)) for client, number in csv.reader(io.StringIO(text)))}


SET = Workload(
    name="set",
    does="adds unique elements and looks for the newest on the port for reads",
    tables=TABLES,
    clients=clients(),
    generator=Elements,
    read=read,
    final=f"SELECT client, id FROM {TABLE}",  # noqa: S608 - our own name
    settle=settle,
)
