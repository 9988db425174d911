"""Small histories, written by hand: operations at whole seconds, and what the databases hold at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgbaton.lab.definition import complete
from pgbaton.proof.audit import FinalRead
from pgbaton.proof.checkers.base import Evidence, Holding
from pgbaton.proof.history import History, Kind, Operation, Outcome
from pgbaton.proof.outage import Span
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.proof.checkers.base import Check

TOPOLOGY = complete(load.loads(presets.text("standard")), "demo")
DB1, DB2 = "10.77.0.21", "10.77.0.22"
FAULT = Span(10.0, 20.0)
OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN


def evidence(operations: Iterable[Operation] = (), *finals: FinalRead, **more: Any) -> Evidence:  # noqa: ANN401
    history = History(tuple(sorted(operations, key=lambda each: each.end)), finished=True)
    return Evidence(TOPOLOGY, history, Span(0.0, 60.0), FAULT, finals, **more)


def add(number: int, outcome: Outcome = OK, *, at: float = 1.0, **more: Any) -> Operation:  # noqa: ANN401
    return Operation("w", Kind.WRITE, number, at, at + 0.5, outcome, **more)


def final(name: str = "db1", **more: Any) -> FinalRead:  # noqa: ANN401
    return FinalRead(name, primary=name == "db1", **more)


def access(  # noqa: PLR0917
    number: int,
    call: str,
    value: list[Any],
    start: float,
    end: float,
    result: Any = None,  # noqa: ANN401
    outcome: Outcome = OK,
) -> Operation:
    kind = Kind.QUERY if call == "read" or result is False else Kind.WRITE
    client = f"c{number}"
    return Operation(
        client, kind, number, start, end, outcome, workload="register", call=call, value=value, result=result
    )


def txn(number: int, start: float, end: float, *steps: tuple[Any, ...], outcome: Outcome = OK) -> Operation:
    """Make a transaction: ("append", key, element) or ("r", key, list) each."""
    asked = [[call, key, argument if call == "append" else None] for call, key, argument in steps]
    result = [list(step) for step in steps] if outcome is OK else None
    kind = Kind.WRITE if any(step[0] == "append" for step in steps) else Kind.QUERY
    client = f"c{number}"
    return Operation(
        client, kind, number, start, end, outcome, workload="append", call="txn", value=asked, result=result
    )


def held(host: str, begin: float, end: float) -> Holding:
    return Holding(host, Span(begin, end))


def says(check: Check, words: str) -> bool:
    return any(words in finding for finding in check.findings)
