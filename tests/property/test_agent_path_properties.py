"""Whatever the probes of a path bring: when it may be called broken, and when the VIP may move for that."""

from __future__ import annotations

from itertools import pairwise, takewhile

from hypothesis import given
from hypothesis import strategies as st

from pgbaton.agent.acting.keepalived import APART_SECONDS, GIVE_UP, Advice, View, advise
from pgbaton.agent.decisions.hung import Verdict
from pgbaton.agent.decisions.path import Circumstances, Path, Probe, counts, judge

FINE, OTHER = Circumstances("db1"), Circumstances("db2")
ODD = [Circumstances("db1", held=True), Circumstances("db1", stalled=True), Circumstances(None)]
#: Before and after a probe: mostly all is well, with the same primary or with another one.
AROUND = [
    *[(FINE, FINE)] * 10,
    *[(OTHER, OTHER)] * 5,
    (FINE, OTHER),
    *((FINE, odd) for odd in ODD),
    *((odd, odd) for odd in ODD),
]
PROBES = st.builds(
    lambda around, failure, excused: Probe(*around, failure, excused),
    st.sampled_from(AROUND),
    st.sampled_from(["", *["refused"] * 5]),
    st.sampled_from([True, *[False] * 5]),
)
FAILURES = st.integers(1, 4)


def course(probes: list[Probe], failures: int) -> list[Path]:
    """Return what is held of a path after each probe."""
    path, seen = Path(), []
    for probe in probes:
        path = judge(path, probe, failures=failures)
        seen.append(path)
    return seen


@given(st.lists(PROBES, min_size=1, max_size=20), FAILURES)
def test_a_path_breaks_only_by_so_many_failures_in_a_row_that_ought_not_to_have_been(
    probes: list[Probe], failures: int
) -> None:
    paths = [Path(), *course(probes, failures)]
    for number, (before, after) in enumerate(pairwise(paths), 1):
        if after.is_broken and not before.is_broken:
            row = probes[number - failures : number]
            assert len(row) == failures
            assert all(probe.failure and counts(probe) for probe in row)
            assert len({probe.before.primary for probe in row}) == 1


@given(st.lists(PROBES, min_size=1, max_size=20), FAILURES)
def test_a_path_is_mended_by_a_success_and_by_nothing_else(probes: list[Probe], failures: int) -> None:
    paths = [Path(), *course(probes, failures)]
    for before, after, probe in zip(paths, paths[1:], probes, strict=False):
        assert probe.failure or after == Path()
        assert after.is_broken or not before.is_broken or not probe.failure


@given(st.lists(PROBES, max_size=20), FAILURES)
def test_the_count_is_no_longer_than_the_row_of_failures_that_count(probes: list[Probe], failures: int) -> None:
    paths = course(probes, failures)
    row = list(takewhile(lambda probe: probe.failure and counts(probe), reversed(probes)))
    if paths and not paths[-1].is_broken:
        assert paths[-1].failures <= len(row)


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 3))
def test_balancers_whose_paths_fail_alike_keep_the_vip_where_it_is(broken: list[bool], late: int) -> None:
    """One sees what the other sees, later by less than the patience: neither gives up the VIP, however often."""
    one, other = Advice(), Advice()
    for number, is_broken in enumerate(broken):
        now, was_broken = number * APART_SECONDS / 4, number >= late and broken[number - late]
        one = advise(one, View(now, Verdict.WELL, not is_broken, not was_broken, cut_off=is_broken))
        other = advise(other, View(now, Verdict.WELL, not was_broken, not is_broken, cut_off=was_broken))
        assert GIVE_UP not in {one.value, other.value}
