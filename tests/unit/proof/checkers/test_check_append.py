from __future__ import annotations

from typing import Any

import pytest
from made import FAIL, UNKNOWN, evidence, final, says, txn

from pgbaton.proof.checkers.append import append
from pgbaton.proof.checkers.base import Validity


def judged(*transactions: Any, **lists: tuple[int, ...]) -> Any:  # noqa: ANN401
    """Judge transactions and final lists, whose keys are x1, x2 …"""
    return append(evidence(transactions, final(lists={int(key[1:]): held for key, held in lists.items()})))


T1 = txn(1, 1, 2, ("append", 1, 10), ("append", 2, 20))


@pytest.mark.parametrize(
    ("transactions", "lists"),
    [
        ((T1, txn(2, 3, 4, ("r", 1, [10]), ("append", 1, 11))), {"x1": (10, 11), "x2": (20,)}),
        ((T1, txn(2, 1, 2, ("r", 1, []), ("r", 2, []))), {"x1": (10,), "x2": (20,)}),
        ((T1, txn(2, 3, 4, ("append", 1, 11), ("r", 1, [10, 11]))), {"x1": (10, 11), "x2": (20,)}),
        ((T1, txn(2, 3, 4, ("append", 1, 11), outcome=UNKNOWN)), {"x1": (10,), "x2": (20,)}),
        ((T1, txn(2, 0, 1, ("append", 1, 11), outcome=UNKNOWN)), {"x1": (10, 11), "x2": (20,)}),
        ((T1, txn(2, 3, 4, ("append", 1, 11), outcome=FAIL)), {"x1": (10,), "x2": (20,)}),
        ((txn(1, 1, 2, ("r", 1, None)),), {}),
    ],
)
def test_what_a_serial_order_explains_is_valid(transactions: Any, lists: Any) -> None:  # noqa: ANN401
    check = judged(*transactions, **lists)
    assert check.findings == ()
    assert check.validity is Validity.VALID


SAME = (1, 5)  # transactions that overlap have no order in real time


@pytest.mark.parametrize(
    ("sort", "transactions", "lists"),
    [
        (
            "G0",
            (
                txn(1, *SAME, ("append", 1, 10), ("append", 2, 20)),
                txn(2, *SAME, ("append", 1, 11), ("append", 2, 21)),
            ),
            {"x1": (10, 11), "x2": (21, 20)},
        ),
        (
            "G1c",
            (txn(1, *SAME, ("append", 1, 10), ("r", 2, [20])), txn(2, *SAME, ("append", 2, 20), ("r", 1, [10]))),
            {"x1": (10,), "x2": (20,)},
        ),
        (
            "G-single",
            (txn(1, *SAME, ("append", 1, 10), ("append", 2, 20)), txn(2, *SAME, ("r", 1, [10]), ("r", 2, []))),
            {"x1": (10,), "x2": (20,)},
        ),
        (
            "G2-item",
            (txn(1, *SAME, ("r", 1, []), ("append", 2, 20)), txn(2, *SAME, ("r", 2, []), ("append", 1, 10))),
            {"x1": (10,), "x2": (20,)},
        ),
        ("G0-realtime", (txn(1, 1, 2, ("append", 1, 10)), txn(2, 3, 4, ("append", 1, 11))), {"x1": (11, 10)}),
        ("G1c-realtime", (txn(1, 1, 2, ("r", 1, [10])), txn(2, 3, 4, ("append", 1, 10))), {"x1": (10,)}),
        ("G-single-realtime", (txn(1, 1, 2, ("append", 1, 10)), txn(2, 3, 4, ("r", 1, []))), {"x1": (10,)}),
        (
            "G2-item-realtime",
            (
                txn(1, 1, 2, ("append", 1, 10)),
                txn(2, 3, 6, ("r", 2, [])),
                txn(3, 1, 6, ("append", 2, 20), ("r", 1, [])),
            ),
            {"x1": (10,), "x2": (20,)},
        ),
    ],
)
def test_every_sort_of_cycle_is_found_by_its_name(sort: str, transactions: Any, lists: Any) -> None:  # noqa: ANN401
    check = judged(*transactions, **lists)
    assert check.validity is Validity.INVALID
    assert check.figures["sorts"] == {sort: 1}
    assert says(check, f"{sort}: T1 (")


