"""When clients of a balancer are held to be cut off from the primary, and when that is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgbaton.agent.decisions.path import Circumstances, Path, Probe, judge

FINE = Circumstances("db1")
WORKED, FAILED = Probe(FINE, FINE), Probe(FINE, FINE, "refused")
OTHER = Circumstances("db2")
#: Failures that say nothing of the path.
NOT_COUNTED = {
    "nobody leads before": replace(FAILED, before=Circumstances(None)),
    "nobody leads after": replace(FAILED, after=Circumstances(None)),
    "the primary changes meanwhile": replace(FAILED, after=OTHER),
    "clients are held before": replace(FAILED, before=replace(FINE, held=True)),
    "clients are held after": replace(FAILED, after=replace(FINE, held=True)),
    "the agent overslept before": replace(FAILED, before=replace(FINE, stalled=True)),
    "the agent overslept meanwhile": replace(FAILED, after=replace(FINE, stalled=True)),
    "the host is busy": replace(FAILED, excused=True),
}


def held(*probes: Probe) -> Path:
    """Return what is held of a path after these probes."""
    path = Path()
    for probe in probes:
        path = judge(path, probe, failures=3)
    return path


def test_three_failures_in_a_row_break_a_path_and_two_do_not() -> None:
    assert held(FAILED, FAILED) == Path(2, "db1", "refused")
    assert held(FAILED, FAILED, replace(FAILED, failure="silent")) == Path(3, "db1", "silent", is_broken=True)
    assert not held(FAILED, FAILED, WORKED, FAILED, FAILED).is_broken


@pytest.mark.parametrize("circumstances", [FINE, Circumstances(None, held=True, stalled=True)])
def test_one_success_mends_it_whatever_else_is_known(circumstances: Circumstances) -> None:
    broken = (FAILED, FAILED, FAILED)
    assert held(*broken, Probe(circumstances, circumstances)) == Path()


@pytest.mark.parametrize("probe", NOT_COUNTED.values(), ids=NOT_COUNTED)
def test_what_says_nothing_begins_the_count_anew(probe: Probe) -> None:
    assert held(FAILED, FAILED, probe) == Path()
    assert not held(FAILED, FAILED, probe, FAILED, FAILED).is_broken
    assert held(FAILED, FAILED, probe, FAILED, FAILED, FAILED).is_broken
    assert not held(*[probe] * 10).is_broken


@pytest.mark.parametrize("probe", NOT_COUNTED.values(), ids=NOT_COUNTED)
def test_what_says_nothing_does_not_mend_a_broken_path(probe: Probe) -> None:
    assert held(FAILED, FAILED, FAILED, probe).is_broken


def test_a_new_primary_is_counted_anew_and_a_broken_path_to_it_stays_broken() -> None:
    to_other = Probe(OTHER, OTHER, "refused")
    assert held(FAILED, FAILED, to_other) == Path(1, "db2", "refused")
    assert held(FAILED, FAILED, FAILED, to_other) == Path(1, "db2", "refused", is_broken=True)
