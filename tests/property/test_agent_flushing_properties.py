"""Whatever the looks at a primary bring: its WAL is stuck when nothing else can be said of it, and only then."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from pgbaton.agent.decisions.flushing import GAP_SECONDS, PATIENCE_SECONDS, Count, Look, counted, is_stuck

#: Most looks find somebody waiting and nothing flushed, since only such looks say anything.
LOOKS = st.tuples(
    st.sampled_from([0.5, 0.5, 0.5, 1.5, 2.5]),
    st.sampled_from([0] * 12 + [1]),
    st.sampled_from([True] * 12 + [False]),
    st.sampled_from([False] * 12 + [True]),
)


def in_time(drawn: list[tuple[float, int, bool, bool]]) -> list[Look]:
    """Return looks with their times, and with positions that never go back."""
    times = accumulate(seconds for seconds, *_ in drawn)
    positions = accumulate(more for _, more, *_ in drawn)
    rest = ((awaited, stalled) for *_, awaited, stalled in drawn)
    return [Look(at, flushed, *each) for at, flushed, each in zip(times, positions, rest, strict=True)]


def histories() -> st.SearchStrategy[list[Look]]:
    """Return looks at a primary, enough of them for a patience to end."""
    return st.lists(LOOKS, min_size=1, max_size=40).map(in_time)


def after(history: list[Look]) -> Count | None:
    """Return the count after all these looks."""
    count = None
    for look in history:
        count = counted(count, look)
    return count


def alike(history: list[Look]) -> list[Look]:
    """Return the looks at the end that all found the same: somebody waits, nothing was flushed, and none is missing."""
    found: list[Look] = []
    for look in reversed(history):
        if look.stalled or not look.awaited:
            break
        if found and (look.flushed != found[0].flushed or found[0].at_seconds - look.at_seconds > GAP_SECONDS):
            break
        found.insert(0, look)
    return found


@given(histories())
def test_wal_is_stuck_when_all_looks_of_a_patience_found_the_same_and_only_then(history: list[Look]) -> None:
    last = alike(history)
    lasts = bool(last) and last[-1].at_seconds - last[0].at_seconds >= PATIENCE_SECONDS
    assert is_stuck(after(history), history[-1].at_seconds) == lasts


@given(histories(), st.integers(0, 39))
def test_whoever_looks_after_a_byte_was_flushed_has_to_wait_as_long_as_ever(history: list[Look], at: int) -> None:
    at = min(at, len(history) - 1)
    moved = [replace(look, flushed=look.flushed + (here >= at)) for here, look in enumerate(history)]
    for here in range(at, len(moved)):
        if moved[here].at_seconds - moved[at].at_seconds < PATIENCE_SECONDS:
            assert not is_stuck(after(moved[: here + 1]), moved[here].at_seconds)
