from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.parts import Part
from pgbaton.proof.results import Latencies, NotRun, RunResult, TrialResult, Verdict

TRIAL = TrialResult(
    fault="switchover",
    title="Planned switchover",
    seed=3,
    hosts=("db1",),
    began_at="2026-01-01T00:00:00",
    write_outage_seconds=1.5,
    read_outage_seconds=0.02,
    acknowledged=1000,
    lost=0,
    duplicated=0,
    unknown=1,
    errors=2,
    checks=(Check("writes", Validity.VALID, (), {"lost": 0}),),
    parts=(Part("shutdown", 1.0, "db1: said so"), Part("election", None), Part("reconnection", 0.5)),
    limit_seconds=2.0,
    latency={"before": Latencies(0.001, 0.002, 0.003, 0.004), "during": None, "after": None},
    clients={"writer-1": 1.5},
    primary=("db1", "db2"),
    gaps=((0.1, 0.2),),
)
RUN = RunResult("pgbaton", "prove", "debian", 3, "2026-01-01T00:00:00", "suite smoke", trials=(TRIAL,), complete=True)


def broken(validity: Validity) -> TrialResult:
    return replace(TRIAL, checks=(*TRIAL.checks, Check("vip", validity, ("seen",))))


@pytest.mark.parametrize(
    ("trial", "verdict"),
    [
        (TRIAL, Verdict.PROVEN),
        (replace(TRIAL, write_outage_seconds=2.1), Verdict.MISSED),
        (replace(TRIAL, write_outage_seconds=math.inf), Verdict.MISSED),
        (replace(TRIAL, read_limit_seconds=0.01), Verdict.MISSED),
        (replace(TRIAL, limit_seconds=None, served=False), Verdict.MISSED),
        (replace(TRIAL, limit_seconds=None), Verdict.PROVEN),
        (broken(Validity.UNKNOWN), Verdict.UNKNOWN),
        (replace(broken(Validity.UNKNOWN), served=False), Verdict.UNKNOWN),
        (broken(Validity.INVALID), Verdict.VIOLATED),
    ],
)
def test_the_worst_of_checks_and_objectives_is_the_verdict(trial: TrialResult, verdict: Verdict) -> None:
    assert trial.verdict is verdict
    assert replace(RUN, trials=(TRIAL, trial)).verdict is verdict


def test_a_run_without_trials_or_without_an_end_proves_nothing() -> None:
    assert replace(RUN, trials=()).verdict is Verdict.UNKNOWN
    assert replace(RUN, complete=False).verdict is Verdict.UNKNOWN
    assert replace(RUN, complete=False, trials=(broken(Validity.INVALID),)).verdict is Verdict.VIOLATED


def test_a_run_is_read_back_as_it_was_written() -> None:
    endless = replace(TRIAL, write_outage_seconds=math.inf, seed=4)
    run = replace(RUN, trials=(TRIAL, endless), not_run=(NotRun("clock", "Clock", "no faketime"),), versions={"a": "1"})
    written = json.loads(json.dumps(run.to_dict(), allow_nan=False))
    assert RunResult.from_dict(written) == run
    assert written["trials"][1]["write_outage_seconds"] is None
    assert written["trials"][0]["parts"] == {"shutdown": 1.0, "election": None, "reconnection": 0.5}


def test_trials_are_summed_up_by_fault_in_the_order_of_their_first() -> None:
    other = replace(TRIAL, fault="postmaster-killed", title="Postmaster killed", write_outage_seconds=0.9)
    run = replace(RUN, trials=(other, TRIAL, replace(other, write_outage_seconds=1.1, lost=2), TRIAL))
    first, second = run.summary
    assert (first.fault, first.median_seconds, first.max_seconds, first.lost) == ("postmaster-killed", 1.0, 1.1, 2)
    assert (second.fault, len(second.trials)) == ("switchover", 2)
