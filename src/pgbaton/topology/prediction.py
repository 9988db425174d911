"""The shape of a prediction: how long each kind of failure keeps clients waiting, and on what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """A duration in seconds: the shortest, the usual and the longest; infinite means until something is repaired."""

    minimum: float
    typical: float
    maximum: float

    def __add__(self, other: Range) -> Range:
        """Return how long both take, one after the other."""
        return Range(self.minimum + other.minimum, self.typical + other.typical, self.maximum + other.maximum)

    def less(self, other: Range) -> Range:
        """Return what is left when the first ``other`` of it does not count; never below zero."""
        return Range(
            max(0.0, self.minimum - other.maximum),
            max(0.0, self.typical - other.typical),
            max(0.0, self.maximum - other.minimum),
        )

    def to(self, other: Range) -> Range:
        """Return the range that begins here and reaches to the other's longest."""
        return Range(self.minimum, self.typical, max(self.maximum, other.maximum))

    @property
    def ends(self) -> bool:
        """Tell whether it ends by itself."""
        return math.isfinite(self.maximum)

    def as_dict(self) -> dict[str, float | None]:
        """Return it for JSON: rounded to milliseconds, null for what only a repair ends."""
        figures = {"min": self.minimum, "typical": self.typical, "max": self.maximum}
        return {name: round(value, 3) if math.isfinite(value) else None for name, value in figures.items()}

    @property
    def usual(self) -> str:
        """Return the usual value in short."""
        return _short(self.typical)

    def __str__(self) -> str:
        """Return the usual value with its bounds."""
        if self == NONE:
            return "none"
        if not math.isfinite(self.typical):
            return "until repaired"
        return f"{self.usual} ({_short(self.minimum)} to {_short(self.maximum)})"


NONE = Range(0.0, 0.0, 0.0)
UNTIL_REPAIRED = Range(0.0, math.inf, math.inf)


@dataclass(frozen=True)
class Part:
    """A stretch of a write outage, with the reason for its length."""

    name: str
    seconds: Range
    source: str


@dataclass(frozen=True)
class Prediction:
    """What a fault costs: ``write_seconds`` is the sum of its parts, ``read_seconds`` is of the read port."""

    fault: str
    title: str
    write_seconds: Range
    read_seconds: Range
    parts: tuple[Part, ...]
    explanation: str

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "fault": self.fault,
            "title": self.title,
            "write_seconds": self.write_seconds.as_dict(),
            "read_seconds": self.read_seconds.as_dict(),
            "parts": [
                {"name": part.name, "seconds": part.seconds.as_dict(), "source": part.source} for part in self.parts
            ],
            "explanation": self.explanation,
        }


def total(parts: tuple[Part, ...]) -> Range:
    """Return how long all the parts take together."""
    whole = NONE
    for part in parts:
        whole += part.seconds
    return whole


def _short(seconds: float) -> str:
    return "∞" if not math.isfinite(seconds) else f"{seconds:.1f}" if seconds >= 10 else f"{seconds:.2f}"  # noqa: PLR2004 - two digits that matter
