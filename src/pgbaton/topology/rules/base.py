"""The shape of a rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pgbaton.topology.objections import Objection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgbaton.topology.model import Topology

Check: TypeAlias = "Callable[[Topology], Iterator[Objection]]"


@dataclass(frozen=True)
class Rule:
    """One thing that must hold among a topology's values.

    ``reads`` are the tables it looks at: it runs when those are sound, whatever is wrong elsewhere.
    """

    name: str
    summary: str
    reads: frozenset[str]
    check: Check


def rule(*reads: str) -> Callable[[Check], Rule]:
    """Make a rule of a function; its docstring's first line says what it asks for."""

    def make(check: Check) -> Rule:
        summary = (check.__doc__ or "").partition("\n")[0]
        return Rule(check.__name__, summary, frozenset(reads), check)

    return make


def warning(path: tuple[str | int, ...], reason: str, fix: str) -> Objection:
    """Doubt a value without refusing it."""
    return Objection(path, reason, fix, level="warning")
