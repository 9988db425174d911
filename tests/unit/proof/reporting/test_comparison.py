from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import made_runs as made
import pytest

from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.reporting.compare import Comparison, compare, lines

if TYPE_CHECKING:
    from pgbaton.proof.results import TrialResult


def trials(*outages: float, fault: str = "switchover") -> tuple[TrialResult, ...]:
    return tuple(made.trial(fault, outage=outage, seed=seed) for seed, outage in enumerate(outages))


def compared(a: tuple[float, ...], b: tuple[float, ...]) -> Comparison:
    return compare(made.run(*trials(*a)), made.run(*trials(*b)))


def test_medians_and_worst_of_both_stand_beside_each_other() -> None:
    (each,) = compared((1.0, 2.0, 3.0), (4.0, 6.0)).faults
    assert (each.a.trials, each.a.median_seconds, each.a.max_seconds) == (3, 2.0, 3.0)
    assert (each.b.trials, each.b.median_seconds, each.b.max_seconds) == (2, 5.0, 6.0)
    assert (each.difference_seconds, each.ratio) == (3.0, 2.5)


@pytest.mark.parametrize(
    ("a", "b", "overlap", "told"),
    [
        ((1.0, 2.0), (1.9, 4.0), True, "alike"),
        ((1.0, 2.0), (2.1, 4.0), False, "slower"),
        ((1.0, 2.0), (0.1, 0.9), False, "faster"),
        ((1.0,), (1.0,), True, "alike"),
        ((1.0,), (1.04,), False, "alike"),
        ((1.0,), (math.inf,), False, "slower"),
        ((math.inf,), (1.0,), False, "faster"),
        ((math.inf,), (math.inf,), True, "alike"),
    ],
)
def test_slower_is_said_only_where_the_spreads_do_not_overlap(
    a: tuple[float, ...],
    b: tuple[float, ...],
    overlap: bool,  # noqa: FBT001
    told: str,
) -> None:
    (each,) = compared(a, b).faults
    assert (each.overlap, each.told) == (overlap, told)


def test_faults_of_one_run_alone_are_told_apart() -> None:
    a = made.run(*trials(1.0), *trials(1.0, fault="only-a"))
    b = made.run(*trials(1.0, fault="only-b"), *trials(1.0))
    found = compare(a, b)
    assert ([each.fault for each in found.faults], found.only_a, found.only_b) == (
        ["switchover"],
        ("only-a",),
        ("only-b",),
    )


def test_a_change_of_verdict_is_told_on_a_line_of_its_own() -> None:
    worse = made.run(made.trial("switchover", checks=made.checks(set=Validity.INVALID)))
    found = compare(made.run(*trials(1.2)), worse)
    assert found.faults[0].verdict_changed
    assert "  verdict: proven in A, violated in B" in lines(found)


def test_the_json_survives_outages_that_never_ended() -> None:
    data = json.loads(json.dumps(compared((math.inf,), (math.inf,)).to_dict(), allow_nan=False))
    assert data["faults"][0]["a"]["median_seconds"] is None
    assert data["faults"][0]["difference_seconds"] is None


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    found = compare(made.large(seed=1), made.large(seed=2))
    assert len(found.faults) == 50
    assert max(map(len, lines(found, width=width))) <= width


def test_runs_that_have_nothing_in_common_say_so() -> None:
    found = compare(made.run(*trials(1.0)), made.run(*trials(1.0, fault="other")))
    assert "no fault has trials in both runs" in lines(found)
