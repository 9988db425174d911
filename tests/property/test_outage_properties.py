from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pgbaton.proof.history import History, Kind, Operation, Outcome
from pgbaton.proof.outage import Span, acknowledgements, gaps, longest_gap, measure, quantile, rate

MOMENTS = st.integers(0, 100_000).map(lambda milliseconds: milliseconds / 1000)
TIMES = st.lists(MOMENTS, max_size=60).map(sorted)
WINDOWS = st.tuples(MOMENTS, MOMENTS).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: Span(*pair))
OPERATIONS = st.lists(
    st.builds(
        lambda client, number, end, took, outcome: Operation(client, Kind.WRITE, number, end - took, end, outcome),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 10_000),
        MOMENTS,
        st.floats(0, 3),
        st.sampled_from(Outcome),
    ),
    max_size=60,
)


@given(TIMES, WINDOWS)
def test_no_acknowledgement_lies_inside_any_gap(times: list[float], window: Span) -> None:
    for gap in gaps(times, window):
        assert not any(gap.begin < time < gap.end for time in times if window.begin <= time <= window.end)


@given(TIMES, WINDOWS)
def test_gaps_follow_each_other_and_cover_the_whole_window(times: list[float], window: Span) -> None:
    found = gaps(times, window)
    assert found[0].begin <= window.begin
    assert found[-1].end >= window.end
    assert all(left.end == right.begin for left, right in pairwise(found))


@given(TIMES, WINDOWS, MOMENTS)
def test_one_more_acknowledgement_never_makes_the_outage_longer(times: list[float], window: Span, more: float) -> None:
    inside = min(max(more, window.begin), window.end)
    assert longest_gap(sorted([*times, inside]), window).seconds <= longest_gap(times, window).seconds


@given(TIMES, WINDOWS)
def test_any_silence_within_the_window_is_found_by_brute_force_as_well(times: list[float], window: Span) -> None:
    before = [time for time in times if time <= window.begin][-1:] or [window.begin]
    after = [time for time in times if time >= window.end][:1] or [window.end]
    marks = [*before, *(time for time in times if window.begin < time < window.end), *after]
    expected = max(right - left for left, right in pairwise(marks))
    assert longest_gap(times, window).seconds == expected


@given(OPERATIONS, WINDOWS)
def test_no_client_waited_less_than_all_of_them_together(operations: list[Operation], window: Span) -> None:
    edges = [
        Operation(client, Kind.WRITE, 0, time, time, Outcome.OK)
        for client in ("a", "b", "c")
        for time in (window.begin, window.end)
    ]
    seen = measure(History((*operations, *edges)), Kind.WRITE, window)
    assert all(gap.seconds >= seen.seconds for gap in seen.clients.values())


@given(OPERATIONS, WINDOWS)
def test_every_operation_of_the_window_is_counted_exactly_once(operations: list[Operation], window: Span) -> None:
    seen = measure(History(tuple(operations)), Kind.WRITE, window)
    inside = [operation for operation in operations if window.begin <= operation.end <= window.end]
    assert seen.acknowledged + seen.failed + seen.unknown == len(inside)
    assert sum(seen.errors.values()) == seen.failed + seen.unknown
    assert sum(part.count for part in (seen.before, seen.during, seen.after) if part) == seen.acknowledged


@given(OPERATIONS, WINDOWS)
def test_only_acknowledgements_shorten_an_outage(operations: list[Operation], window: Span) -> None:
    times = acknowledgements(operations)
    successes = [operation for operation in operations if operation.outcome is Outcome.OK]
    assert longest_gap(times, window) == longest_gap(acknowledgements(successes), window)
    assert len(times) == len(successes)


@given(TIMES, WINDOWS, st.sampled_from([0.05, 0.1, 1.0]))
def test_a_rate_loses_no_acknowledgement(times: list[float], window: Span, bucket: float) -> None:
    assert sum(rate(times, window, bucket_seconds=bucket)) == sum(window.begin <= time < window.end for time in times)


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted), st.floats(0, 1))
def test_a_quantile_is_not_exceeded_by_its_share_of_the_values(ordered: list[float], fraction: float) -> None:
    value = quantile(ordered, fraction)
    assert value in ordered
    assert sum(other <= value for other in ordered) >= fraction * len(ordered) * (1 - 1e-12)
