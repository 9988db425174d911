"""What a fault cost its clients: gaps, errors and latencies, computed from a history alone. Pure.

The outage is the longest time in which no client at all got an acknowledgement. It is measured from one acknowledgement
to the next, so it contains the clients' own pace of a few milliseconds and never less than the truth.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pgbaton.proof.history import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgbaton.proof.history import History, Kind, Operation, Stall


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, in seconds of the history's clock."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """Return its length."""
        return self.end - self.begin

    def overlap_seconds(self, other: Span) -> float:
        """Return how much of another span lies in this one."""
        return max(0.0, min(self.end, other.end) - max(self.begin, other.begin))


@dataclass(frozen=True, slots=True)
class Gap(Span):
    """A time without any acknowledgement; ``open`` when it had not ended by the end of what was observed."""

    open: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles of how long successful operations took, in seconds."""

    count: int
    median: float
    p95: float
    p99: float
    longest: float


@dataclass(frozen=True)
class Measurement:
    """What the clients of one kind saw in one window of time.

    ``longest`` is the outage over all clients, ``clients`` the longest gap of each one. ``meter_stalled_seconds`` is
    how much of the outage the meter itself was not scheduled; nothing is subtracted for it.
    """

    window: Span
    longest: Gap
    gaps: tuple[Gap, ...]
    clients: Mapping[str, Gap]
    acknowledged: int
    failed: int
    unknown: int
    errors: Mapping[str, int]
    before: Latency | None
    during: Latency | None
    after: Latency | None
    meter_stalled_seconds: float

    @property
    def seconds(self) -> float:
        """Return the outage."""
        return self.longest.seconds


def measure(history: History, kind: Kind, window: Span, *, notable_seconds: float = 0.1) -> Measurement:
    """Measure the clients of one kind; ``gaps`` lists those of at least ``notable_seconds``."""
    operations = history.of(kind)
    seen = [operation for operation in operations if window.begin <= operation.end <= window.end]
    times = acknowledgements(operations)
    longest = longest_gap(times, window)
    outcomes = Counter(operation.outcome for operation in seen)
    before, during, after = latencies(seen, longest)
    return Measurement(
        window=window,
        longest=longest,
        gaps=tuple(gap for gap in gaps(times, window) if gap.seconds >= notable_seconds),
        clients=per_client(operations, window),
        acknowledged=outcomes[Outcome.OK],
        failed=outcomes[Outcome.FAIL],
        unknown=outcomes[Outcome.UNKNOWN],
        errors=errors(seen),
        before=before,
        during=during,
        after=after,
        meter_stalled_seconds=stalled_seconds(history.stalls, longest),
    )


def acknowledgements(operations: Iterable[Operation]) -> list[float]:
    """Return when operations were acknowledged, in order."""
    return sorted(operation.end for operation in operations if operation.outcome is Outcome.OK)


def gaps(times: Sequence[float], window: Span) -> list[Gap]:
    """Return every gap between neighbouring acknowledgements that reaches into the window, at its full length.

    ``times`` are in order. Where there is no acknowledgement at or before the window's begin, the first gap begins
    there; where there is none at or after its end, the last gap ends there and is open.
    """
    first = max(bisect_right(times, window.begin) - 1, 0)
    last = bisect_left(times, window.end)
    inside = list(times[first : last + 1])
    if not inside:
        return [Gap(window.begin, window.end, open=True)]
    found = [Gap(begin, end) for begin, end in pairwise(inside)]
    if inside[0] > window.begin:
        found.insert(0, Gap(window.begin, inside[0]))
    if inside[-1] < window.end:
        found.append(Gap(inside[-1], window.end, open=True))
    return found


def longest_gap(times: Sequence[float], window: Span) -> Gap:
    """Return the longest of the gaps, the earliest of them when several are as long."""
    return max(gaps(times, window), key=lambda gap: gap.seconds, default=Gap(window.begin, window.begin))


def per_client(operations: Iterable[Operation], window: Span) -> dict[str, Gap]:
    """Return the longest gap of each client."""
    times: dict[str, list[float]] = {}
    for operation in operations:
        of_client = times.setdefault(operation.client, [])
        if operation.outcome is Outcome.OK:
            of_client.append(operation.end)
    return {client: longest_gap(sorted(of_client), window) for client, of_client in times.items()}


def errors(operations: Iterable[Operation]) -> dict[str, int]:
    """Count what did not succeed by class of error, the most frequent first."""
    classes = Counter(
        operation.error_class or "unknown" for operation in operations if operation.outcome is not Outcome.OK
    )
    return dict(classes.most_common())


def latencies(operations: Iterable[Operation], outage: Span) -> tuple[Latency | None, Latency | None, Latency | None]:
    """Return latencies of what ended before an outage, of what it held up, and of what began after it."""
    before: list[float] = []
    during: list[float] = []
    after: list[float] = []
    for operation in operations:
        if operation.outcome is Outcome.OK:
            part = before if operation.end <= outage.begin else after if operation.start >= outage.end else during
            part.append(operation.seconds)
    return latency(before), latency(during), latency(after)


def latency(seconds: Iterable[float]) -> Latency | None:
    """Return the quantiles of some durations, None when there are none."""
    ordered = sorted(seconds)
    if not ordered:
        return None
    return Latency(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.95), quantile(ordered, 0.99), ordered[-1])


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """Return the smallest value that at least this fraction of the (ordered) values does not exceed."""
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def stalled_seconds(stalls: Iterable[Stall], span: Span) -> float:
    """Return how much of a span the meter was not scheduled."""
    return sum(span.overlap_seconds(Span(stall.at, stall.at + stall.seconds)) for stall in stalls)


def rate(times: Sequence[float], window: Span, *, bucket_seconds: float) -> list[int]:
    """Count acknowledgements per bucket of a window, for drawing."""
    counts = [0] * max(1, math.ceil(window.seconds / bucket_seconds))
    for time in times[bisect_left(times, window.begin) : bisect_left(times, window.end)]:
        counts[min(int((time - window.begin) / bucket_seconds), len(counts) - 1)] += 1
    return counts
