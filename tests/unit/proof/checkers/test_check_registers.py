from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from made import FAIL, UNKNOWN, access, evidence, final, says

from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.checkers.registers import registers


def judged(*accesses: Any, last: int | None = None) -> Any:  # noqa: ANN401
    return registers(evidence(accesses, final(registers={} if last is None else {1: last})))


WRITE = access(1, "write", [1, 5], 1, 2)


@pytest.mark.parametrize(
    ("accesses", "last"),
    [
        ((WRITE, access(2, "read", [1], 3, 4, 5)), 5),
        ((access(2, "read", [1], 0, 0.5), WRITE), 5),
        ((WRITE, access(2, "read", [1], 1.5, 1.6), access(3, "read", [1], 1.7, 1.8, 5)), 5),
        ((WRITE, access(2, "cas", [1, 5, 6], 3, 4, result=True)), 6),
        ((WRITE, access(2, "cas", [1, 4, 6], 3, 4, result=False)), 5),
        ((WRITE, access(2, "write", [1, 7], 3, 4, outcome=FAIL)), 5),
        ((WRITE, access(2, "write", [1, 7], 3, 4, outcome=UNKNOWN)), 5),
        ((WRITE, access(2, "write", [1, 7], 3, 4, outcome=UNKNOWN), access(3, "read", [1], 8, 9, 7)), 7),
        ((WRITE, access(2, "cas", [1, 5, 7], 3, 4, outcome=UNKNOWN), access(3, "read", [1], 8, 9, 5)), 7),
        ((WRITE, access(2, "write", [1, 7], 2, 3), access(3, "read", [1], 4, 5, 5)), 5),
    ],
)
def test_what_one_copy_could_have_answered_is_valid(accesses: Any, last: int) -> None:  # noqa: ANN401
    check = judged(*accesses, last=last)
    assert check.findings == ()
    assert check.validity is Validity.VALID


@pytest.mark.parametrize(
    ("accesses", "last", "words"),
    [
        ((WRITE, access(2, "read", [1], 3, 4)), 5, "c2/2 read no value"),
        ((WRITE, access(2, "read", [1], 3, 4, 6)), 5, "c2/2 read 6, answered 6.000 s before the fault, where only 5"),
        ((WRITE, access(2, "write", [1, 6], 3, 4), access(3, "read", [1], 5, 6, 5)), 6, "c3/3 read 5"),
        ((WRITE, access(2, "read", [1], 1.1, 1.2, 5), access(3, "read", [1], 1.3, 1.4)), 5, "c3/3 read no value"),
        ((WRITE, access(2, "cas", [1, 4, 6], 3, 4, result=True)), 6, "c2/2 changed 4 to 6"),
        ((WRITE, access(2, "cas", [1, 5, 6], 3, 4, result=False)), 5, "c2/2 saw that it was not 5"),
        ((WRITE, access(2, "write", [1, 7], 3, 4, outcome=FAIL), access(3, "read", [1], 5, 6, 7)), 7, "c3/3 read 7"),
        ((access(2, "write", [1, 7], 3, 4, outcome=UNKNOWN), access(3, "read", [1], 1, 2, 7)), 7, "c3/3 read 7"),
        (
            (WRITE, access(2, "cas", [1, 5, 6], 3, 4, result=True), access(3, "cas", [1, 5, 7], 3, 4, result=True)),
            6,
            "changed 5 to",
        ),
        ((WRITE,), None, "key 1 holds no value at the end, where only 5 is possible"),
        ((WRITE,), 8, "key 1 holds 8 at the end"),
    ],
)
def test_what_no_single_copy_could_have_answered_is_found(accesses: Any, last: int | None, words: str) -> None:  # noqa: ANN401
    check = judged(*accesses, last=last)
    assert check.validity is Validity.INVALID
    assert says(check, words), check.findings


def test_a_value_of_unknown_outcome_can_be_written_but_once() -> None:
    once = access(2, "write", [1, 7], 3, 4, outcome=UNKNOWN)
    reads = [access(3 + n, "read", [1], 10 + n, 10.5 + n, value) for n, value in enumerate((5, 7))]
    again = access(8, "write", [1, 5], 12, 13), access(9, "read", [1], 14, 15, 7)
    assert judged(WRITE, once, *reads, last=7).validity is Validity.VALID
    assert judged(WRITE, once, *reads, *again, last=7).validity is Validity.INVALID


def test_a_standby_that_holds_another_value_is_found() -> None:
    check = registers(evidence([WRITE], final(registers={1: 5}), final("db2", registers={1: 4})))
    assert check.validity is Validity.INVALID
    assert says(check, "db2 holds other registers than the primary db1: 1")


def test_without_a_final_read_nothing_is_valid() -> None:
    assert registers(evidence([WRITE])).validity is Validity.UNKNOWN


def test_a_search_that_is_given_up_is_unknown_and_names_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module(registers.__module__), "STEPS_PER_KEY", 1)
    check = judged(WRITE, access(2, "read", [1], 3, 4, 5), last=5)
    assert check.validity is Validity.UNKNOWN
    assert check.findings == ("the search was given up for 1 keys: 1",)


def test_many_writes_of_unknown_outcome_do_not_make_the_search_long() -> None:
    unknown = [access(n, "write", [1, n], 1, 2, outcome=UNKNOWN) for n in range(100, 160)]
    known = [access(n, "write", [1, n], n, n + 1.5) for n in range(2, 40)]
    looks = [access(200 + n, "read", [1], 41 + n, 41.5 + n, 100 + n) for n in range(12)]
    assert judged(*unknown, *known, *looks, last=111).validity is Validity.VALID
    assert judged(*unknown, *known, *looks, last=99).validity is Validity.INVALID
