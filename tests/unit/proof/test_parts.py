from __future__ import annotations

import json

import pytest

from pgbaton.proof.marks import Mark, Moment, read
from pgbaton.proof.outage import Span
from pgbaton.proof.parts import PRIMARY_PARTS, split

OUTAGE = Span(100.0, 102.0)


def mark(moment: Moment, time: float, host: str = "db2") -> Mark:
    return Mark(moment, time, host, "…")


ALL = (
    mark(Moment.DETECTED, 101.0),
    mark(Moment.ELECTED, 101.2),
    mark(Moment.WRITABLE, 101.5),
    mark(Moment.ROUTED, 101.8),
)


def seconds(marks: tuple[Mark, ...]) -> dict[str, float | None]:
    return {part.name: part.seconds for part in split(OUTAGE, PRIMARY_PARTS, marks)}


def test_every_part_ends_where_its_mark_says() -> None:
    assert seconds(ALL) == {
        "detection": pytest.approx(1.0),
        "election": pytest.approx(0.2),
        "promotion": pytest.approx(0.3),
        "routing": pytest.approx(0.3),
        "reconnection": pytest.approx(0.2),
    }


def test_a_mark_that_is_missing_leaves_its_part_unknown_and_its_time_in_the_next() -> None:
    found = seconds((ALL[0], ALL[3]))
    assert (found["election"], found["promotion"]) == (None, None)
    assert found["routing"] == pytest.approx(0.8)


def test_without_any_mark_all_that_is_known_is_the_end() -> None:
    assert seconds(()) == {
        "detection": None,
        "election": None,
        "promotion": None,
        "routing": None,
        "reconnection": 2.0,
    }


def test_marks_from_before_and_after_the_outage_tell_nothing_about_it() -> None:
    assert seconds((mark(Moment.DETECTED, 99.0), mark(Moment.ROUTED, 109.0)))["detection"] is None


def test_a_balancer_that_routes_before_the_server_takes_writes_makes_no_negative_part() -> None:
    found = seconds((*ALL[:3], mark(Moment.ROUTED, 101.48)))
    assert found["routing"] == 0.0
    assert sum(value or 0 for value in found.values()) == pytest.approx(OUTAGE.seconds)


def test_a_second_election_does_not_move_the_first() -> None:
    assert seconds((*ALL, mark(Moment.ELECTED, 101.4)))["election"] == pytest.approx(0.2)


def entry(unit: str, message: object, time: float = 5.25) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": str(round(time * 1e6)), "_SYSTEMD_UNIT": unit, "MESSAGE": message})


@pytest.mark.parametrize(
    ("unit", "message", "moment"),
    [
        ("patroni.service", "INFO: Primary crashed. Failing over.", Moment.DETECTED),
        ("patroni.service", "INFO: Demoting self (graceful)", Moment.DETECTED),
        ("patroni.service", "INFO: Leader key released", Moment.RELEASED),
        ("patroni.service", "INFO: promoted self to leader by acquiring session lock", Moment.ELECTED),
        (
            "patroni.service",
            "2026-11-22 21:00:00.000 UTC [1] LOG:  database system is ready to accept connections",
            Moment.WRITABLE,
        ),
        ("haproxy.service", "Server primary/db2 is UP, reason: Layer7 check passed", Moment.ROUTED),
        ("keepalived.service", "(vip) Entering MASTER STATE", Moment.CLAIMED),
        ("pgbaton-agent.service", "WARNING: fenced db1; connections to it: 3 ended, 0 left ", Moment.FENCED),
        ("pgbaton-agent.service", "WARNING: clients of this host: held, before open; silent: ['db2']", Moment.FENCED),
        ("pgbaton-agent.service", "WARNING: clients of this host: refused, before held; silent: []", Moment.FENCED),
    ],
)
def test_the_programs_own_words_are_understood(unit: str, message: str, moment: Moment) -> None:
    (found,) = read("db2", [entry(unit, message)])
    assert (found.moment, found.host, found.time) == (moment, "db2", 5.25)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("patroni.service", "LOG:  database system is ready to accept read-only connections"),
        ("haproxy.service", "Server standbys/db2 is UP, reason: Layer7 check passed"),
        ("haproxy.service", "Server primary/db2 is DOWN"),
        ("cron.service", "promoted self to leader"),
        ("patroni.service", "WARNING: fenced db1; connections to it: 3 ended, 0 left "),
        ("pgbaton-agent.service", "WARNING: the fence against db1 has fallen"),
        ("pgbaton-agent.service", "WARNING: clients of this host: open, before held; silent: []"),
        ("patroni.service", [1, 2, 3]),
    ],
)
def test_other_lines_are_no_marks(unit: str, message: object) -> None:
    assert read("db2", [entry(unit, message), "-- No entries --"]) == ()
