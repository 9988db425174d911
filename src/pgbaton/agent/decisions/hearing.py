"""Who was heard when, and who is silent.

Two things can make a host seem silent: its death, and that this agent did not run. So silence is not measured on a
clock but in *running time*: between two turns of the agent's loop, no more of it goes by than the agent had meant to
sleep, a heartbeat's interval, however long it slept in truth. Many short pauses therefore make nobody silent. After a
long one (a stopped process, a suspended machine) the agent is *stalled*: what it knew is out of date and what was sent
to it may be lost, so it says nothing of anybody until it has run for a whole detection time.

Moments are seconds on :func:`pgbaton.agent.clock.clock`. The caller reads all that waits in its sockets, then calls
:meth:`Hearing.woke`, then asks; what waited there while the agent was stopped counts as heard when it is read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

How: TypeAlias = Literal["heartbeat", "echo"]
JITTER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Heard:
    """A sign of life: when, on the clock and in running time, and how."""

    at_seconds: float
    running_seconds: float
    how: How


class Hearing:
    """Keep when each of the other hosts was heard; every method is told what time it is.

    ``stall_seconds`` is by how much a turn may come late before the agent counts as stalled. A turn is due each
    ``heartbeat_seconds``, and may come earlier.
    """

    def __init__(self, hosts: Iterable[str], *, heartbeat_seconds: float, detection_seconds: float, now: float) -> None:
        self._hosts = frozenset(hosts)
        self._heartbeat = heartbeat_seconds
        self._detection = detection_seconds
        self.stall_seconds = max(2 * heartbeat_seconds, detection_seconds / 3)
        # A timer comes late by a little on a busy host, and that shall not lengthen detection. A host whose heartbeats
        # take (detection - 2 heartbeats) at most is unheard for less than (detection - heartbeat): with this much
        # added at each of the turns in that time, it is still less than the detection time.
        self._most_credit = heartbeat_seconds + heartbeat_seconds**2 / detection_seconds
        self._woke = now
        self._running = 0.0
        self._stalled_at: float | None = None
        self._last: dict[str, Heard] = {}
        self._heartbeats: dict[str, Heard] = {}
        self._gaps: dict[str, _Longest] = {}

    def woke(self, now: float) -> None:
        """Note a turn of the agent's loop."""
        overslept = self._overslept(now)
        self._running = self._running_at(now)
        self._woke = now
        if overslept:
            self._stalled_at = self._running

    def heard(self, host: str, now: float, how: How) -> None:
        """Note a sign of life that was read now; one of a host that is none of the others is ignored."""
        if host not in self._hosts:
            return
        sign = Heard(now, self._running_at(now), how)
        self._last[host] = sign
        if how == "heartbeat":
            before = self._heartbeats.get(host)
            self._heartbeats[host] = sign
            if before:
                gap = sign.running_seconds - before.running_seconds
                self._gaps.setdefault(host, _Longest()).add(now, gap)

    def silent(self, now: float) -> frozenset[str]:
        """Return the hosts that were heard once and not for the detection time; none while this agent is stalled."""
        if self.stalled(now):
            return frozenset()
        return self._unheard_for(self._detection, self._last, now)

    def overdue(self, now: float) -> frozenset[str]:
        """Return the hosts that were heard once and of which two heartbeats are missing: those to send an echo to."""
        without = frozenset(self._last.keys() - self._heartbeats.keys())
        return without | self._unheard_for(2 * self._heartbeat, self._heartbeats, now)

    def mute(self, now: float) -> frozenset[str]:
        """Return the hosts whose own agent is not heard, though others may answer there: what it said is old by now."""
        never = self._hosts - self._heartbeats.keys()
        return never | self._unheard_for(self._detection, self._heartbeats, now)

    @property
    def unknown(self) -> frozenset[str]:
        """Return the hosts that were never heard: they are not silent, and nobody votes against them."""
        return self._hosts - self._last.keys()

    def stalled(self, now: float) -> bool:
        """Tell whether the agent overslept, and has not run for a whole detection time since."""
        if self._overslept(now):
            return True
        return self._stalled_at is not None and self._running_at(now) - self._stalled_at < self._detection

    def last(self, host: str) -> Heard | None:
        """Return the last sign of life of a host."""
        return self._last.get(host)

    def jitter(self, now: float) -> dict[str, float]:
        """Return the longest time between two heartbeats of each host in the last minute, in seconds of running time.

        This is what a detection time has to exceed. A host that was away shows its whole absence when it is back.
        """
        longest = {host: gaps.within(now - JITTER_SECONDS) for host, gaps in self._gaps.items()}
        return {host: gap for host, gap in longest.items() if gap is not None}

    def _overslept(self, now: float) -> bool:
        """Tell whether a turn at this moment is too late; a clock that went back says nothing that could be trusted."""
        return now < self._woke or now - self._woke - self._heartbeat > self.stall_seconds

    def _running_at(self, now: float) -> float:
        return self._running + min(max(now - self._woke, 0.0), self._most_credit)

    def _unheard_for(self, seconds: float, signs: dict[str, Heard], now: float) -> frozenset[str]:
        running = self._running_at(now)
        return frozenset(host for host, sign in signs.items() if running - sign.running_seconds >= seconds)


class _Longest:
    """The greatest of the gaps that ended lately: only those are kept that no later and greater one hides."""

    def __init__(self) -> None:
        self._gaps: deque[tuple[float, float]] = deque()

    def add(self, now: float, gap: float) -> None:
        while self._gaps and self._gaps[-1][1] <= gap:
            self._gaps.pop()
        self._gaps.append((now, gap))
        # Not only when somebody asks: nobody may, for weeks.
        self.within(now - JITTER_SECONDS)

    def within(self, since: float) -> float | None:
        """Return the greatest since a moment; what is older is forgotten."""
        while self._gaps and self._gaps[0][0] < since:
            self._gaps.popleft()
        return self._gaps[0][1] if self._gaps else None
