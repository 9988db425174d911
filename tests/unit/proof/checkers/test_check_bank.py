from __future__ import annotations

from typing import Any

import pytest
from made import UNKNOWN, evidence, final, says

from pgbaton.proof.checkers.bank import DECIDABLE_UNKNOWN, bank
from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.history import Kind, Operation, Outcome
from pgbaton.proof.workloads.bank import ACCOUNTS, INITIAL_BALANCE

START = dict.fromkeys(range(ACCOUNTS), INITIAL_BALANCE)
MOVED = START | {0: INITIAL_BALANCE - 5, 1: INITIAL_BALANCE + 5}


def total(accounts: dict[int, int], kind: Kind = Kind.QUERY) -> Operation:
    result = [list(item) for item in accounts.items()]
    return Operation("t", kind, 1, 3.0, 4.0, Outcome.OK, workload="bank", call="total", result=result)


def transfer(number: int = 1, outcome: Outcome = Outcome.OK, *, result: bool = True) -> Operation:
    value, known = [0, 1, 5], result if outcome is Outcome.OK else None
    return Operation(
        "c", Kind.WRITE, number, 1.0, 2.0, outcome, workload="bank", call="transfer", value=value, result=known
    )


@pytest.mark.parametrize(
    ("operations", "accounts"),
    [
        ((transfer(), total(MOVED), total(START, Kind.READ)), MOVED),
        ((transfer(outcome=UNKNOWN), total(START)), START),
        ((transfer(outcome=UNKNOWN), total(MOVED)), MOVED),
        ((transfer(result=False), total(START)), START),
    ],
)
def test_money_that_only_moves_is_valid(operations: Any, accounts: dict[int, int]) -> None:  # noqa: ANN401
    check = bank(evidence(operations, final(accounts=accounts), final("db2", accounts=accounts)))
    assert check.findings == ()
    assert check.validity is Validity.VALID
    assert check.figures["final_totals"] == {
        "db1": check.figures["expected_total"],
        "db2": check.figures["expected_total"],
    }


LESS = START | {0: INITIAL_BALANCE - 5}
BELOW = START | {0: -1, 1: 2 * INITIAL_BALANCE + 1}


@pytest.mark.parametrize(
    ("operations", "accounts", "words"),
    [
        ((total(LESS),), START, "on the port for writes a total of"),
        ((total(LESS, Kind.READ), total(START)), START, "on the port for reads a total of"),
        ((total(BELOW),), START, "accounts below zero: 0 with -1"),
        ((total(dict(list(START.items())[1:])),), START, f"{ACCOUNTS - 1} accounts of {ACCOUNTS}"),
        ((total(START),), LESS, "db1 holds a total of"),
        (
            (transfer(), total(MOVED)),
            START,
            "the acknowledged transfers do not make the final balances: account 0 has",
        ),
        ((transfer(result=False), total(START)), MOVED, "do not make the final balances"),
    ],
)
def test_every_planted_anomaly_is_found(operations: Any, accounts: dict[int, int], words: str) -> None:  # noqa: ANN401
    check = bank(evidence(operations, final(accounts=accounts)))
    assert check.validity is Validity.INVALID
    assert says(check, words), check.findings


def test_a_standby_with_other_balances_is_found() -> None:
    check = bank(evidence([total(START)], final(accounts=START), final("db2", accounts=MOVED)))
    assert says(check, "db2 holds other balances than the primary db1: 0, 1")


def test_balances_are_not_recomputed_from_too_many_unknown_outcomes() -> None:
    unknown = [transfer(number, UNKNOWN) for number in range(DECIDABLE_UNKNOWN + 1)]
    assert bank(evidence([*unknown, total(START)], final(accounts=MOVED))).figures["recomputed"] is False


def test_what_could_not_be_looked_at_is_unknown() -> None:
    assert bank(evidence([total(START)])).validity is Validity.UNKNOWN
    assert bank(evidence([transfer()], final(accounts=MOVED))).validity is Validity.UNKNOWN
