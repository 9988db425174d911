from __future__ import annotations

from pgbaton.proof.meter import BACKOFF_SECONDS, longest_pause


def test_pauses_double_from_the_first_to_the_longest() -> None:
    first, longest = BACKOFF_SECONDS
    assert [longest_pause(failures) for failures in (1, 2, 3)] == [first, 2 * first, 4 * first]
    assert longest_pause(4) == longest


def test_a_client_outlasts_any_number_of_failures() -> None:
    assert longest_pause(1_000_000) == BACKOFF_SECONDS[1]
