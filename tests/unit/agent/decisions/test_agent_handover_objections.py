"""What speaks against a hand-over, each reason by itself, and which of several is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pgbaton.agent.decisions.handover import View, objection

FIT = View(
    me="db1",
    leader="db1",
    primary=True,
    timeline=4,
    mode="on",
    sync=frozenset({"db2"}),
    paused=False,
    stalled=False,
    fenced=frozenset(),
    holders=frozenset({"lb1", "lb2"}),
    heard=frozenset({"db1", "db2", "db3", "lb1", "lb2"}),
    target_role="standby",
    target_following=True,
    target_timeline=4,
)
#: In the order in which they are told.
OBJECTIONS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"leader": "db3"}, "the leader lock is held by db3, not by db1"),
    ({"primary": False}, "the server of db1 takes no writes"),
    ({"paused": True}, "Patroni is paused"),
    ({"stalled": True}, "the agent of db1 overslept, and does not know how the others are"),
    ({"mode": "quorum"}, "only with synchronous standbys that each confirm every commit is nothing lost by it"),
    (
        {"sync": frozenset({"db3", "db2"})},
        "/sync names db2, db3; only db2 must be named, or another may win",
    ),
    ({"fenced": frozenset({"lb2", "db3"})}, "db1 has fenced db3, lb2"),
    (
        {"heard": frozenset({"db1", "db2", "db3"})},
        "nothing is heard of lb1, lb2, whose clients would not be held",
    ),
    ({"target_following": False}, "db2 does not follow"),
    ({"target_timeline": 3}, "db2 is on timeline 3, not 4"),
)


def test_nothing_speaks_against_a_view_that_is_fit() -> None:
    assert objection(FIT, "db2") is None


@pytest.mark.parametrize(("changes", "why"), OBJECTIONS, ids=["-".join(changes) for changes, _ in OBJECTIONS])
def test_each_objection_is_told_in_words(changes: dict[str, Any], why: str) -> None:
    assert objection(replace(FIT, **changes), "db2") == why


@pytest.mark.parametrize("number", range(len(OBJECTIONS)))
def test_of_several_objections_the_first_is_told(number: int) -> None:
    changes: dict[str, Any] = {}
    for more, _ in OBJECTIONS[number:]:
        changes |= more
    assert objection(replace(FIT, **changes), "db2") == OBJECTIONS[number][1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"leader": None}, "the leader lock is held by nobody, not by db1"),
        ({"sync": frozenset()}, "/sync names nobody; only db2 must be named, or another may win"),
        ({"sync": frozenset({"db3"})}, "/sync names db3; only db2 must be named, or another may win"),
        ({"mode": "off"}, "only with synchronous standbys that each confirm every commit is nothing lost by it"),
        ({"mode": "unknown"}, "only with synchronous standbys that each confirm every commit is nothing lost by it"),
        ({"heard": FIT.heard - {"lb1"}}, "nothing is heard of lb1, whose clients would not be held"),
        ({"target_role": "primary"}, "db2 does not follow"),
        ({"target_role": "unknown"}, "db2 does not follow"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], why: str) -> None:
    assert objection(replace(FIT, **changes), "db2") == why


def test_a_database_that_is_not_heard_and_has_no_clients_is_no_objection() -> None:
    assert objection(replace(FIT, heard=FIT.heard - {"db3"}), "db2") is None
