from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest
from made import FAIL, OK, UNKNOWN, access, add, evidence, final, txn

from pgbaton.proof.edn import edn
from pgbaton.proof.history import History, Kind, Operation

TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|[^\s,{}\[\]]+')


def parsed(text: str) -> Any:  # noqa: ANN401
    """Read one form of EDN, as far as histories need it; keywords keep their colon."""
    tokens = TOKENS.findall(text)
    form = _form(tokens)
    assert not tokens
    return form


def _form(tokens: list[str]) -> Any:  # noqa: ANN401
    token = tokens.pop(0)
    if token in "{[":
        forms = []
        while tokens[0] not in "}]":
            forms.append(_form(tokens))
        tokens.pop(0)
        return dict(zip(forms[::2], forms[1::2], strict=True)) if token == "{" else forms
    words = {"nil": None, "true": True, "false": False}
    if token in words:
        return words[token]
    return token if token.startswith(":") else token[1:-1] if token.startswith('"') else int(token)


def events(operations: Any, workload: str, **more: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    return [parsed(line) for line in edn(evidence(operations).history, workload, **more)]


def values(operations: Any, workload: str, **more: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
    return [(each[":type"], each[":f"], each[":value"]) for each in events(operations, workload, **more)]


def banked(call: str, value: Any, result: Any) -> Operation:  # noqa: ANN401
    return Operation("c", Kind.WRITE, 1, 1.0, 2.0, OK, workload="bank", call=call, value=value, result=result)


def test_a_line_is_an_event_of_jepsens() -> None:
    assert list(edn(evidence([add(7, at=5.0)]).history, "set")) == [
        '{:index 0, :type :invoke, :process 0, :time 0, :f :add, :value ["w" 7]}\n',
        '{:index 1, :type :ok, :process 0, :time 500000000, :f :add, :value ["w" 7]}\n',
    ]


@pytest.mark.parametrize(
    ("operation", "workload", "asked", "answered"),
    [
        (access(1, "read", [3], 1, 2, 5), "register", (":invoke", ":read", [3, None]), (":ok", ":read", [3, 5])),
        (access(1, "read", [3], 1, 2), "register", (":invoke", ":read", [3, None]), (":ok", ":read", [3, None])),
        (access(1, "write", [3, 5], 1, 2), "register", (":invoke", ":write", [3, 5]), (":ok", ":write", [3, 5])),
        (
            access(1, "cas", [3, 5, 6], 1, 2, result=True),
            "register",
            (":invoke", ":cas", [3, [5, 6]]),
            (":ok", ":cas", [3, [5, 6]]),
        ),
        (
            access(1, "cas", [3, 5, 6], 1, 2, result=False),
            "register",
            (":invoke", ":cas", [3, [5, 6]]),
            (":fail", ":cas", [3, [5, 6]]),
        ),
        (
            txn(1, 1, 2, ("append", 3, 5), ("r", 4, [1, 2])),
            "append",
            (":invoke", ":txn", [[":append", 3, 5], [":r", 4, None]]),
            (":ok", ":txn", [[":append", 3, 5], [":r", 4, [1, 2]]]),
        ),
        (
            banked("transfer", [1, 2, 30], result=True),
            "bank",
            (":invoke", ":transfer", {":from": 1, ":to": 2, ":amount": 30}),
            (":ok", ":transfer", {":from": 1, ":to": 2, ":amount": 30}),
        ),
        (
            banked("transfer", [1, 2, 30], result=False),
            "bank",
            (":invoke", ":transfer", {":from": 1, ":to": 2, ":amount": 30}),
            (":fail", ":transfer", {":from": 1, ":to": 2, ":amount": 30}),
        ),
        (
            banked("total", None, [[0, 100], [1, 90]]),
            "bank",
            (":invoke", ":read", None),
            (":ok", ":read", {0: 100, 1: 90}),
        ),
    ],
)
def test_every_call_has_jepsens_form(operation: Operation, workload: str, asked: Any, answered: Any) -> None:  # noqa: ANN401
    assert values([operation], workload) == [asked, answered]


def test_a_client_is_a_new_process_after_an_outcome_that_it_does_not_know() -> None:
    operations = [
        add(1, UNKNOWN, at=1, error='connection lost: "x"'),
        add(2, FAIL, at=2, error="40001: no"),
        add(3, at=3),
        Operation("v", Kind.WRITE, 1, 1.2, 1.4, OK),
    ]
    found = events(operations, "set")
    assert [(each[":process"], each[":type"]) for each in found] == [
        (0, ":invoke"),
        (1, ":invoke"),
        (1, ":ok"),
        (0, ":info"),
        (2, ":invoke"),
        (2, ":fail"),
        (2, ":invoke"),
        (2, ":ok"),
    ]
    assert found[5][":error"] == "40001: no"


def test_a_workload_has_its_own_text_alone() -> None:
    newest = Operation("r", Kind.READ, 1, 1, 2, OK, call="newest", value="w")
    operations = [add(1), newest, access(1, "read", [3], 1, 2, 5)]
    assert len(events(operations, "set")) == len(events(operations, "register")) == 2
    assert events(operations, "bank") == []


@pytest.mark.parametrize(
    ("workload", "held", "form"),
    [
        ("set", {"rows": (("w", 1),)}, (":ok", ":read", [["w", 1]])),
        ("register", {"registers": {3: 5}}, (":ok", ":read", [3, 5])),
        ("bank", {"accounts": {0: 100}}, (":ok", ":read", {0: 100})),
        ("append", {"lists": {3: (5, 6)}}, (":ok", ":txn", [[":r", 3, [5, 6]]])),
    ],
)
def test_the_final_read_is_the_last_event(workload: str, held: Any, form: Any) -> None:  # noqa: ANN401
    operations = [add(1), access(1, "write", [3, 5], 1, 2), banked("total", None, [[0, 100]]), txn(1, 1, 2)]
    found = events(operations, workload, final=final(**held))
    assert values(operations, workload, final=final(**held))[-1] == form
    assert found[-1][":process"] not in {each[":process"] for each in found[:-2]}


@pytest.mark.parametrize("seed", range(5))
def test_a_history_parses_back_with_as_many_beginnings_as_ends(seed: int) -> None:
    random = Random(seed)
    clocks = dict.fromkeys("abc", 0.0)
    operations = []
    for number in range(60):
        client = random.choice(sorted(clocks))
        start = clocks[client] + random.choice((0.0, 0.25))
        clocks[client] = end = start + random.choice((0.0, 0.5, 1.0))
        operations.append(Operation(client, Kind.WRITE, number, start, end, random.choice((OK, FAIL, UNKNOWN))))
    found = [parsed(line) for line in edn(History(tuple(operations)), "set")]
    assert [each[":index"] for each in found] == list(range(120))
    assert [each[":time"] for each in found] == sorted(each[":time"] for each in found)
    busy: dict[int, Any] = {}
    for each in found:
        if each[":type"] == ":invoke":
            assert each[":process"] not in busy
            busy[each[":process"]] = each[":value"]
        else:
            assert busy[each[":process"]] == each[":value"]
            if each[":type"] != ":info":
                del busy[each[":process"]]
    unknown = sum(each.outcome is UNKNOWN for each in operations)
    assert len(busy) == unknown
    assert sum(each[":type"] == ":invoke" for each in found) == sum(each[":type"] != ":invoke" for each in found) == 60
