from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from demonstration import BEGIN, TOPOLOGY, operations, trials

from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults import named
from pgbaton.proof.faults.base import Expectation
from pgbaton.proof.history import History
from pgbaton.proof.judgement import Objectives, excuse_for, failed, judge, limits, told, tolerated
from pgbaton.proof.reporting import junit, page
from pgbaton.proof.results import RunResult, TrialResult, Verdict
from pgbaton.topology import budget

if TYPE_CHECKING:
    from pgbaton.proof.trial import Trial

PREDICTIONS = {each.fault: each for each in budget.budget(TOPOLOGY)}
KILLED, SWITCHED, *_ = trials()
HISTORY = History(tuple(sorted(operations(), key=lambda each: each.end)), finished=True)
KEPT = Check("writes", Validity.VALID, (), {"lost": 0, "duplicated": 0, "wrong": 0})
LOST = Check("writes", Validity.INVALID, ("2 lost",), {"lost": 2, "duplicated": 0, "wrong": 2})


def judged(trial: Trial = KILLED, *checks: Check, objectives: Objectives | None = None) -> TrialResult:
    asked = objectives or Objectives()
    return judge(trial, HISTORY, checks or (KEPT,), seed=5, objectives=asked, predictions=PREDICTIONS)


def test_a_trial_is_measured_against_what_the_budget_predicts() -> None:
    result = judged()
    assert result.verdict is Verdict.PROVEN
    assert result.write_outage_seconds == pytest.approx(1.1, abs=0.02)
    assert result.limit_seconds == PREDICTIONS["postmaster-killed"].write_seconds.maximum
    assert result.limit_source == "budget: postmaster-killed"
    assert result.primary == ("db1", "db2")
    assert sum(part.seconds or 0.0 for part in result.parts) == pytest.approx(result.write_outage_seconds, abs=0.001)
    assert result.seed == 5


def test_the_users_word_goes_before_the_budget() -> None:
    asked = Objectives(max_outage_seconds=1.0)
    assert limits(KILLED, asked, PREDICTIONS).write_seconds == 1.0
    assert judged(objectives=asked).verdict is Verdict.MISSED


def test_a_fault_with_a_bound_of_its_own_is_measured_against_that() -> None:
    own = replace(KILLED, expectation=Expectation(None, limit_seconds=0.5))
    assert limits(own, Objectives(), PREDICTIONS).write_seconds == 0.5
    assert judged(own).verdict is Verdict.MISSED


def test_nothing_is_promised_where_only_a_repair_ends_the_outage() -> None:
    own = replace(KILLED, expectation=Expectation("etcd-quorum-lost"))
    assert limits(own, Objectives(), PREDICTIONS).write_seconds is None


def test_a_fault_that_is_predicted_to_cost_nothing_is_allowed_the_clients_pace() -> None:
    own = replace(KILLED, expectation=Expectation("etcd-member-lost"))
    assert limits(own, Objectives(), PREDICTIONS).write_seconds == 0.25


def test_clients_that_were_not_served_in_time_are_a_miss_however_short_the_outage() -> None:
    assert judged(replace(KILLED, kept_service=False, remains=("not served",))).verdict is Verdict.MISSED


def test_a_lost_write_is_a_violation_unless_the_user_allows_it() -> None:
    assert judged(KILLED, LOST).verdict is Verdict.VIOLATED
    assert judged(KILLED, LOST, objectives=Objectives(max_lost=1)).verdict is Verdict.VIOLATED
    allowed = judged(KILLED, LOST, objectives=Objectives(max_lost=2))
    assert allowed.verdict is Verdict.PROVEN
    assert allowed.lost == 2
    assert allowed.checks[0].findings == ("tolerated: --max-lost 2 allows it", "2 lost")


def test_losses_that_are_allowed_do_not_excuse_other_wrongs() -> None:
    doubled = replace(LOST, figures={"lost": 2, "duplicated": 1, "wrong": 3})
    assert judged(KILLED, doubled, objectives=Objectives(max_lost=9)).verdict is Verdict.VIOLATED


def test_what_a_fault_breaks_by_its_nature_is_excused_and_told() -> None:
    twice = Check("vip", Validity.INVALID, ("held twice",))
    (fault,) = named(["switchover"])
    lenient = replace(fault, tolerates={"vip": "the balancers cannot hear each other"})
    assert excuse_for(fault, Objectives(), twice) is None
    (excused,) = tolerated(lenient, Objectives(), [twice])
    assert excused.validity is Validity.VALID
    assert excused.findings[0] == "tolerated: the balancers cannot hear each other"
    unknown = replace(twice, validity=Validity.UNKNOWN)
    assert tolerated(lenient, Objectives(), [unknown]) == (unknown,)


def test_an_outage_that_had_not_ended_is_endless() -> None:
    early = History(tuple(each for each in HISTORY.operations if each.end < BEGIN + 4.5), finished=True)
    result = judge(KILLED, early, (KEPT,), seed=1, objectives=Objectives(), predictions=PREDICTIONS)
    assert result.write_outage_seconds == math.inf
    assert result.verdict is Verdict.MISSED


def test_a_trial_that_came_to_no_end_shows_nothing() -> None:
    result = failed(KILLED.fault, 5, "the meter died", began_at="2026-01-01T00:00:00.000+00:00")
    assert result.verdict is Verdict.UNKNOWN
    assert told(result) == "unknown: the meter died"


def test_a_result_is_told_in_a_few_lines() -> None:
    lines = told(judged(KILLED, LOST)).splitlines()
    assert lines[0].startswith("violated: no writes for 1.1")
    assert "2 lost" in lines[1]
    assert lines[2] == "writes invalid: 2 lost"


def test_a_failover_that_nothing_called_for_is_objected_to() -> None:
    steady = replace(KILLED, expectation=Expectation("postmaster-killed", keeps_primary=True))
    result = judged(steady)
    assert result.verdict is Verdict.MISSED
    assert result.objections == ("the primary moved from db1 to db2, which nothing called for",)
    stayed = replace(steady, after=steady.before)
    assert judged(stayed).verdict is Verdict.PROVEN


def test_what_a_fault_itself_objects_to_is_a_miss_and_told() -> None:
    helped = judged(replace(KILLED, objections=("it had to be helped",)))
    assert helped.verdict is Verdict.MISSED
    assert "it had to be helped" in told(helped)


def test_a_run_of_a_trial_without_an_end_is_reported_in_every_form() -> None:
    began_at = "2026-01-01T00:00:00.000+00:00"
    trial = failed(KILLED.fault, 5, "the meter died", began_at=began_at)
    run = RunResult("pgbaton", "prove", "debian", 5, began_at, "suite smoke", trials=(trial,), complete=True)
    assert "the meter died" in junit.junit(run)
    assert "the meter died" in page.render(run, lambda _: None, lambda _: None)
