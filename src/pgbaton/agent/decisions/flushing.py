"""When the WAL of a primary is stuck: pure, one count.

A server whose disk hangs answers as ever, out of its caches, and so does its Patroni. Kept waiting is who has to write,
and every commit has to. So it is the WAL that tells: a disk that works takes some of it whenever somebody waits for
that. It is stuck when somebody waited at every look for a whole patience, and not one byte was flushed.

A slow disk is no dead one: whatever it flushes begins the count anew, and so does a look at which nobody waits. An
agent that slept, or that did not look for a while, does not know what was in between, and begins anew as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: So long not a byte is flushed while somebody waits. A disk that is only slow, or a short freeze for a snapshot, is
#: over by then; the leader lock lives for twenty seconds, and nobody's commit has come back for half of that.
PATIENCE_SECONDS = 10.0
#: Looks further apart do not belong together. One is due each half second, and takes half a second at most.
GAP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a primary, on the monotonic clock: how far it has flushed, in bytes, and whether somebody waits."""

    at_seconds: float
    flushed: int
    awaited: bool
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """Looks in a row at which somebody waited and nothing had been flushed: the first, the last, and how far it was."""

    since_seconds: float
    last_seconds: float
    flushed: int


def is_stuck(count: Count | None, now: float) -> bool:
    """Tell whether that has lasted for the whole patience, and was seen a moment ago."""
    if count is None or now - count.last_seconds > GAP_SECONDS:
        return False
    return count.last_seconds - count.since_seconds >= PATIENCE_SECONDS


def counted(count: Count | None, look: Look) -> Count | None:
    """Return the count after one more look; None when nobody waits, or nobody can tell."""
    if look.stalled or not look.awaited:
        return None
    if count is None or not goes_on(count, look):
        return Count(look.at_seconds, look.at_seconds, look.flushed)
    return replace(count, last_seconds=look.at_seconds)


def goes_on(count: Count, look: Look) -> bool:
    """Tell whether a look found what the count did, soon after it."""
    return look.flushed == count.flushed and 0 <= look.at_seconds - count.last_seconds <= GAP_SECONDS
