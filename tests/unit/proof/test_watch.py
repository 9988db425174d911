from __future__ import annotations

from pgbaton.proof.checkers.base import Holding
from pgbaton.proof.outage import Span
from pgbaton.proof.watch import Sighting, holdings, names
from pgbaton.topology import load, presets


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


def test_several_addresses_are_held_each_by_itself() -> None:
    seen = [
        Sighting(1.0, "lb1", held=True, vip="a"),
        Sighting(2.0, "lb1", held=True, vip="b"),
        Sighting(3.0, "lb1", held=False, vip="a"),
        Sighting(4.0, "lb2", held=True, vip="a"),
    ]
    assert holdings(seen, 9.0) == (
        Holding("lb1", Span(1.0, 3.0), "a"),
        Holding("lb1", Span(2.0, 9.0), "b"),
        Holding("lb2", Span(4.0, 9.0), "a"),
    )


def test_a_single_vip_needs_no_name() -> None:
    single, vip = presets.text("standard"), 'vip = "10.77.0.100"'
    several = single.replace(vip, f'more_vips = ["10.77.0.101"]\n{vip}')
    assert names(load.loads(single)) == {"10.77.0.100": ""}
    assert names(load.loads(several)) == {"10.77.0.100": "10.77.0.100", "10.77.0.101": "10.77.0.101"}
