"""What is wrong with a lab's links on purpose: cuts, losses and delays, made and taken back one by one.

Each says who made it, so that faults can overlap: one that ends takes back its own and leaves the others'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pgbaton.errors import UsageError
from pgbaton.lab import network, record
from pgbaton.lab.record import Cut, Delay, Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgbaton.lab.record import Lab
    from pgbaton.state import ClusterState

    Impairment = Cut | Loss | Delay

T = TypeVar("T")


async def impair(state: ClusterState, *impairments: Impairment) -> Lab:
    """Make links worse; what is so already stays so. Return the lab; raises UsageError for an unknown machine."""

    def worse(lab: Lab) -> Lab:
        for each in impairments:
            for name in (each.source, each.target) if isinstance(each, Cut) else (each.machine,):
                machine = lab.machine(name)
                if isinstance(each, Cut) and each.network == record.REPLICATION and not machine.replication_address:
                    message = f"{name} has no link to a network for replication"
                    raise UsageError(message, hint="the databases have one where the topology has replication_subnet")
        return replace(
            lab,
            cuts=_joined(lab.cuts, (each for each in impairments if isinstance(each, Cut))),
            losses=_joined(lab.losses, (each for each in impairments if isinstance(each, Loss))),
            delays=_joined(lab.delays, (each for each in impairments if isinstance(each, Delay))),
        )

    return await _change(state, worse)


async def mend(state: ClusterState, *, by: str) -> Lab:
    """Take back what one maker has done to the links, and leave the rest; return the lab."""
    return await _change(state, lambda lab: _keeping(lab, lambda each: each.by != by))


async def heal(state: ClusterState) -> Lab:
    """Take back everything; return the lab."""
    return await _change(state, lambda lab: _keeping(lab, lambda _: False))


async def _change(state: ClusterState, change: Callable[[Lab], Lab]) -> Lab:
    lab = record.update(state, change)
    await network.apply_rules(lab)
    await network.apply_delays(lab)
    return lab


def _keeping(lab: Lab, keep: Callable[[Impairment], bool]) -> Lab:
    return replace(
        lab,
        cuts=tuple(filter(keep, lab.cuts)),
        losses=tuple(filter(keep, lab.losses)),
        delays=tuple(filter(keep, lab.delays)),
    )


def _joined(old: tuple[T, ...], new: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*old, *new)))
