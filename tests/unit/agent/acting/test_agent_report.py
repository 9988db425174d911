"""What is told of a host, and what it says of itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import NONE, PRIMARY, STANDBY, Seen, cluster

from pgbaton.agent.acting import report
from pgbaton.agent.acting.report import Report
from pgbaton.agent.acting.voice import Voice, is_other
from pgbaton.agent.decisions.hung import Verdict
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.protocols.serving import Request

if TYPE_CHECKING:
    from pgbaton.agent.peers.messages import Heartbeat


def reported(seen: Seen, mine: Heartbeat = STANDBY, **verdicts: Verdict) -> Report:
    return Report(seen.sight, lambda _: replace(mine, silent=seen.hearing.silent(seen.now)), lambda: verdicts)


def test_a_standbys_lag_is_counted_from_the_latest_word_of_the_leader() -> None:
    seen = Seen()
    seen.sight.cluster = replace(cluster(), position=1500)
    seen.sight.hear("db1", replace(PRIMARY, position=1400))
    assert reported(seen).health(seen.now).lag_bytes == 500
    seen.sight.hear("db1", replace(PRIMARY, position=1800))
    assert reported(seen).health(seen.now).lag_bytes == 800
    seen.run(6, without=["db1"])
    assert reported(seen).health(seen.now).lag_bytes == 500
    seen.sight.cluster = None
    assert reported(seen).health(seen.now).lag_bytes is None


def test_a_primary_has_no_lag() -> None:
    seen = Seen("db1")
    assert reported(seen, PRIMARY).health(seen.now).lag_bytes is None


def test_all_that_speaks_against_a_host_is_told() -> None:
    seen = Seen("db1")
    seen.sight.serving, seen.sight.fenced = Serving.HELD, frozenset({"db3"})
    seen.run(6, without=["lb1"])
    told = reported(seen, PRIMARY).health(seen.now)
    assert (told.isolated, told.stalled, told.fenced, told.silent) == (True, False, {"db3"}, {"lb1"})
    assert reported(Seen()).health(Seen().now).synchronous


async def test_figures_are_told_by_host_and_by_service(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    monkeypatch.setattr(report, "clock", lambda: seen.now)
    seen.sight.quorum_seconds = seen.now - 0.5
    seen.run(2)
    told = await reported(seen, Patroni=Verdict.HUNG, PostgreSQL=Verdict.BUSY).answer(Request("GET", "/metrics"))
    lines = told.body.decode().splitlines()
    assert 'pgbaton_hung{service="Patroni"} 1' in lines
    assert 'pgbaton_hung{service="PostgreSQL"} 0' in lines
    assert lines.count("# TYPE pgbaton_hung gauge") == 1
    assert any(line.startswith('pgbaton_heartbeat_gap_seconds{host="db1"}') for line in lines)
    assert any(line.startswith("pgbaton_etcd_quorum_age_seconds 0.6") for line in lines)


def test_people_are_told_in_one_line() -> None:
    seen = Seen()
    assert reported(seen, PostgreSQL=Verdict.WELL).line(seen.now) == "standby, hears 4 of 4"
    seen.sight.fenced, seen.sight.serving = frozenset({"db1"}), Serving.REFUSED
    seen.run(6, without=["db1"])
    line = reported(seen, PostgreSQL=Verdict.HUNG).line(seen.now)
    assert line == "standby, hears 3 of 4; fenced: db1; clients refused; PostgreSQL hung"
    seen.sleep(2.0)
    assert reported(seen).line(seen.now).startswith("standby, overslept, cannot tell who lives")


class Tried:
    """The clients' way through a balancer, as far as it is told of."""

    is_tried = True
    is_broken = False
    failures = 0
    reason = ""
    seconds: float | None = 0.012


async def test_the_clients_own_way_is_told_where_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, path = Seen("lb1"), Tried()
    monkeypatch.setattr(report, "clock", lambda: seen.now)
    made = Report(seen.sight, lambda _: NONE, dict, path=path)  # type: ignore[arg-type]
    assert made.health(seen.now).path == ""
    lines = (await made.answer(Request("GET", "/metrics"))).body.decode().splitlines()
    assert {"pgbaton_path_seconds 0.012", "pgbaton_path_failures 0"} <= set(lines)
    path.is_broken, path.failures, path.reason = True, 4, "refused"
    assert made.health(seen.now).path == "refused"
    assert made.line(seen.now) == "none, hears 4 of 4; clients do not reach the primary"
    lines = (await made.answer(Request("GET", "/metrics"))).body.decode().splitlines()
    assert {"pgbaton_path_seconds 0.012", "pgbaton_path_failures 4"} <= set(lines)
    path.seconds = None
    assert "path_seconds" not in (await made.answer(Request("GET", "/metrics"))).body.decode()


async def test_of_a_way_that_nobody_tries_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, path = Seen("lb1"), Tried()
    monkeypatch.setattr(report, "clock", lambda: seen.now)
    path.is_tried = False
    for each in (path, None):
        made = Report(seen.sight, lambda _: NONE, dict, path=each)  # type: ignore[arg-type]
        assert made.health(seen.now).path is None
        assert "path" not in (await made.answer(Request("GET", "/metrics"))).body.decode()


class Speaker:
    """What one part of this host says, and what was sent."""

    def __init__(self, said: Heartbeat) -> None:
        self.said = said
        self.leads = False
        self.sent: list[Heartbeat] = []

    def heartbeat(self) -> Heartbeat:
        return self.said

    def tell_all(self, message: Heartbeat) -> None:
        self.sent.append(message)


def test_a_heartbeat_says_who_is_silent_and_whether_the_balancer_leads() -> None:
    seen = Seen()
    speaker = Speaker(STANDBY)
    voice = Voice(seen.sight, speaker, server=speaker, balancer=speaker)  # type: ignore[arg-type]
    assert voice.mine(seen.now) == STANDBY
    seen.run(6, without=["db1"])
    speaker.leads = True
    assert voice.mine(seen.now) == replace(STANDBY, poolers=True, silent=frozenset({"db1"}))


def test_a_host_without_a_server_says_so() -> None:
    seen = Seen("lb1")
    voice = Voice(seen.sight, Speaker(NONE), server=None, balancer=None)  # type: ignore[arg-type]
    assert voice.mine(seen.now) == NONE


def test_a_heartbeat_is_sent_when_it_is_time_or_when_there_is_news() -> None:
    seen = Seen()
    seen.sight.mine = None
    speaker = Speaker(STANDBY)
    voice = Voice(seen.sight, speaker, server=speaker, balancer=None)  # type: ignore[arg-type]
    voice.tell(seen.now)
    voice.tell(seen.now + 0.01)
    speaker.said = replace(STANDBY, position=2000)
    voice.tell(seen.now + 0.02)
    assert len(speaker.sent) == 1
    assert seen.sight.mine == speaker.said
    speaker.said = replace(PRIMARY, position=2000)
    voice.tell(seen.now + 0.021)
    assert len(speaker.sent) == 2
    voice.tell(seen.now + 0.03, at_once=True)
    voice.tell(seen.now + 0.08)
    assert len(speaker.sent) == 4


@pytest.mark.parametrize(
    ("change", "other"),
    [({}, False), ({"position": 5}, False), ({"timeline": 5}, True), ({"position": 5, "state": "hung"}, True)],
)
def test_how_far_a_server_has_come_is_no_news(change: dict[str, object], other: bool) -> None:  # noqa: FBT001 - a table's
    assert is_other(STANDBY, replace(STANDBY, **change)) == other  # type: ignore[arg-type]
