"""When a service counts as hung: pure, one table.

A probe is a fresh connection with a real question, and ends with an answer, a refusal, or silence for its deadline.
Hung is who was silent so many times in a row, with no answer since. The difficulty is a host under load: there a
service is as silent as one that was stopped, and ending it makes matters worse. What tells them apart is whether the
service could have answered:

- one whose process is *stopped* (state T) cannot answer, however idle or busy the host is: patience is short;
- one whose process sleeps, on a host where it gets a processor whenever it wants one, had nothing to wait for but
  itself: patience is short;
- one that was *starved* of a processor while it was asked, or whose host has many times more threads that want a
  processor than processors, or that waits for a disk, may be alive: patience is long, and while it lasts the verdict is
  ``busy``. It is not endless, since clients wait as well, and a disk that never answers looks just like this.

A refusal that needs a living service (too many connections, starting up) is an answer. Where nobody listens, that is
no silence: it says nothing about hanging and counts for nothing. When the agent itself overslept, what it missed was
perhaps an answer: it begins to count anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from pgbaton.agent.kernel.processes import Condition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.agent.kernel.processes import Look
    from pgbaton.agent.settings import Timings


class Service(StrEnum):
    """What is asked on a host."""

    POSTGRESQL = "postgresql"
    PATRONI = "patroni"
    POOL_WRITE = "pool_write"
    POOL_READ = "pool_read"
    HAPROXY = "haproxy"


class Outcome(StrEnum):
    """How a probe ended."""

    ANSWERED = "answered"
    REFUSED = "refused"  # it lives and takes nobody: too many connections, starting up, shutting down
    SILENT = "silent"  # for its deadline; also a Unix socket whose queue is full (EAGAIN)
    ABSENT = "absent"  # nobody listens


#: Outcomes that only a living service brings about.
ALIVE = frozenset({Outcome.ANSWERED, Outcome.REFUSED})


class Verdict(StrEnum):
    """What a service is held to be."""

    WELL = "well"
    BUSY = "busy"
    SUSPECTED = "suspected"
    HUNG = "hung"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a service may be silent: each probe's deadline, and after how many silences in a row it is hung.

    ``busy_failures`` are for a service that could not have answered. Answers slower than ``slow_seconds`` are called
    busy. ``starved_share`` is the part of a probe's time for which its process waited for a processor, and
    ``runnable_per_processor`` the number of threads for each, from which on a host counts as strained.
    """

    deadline_seconds: float
    failures: int
    busy_failures: int
    slow_seconds: float
    starved_share: float = 0.2
    runnable_per_processor: float = 8.0

    def __post_init__(self) -> None:
        """Refuse a table in which a busy service is hung sooner than an idle one."""
        if not 1 <= self.failures <= self.busy_failures:
            message = f"failures: seen {self.failures}, when busy {self.busy_failures}; wanted 1 or more, busy no fewer"
            raise ValueError(message)


def table(timings: Timings) -> Mapping[Service, Patience]:
    """Return each service's patience, from the settings' deadline and failures (0.5 s and 3).

    PostgreSQL and the poolers: three silences of half a second, and ten seconds when they are busy. HAProxy waits for
    nothing when it answers, and with it goes the VIP: six seconds when busy. Patroni's answers wait for its server, and
    it keeps a lock that lasts for many seconds: six seconds, eighteen when busy.
    """
    deadline, failures = timings.deadline_seconds, timings.failures
    usual = Patience(deadline, failures, 7 * failures, slow_seconds=deadline / 2)
    return {
        Service.POSTGRESQL: usual,
        Service.POOL_WRITE: usual,
        Service.POOL_READ: usual,
        Service.HAPROXY: replace(usual, busy_failures=4 * failures),
        Service.PATRONI: Patience(4 * deadline, failures, 3 * failures, slow_seconds=2 * deadline),
    }


@dataclass(frozen=True, slots=True)
class Evidence:
    """One probe: when it was asked and ended, how, and what could excuse a silence; times on the monotonic clock."""

    asked_seconds: float
    ended_seconds: float
    outcome: Outcome
    condition: Condition = Condition.RUNNING
    starved_seconds: float = 0.0
    runnable_per_processor: float = 0.0
    stalled: bool = False

    @property
    def took_seconds(self) -> float:
        """Return how long it took."""
        return self.ended_seconds - self.asked_seconds


@dataclass(frozen=True, slots=True)
class Tally:
    """What is held of a service, and the silences that count: those of probes asked ``since_seconds`` and later.

    ``silences`` are all of them in a row, ``inexcusable`` those that had no excuse.
    """

    verdict: Verdict = Verdict.WELL
    silences: int = 0
    inexcusable: int = 0
    since_seconds: float = float("-inf")


def judge(tally: Tally, evidence: Evidence, patience: Patience) -> Tally:
    """Return what is held of a service after one more probe."""
    if evidence.outcome in ALIVE:
        return Tally(alive(evidence, patience), since_seconds=evidence.ended_seconds)
    if evidence.condition == Condition.GONE:
        return Tally(Verdict.GONE, since_seconds=evidence.ended_seconds)
    if evidence.stalled or evidence.outcome == Outcome.ABSENT:
        return Tally(doubt(tally, evidence), since_seconds=evidence.ended_seconds)
    if evidence.asked_seconds < tally.since_seconds:
        return tally
    return silent(tally, patience, excused=is_excused(evidence, patience))


def alive(evidence: Evidence, patience: Patience) -> Verdict:
    """Return what to hold of a service that answered."""
    slow = evidence.took_seconds > patience.slow_seconds and not evidence.stalled
    return Verdict.BUSY if slow or evidence.outcome == Outcome.REFUSED else Verdict.WELL


def doubt(tally: Tally, evidence: Evidence) -> Verdict:
    """Return what to hold of a service that was not heard for a reason that says nothing about hanging."""
    missed = evidence.outcome == Outcome.SILENT and tally.verdict in {Verdict.WELL, Verdict.BUSY}
    return tally.verdict if missed else Verdict.SUSPECTED


def silent(tally: Tally, patience: Patience, *, excused: bool) -> Tally:
    """Return what is held of a service after one more silence that counts."""
    silences, inexcusable = tally.silences + 1, tally.inexcusable + (not excused)
    if inexcusable >= patience.failures or silences >= patience.busy_failures:
        verdict = Verdict.HUNG
    else:
        verdict = Verdict.BUSY if excused and not inexcusable else Verdict.SUSPECTED
    return replace(tally, verdict=verdict, silences=silences, inexcusable=inexcusable)


def is_excused(evidence: Evidence, patience: Patience) -> bool:
    """Tell whether a service may have been silent because it could not run; a stopped one never is excused."""
    if evidence.condition in {Condition.STOPPED, Condition.WAITING}:
        return evidence.condition == Condition.WAITING
    starved = evidence.starved_seconds > patience.starved_share * evidence.took_seconds
    return starved or evidence.runnable_per_processor > patience.runnable_per_processor


def starved_seconds(before: Look, after: Look, took_seconds: float) -> float:
    """Return for how much of a probe's time a process wanted a processor and had none.

    The kernel counts such a wait only when it is over: one that still lasts shows as a process that could run and yet
    used no time.
    """
    if after.is_runnable and after.cpu_seconds <= before.cpu_seconds:
        return took_seconds
    return max(0.0, after.starved_seconds - before.starved_seconds)
