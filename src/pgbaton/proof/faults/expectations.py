"""Expectations that follow from the budget's figures for something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.proof.faults.base import Expectation
from pgbaton.topology import budget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgbaton.proof.faults.base import Strike
    from pgbaton.proof.marks import Moment


def no_longer_than(
    named: str, parts: Sequence[tuple[str, Moment]] = (), *, extra_seconds: float = 0.0
) -> Callable[[Strike], Expectation]:
    """Expect writes to be out no longer than in another fault that the budget predicts."""

    def expects(strike: Strike) -> Expectation:
        longest = budget.prediction(strike.topology, named).write_seconds.maximum
        return Expectation(None, parts, limit_seconds=longest + extra_seconds)

    return expects


def as_without_agents(named: str, parts: Sequence[tuple[str, Moment]] = ()) -> Callable[[Strike], Expectation]:
    """Expect what the budget predicts where there are no agents: against this fault they can do nothing."""

    def expects(strike: Strike) -> Expectation:
        longest = budget.without_agents(strike.topology, named).write_seconds.maximum
        return Expectation(None, parts, limit_seconds=longest)

    return expects
