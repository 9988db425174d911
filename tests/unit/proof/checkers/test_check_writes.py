from __future__ import annotations

import pytest
from made import FAIL, UNKNOWN, add, evidence, final, says

from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.checkers.writes import writes

WRITES = (add(1), add(2, at=11.0), add(3, FAIL), add(4, UNKNOWN), add(5, at=12.0))
KEPT = (("w", 1), ("w", 2), ("w", 4), ("w", 5))
WHOLE = (final(rows=KEPT), final("db2", rows=KEPT))


def test_every_promise_kept_is_valid_and_counted() -> None:
    check = writes(evidence(WRITES, *WHOLE))
    assert check.validity is Validity.VALID
    assert check.findings == ()
    wanted = {"acknowledged": 3, "lost": 0, "duplicated": 0, "unknown": 1, "unknown_present": 1, "revived": 0}
    assert wanted.items() <= check.figures.items()


def test_lost_writes_are_told_with_the_time_of_their_acknowledgements() -> None:
    rows = (("w", 1), ("w", 4))
    check = writes(evidence(WRITES, final(rows=rows), final("db2", rows=rows)))
    assert check.validity is Validity.INVALID
    assert (check.figures["lost"], check.figures["lost_first_seconds"], check.figures["lost_last_seconds"]) == (
        2,
        1.5,
        2.5,
    )
    assert says(check, "between 1.500 s after the fault and 2.500 s after the fault")


@pytest.mark.parametrize(
    ("finals", "words"),
    [
        ((final(rows=KEPT), final("db2", rows=KEPT[1:])), "missing on db2: w/1"),
        ((final(rows=(*KEPT, ("w", 2))),), "duplicated on db1: w/2"),
        ((final(rows=(*KEPT, ("w", 3))),), "present that had failed: w/3"),
        ((final(rows=(*KEPT, ("w", 9))),), "rows that no client wrote: w/9"),
        ((final(rows=KEPT), final("db2", rows=(*KEPT, ("w", 9)), caught_up=False)), "rows that no client wrote: w/9"),
    ],
)
def test_every_planted_anomaly_is_found(finals: tuple, words: str) -> None:
    check = writes(evidence(WRITES, *finals))
    assert check.validity is Validity.INVALID
    assert says(check, words)


@pytest.mark.parametrize(
    "finals",
    [
        (final(rows=KEPT), final("db2", problem="powered off")),
        (final(rows=KEPT), final("db2", rows=KEPT[1:], caught_up=False)),
        (final(problem="powered off"), final("db2", rows=KEPT)),
        (),
    ],
)
def test_what_could_not_be_looked_at_is_unknown(finals: tuple) -> None:
    assert writes(evidence(WRITES, *finals)).validity is Validity.UNKNOWN


def test_of_nothing_acknowledged_nothing_is_shown() -> None:
    assert writes(evidence([add(1, FAIL)], final())).validity is Validity.UNKNOWN


def test_writes_of_other_workloads_are_no_rows() -> None:
    other = add(9, workload="register", call="write", value=[1, 2])
    assert writes(evidence((*WRITES, other), *WHOLE)).validity is Validity.VALID
