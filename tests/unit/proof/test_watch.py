from __future__ import annotations

from pgbaton.proof.checkers.base import Holding
from pgbaton.proof.outage import Span
from pgbaton.proof.watch import Sighting, holdings


def test_an_address_that_comes_and_goes_was_held_in_between() -> None:
    seen = [Sighting(1.0, "lb1", held=True), Sighting(4.0, "lb1", held=False)]
    assert holdings(seen, 9.0) == (Holding("lb1", Span(1.0, 4.0)),)


def test_an_address_that_stays_is_held_until_the_end() -> None:
    assert holdings([Sighting(1.0, "lb1", held=True)], 9.0) == (Holding("lb1", Span(1.0, 9.0)),)


def test_an_address_that_is_told_of_twice_came_the_first_time() -> None:
    seen = [Sighting(1.0, "lb1", held=True), Sighting(2.0, "lb1", held=True), Sighting(4.0, "lb1", held=False)]
    assert holdings(seen, 9.0) == (Holding("lb1", Span(1.0, 4.0)),)


def test_an_address_that_goes_before_it_was_seen_was_not_held() -> None:
    assert holdings([Sighting(1.0, "lb1", held=False)], 9.0) == ()


def test_holders_overlap_when_both_have_the_address() -> None:
    seen = [
        Sighting(1.0, "lb1", held=True),
        Sighting(2.0, "lb2", held=True),
        Sighting(3.0, "lb1", held=False),
        Sighting(4.0, "lb1", held=True),
    ]
    assert holdings(seen, 9.0) == (
        Holding("lb1", Span(1.0, 3.0)),
        Holding("lb2", Span(2.0, 9.0)),
        Holding("lb1", Span(4.0, 9.0)),
    )
