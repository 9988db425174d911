"""A service judged by how it answers and how its processes fare meanwhile, and ended when it hangs.

The judgement itself is in :mod:`pgbaton.agent.decisions.hung`. What is ended is started anew by systemd, within 0.1 s
or so.
"""

from __future__ import annotations

import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import hung
from pgbaton.agent.decisions.hung import Evidence, Outcome, Tally, Verdict
from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.processes import WORST, Condition, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgbaton.agent.decisions.hung import Patience
    from pgbaton.agent.kernel.processes import Process
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """A question under way: when it was asked, of which processes, and how they fared then."""

    asked_seconds: float
    processes: tuple[Process, ...]
    before: Look


class Judge:
    """Judge one service, whose processes are those that ``find`` finds."""

    def __init__(self, name: str, find: Callable[[], Iterable[Process]], patience: Patience, sight: Sight) -> None:
        self.name = name
        self.patience = patience
        self._find = find
        self._sight = sight
        self._tally = Tally()
        #: The processes that were there at the last question.
        self.known: tuple[Process, ...] = ()

    @property
    def is_stopped(self) -> bool:
        """Tell whether a process of the service was stopped, of those that were there at the last question."""
        return any(map(processes.is_stopped, self.known))

    @property
    def verdict(self) -> Verdict:
        """Return what is held of the service."""
        return self._tally.verdict

    def ask(self) -> Question:
        """Note that the service is asked now."""
        found = self.known = tuple(self._find())
        return Question(clock(), found, together(map(processes.look, found)))

    def hear(self, question: Question, outcome: Outcome) -> Verdict:
        """Take how a question ended, now."""
        now, after = clock(), together(map(processes.look, question.processes))
        evidence = Evidence(
            asked_seconds=question.asked_seconds,
            ended_seconds=now,
            outcome=outcome,
            condition=after.condition,
            starved_seconds=hung.starved_seconds(question.before, after, now - question.asked_seconds),
            runnable_per_processor=processes.runnable_per_processor(),
            stalled=self._sight.hearing.stalled(now),
        )
        before, self._tally = self._tally, hung.judge(self._tally, evidence, self.patience)
        if before.verdict is not self._tally.verdict:
            LOG.log(loudness(self.verdict), "%s: %s, before %s", self.name, self.verdict, before.verdict)
        return self.verdict

    def stopped(self) -> Question:
        """Take that the service was stopped, which is to hang; return a question about the processes to be ended."""
        return self.hangs("its processes were stopped")

    def hangs(self, why: str) -> Question:
        """Take that the service hangs, whatever it answers; return a question about the processes to be ended.

        Where it is left alone, it hangs until it answers: no further silence makes a doubt of that.
        """
        if self.verdict is not Verdict.HUNG:
            LOG.error("%s: %s", self.name, why)
            most = self.patience.busy_failures
            self._tally = Tally(Verdict.HUNG, silences=most, inexcusable=most, since_seconds=clock())
        return self.ask()

    def gone(self) -> None:
        """Note that the service is no more: what it did counts for nothing."""
        self._tally = Tally(Verdict.GONE, since_seconds=clock())
        self.known = ()

    def end(self, question: Question) -> None:
        """Kill the processes that were asked; raises PermissionError."""
        LOG.error("%s hangs: killing it, for systemd to start it anew", self.name)
        for each in question.processes:
            processes.kill(each, signal.SIGKILL)
        self.gone()


def loudness(verdict: Verdict) -> int:
    """Return how loudly a verdict is to be told."""
    return {Verdict.WELL: logging.INFO, Verdict.BUSY: logging.INFO, Verdict.HUNG: logging.ERROR}.get(
        verdict, logging.WARNING
    )


def together(looks: Iterable[Look]) -> Look:
    """Return how several processes fare that make one service: one that is stopped stops it."""
    seen = [each for each in looks if each.condition is not Condition.GONE]
    if not seen:
        return Look(Condition.GONE)
    return Look(
        next(worst for worst in WORST if any(each.condition is worst for each in seen)),
        sum(each.cpu_seconds for each in seen),
        sum(each.starved_seconds for each in seen),
        any(each.is_runnable for each in seen),
    )


def of_unit(unit: str, program: str) -> tuple[Process, ...]:
    """Return the processes of a unit that are called so: HAProxy's workers with their master, several poolers."""
    return tuple(
        each for each in processes.members(unit) if (seen := processes.stat(each.pid)) and seen.name == program
    )
