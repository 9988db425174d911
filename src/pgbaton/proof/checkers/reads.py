"""Whether the port for reads kept its promise. Pure.

It promises one thing: a standby further behind than ``balancing.max_lag_mb`` takes no reads. It does not promise that
a read sees what was written a moment ago, nor that a second read sees what a first one did.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.checkers.words import examples, moment, name
from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.outage import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.checkers.base import Evidence
    from pgbaton.proof.history import Operation
    from pgbaton.topology.model import Topology

NAME = "reads"


def check_seconds(topology: Topology) -> float:
    """Return how long a standby that has fallen too far behind may go on taking reads.

    The primary tells its position once in a loop of Patroni, and the standby's Patroni looks once in a loop: two loops.
    Then ``check_fall`` of HAProxy's checks must fail; each comes an interval after the one before, and takes as long as
    a check may: the shorter of the interval and the connection's deadline.
    """
    timings = topology.timings
    interval = timings.read_check_interval
    return 2 * timings.loop_wait + timings.check_fall * (interval + min(interval, timings.server_connect_timeout))


def max_lag_bytes(topology: Topology) -> int:
    """Return how far behind a standby may be that takes reads."""
    return topology.balancing.max_lag_mb * 1024 * 1024


def reads(evidence: Evidence) -> Check:
    """Find reads of what nobody had written, and reads further behind than promised; measure how stale reads were."""
    answered = [each for each in evidence.history.of(Kind.READ) if each.outcome is Outcome.OK]
    newest = [each for each in answered if each.call == "newest"]
    placed = [each for each in answered if each.lsn is not None]
    writes = _Writes.of(evidence.history.operations)
    positions = Positions.of(evidence.history.operations)
    behind = [_behind(evidence.topology, positions, each) for each in placed]
    phantoms = [_phantom(evidence, each) for each in newest if not writes.may_show(each)]
    too_stale = [_too_stale(evidence, read, lag) for read, lag in zip(placed, behind, strict=True) if lag > 0]
    doubts = []
    if not answered:
        doubts.append("no read was answered on the port for reads: nothing is shown")
    elif not placed or not positions.known:
        doubts.append("no read, or no write, tells its position: how far behind reads were is not known")
    wrong = (*examples(phantoms), *examples(too_stale))
    validity = Validity.INVALID if wrong else Validity.UNKNOWN if doubts else Validity.VALID
    figures = {
        "reads": len(answered),
        "phantoms": len(phantoms),
        "too_stale": len(too_stale),
        "check_seconds": round(check_seconds(evidence.topology), 3),
        "max_lag_bytes": max_lag_bytes(evidence.topology),
        "stale_seconds": _quantiles([round(writes.stale_seconds(each), 4) for each in newest]),
        "stale_bytes": _quantiles([_stale_bytes(positions, each) for each in placed]),
    }
    return Check(NAME, validity, (*wrong, *doubts), figures)


def _phantom(evidence: Evidence, read: Operation) -> str:
    return (
        f"{name(read)} read {read.value}/{read.result}, {moment(evidence, read.end)}, which nobody had written by then"
    )


def _behind(topology: Topology, positions: Positions, read: Operation) -> int:
    """Return how many bytes a read was further behind than promised, negative when it was not."""
    told = positions.newest(before=read.start - check_seconds(topology), timeline=read.timeline)
    return told - max_lag_bytes(topology) - (read.lsn or 0)


def _too_stale(evidence: Evidence, read: Operation, lag: int) -> str:
    allowed = max_lag_bytes(evidence.topology)
    return (
        f"{name(read)} on {read.server}, {moment(evidence, read.start)}, saw a state {lag + allowed} bytes behind what "
        f"was acknowledged {check_seconds(evidence.topology):g} s before it; {allowed} are allowed"
    )


def _stale_bytes(positions: Positions, read: Operation) -> int:
    return max(0, positions.newest(before=read.start, timeline=read.timeline) - (read.lsn or 0))


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return {"median": quantile(ordered, 0.5), "p99": quantile(ordered, 0.99), "worst": ordered[-1]}


@dataclass
class _Writes:
    """The rows of the workload *set* by their clients, to look up what a read may and should have seen."""

    began: dict[tuple[str, int], float] = field(default_factory=dict)
    acknowledged: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> _Writes:
        """Take the writes from a history."""
        found = cls()
        for each in operations:
            if each.workload == "set" and each.kind is Kind.WRITE and each.outcome is not Outcome.FAIL:
                found.began[each.client, each.id] = each.start
                if each.outcome is Outcome.OK:
                    found.acknowledged.setdefault(each.client, []).append((each.id, each.end))
        for each_client in found.acknowledged.values():
            each_client.sort()
        return found

    def may_show(self, read: Operation) -> bool:
        """Tell whether what was read had been asked for, and had not failed."""
        return read.result is None or self.began.get((read.value, read.result), read.end + 1) <= read.end

    def stale_seconds(self, read: Operation) -> float:
        """Return for how long, when a read began, the first row that it did not show had been acknowledged."""
        rows = self.acknowledged.get(read.value, [])
        following = bisect_right(rows, (read.result or 0, float("inf"))) if read.result is not None else 0
        return max(0.0, read.start - rows[following][1]) if following < len(rows) else 0.0


@dataclass
class Positions:
    """The positions in the WAL, in bytes, that acknowledged writes told, in the order of their ends.

    Those of timelines before a read's own do not bind it: what a promotion left behind is for other checkers to miss.
    """

    known: tuple[tuple[float, int, int], ...]
    _by_timeline: dict[int, tuple[list[float], list[int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> Positions:
        """Take the positions from a history."""
        return cls(
            tuple(
                sorted(
                    (each.end, each.timeline or 0, each.lsn)
                    for each in operations
                    if each.kind is Kind.WRITE and each.outcome is Outcome.OK and each.lsn is not None
                )
            )
        )

    def newest(self, *, before: float, timeline: int | None) -> int:
        """Return the furthest position that was acknowledged before a time, on this timeline or a later one."""
        times, furthest = self._from(timeline or 0)
        place = bisect_left(times, before)
        return furthest[place - 1] if place else 0

    def _from(self, timeline: int) -> tuple[list[float], list[int]]:
        if timeline not in self._by_timeline:
            told = [(end, lsn) for end, theirs, lsn in self.known if theirs >= timeline]
            self._by_timeline[timeline] = [end for end, _ in told], list(accumulate((lsn for _, lsn in told), max))
        return self._by_timeline[timeline]
