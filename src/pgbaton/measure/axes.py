"""Axes of charts: where numbers lie on them, and which of them are written. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Round numbers between one power of ten and the next.
ROUND = (1, 2, 5, 10)
MOST_TICKS = 6


@dataclass(frozen=True)
class Linear:
    """From 0 at ``bottom`` to ``most`` at ``top``, in pixels from above."""

    most: float
    top: float
    bottom: float

    def y(self, value: float) -> float:
        """Return the height of a number."""
        return self.bottom - value / self.most * (self.bottom - self.top)

    @property
    def ticks(self) -> tuple[float, ...]:
        """Return round numbers from 0 up."""
        power = 10 ** math.floor(math.log10(self.most / MOST_TICKS))
        step = next(power * each for each in ROUND if self.most / (power * each) <= MOST_TICKS)
        return tuple(step * index for index in range(int(self.most / step + 1e-9) + 1))


@dataclass(frozen=True)
class Logarithmic:
    """From ``least`` at ``bottom`` to ``most`` at ``top``; each tenfold takes as much room."""

    least: float
    most: float
    top: float
    bottom: float

    def y(self, value: float) -> float:
        """Return the height of a number; what lies beyond the ends is at them."""
        inside = min(max(value, self.least), self.most)
        share = math.log(inside / self.least) / math.log(self.most / self.least)
        return self.bottom - share * (self.bottom - self.top)

    @property
    def ticks(self) -> tuple[float, ...]:
        """Return the powers of ten."""
        first, last = (math.log10(end) for end in (self.least, self.most))
        return tuple(10.0**power for power in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1))


def linear(most: float, *, top: float, bottom: float) -> Linear:
    """Return an axis that reaches a little beyond the greatest number."""
    return Linear(max(most, 1e-9) * 1.12, top, bottom)


def logarithmic(values: list[float], *, top: float, bottom: float) -> Logarithmic:
    """Return an axis of whole powers of ten around some numbers."""
    least, most = min(values), max(values)
    first = math.floor(math.log10(least))
    return Logarithmic(10.0**first, 10.0 ** max(math.ceil(math.log10(most)), first + 1), top, bottom)
