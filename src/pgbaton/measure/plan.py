"""What is measured, and in which order: the ways in turn, so that the machine's weather is the same for all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from pgbaton.measure import profiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, order=True)
class Case:
    """What clients do, how many there are, and whether each transaction has a connection of its own."""

    profile: str
    protocol: str
    clients: int
    connect: bool = False

    @property
    def words(self) -> str:
        """Return it in short."""
        many = "1 client" if self.clients == 1 else f"{self.clients:,} clients"
        return f"{self.profile}, {self.protocol}, {many}{', new connections' if self.connect else ''}"


@dataclass(frozen=True)
class Request:
    """What is asked for; ``seconds`` are those of one step, of which there are ``rounds`` for each case and way."""

    cases: tuple[Case, ...]
    ways: tuple[str, ...]
    seconds: int
    rounds: int
    scale: int

    @property
    def writes(self) -> bool:
        """Tell whether anything but the tables' making is written."""
        return any(profiles.named(case.profile).writes for case in self.cases)

    @property
    def total_seconds(self) -> int:
        """Return how long pgbench works altogether."""
        return len(self.cases) * len(self.ways) * self.rounds * self.seconds


@dataclass(frozen=True)
class Step:
    """One run of pgbench: a case by one way."""

    round: int
    case: Case
    way: str


def cases(
    names: Sequence[str], protocols: Sequence[str], clients: Sequence[int], *, connect: bool = False
) -> tuple[Case, ...]:
    """Return every combination, each once, in the order in which they were asked for."""
    every = (Case(*each, connect) for each in product(names, protocols, clients))
    return tuple(dict.fromkeys(every))


def steps(request: Request) -> Iterator[Step]:
    """Yield all steps: round by round every case, its ways side by side, each round beginning with another way.

    What follows a heavy step finds warmer caches and a busier disk; by turns that comes to every way alike.
    """
    for number in range(1, request.rounds + 1):
        shift = (number - 1) % len(request.ways)
        turn = (*request.ways[shift:], *request.ways[:shift])
        for case in request.cases:
            for way in turn:
                yield Step(number, case, way)
