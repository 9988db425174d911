"""When the WAL of a primary is stuck, look after look."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.acting import server
from pgbaton.agent.decisions.flushing import GAP_SECONDS, PATIENCE_SECONDS, Look, counted, is_stuck

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.agent.decisions.flushing import Count

EVERY_SECONDS = 0.5
LOOKS = round(PATIENCE_SECONDS / EVERY_SECONDS) + 1
WAITS = Look(0.0, flushed=5000, awaited=True)
IDLE = replace(WAITS, awaited=False)


def looks(number: int, look: Look = WAITS, since_seconds: float = 0.0) -> list[Look]:
    """Return so many looks, each half a second after the one before."""
    return [replace(look, at_seconds=since_seconds + at * EVERY_SECONDS) for at in range(number)]


def after(seen: Iterable[Look]) -> Count | None:
    """Return the count after these looks."""
    count = None
    for look in seen:
        count = counted(count, look)
    return count


def stuck_at(seen: list[Look]) -> list[float]:
    """Return when the WAL was stuck, in the eyes of who looked like this."""
    return [look.at_seconds for at, look in enumerate(seen) if is_stuck(after(seen[: at + 1]), look.at_seconds)]


def test_wal_is_stuck_when_nothing_is_flushed_for_the_whole_patience_while_somebody_waits() -> None:
    assert stuck_at(looks(LOOKS + 2)) == [10.0, 10.5, 11.0]


def test_where_nobody_waits_nothing_is_stuck() -> None:
    assert stuck_at(looks(5 * LOOKS, IDLE)) == []


@pytest.mark.parametrize(
    "between",
    [replace(WAITS, awaited=False), replace(WAITS, stalled=True)],
    ids=["nobody waits", "the agent slept"],
)
def test_a_look_that_says_nothing_begins_the_count_anew(between: Look) -> None:
    seen = looks(LOOKS + 20)
    seen[LOOKS - 2] = replace(between, at_seconds=seen[LOOKS - 2].at_seconds)
    first_after = seen[LOOKS - 1].at_seconds
    assert stuck_at(seen)[0] == first_after + PATIENCE_SECONDS


def test_a_single_byte_begins_the_count_anew() -> None:
    seen = looks(LOOKS - 1)
    moved = looks(LOOKS, replace(WAITS, flushed=WAITS.flushed + 1), since_seconds=seen[-1].at_seconds + EVERY_SECONDS)
    assert stuck_at([*seen, *moved]) == [moved[-1].at_seconds]


def test_a_slow_disk_that_flushes_now_and_then_is_never_stuck() -> None:
    slow = [replace(look, flushed=5000 + at // (LOOKS - 1)) for at, look in enumerate(looks(200))]
    assert stuck_at(slow) == []


def test_looks_too_far_apart_do_not_belong_together() -> None:
    seen = looks(LOOKS - 1)
    late = replace(WAITS, at_seconds=seen[-1].at_seconds + GAP_SECONDS + 0.01)
    assert stuck_at([*seen, late]) == []
    assert stuck_at([*seen, replace(late, at_seconds=seen[-1].at_seconds + GAP_SECONDS)]) != []


def test_a_clock_that_goes_back_begins_the_count_anew() -> None:
    back = replace(WAITS, at_seconds=-5.0)
    count = after([*looks(LOOKS), back])
    assert count is not None
    assert count.since_seconds == -5.0


def test_what_was_seen_a_while_ago_is_not_so_now() -> None:
    count = after(looks(LOOKS))
    assert is_stuck(count, PATIENCE_SECONDS + GAP_SECONDS)
    assert not is_stuck(count, PATIENCE_SECONDS + GAP_SECONDS + 0.01)
    assert not is_stuck(None, 0.0)


def test_one_look_that_is_not_answered_does_not_part_the_others() -> None:
    assert server.USUAL_SECONDS + 2 * 0.5 < GAP_SECONDS
