"""Whether clients of this balancer reach the primary: pure.

A pooler that runs and answers on its console may lead nowhere all the same: its certificate has expired, it cannot log
in to the primary, it takes no more clients. Only who takes the clients' own way sees that, so the agent does: a fresh
login through HAProxy, PgBouncer and HAProxy, and a question to whoever answers at its end.

The path is *broken* after so many probes in a row that failed while they ought to have worked:

- HAProxy leads to one server and to nobody else, and that one's own agent says that it takes writes,
- clients are not held: a login waits for as long as a pooler is paused,
- the agent did not oversleep, and a silence has no excuse: the host is busy, or the pooler is with its clients. Load is
  no cut, and follows the clients to wherever the VIP goes.

So it was before the probe and after it, and with the same primary. For a refusal or a wrong answer there is no excuse.
One success mends the path. What says nothing either way begins the count anew, and leaves a broken path broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgbaton.agent.kernel.processes import Look

#: The part of a probe's time from which on HAProxy and PgBouncer, together, were at work: half of one processor's.
WORK_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known at one moment: ``primary`` is whom HAProxy leads to, alone, and who says that it takes writes."""

    primary: str | None
    held: bool = False
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """One try: ``failure`` says what went wrong, nothing when the primary answered; ``excused`` is some silence."""

    before: Circumstances
    after: Circumstances
    failure: str = ""
    excused: bool = False


@dataclass(frozen=True, slots=True)
class Path:
    """What is held of the path: the failures in a row that count, on the way to which primary, and the last reason."""

    failures: int = 0
    primary: str | None = None
    reason: str = ""
    is_broken: bool = False


def judge(path: Path, probe: Probe, *, failures: int) -> Path:
    """Return what is held of the path after one more probe; ``failures`` in a row break it."""
    if not probe.failure:
        return Path()
    if not counts(probe):
        return untold(path)
    primary = probe.before.primary
    count = path.failures + 1 if path.primary == primary else 1
    return Path(count, primary, probe.failure, path.is_broken or count >= failures)


def untold(path: Path) -> Path:
    """Return what is held of the path when nothing could be learned of it: a broken one stays so."""
    return path if path.is_broken else Path()


def may_count(now: Circumstances) -> bool:
    """Tell whether a failure could speak against the path: where it could not, there is no need to try."""
    return now.primary is not None and not (now.held or now.stalled)


def is_at_work(before: Look, after: Look, took_seconds: float) -> bool:
    """Tell whether who leads clients on was busy with them for much of a probe's time."""
    return after.cpu_seconds - before.cpu_seconds > WORK_SHARE * took_seconds


def counts(probe: Probe) -> bool:
    """Tell whether a failure speaks against the path: it ought to have worked."""
    before, after = probe.before, probe.after
    return may_count(before) and may_count(after) and before.primary == after.primary and not probe.excused
