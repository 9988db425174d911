"""Histories in Jepsen's EDN, one text for each workload, so that elle and Knossos can judge them again. Pure.

A client is a process; after an outcome that it could not know it goes on as a new one, as Jepsen has it. Times are
nanoseconds since the first operation. Elements of *set* are pairs of client and id, registers are pairs of key and
value, as ``jepsen.independent`` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from heapq import merge
from typing import TYPE_CHECKING, Any, NamedTuple

from pgbaton.proof.history import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pgbaton.proof.audit import FinalRead
    from pgbaton.proof.history import History, Operation

#: What is asked only where less is promised has no place in a history that elle judges.
LEFT_OUT = frozenset({("set", "newest")})
TYPES = {Outcome.OK: "ok", Outcome.FAIL: "fail", Outcome.UNKNOWN: "info"}


class Keyword(str):
    """A word that EDN writes with a colon."""

    __slots__ = ()


class Event(NamedTuple):
    """The beginning or the end of an operation."""

    time: int
    process: int
    type: str
    call: str
    value: object
    error: str | None = None


def edn(history: History, workload: str, *, final: FinalRead | None = None) -> Iterator[str]:
    """Return the lines of one workload's history; ``final`` adds what the primary held at the end as last reads."""
    operations = [
        each for each in history.operations if each.workload == workload and (each.workload, each.call) not in LEFT_OUT
    ]
    events = [*merge(*_processes(operations), key=lambda event: event.time)]
    if final is not None:
        events += _last_reads(workload, final, _next_process(events), events[-1].time + 1 if events else 0)
    for index, event in enumerate(events):
        yield _line(index, event)


def _processes(operations: Sequence[Operation]) -> Iterator[list[Event]]:
    """Return every client's events in order."""
    begin = min((each.start for each in operations), default=0.0)
    by_client: dict[str, list[Operation]] = {}
    for each in sorted(operations, key=lambda operation: operation.start):
        by_client.setdefault(each.client, []).append(each)
    for process, of_client in enumerate(by_client.values()):
        yield list(_client(of_client, process, len(by_client), begin))


def _client(operations: Iterable[Operation], process: int, clients: int, begin: float) -> Iterator[Event]:
    time = 0
    for operation in operations:
        call, asked, answered, kind = _terms(operation)
        time = max(time, _nanoseconds(operation.start - begin))
        yield Event(time, process, "invoke", call, asked)
        time = max(time, _nanoseconds(operation.end - begin))
        yield Event(time, process, kind, call, answered, operation.error)
        if operation.outcome is Outcome.UNKNOWN:
            process += clients


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)


def _terms(operation: Operation) -> tuple[str, object, object, str]:
    """Return an operation's function, what was asked, what was answered, and how it ended, as Jepsen puts them."""
    form = FORMS.get((operation.workload, operation.call), _as_it_is)
    known = operation.outcome is Outcome.OK
    call, asked, answered = form(operation)
    ended = "fail" if known and operation.result is False else TYPES[operation.outcome]
    return call, asked, answered() if known else asked, ended


def _as_it_is(operation: Operation) -> Form:
    return operation.call, operation.value, lambda: operation.result


def _add(operation: Operation) -> Form:
    element = [operation.client, operation.id]
    return "add", element, lambda: element


def _register(operation: Operation) -> Form:
    key, *values = operation.value
    if operation.call == "read":
        return "read", [key, None], lambda: [key, operation.result]
    pair = [key, values[0] if operation.call == "write" else values]
    return operation.call, pair, lambda: pair


def _transfer(operation: Operation) -> Form:
    transfer = dict(zip(map(Keyword, ("from", "to", "amount")), operation.value, strict=True))
    return "transfer", transfer, lambda: transfer


def _total(operation: Operation) -> Form:
    return "read", None, lambda: dict(operation.result)


def _transaction(operation: Operation) -> Form:
    return "txn", _steps(operation.value), lambda: _steps(operation.result)


#: A function's name in Jepsen, what it is asked with, and how to get what it answers when it does.
Form = tuple[str, object, "Callable[[], object]"]
FORMS: Mapping[tuple[str, str], Callable[[Operation], Form]] = {
    ("set", "add"): _add,
    ("register", "read"): _register,
    ("register", "write"): _register,
    ("register", "cas"): _register,
    ("bank", "transfer"): _transfer,
    ("bank", "total"): _total,
    ("append", "txn"): _transaction,
}


def _steps(transaction: Iterable[Sequence[Any]]) -> list[list[object]]:
    return [[Keyword(call), key, argument] for call, key, argument in transaction]


def _next_process(events: Iterable[Event]) -> int:
    """Return a process that no client was."""
    return max((event.process for event in events), default=-1) + 1


def _last_reads(workload: str, final: FinalRead, process: int, time: int) -> list[Event]:
    """Return the final reads of the primary in the workload's own terms."""
    asked: list[tuple[str, object, object]] = []
    if workload == "set":
        asked.append(("read", None, [list(row) for row in final.rows]))
    elif workload == "register":
        asked += [("read", [key, None], [key, held]) for key, held in sorted((final.registers or {}).items())]
    elif workload == "bank" and final.accounts is not None:
        asked.append(("read", None, dict(final.accounts)))
    elif workload == "append":
        lists = sorted((final.lists or {}).items())
        steps = [["r", key, None] for key, _ in lists], [["r", key, list(elements)] for key, elements in lists]
        asked.append(("txn", _steps(steps[0]), _steps(steps[1])))
    return [
        event
        for call, before, after in asked
        for event in (Event(time, process, "invoke", call, before), Event(time, process, "ok", call, after))
    ]


def _line(index: int, event: Event) -> str:
    record = {
        "index": index,
        "type": Keyword(event.type),
        "process": event.process,
        "time": event.time,
        "f": Keyword(event.call),
        "value": event.value,
    }
    if event.error is not None:
        record["error"] = str(event.error)
    return text({Keyword(key): value for key, value in record.items()}) + "\n"


def text(value: object) -> str:
    """Return a value as EDN."""
    match value:
        case Keyword():
            return f":{value}"
        case str() | bool():
            return json.dumps(value, ensure_ascii=False)
        case Mapping():
            return "{" + ", ".join(f"{text(key)} {text(held)}" for key, held in value.items()) + "}"
        case Sequence():
            return "[" + " ".join(text(each) for each in value) + "]"
    return "nil" if value is None else str(value)
