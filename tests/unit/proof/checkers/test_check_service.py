"""The checkers of primaries, of the VIP, of the port for reads, and of the whole cluster."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from made import DB1, DB2, FAIL, TOPOLOGY, UNKNOWN, add, evidence, held, says

from pgbaton.proof.checkers.base import Holding, Validity
from pgbaton.proof.checkers.primaries import primaries
from pgbaton.proof.checkers.reads import check_seconds, max_lag_bytes, reads
from pgbaton.proof.checkers.vip import vip
from pgbaton.proof.checkers.whole import whole
from pgbaton.proof.history import Kind, Operation, Outcome
from pgbaton.proof.outage import Span

if TYPE_CHECKING:
    from pgbaton.proof.checkers.base import Evidence

FIRST = (add(1, at=1, server=DB1, timeline=1), add(2, at=2, server=DB1, timeline=1))
SECOND = (add(3, at=12, server=DB2, timeline=2), add(4, at=13, server=DB2, timeline=2))


def test_one_primary_after_the_other_is_valid_and_both_are_listed_in_order() -> None:
    check = primaries(evidence((*FIRST, *SECOND)))
    assert check.validity is Validity.VALID
    assert [(each["timeline"], each["server"], each["acknowledged"]) for each in check.figures["primaries"]] == [
        (1, DB1, 2),
        (2, DB2, 2),
    ]
    assert check.figures["primaries"][1]["first_seconds"] == 2.5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (add(5, at=14, server=DB1, timeline=2), "timeline 2 was acknowledged by several servers"),
        (add(5, at=12.6, server=DB1, timeline=1), f"{DB1} acknowledged w/5 on timeline 1"),
    ],
)
def test_two_primaries_at_once_are_found(more: Operation, words: str) -> None:
    check = primaries(evidence((*FIRST, *SECOND, more)))
    assert check.validity is Validity.INVALID
    assert says(check, words)


@pytest.mark.parametrize(
    "more",
    [
        add(5, at=12.2, server=DB1, timeline=1),
        add(5, FAIL, at=14, server=DB1, timeline=1),
        add(5, UNKNOWN, at=14, server=DB1, timeline=1),
    ],
)
def test_what_was_under_way_or_not_acknowledged_shows_no_second_primary(more: Operation) -> None:
    assert primaries(evidence((*FIRST, *SECOND, more))).validity is Validity.VALID


def test_without_timelines_nobody_knows_who_was_primary() -> None:
    assert primaries(evidence([add(1, server=DB1)])).validity is Validity.UNKNOWN


def test_a_hand_over_of_the_vip_is_valid_and_measured() -> None:
    holdings = held("lb1", -5, 20), held("lb2", 19.5, 30), held("lb1", 33, 70)
    check = vip(evidence(holdings=holdings))
    assert check.validity is Validity.VALID
    assert check.figures["held_twice_seconds"] == check.figures["held_twice_longest_seconds"] == 0.5
    assert check.figures["held_by_nobody_seconds"] == check.figures["held_by_nobody_longest_seconds"] == 3.0


def test_a_vip_that_two_hold_is_found() -> None:
    check = vip(evidence(holdings=(held("lb1", 0, 60), held("lb2", 20, 21.001), held("lb2", 30, 30.2))))
    assert check.validity is Validity.INVALID
    assert check.findings == ("lb1 and lb2 held the VIP at once for 1.001 s, from 10.000 s after the fault",)
    assert check.figures["held_twice_seconds"] == 1.201


def test_a_third_holder_makes_no_stretch_shorter() -> None:
    holdings = held("lb1", 0, 60), held("lb2", 20, 20.8), held("lb3", 20.6, 21.4)
    assert vip(evidence(holdings=holdings)).validity is Validity.INVALID


def test_the_vip_is_judged_within_the_window_alone() -> None:
    assert vip(evidence(holdings=(held("lb1", 0, 90), held("lb2", 60, 90)))).validity is Validity.VALID


VIPS = ("10.77.0.100", "10.77.0.101")
SEVERAL = TOPOLOGY.model_copy(
    update={"network": TOPOLOGY.network.model_copy(update={"more_vips": (IPv4Address(VIPS[1]),)})}
)


def of_two(*holdings: tuple[str, float, float, int]) -> Evidence:
    """Return evidence of a cluster with two VIPs: who held which, by its place, from when to when."""
    found = tuple(Holding(host, Span(begin, end), VIPS[which]) for host, begin, end, which in holdings)
    return replace(evidence(holdings=found), topology=SEVERAL)


def test_a_balancer_each_for_two_vips_is_no_conflict() -> None:
    check = vip(of_two(("lb1", 0, 60, 0), ("lb2", 0, 60, 1)))
    assert check.validity is Validity.VALID
    assert check.figures["held_twice_seconds"] == check.figures["held_by_nobody_seconds"] == 0
    assert check.figures["holders"] == [["lb1", -10.0, VIPS[0]], ["lb2", -10.0, VIPS[1]]]


def test_of_several_vips_the_one_that_two_hold_is_named() -> None:
    check = vip(of_two(("lb1", 0, 60, 0), ("lb2", 0, 60, 1), ("lb1", 20, 22, 1)))
    assert check.validity is Validity.INVALID
    assert check.findings == (f"lb1 and lb2 held {VIPS[1]} at once for 2.000 s, from 10.000 s after the fault",)
    assert check.figures["held_twice_seconds"] == 2.0


def test_a_vip_that_nobody_holds_is_missed_beside_one_that_is_held() -> None:
    check = vip(of_two(("lb1", 0, 60, 0), ("lb2", 0, 30, 1)))
    assert check.figures["held_by_nobody_seconds"] == check.figures["held_by_nobody_longest_seconds"] == 30.0
    never = vip(of_two(("lb1", 0, 60, 0)))
    assert never.figures["held_by_nobody_seconds"] == 60.0


def test_a_vip_that_nobody_watched_is_unknown() -> None:
    assert vip(evidence(holdings=None)).validity is Validity.UNKNOWN


def newest(result: int | None, *, at: float, **more: Any) -> Operation:  # noqa: ANN401
    return Operation("r", Kind.READ, 1, at, at + 0.1, Outcome.OK, call="newest", value="w", result=result, **more)


LAG, PATIENCE = max_lag_bytes(TOPOLOGY), check_seconds(TOPOLOGY)
AHEAD = LAG + 5_000
TOLD = (add(1, at=1, lsn=1_000, timeline=1), add(2, at=2, lsn=AHEAD, timeline=1))


def test_the_time_until_a_standby_is_given_up_follows_from_the_topology() -> None:
    timings = TOPOLOGY.timings
    assert (timings.loop_wait, timings.check_fall, timings.read_check_interval) == (1, 2, 0.5)
    assert PATIENCE == 4.0


def test_reads_within_the_promise_are_valid_and_their_staleness_is_measured() -> None:
    fresh, stale = newest(2, at=9, lsn=AHEAD), newest(1, at=5, lsn=1_000)
    check = reads(evidence((*TOLD, fresh, stale)))
    assert check.validity is Validity.VALID
    assert check.figures["stale_seconds"] == {"median": 0.0, "p99": 2.5, "worst": 2.5}
    assert check.figures["stale_bytes"] == {"median": 0, "p99": AHEAD - 1_000, "worst": AHEAD - 1_000}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((newest(9, at=5, lsn=AHEAD),), "read w/9"),
        ((newest(3, at=5, lsn=AHEAD), add(3, FAIL)), "read w/3"),
        ((newest(3, at=5, lsn=AHEAD), add(3, at=5.2)), "read w/3"),
        ((newest(1, at=7, lsn=4_999),), f"saw a state {AHEAD - 4_999} bytes behind"),
    ],
)
def test_broken_promises_of_the_port_for_reads_are_found(more: tuple[Operation, ...], words: str) -> None:
    check = reads(evidence((*TOLD, *more)))
    assert check.validity is Validity.INVALID
    assert says(check, words), check.findings


@pytest.mark.parametrize(
    "read",
    [
        newest(1, at=7, lsn=5_000),
        newest(1, at=2.5 + PATIENCE - 0.1, lsn=0),
        newest(1, at=7, lsn=0, timeline=2),
        newest(None, at=1, lsn=1_000),
    ],
)
def test_what_is_not_promised_is_not_demanded(read: Operation) -> None:
    assert reads(evidence((*TOLD, read))).validity is Validity.VALID


def test_a_write_of_unknown_outcome_may_be_read() -> None:
    assert reads(evidence((*TOLD, add(3, UNKNOWN, at=3), newest(3, at=5, lsn=AHEAD)))).validity is Validity.VALID


def test_reads_without_answers_or_positions_show_nothing() -> None:
    failed = Operation("r", Kind.READ, 1, 5, 6, Outcome.FAIL, call="newest", value="w")
    assert reads(evidence((*TOLD, failed))).validity is Validity.UNKNOWN
    assert reads(evidence((*TOLD, newest(2, at=5)))).validity is Validity.UNKNOWN


@pytest.mark.parametrize(
    ("remains", "validity"),
    [((), Validity.VALID), (None, Validity.UNKNOWN), (("db2: streams not",), Validity.INVALID)],
)
def test_the_cluster_must_be_whole_at_the_end(remains: tuple[str, ...] | None, validity: Validity) -> None:
    check = whole(evidence(remains=remains))
    assert check.validity is validity
    assert check.findings == (("nobody could look at the cluster at the end",) if remains is None else remains)
