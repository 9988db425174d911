"""An explicit-state model checker: breadth first, so that what it finds is shortest, with the way back to the start."""

import gc
import time
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple


class Violation(NamedTuple):
    """What must not be, in place of a state."""

    invariant: str
    what: str


#: What a step is called, where it leads, and whether it is one that happens without faults too.
Step = tuple[tuple[object, ...], Hashable, bool]


@dataclass
class Exploration:
    """What was seen: every state once, with the one it was first reached from."""

    states: list[Hashable] = field(default_factory=list)
    parents: array = field(default_factory=lambda: array("l"))
    edges: tuple[array, array] = field(default_factory=lambda: (array("l"), array("l")))
    transitions: int = 0
    depth: int = 0
    complete: bool = False
    seconds: float = 0.0
    violation: Violation | None = None
    trace: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.states)

    def told(self) -> str:
        """Return what was found, with the steps that lead there, one a line."""
        if self.violation is None:
            return f"nothing was found in {self.count} states and {self.transitions} transitions"
        steps = "\n".join(f"{number:3}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.violation.invariant}: {self.violation.what}\n{steps}"


def explore(
    initial: Hashable,
    successors: Callable[[Hashable], Iterable[Step]],
    *,
    most_states: int = 10_000_000,
    most_seconds: float = 3600.0,
    with_edges: bool = False,
) -> Exploration:
    """Visit every reachable state, until something is violated or a bound is reached."""
    with uncollected():
        return _explored(initial, successors, most_states, most_seconds, with_edges=with_edges)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector of cycles away: states have none, and it would walk through all of them again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _explored(
    initial: Hashable,
    successors: Callable[[Hashable], Iterable[Step]],
    most_states: int,
    most_seconds: float,
    *,
    with_edges: bool,
) -> Exploration:
    began = time.monotonic()
    seen = Exploration(states=[initial], parents=array("l", [-1]))
    index = {initial: 0}
    here, next_level = 0, 1
    while here < len(seen.states):
        if here == next_level:
            seen.depth, next_level = seen.depth + 1, len(seen.states)
        if len(seen.states) > most_states or time.monotonic() - began > most_seconds:
            break
        for label, there, normal in successors(seen.states[here]):
            seen.transitions += 1
            if isinstance(there, Violation):
                seen.violation = there
                seen.trace = (*_trace(seen, successors, here), _text(label))
                seen.seconds = time.monotonic() - began
                return seen
            number = index.setdefault(there, len(seen.states))
            if number == len(seen.states):
                seen.states.append(there)
                seen.parents.append(here)
            if with_edges and normal and number != here:
                seen.edges[0].append(here)
                seen.edges[1].append(number)
        here += 1
    seen.complete = here == len(seen.states)
    seen.seconds = time.monotonic() - began
    return seen


def stuck(seen: Exploration, good: Callable[[Hashable], bool]) -> list[int]:
    """Return the states from which no good one can be reached by steps that happen without faults."""
    priors: dict[int, list[int]] = {}
    for before, after in zip(*seen.edges, strict=True):
        priors.setdefault(after, []).append(before)
    todo = [number for number, state in enumerate(seen.states) if good(state)]
    reached = bytearray(len(seen.states))
    for number in todo:
        reached[number] = 1
    while todo:
        for before in priors.get(todo.pop(), ()):
            if not reached[before]:
                reached[before] = 1
                todo.append(before)
    return [number for number, done in enumerate(reached) if not done]


def way_to(seen: Exploration, successors: Callable[[Hashable], Iterable[Step]], number: int) -> str:
    """Return the steps that lead to a state, one a line."""
    return "\n".join(f"{at:3}. {step}" for at, step in enumerate(_trace(seen, successors, number), 1))


def _trace(seen: Exploration, successors: Callable[[Hashable], Iterable[Step]], last: int) -> Iterator[str]:
    way = [last]
    while way[-1]:
        way.append(seen.parents[way[-1]])
    way.reverse()
    for before, after in pairwise(way):
        steps = successors(seen.states[before])
        yield _text(next(label for label, there, _ in steps if there == seen.states[after]))


def _text(label: tuple[object, ...]) -> str:
    return " ".join(str(part) for part in label if part != "")
