from __future__ import annotations

import json
from itertools import pairwise

import pytest

from pgbaton.errors import UsageError
from pgbaton.proof.chaos import Act, Schedule, as_fault, draw, shrink, without_a_piece
from pgbaton.proof.faults import FAULTS

NAMES = [fault.name for fault in FAULTS if fault.composable]


def numbered(*numbers: int) -> Schedule:
    return Schedule(tuple(Act(float(number), "postmaster-killed", 1.0, number) for number in numbers))


def test_a_seed_always_draws_the_same_schedule_and_another_seed_another() -> None:
    assert draw(7, 180, NAMES) == draw(7, 180, NAMES)
    assert draw(7, 180, NAMES) != draw(8, 180, NAMES)


def test_a_schedule_fits_into_its_time_and_its_acts_may_overlap() -> None:
    acts = draw(7, 600, NAMES).acts
    assert [act.at for act in acts] == sorted(act.at for act in acts)
    assert all(0 <= act.at < 600 - 15 for act in acts)
    assert any(later.at < earlier.at + earlier.lasts for earlier, later in pairwise(acts))


@pytest.mark.parametrize("seconds", [30, 31, 60])
def test_the_shortest_chaos_has_an_act(seconds: float) -> None:
    assert all(draw(seed, seconds, NAMES).acts for seed in range(50))


def test_a_schedule_is_read_back_as_it_was_written() -> None:
    schedule = draw(7, 180, NAMES)
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


@pytest.mark.parametrize(
    "data", [{}, {"acts": [{"at": 1}]}, {"acts": [{"at": 1.0, "fault": "meteor", "lasts": 1.0, "seed": 1}]}]
)
def test_what_is_no_schedule_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"not a schedule|no fault named meteor"):
        Schedule.from_dict(data)


def test_a_schedule_tolerates_what_its_faults_break_by_their_nature() -> None:
    breaking = next(fault for fault in FAULTS if fault.tolerates)
    schedule = Schedule((Act(1.0, breaking.name, 1.0, 1),))
    assert set(as_fault(schedule).tolerates) == set(breaking.tolerates)
    assert as_fault(numbered(1)).tolerates == {}


async def test_the_shortest_schedule_that_fails_is_found() -> None:
    tried: list[Schedule] = []

    async def fails(schedule: Schedule) -> bool:
        tried.append(schedule)
        return {3, 11} <= {act.seed for act in schedule.acts}

    shortest, count = await shrink(numbered(*range(16)), fails, attempts=100)
    assert shortest == numbered(3, 11)
    assert count == len(tried)


async def test_no_more_schedules_are_tried_than_allowed_and_the_best_so_far_is_kept() -> None:
    async def fails(schedule: Schedule) -> bool:
        return 3 in {act.seed for act in schedule.acts}

    shortest, count = await shrink(numbered(*range(16)), fails, attempts=3)
    assert count == 3
    assert len(shortest.acts) < 16
    assert 3 in {act.seed for act in shortest.acts}


async def test_a_schedule_of_one_act_is_as_short_as_can_be() -> None:
    async def fails(schedule: Schedule) -> bool:
        raise AssertionError(schedule)

    assert await shrink(numbered(1), fails, attempts=5) == (numbered(1), 0)


def test_pieces_are_left_out_one_at_a_time() -> None:
    acts = numbered(1, 2, 3, 4, 5).acts
    assert [[act.seed for act in rest] for rest in without_a_piece(acts, 2)] == [[4, 5], [1, 2, 3]]


@pytest.mark.parametrize(
    "changes",
    [{"at": float("inf")}, {"at": float("nan")}, {"at": -1.0}, {"lasts": -1.0}, {"at": "x"}, {"seed": []}],
)
def test_an_act_that_cannot_be_carried_out_is_refused(changes: dict[str, object]) -> None:
    act = {"at": 1.0, "fault": "postmaster-killed", "lasts": 1.0, "seed": 1, **changes}
    with pytest.raises(UsageError, match="not a schedule"):
        Schedule.from_dict({"acts": [act]})


def test_a_schedule_without_acts_is_none() -> None:
    with pytest.raises(UsageError, match="no acts"):
        Schedule.from_dict({"acts": []})
