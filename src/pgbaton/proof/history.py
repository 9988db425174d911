"""What clients did and what became of it: the history that every measurement and every checker reads.

Times are seconds on CLOCK_MONOTONIC, which all processes of one machine share; ``wall_offset_seconds`` turns them
into wall clock time, for comparison with journals.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error

if TYPE_CHECKING:
    from collections.abc import Iterable


class Kind(StrEnum):
    """What an operation did, and on which port: changed something, or only looked, on the port for writes or for reads.

    Only a change shows that writes are served: a server that may no longer write still answers who looks.
    """

    WRITE = "write"
    QUERY = "query"
    READ = "read"


class Outcome(StrEnum):
    """What its client may conclude from how an operation ended.

    ``ok``: acknowledged without reservation. ``fail``: it certainly did not happen. ``unknown``: it may have
    happened, now or later; only a look at the data can tell.
    """

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client; (``client``, ``id``) is unique in a history.

    ``server`` is the database host's address that answered, ``error`` is ``CLASS: detail`` for what did not end well.
    ``workload`` and ``call`` name what was asked, ``value`` is what with, ``result`` what was answered: their shapes
    are those of :mod:`pgbaton.proof.workloads`. ``timeline`` is the one that the server writes, None of a
    standby, ``lsn`` the position in bytes that it had written (primary) or replayed (standby) when it answered.
    """

    client: str
    kind: Kind
    id: int
    start: float
    end: float
    outcome: Outcome
    error: str | None = None
    server: str | None = None
    workload: str = "set"
    call: str = "add"
    value: Any = None
    result: Any = None
    timeline: int | None = None
    lsn: int | None = None

    @property
    def seconds(self) -> float:
        """Return how long the client waited."""
        return self.end - self.start

    @property
    def error_class(self) -> str | None:
        """Return the error without its detail."""
        return None if self.error is None else self.error.partition(":")[0]


FIELDS = tuple(field.name for field in fields(Operation))


@dataclass(frozen=True, slots=True)
class Stall:
    """A time in which the meter itself was not scheduled: what it measured around ``at`` is that much too long."""

    at: float
    seconds: float


@dataclass(frozen=True)
class History:
    """All operations in the order in which they ended, and the meter's own stalls."""

    operations: tuple[Operation, ...]
    stalls: tuple[Stall, ...] = ()
    wall_offset_seconds: float = 0.0
    finished: bool = False

    def of(self, kind: Kind) -> tuple[Operation, ...]:
        """Return the operations of one kind."""
        return tuple(operation for operation in self.operations if operation.kind is kind)

    @property
    def clients(self) -> tuple[str, ...]:
        """Return the names of the clients, in order of appearance."""
        return tuple(dict.fromkeys(operation.client for operation in self.operations))


def opening_line(*, monotonic: float, wall: float) -> str:
    """Return the first line of a log: what ties its clock to the wall clock."""
    return json.dumps({"event": "begin", "monotonic": monotonic, "wall": wall})


def closing_line(*, monotonic: float) -> str:
    """Return the last line of a log whose meter ended in good order."""
    return json.dumps({"event": "end", "monotonic": monotonic})


def stall_line(stall: Stall) -> str:
    """Return a log line for a stall."""
    return json.dumps({"event": "stall", **asdict(stall)})


def operation_line(operation: Operation) -> str:
    """Return a log line for an operation."""
    return json.dumps({key: value for key in FIELDS if (value := getattr(operation, key)) is not None})


def parse(lines: Iterable[str]) -> History:
    """Read a log; a last line that was cut short is left out. Raises Error for a log that is not one."""
    operations: list[Operation] = []
    stalls: list[Stall] = []
    offset, finished = 0.0, False
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break
        record = _record(number, line)
        match record.pop("event", None):
            case "begin":
                offset = record["wall"] - record["monotonic"]
            case "end":
                finished = True
            case "stall":
                stalls.append(Stall(**record))
            case None:
                operations.append(_operation(record))
            case _:
                continue
    operations.sort(key=lambda operation: operation.end)
    return History(tuple(operations), tuple(stalls), offset, finished)


def _record(number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        message = f"not an event of a meter: {line.strip()[:80]!r}"
        raise Error(message, where=f"line {number}", hint="give the log that the meter wrote")
    return record


def _operation(record: dict[str, Any]) -> Operation:
    return Operation(**{**record, "kind": Kind(record["kind"]), "outcome": Outcome(record["outcome"])})
