from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pgbaton.proof.chaos import Act, Schedule, shrink


@given(st.integers(1, 24).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_what_is_shrunk_still_fails_and_loses_its_failure_with_any_act(given_: tuple[int, set[int]]) -> None:
    count, guilty = given_
    acts = tuple(Act(float(number), "postmaster-killed", 1.0, number) for number in range(count))

    async def fails(schedule: Schedule) -> bool:
        return guilty <= {act.seed for act in schedule.acts}

    shortest, _ = asyncio.run(shrink(Schedule(acts), fails, attempts=10_000))
    assert {act.seed for act in shortest.acts} == guilty