def test_a_cycle_is_told_in_words() -> None:
    missed = txn(2, *SAME, ("r", 1, [10]), ("r", 2, []))
    check = judged(txn(1, *SAME, ("append", 1, 10), ("append", 2, 20)), missed, x1=(10,), x2=(20,))
    assert check.findings == (
        "G-single: T1 (c2/2) read key 2 without 20, which T2 (c1/1) appended; T2 appended 10 to key 1, which T1 read",
    )


@pytest.mark.parametrize(
    ("words", "transactions", "lists"),
    [
        ("duplicate elements in key 1: 10", (T1,), {"x1": (10, 10), "x2": (20,)}),
        ("key 1 shows what nobody appended: 12", (T1,), {"x1": (10, 12), "x2": (20,)}),
        (
            "G1a (aborted read): key 1 shows 11, which c2/2 appended",
            (T1, txn(2, 3, 4, ("append", 1, 11), outcome=FAIL)),
            {"x1": (10, 11), "x2": (20,)},
        ),
        (
            "G1b (intermediate read): c2/2 read key 1 up to 10, after which c1/1 appended more",
            (txn(1, *SAME, ("append", 1, 10), ("append", 1, 11)), txn(2, *SAME, ("r", 1, [10]))),
            {"x1": (10, 11)},
        ),
        (
            "internal: c2/2 did not see 11, which it had appended to key 1",
            (T1, txn(2, 3, 4, ("append", 1, 11), ("r", 1, [10]))),
            {"x1": (10, 11), "x2": (20,)},
        ),
        (
            "internal: c2/2 read key 1 twice",
            (T1, txn(2, *SAME, ("r", 1, []), ("r", 1, [10]))),
            {"x1": (10,), "x2": (20,)},
        ),
        (
            "incompatible orders: c3/3 read 11 of key 1 where others read 10",
            (T1, txn(2, 1, 2, ("append", 1, 11)), txn(3, *SAME, ("r", 1, [11]))),
            {"x1": (10, 11), "x2": (20,)},
        ),
        ("lost: c1/1 appended 10 to key 1, acknowledged 8.000 s before", (T1,), {"x1": (), "x2": (20,)}),
        ("lost: c1/1 appended 20 to key 2", (T1,), {"x1": (10,)}),
        (
            "torn: c1/1 took place in part: 20 is not in key 2",
            (txn(1, 1, 2, ("append", 1, 10), ("append", 2, 20), outcome=UNKNOWN), txn(2, 3, 4, ("r", 1, [10]))),
            {"x1": (10,)},
        ),
        (
            "vanished: 10 had been read of key 1",
            (txn(1, 1, 2, ("append", 1, 10), outcome=UNKNOWN), txn(2, 3, 4, ("r", 1, [10]))),
            {"x1": ()},
        ),
    ],
)
def test_every_other_anomaly_is_found(words: str, transactions: Any, lists: Any) -> None:  # noqa: ANN401
    check = judged(*transactions, **lists)
    assert check.validity is Validity.INVALID
    assert says(check, words), check.findings


def test_a_standby_that_holds_another_list_is_found() -> None:
    finals = final(lists={1: (10,), 2: (20,)}), final("db2", lists={1: (10,)})
    assert append(evidence([T1], *finals)).validity is Validity.INVALID


def test_without_a_final_read_nothing_is_valid_and_what_reads_show_is_still_invalid() -> None:
    assert append(evidence([T1])).validity is Validity.UNKNOWN
    assert append(evidence([T1, txn(2, 3, 4, ("r", 1, [10]), ("r", 2, [20, 20]))])).validity is Validity.INVALID
