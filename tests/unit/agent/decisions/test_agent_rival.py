"""Whose right it is to take writes where a person promotes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.decisions.by_hand import rival
from pgbaton.components import manual_program

if TYPE_CHECKING:
    from pgbaton.agent.decisions.by_hand import Role


@dataclass(frozen=True)
class Said:
    role: Role
    timeline: int


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"db2": Said("standby", 5)}, ""),
        ({"db2": Said("primary", 4)}, ""),
        ({"db2": None, "db3": None}, ""),
        ({"db2": Said("none", 0)}, ""),
        ({"db2": Said("primary", 5)}, "db2 takes writes on timeline 5 too"),
        ({"db2": Said("primary", 6)}, "db2 is on timeline 6"),
        ({"db2": None, "db3": Said("standby", 6)}, "db3 is on timeline 6, and this server on 5"),
        ({"db2": Said("unknown", 6)}, "db2 is on timeline 6"),
    ],
)
def test_the_newest_timeline_has_the_right_and_of_two_on_one_neither(others: dict[str, Said | None], why: str) -> None:
    assert rival(5, others).startswith(why)
    assert bool(rival(5, others)) == bool(why)


@pytest.mark.parametrize("first", range(3, 7))
@pytest.mark.parametrize("second", range(3, 7))
def test_never_two_of_those_that_hear_each_other_have_the_right(first: int, second: int) -> None:
    one, other = Said("primary", first), Said("primary", second)
    right = [not rival(first, {"db2": other}), not rival(second, {"db1": one})]
    assert sum(right) == (first != second)


def test_whom_agents_turn_away_would_not_be_let_start_either() -> None:
    """What the host's own program decides at a start, and what agents decide while a server runs, must not differ."""
    for role, timeline in itertools.product(("primary", "standby"), (4, 5, 6)):
        said = {"in_recovery": role == "standby", "timeline": timeline}
        status, _ = manual_program.decide(5, {"db2": said}, permitted=True)
        if rival(5, {"db2": Said(role, timeline)}):  # type: ignore[arg-type]
            assert status == manual_program.MUST_STAY_DOWN
