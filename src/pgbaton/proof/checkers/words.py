"""How checkers name operations and moments in their findings, all alike. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from pgbaton.proof.checkers.base import Evidence
    from pgbaton.proof.history import Operation

#: How many examples a finding gives; the whole history is beside the verdict.
EXAMPLES = 5


def name(operation: Operation) -> str:
    """Return an operation's name in a history."""
    return f"{operation.client}/{operation.id}"


def seconds_after(evidence: Evidence, time: float) -> float:
    """Return how long after the fault something was, in seconds; negative before it."""
    return round(time - evidence.fault.begin, 3)


def moment(evidence: Evidence, time: float) -> str:
    """Say when something was."""
    seconds = seconds_after(evidence, time)
    return f"{abs(seconds):.3f} s {'before' if seconds < 0 else 'after'} the fault"


def some(items: Sequence[object], limit: int = EXAMPLES) -> str:
    """List the first of some items, and say when there are more."""
    return ", ".join(str(item) for item in items[:limit]) + (", …" if len(items) > limit else "")


def examples(sentences: Sequence[str], limit: int = EXAMPLES) -> tuple[str, ...]:
    """Return the first of some sentences, and how many more there are."""
    more = len(sentences) - limit
    return (*sentences[:limit], *((f"… and {more} more of the kind",) if more > 0 else ()))


def differing(evidence: Evidence, what: str, held: Mapping[str, Mapping[Any, Any] | None]) -> Iterable[str]:
    """Say where a standby that has caught up holds something else than the primary; ``held`` is by host."""
    primary = next((read for read in evidence.finals if read.primary and held.get(read.host) is not None), None)
    if primary is None:
        return
    right = held[primary.host] or {}
    for read in evidence.finals:
        theirs = held.get(read.host)
        if read is primary or theirs is None or not read.caught_up or read.problem:
            continue
        keys = sorted(key for key in right.keys() | theirs.keys() if right.get(key) != theirs.get(key))
        if keys:
            yield f"{read.host} holds other {what} than the primary {primary.host}: {some(keys)}"
