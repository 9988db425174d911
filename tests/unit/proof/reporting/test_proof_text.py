from __future__ import annotations

import math

import made_runs as made
import pytest

from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.reporting import words
from pgbaton.proof.reporting.text import Line, Style, lines
from pgbaton.proof.results import NotRun, RunResult, Verdict


def told(run: RunResult, *, width: int = 80) -> str:
    return "\n".join(line.text for line in lines(run, width=width))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(len(line.text) for line in lines(made.large(), width=width)) <= width


def test_a_wide_terminal_shows_more_columns() -> None:
    assert "reads" not in told(made.large(), width=80).splitlines()[0]
    assert "reads" in told(made.large(), width=120).splitlines()[0]


def test_rows_carry_their_verdict_as_tone() -> None:
    found = lines(made.run(made.trial(), made.trial("switchover", outage=9.0)))
    assert [line.tone for line in found[:3]] == [Style.HEAD, Verdict.PROVEN, Verdict.MISSED]
    assert found[2].text.split()[:4] == ["switchover", "1", "9.00", "s"]


def test_what_keeps_a_fault_from_being_proven_is_told_with_its_seed() -> None:
    text = told(made.run(made.trial(seed=1), made.trial(seed=2, checks=made.checks(bank=Validity.UNKNOWN))))
    assert "unknown: postmaster-killed, seed 2, struck db1\n  bank: bank saw something" in text


def test_what_was_not_run_is_told_with_its_reason() -> None:
    run = made.run(made.trial(), not_run=(NotRun("clock", "Clock jumps", "no time namespaces"),))
    assert Line("not run: clock: no time namespaces", Style.SOFT) in lines(run)


def test_a_run_without_a_single_trial_proves_nothing() -> None:
    assert "Not proven: no trial was made." in told(made.run(), width=120)


@pytest.mark.parametrize(
    ("run", "begin"),
    [
        (made.run(made.trial()), "Proven: "),
        (made.run(made.trial(outage=9.0)), "Missed: "),
        (made.run(made.trial(outage=1.0, served=False)), "Missed: "),
        (made.run(made.trial(checks=made.checks(vip=Validity.UNKNOWN))), "Not proven: a check"),
        (made.run(made.trial(), complete=False), "Not proven: the run did not come to its end"),
        (made.run(made.trial(checks=made.checks(vip=Validity.INVALID)), complete=False), "Violated: "),
    ],
)
def test_the_verdict_is_said_in_words(run: RunResult, begin: str) -> None:
    assert words.lead(run).startswith(begin)


def test_a_cluster_that_had_to_be_helped_is_not_said_to_have_served_late() -> None:
    kept = "Missed: every promise about data was kept, but"
    helped = made.trial(outage=1.0, objections=("it had to be helped",))
    where = f"Where: {helped.title}."
    assert words.lead(made.run(helped)) == f"{kept} something else was not as it must be. {where}"
    late = made.run(helped, made.trial(outage=9.0))
    both = "clients were not served in time and something else was not as it must be"
    assert words.lead(late) == f"{kept} {both}. {where}"


def test_the_worst_trial_is_the_gravest_before_it_is_the_longest() -> None:
    broken = made.trial(seed=2, outage=0.5, checks=made.checks(set=Validity.INVALID))
    (summary,) = made.run(made.trial(seed=1, outage=4.0), broken, made.trial(seed=3, outage=9.0)).summary
    assert words.worst(summary).seed == 2
    assert words.typical(summary).seed == 1


def test_a_check_without_findings_that_is_not_valid_still_says_so() -> None:
    (check,) = (each for each in made.checks(set=Validity.UNKNOWN) if each.name == "set")
    silent = type(check)(check.name, check.validity)
    assert words.shortcomings(made.trial(checks=(silent,))) == ("set: unknown",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (99.5, "99.50 s"),
        (131.4, "131 s"),
        (math.inf, "not ended"),
    ],
)
def test_durations_have_the_digits_that_matter(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


def test_the_limit_told_of_a_fault_is_the_strictest_of_its_trials() -> None:
    (summary,) = made.run(
        made.trial(limit_seconds=5.0), made.trial(limit_seconds=2.0), made.trial(limit_seconds=None)
    ).summary
    assert words.limit(summary) == 2.0
