"""What is held of a service, probe after probe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgbaton.agent.decisions.hung import (
    Evidence,
    Outcome,
    Patience,
    Service,
    Tally,
    Verdict,
    judge,
    starved_seconds,
    table,
)
from pgbaton.agent.kernel.processes import Condition, Look
from pgbaton.agent.settings import Timings

TIMINGS = Timings(
    heartbeat_seconds=0.05,
    detection_seconds=0.25,
    probe_seconds=0.1,
    deadline_seconds=0.5,
    failures=3,
    pause_seconds=5.0,
)
PATIENCE = table(TIMINGS)[Service.POSTGRESQL]
WELL = Evidence(0.0, 0.01, Outcome.ANSWERED)
SILENT = Evidence(0.0, 0.5, Outcome.SILENT)


def verdicts(*evidence: Evidence, patience: Patience = PATIENCE) -> list[Verdict]:
    """Return what is held of a service after each of these probes, one after the other."""
    tally, now, found = Tally(), 0.0, []
    for each in evidence:
        tally = judge(tally, replace(each, asked_seconds=now, ended_seconds=now + each.took_seconds), patience)
        now += each.took_seconds
        found.append(tally.verdict)
    return found


def test_a_service_on_an_idle_host_is_hung_after_its_silences() -> None:
    assert verdicts(SILENT, SILENT, SILENT) == [Verdict.SUSPECTED, Verdict.SUSPECTED, Verdict.HUNG]


def test_an_answer_clears() -> None:
    assert verdicts(SILENT, SILENT, WELL, SILENT, SILENT)[2:] == [Verdict.WELL, Verdict.SUSPECTED, Verdict.SUSPECTED]
    assert verdicts(SILENT, SILENT, SILENT, WELL)[-1] == Verdict.WELL


def test_a_server_that_is_full_is_busy_and_never_hung() -> None:
    full = replace(WELL, outcome=Outcome.REFUSED)
    assert set(verdicts(*[full] * 50)) == {Verdict.BUSY}
    assert verdicts(SILENT, SILENT, full, SILENT, SILENT)[2:] == [Verdict.BUSY, Verdict.SUSPECTED, Verdict.SUSPECTED]


def test_a_slow_answer_is_that_of_a_busy_service() -> None:
    slow = replace(WELL, ended_seconds=0.4)
    assert verdicts(slow) == [Verdict.BUSY]
    assert verdicts(replace(slow, stalled=True)) == [Verdict.WELL]


@pytest.mark.parametrize(
    "strain",
    [
        replace(SILENT, starved_seconds=0.2),
        replace(SILENT, runnable_per_processor=30.0),
        replace(SILENT, condition=Condition.WAITING),
    ],
)
def test_a_service_that_could_not_run_is_busy_for_long_but_not_for_ever(strain: Evidence) -> None:
    found = verdicts(*[strain] * PATIENCE.busy_failures)
    assert set(found[:-1]) == {Verdict.BUSY}
    assert found[-1] == Verdict.HUNG
    assert PATIENCE.busy_failures * PATIENCE.deadline_seconds == 10.5


def test_a_stopped_process_is_not_excused_by_a_busy_host() -> None:
    stopped = replace(SILENT, condition=Condition.STOPPED, starved_seconds=0.5, runnable_per_processor=30.0)
    assert verdicts(stopped, stopped, stopped)[-1] == Verdict.HUNG


def test_silences_on_a_host_that_is_no_longer_busy_count_as_they_come() -> None:
    busy = replace(SILENT, runnable_per_processor=30.0)
    assert verdicts(busy, busy, busy, busy, SILENT, SILENT, SILENT)[-3:] == [
        Verdict.SUSPECTED,
        Verdict.SUSPECTED,
        Verdict.HUNG,
    ]


def test_a_process_that_is_gone_is_gone_at_once() -> None:
    gone = replace(SILENT, condition=Condition.GONE)
    assert verdicts(gone) == verdicts(replace(gone, outcome=Outcome.ABSENT)) == [Verdict.GONE]
    assert verdicts(SILENT, SILENT, gone, SILENT)[-1] == Verdict.SUSPECTED


def test_an_answer_counts_more_than_a_process_that_is_gone() -> None:
    assert verdicts(replace(WELL, condition=Condition.GONE)) == [Verdict.WELL]


def test_where_nobody_listens_nobody_hangs() -> None:
    absent = replace(SILENT, outcome=Outcome.ABSENT)
    assert set(verdicts(*[absent] * 20)) == {Verdict.SUSPECTED}
    assert verdicts(SILENT, SILENT, absent, SILENT)[-1] == Verdict.SUSPECTED


def test_what_the_agent_overslept_says_nothing() -> None:
    stalled = replace(SILENT, stalled=True)
    assert verdicts(SILENT, SILENT, stalled, SILENT, SILENT)[2:] == [Verdict.SUSPECTED] * 3
    assert verdicts(WELL, stalled) == [Verdict.WELL, Verdict.WELL]


def test_a_hung_service_is_not_well_because_the_agent_overslept() -> None:
    assert verdicts(SILENT, SILENT, SILENT, replace(SILENT, stalled=True))[-1] == Verdict.SUSPECTED


def test_a_silence_that_began_before_the_last_answer_says_nothing() -> None:
    tally = judge(Tally(), Evidence(0.2, 0.3, Outcome.ANSWERED), PATIENCE)
    assert judge(tally, Evidence(0.1, 0.6, Outcome.SILENT), PATIENCE) == tally


def test_the_table_takes_the_settings_and_gives_patroni_time() -> None:
    patience = table(TIMINGS)
    assert set(patience) == set(Service)
    assert all(each.failures == TIMINGS.failures for each in patience.values())
    assert patience[Service.PATRONI].deadline_seconds == 2.0
    assert patience[Service.HAPROXY].busy_failures < patience[Service.POSTGRESQL].busy_failures


def test_a_table_in_which_the_busy_hang_sooner_is_refused() -> None:
    with pytest.raises(ValueError, match="busy no fewer"):
        replace(PATIENCE, busy_failures=2)
    with pytest.raises(ValueError, match="1 or more"):
        replace(PATIENCE, failures=0)


def test_a_wait_for_a_processor_is_what_the_kernel_counted_meanwhile() -> None:
    before, after = Look(Condition.RUNNING, 1.0, 2.0), Look(Condition.RUNNING, 1.0, 2.25)
    assert starved_seconds(before, after, 0.5) == 0.25
    assert starved_seconds(after, before, 0.5) == 0.0


def test_a_wait_that_still_lasts_counts_as_well() -> None:
    before, after = Look(Condition.RUNNING, 1.0), Look(Condition.RUNNING, 1.0, is_runnable=True)
    assert starved_seconds(before, after, 0.5) == 0.5
    assert starved_seconds(before, replace(after, cpu_seconds=1.4), 0.5) == 0.0
