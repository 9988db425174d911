"""Workloads: what clients do while something breaks; adding one is a module, and a line in WORKLOADS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.errors import UsageError
from pgbaton.proof.workloads.append import APPEND
from pgbaton.proof.workloads.bank import BANK
from pgbaton.proof.workloads.pgbench import PGBENCH
from pgbaton.proof.workloads.register import REGISTER
from pgbaton.proof.workloads.sets import SET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.proof.workloads.base import Workload

WORKLOADS: Mapping[str, Workload] = {workload.name: workload for workload in (SET, REGISTER, BANK, APPEND, PGBENCH)}


def named(names: Iterable[str]) -> tuple[Workload, ...]:
    """Return workloads by name, each once, in the order given; raises UsageError for a name that is none."""
    chosen = []
    for name in dict.fromkeys(names):
        if name not in WORKLOADS:
            message = f"no workload named {name}"
            raise UsageError(message, hint=f"known: {', '.join(WORKLOADS)}")
        chosen.append(WORKLOADS[name])
    return tuple(chosen)


def names(asked: Iterable[str]) -> tuple[str, ...]:
    """Return the names asked for, those of all workloads that check something when none is; raises UsageError."""
    chosen = named(asked) or tuple(workload for workload in WORKLOADS.values() if not workload.is_load)
    return tuple(workload.name for workload in chosen)
