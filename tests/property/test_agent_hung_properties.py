"""Whatever the probes of a service bring: when it may be called hung, and when it may not."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from pgbaton.agent.decisions.hung import ALIVE, Evidence, Outcome, Patience, Tally, Verdict, judge
from pgbaton.agent.kernel.processes import Condition


@st.composite
def patiences(draw: st.DrawFn) -> Patience:
    """Draw a line of the table."""
    failures = draw(st.integers(1, 4))
    return Patience(0.5, failures, failures + draw(st.integers(0, 6)), slow_seconds=0.25)


#: Probes in every way they can end, most of them in silence, since only silences make anybody hung.
PROBES = [
    Evidence(0.0, took, outcome, condition, starved, runnable, stalled)
    for outcome, took in [(Outcome.SILENT, 0.5)] * 4 + [(each, 0.1) for each in Outcome if each != Outcome.SILENT]
    for condition in [Condition.RUNNING, *Condition]
    for starved, runnable in [(0.0, 1.0), (0.0, 1.0), (0.4, 1.0), (0.0, 30.0)]
    for stalled in [False] * 5 + [True]
]


def histories() -> st.SearchStrategy[list[Evidence]]:
    """Return probes in the order in which they end; one begins a tenth of a second after the other: they overlap."""
    return st.lists(st.sampled_from(PROBES), max_size=20).map(in_order)


def in_order(probes: list[Evidence]) -> list[Evidence]:
    """Return probes with their times."""
    made = (
        replace(probe, asked_seconds=number / 10, ended_seconds=number / 10 + probe.took_seconds)
        for number, probe in enumerate(probes)
    )
    return sorted(made, key=lambda probe: probe.ended_seconds)


def tally(history: list[Evidence], patience: Patience) -> Tally:
    """Return what is held of a service after all these probes."""
    found = Tally()
    for evidence in history:
        found = judge(found, evidence, patience)
    return found


def is_silence(evidence: Evidence) -> bool:
    """Tell whether a probe was silent, and the agent awake, and the process there."""
    return evidence.outcome == Outcome.SILENT and not evidence.stalled and evidence.condition != Condition.GONE


@given(histories(), patiences())
def test_nobody_is_hung_without_so_many_silences_in_a_row_all_asked_after_the_last_sign_of_anything_else(
    history: list[Evidence], patience: Patience
) -> None:
    if tally(history, patience).verdict != Verdict.HUNG:
        return
    row = list(takewhile(is_silence, reversed(history)))
    others = history[: len(history) - len(row)]
    since = max((each.ended_seconds for each in others), default=float("-inf"))
    assert len([each for each in row if each.asked_seconds >= since]) >= patience.failures


@given(histories(), patiences(), st.sampled_from(sorted(ALIVE)))
def test_an_answer_always_clears(history: list[Evidence], patience: Patience, outcome: Outcome) -> None:
    for stalled in (False, True):
        now = tally([*history, Evidence(9.0, 9.1, outcome, Condition.STOPPED, stalled=stalled)], patience)
        assert now.verdict in {Verdict.WELL, Verdict.BUSY}
        assert (now.silences, now.inexcusable) == (0, 0)


@given(histories(), patiences(), st.sampled_from(Outcome))
def test_the_agents_own_stall_clears(history: list[Evidence], patience: Patience, outcome: Outcome) -> None:
    now = tally([*history, Evidence(9.0, 9.5, outcome, stalled=True)], patience)
    assert now.verdict not in {Verdict.HUNG, Verdict.GONE}
    assert (now.silences, now.inexcusable) == (0, 0)


@given(histories(), patiences())
def test_a_service_that_hangs_is_found_out(history: list[Evidence], patience: Patience) -> None:
    stopped = [
        Evidence(9.0 + number / 2, 9.5 + number / 2, Outcome.SILENT, Condition.STOPPED, 0.4, 30.0)
        for number in range(patience.failures)
    ]
    assert tally([*history, *stopped], patience).verdict == Verdict.HUNG


@given(histories(), patiences())
def test_patience_with_a_busy_service_ends(history: list[Evidence], patience: Patience) -> None:
    starved = [
        Evidence(9.0 + number / 2, 9.5 + number / 2, Outcome.SILENT, starved_seconds=0.4)
        for number in range(patience.busy_failures)
    ]
    assert tally([*history, *starved], patience).verdict == Verdict.HUNG


@given(patiences(), st.lists(st.integers(0, 9), max_size=5))
def test_a_busy_service_that_answers_now_and_then_is_never_hung(patience: Patience, silences: list[int]) -> None:
    found, now = Tally(), 0.0
    for count in silences:
        for _ in range(min(count, patience.busy_failures - 1)):
            found = judge(found, Evidence(now, now + 0.5, Outcome.SILENT, starved_seconds=0.3), patience)
            now += 0.5
            assert found.verdict == Verdict.BUSY
        found = judge(found, Evidence(now, now + 0.4, Outcome.ANSWERED), patience)
        now += 0.4
