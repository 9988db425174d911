from __future__ import annotations

import pytest

from pgbaton.proof.history import History, Kind, Operation, Outcome, Stall
from pgbaton.proof.outage import Gap, Span, gaps, longest_gap, measure, quantile, rate


def write(client: str, number: int, end: float, outcome: Outcome = Outcome.OK, *, took: float = 0.002) -> Operation:
    error = None if outcome is Outcome.OK else "connect: refused"
    return Operation(client, Kind.WRITE, number, end - took, end, outcome, error)


def steady(client: str, begin: float, end: float, *, step: float = 0.01) -> list[Operation]:
    return [write(client, number, begin + number * step) for number in range(1, round((end - begin) / step) + 1)]


def history(*operations: Operation, stalls: tuple[Stall, ...] = ()) -> History:
    return History(tuple(sorted(operations, key=lambda operation: operation.end)), stalls)


def test_the_outage_is_the_gap_over_all_clients_and_each_client_has_its_own() -> None:
    seen = measure(
        history(*steady("a", 0, 5), *steady("a", 6, 10), *steady("b", 0, 5.4), *steady("b", 8, 10)),
        Kind.WRITE,
        Span(4, 9),
    )
    assert seen.longest.begin == pytest.approx(5.4)
    assert seen.seconds == pytest.approx(0.61)
    assert seen.clients["a"].seconds == pytest.approx(1.01)
    assert seen.clients["b"].seconds == pytest.approx(2.61)
    assert [round(gap.seconds, 2) for gap in seen.gaps] == [0.61]


def test_a_failed_or_unknown_write_does_not_end_an_outage() -> None:
    failures = [write("a", 100 + i, 2 + i / 10, Outcome.FAIL) for i in range(9)]
    unknown = write("a", 200, 2.95, Outcome.UNKNOWN)
    seen = measure(history(*steady("a", 0, 2), *failures, unknown, *steady("a", 3, 4)), Kind.WRITE, Span(1, 4))
    assert seen.seconds == pytest.approx(1.01)
    assert (seen.failed, seen.unknown) == (9, 1)
    assert seen.errors == {"connect": 10}


def test_reads_do_not_hide_an_outage_of_writes() -> None:
    reads = [Operation("r", Kind.READ, n, n / 10, n / 10, Outcome.OK) for n in range(1, 40)]
    assert measure(history(*steady("a", 0, 1), *steady("a", 3, 4), *reads), Kind.WRITE, Span(0, 4)).seconds > 2


def test_an_outage_that_never_ended_is_open() -> None:
    assert longest_gap([1.0, 2.0], Span(1.5, 9.0)) == Gap(2.0, 9.0, open=True)


def test_nothing_acknowledged_is_an_outage_of_the_whole_window() -> None:
    assert gaps([], Span(1.0, 9.0)) == [Gap(1.0, 9.0, open=True)]


def test_a_gap_that_began_before_the_window_counts_in_full() -> None:
    assert longest_gap([0.0, 5.0, 5.5, 6.0], Span(4.0, 5.8)) == Gap(0.0, 5.0)


def test_latencies_are_told_apart_by_the_outage() -> None:
    held_up = Operation("b", Kind.WRITE, 1, 4.99, 6.0, Outcome.OK)
    seen = measure(history(*steady("a", 0, 5), held_up, *steady("a", 6, 7)), Kind.WRITE, Span(0, 7))
    assert seen.before is not None
    assert seen.during is not None
    assert seen.after is not None
    assert seen.before.median == pytest.approx(0.002)
    assert seen.during.longest == pytest.approx(1.01)
    assert seen.after.longest == pytest.approx(0.002)


def test_the_meters_own_stalls_within_the_outage_are_told_and_not_subtracted() -> None:
    stalls = (Stall(4.9, 0.2), Stall(5.5, 0.1), Stall(9.0, 3.0))
    seen = measure(history(*steady("a", 0, 5), *steady("a", 6, 9), stalls=stalls), Kind.WRITE, Span(4, 8))
    assert seen.seconds == pytest.approx(1.01)
    assert seen.meter_stalled_seconds == pytest.approx(0.2)


def test_quantiles_are_values_that_were_seen() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert (quantile(ordered, 0.5), quantile(ordered, 0.99), quantile(ordered, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile([3.0], 0.01) == 3.0


def test_a_rate_counts_every_acknowledgement_of_the_window_once() -> None:
    assert rate([0.0, 0.05, 0.1, 0.29, 0.35, 0.5], Span(0.0, 0.5), bucket_seconds=0.1) == [2, 1, 1, 1, 0]
