"""The order of things: which hosts are worked on together, and which one after another. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.deploy.steps import Kind, PlannedWave, Stage, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Stages whose hosts back each other up: what runs is changed one host at a time.
SERIAL = frozenset({Stage.DCS, Stage.DATABASE, Stage.POOLER, Stage.BALANCER, Stage.VIP, Stage.AGENT, Stage.LEFTOVERS})


@dataclass(frozen=True)
class Situation:
    """What matters of a host for its place in a stage.

    ``running``: the stage's units are up there. ``active``: it is the primary, or holds the VIP: it comes last.
    ``kept``: data of a server are there that nobody has to make.
    """

    host: str
    running: bool = False
    active: bool = False
    kept: bool = False


def batches(stage: Stage, situations: Sequence[Situation]) -> tuple[tuple[str, ...], ...]:
    """Return the hosts of a stage in batches; each host is in exactly one.

    What does not run yet interrupts nobody: together, but for the very first database, which the others clone. Servers
    with data that a person fails over come up together: a primary asks the others before it does.
    What runs is changed one host at a time, the primary or VIP holder last.
    """
    if stage not in SERIAL:
        return as_batches([[situation.host for situation in situations]])
    stopped = [situation.host for situation in situations if not situation.running]
    running = sorted((situation for situation in situations if situation.running), key=lambda each: each.active)
    if stage is Stage.DATABASE and not running and not any(situation.kept for situation in situations):
        return as_batches([stopped[:1], stopped[1:]])
    return as_batches([stopped, *([situation.host] for situation in running)])


def as_batches(groups: Iterable[list[str]]) -> tuple[tuple[str, ...], ...]:
    """Return the groups that are not empty."""
    return tuple(tuple(group) for group in groups if group)


def arrange(steps: Iterable[Step], situations: dict[Stage, Sequence[Situation]]) -> tuple[PlannedWave, ...]:
    """Return the steps as waves in the order of the stages; a stage without steps has no wave.

    ``situations`` has the hosts of each stage, the one to come up first in front.
    """
    by_stage: dict[Stage, list[Step]] = {}
    for step in steps:
        by_stage.setdefault(step.stage, []).append(step)
    return tuple(wave(stage, by_stage[stage], situations.get(stage, ())) for stage in sorted(by_stage))


def wave(stage: Stage, steps: Sequence[Step], situations: Sequence[Situation]) -> PlannedWave:
    """Return one stage's wave: only hosts that have something to do are in it."""
    busy = {step.host for step in steps if step.host}
    known = [situation for situation in situations if situation.host in busy]
    known += [Situation(host) for host in sorted(busy - {situation.host for situation in known})]
    order = batches(stage, known)
    rank = {host: place for place, host in enumerate(host for batch in order for host in batch)}
    return PlannedWave(stage, order, tuple(sorted(steps, key=lambda step: (rank.get(step.host, -1), RANK[step.kind]))))


#: Within a host: packages before files, files before the units that read them.
RANK = {kind: place for place, kind in enumerate(Kind)}
