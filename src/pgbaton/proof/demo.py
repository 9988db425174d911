"""The demonstration: a lab, clients at work, faults one after another, and an account of what it cost."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.lab import capabilities, image
from pgbaton.proof import final, picture, trial
from pgbaton.proof import report as reports
from pgbaton.proof.audit import audit
from pgbaton.proof.ground import OwnLab
from pgbaton.proof.running import RunningMeter
from pgbaton.proof.workloads.base import SCHEMA
from pgbaton.topology import budget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgbaton.lab.recipe import System
    from pgbaton.operate.waiting import Report as Tell
    from pgbaton.proof.faults.base import Fault
    from pgbaton.proof.history import History
    from pgbaton.proof.report import Event, Report
    from pgbaton.proof.target import Target
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology
    from pgbaton.topology.prediction import Prediction

#: How long clients may take to be served at the very beginning, when pools are empty.
START_SECONDS = 30.0


@dataclass(frozen=True)
class Demo:
    """What to demonstrate; ``keep`` leaves the lab up when all is done."""

    state: ClusterState
    topology: Topology
    system: System
    faults: tuple[Fault, ...]
    tell: Tell
    keep: bool = False

    @property
    def ground(self) -> OwnLab:
        """Return the lab to demonstrate on."""
        return OwnLab(self.state, self.topology, self.system, self.tell, purpose="demo", keep=self.keep)


async def demonstrate(demo: Demo) -> Report:
    """Bring a lab up, break it, measure, audit, and take it down again, whatever happens.

    Raises RefusedError when the name belongs to a cluster that is not a demonstration's own; Error when the cluster
    does not come up, or does not come back.
    """
    started = time.monotonic()
    await capabilities.require()
    await image.ensure(demo.system, report=demo.tell)
    await demo.ground.take_over()
    begun = time.monotonic()
    async with lab(demo) as target:
        brought_up = time.monotonic() - begun
        demo.tell(
            f"the cluster, brought up in {brought_up:.0f} s:\n{picture.draw(target.topology, await target.roles())}"
        )
        trials, history = await measured(demo, target)
        demo.tell("reading every database, comparing with what clients were told")
        reads = await final.read_all(target)
        if demo.keep:
            await final.sql(target, (await target.roles()).primary, f"DROP SCHEMA {SCHEMA} CASCADE")
    audited = audit(history.operations, reads)
    events = reports.events(trials, history, audited, predictions(target.topology))
    return reports.Report(
        topology=target.topology,
        system=f"{demo.system.name}, PostgreSQL {target.topology.postgresql.version}",
        events=events,
        history=history,
        audit=audited,
        reads=reads,
        bring_up_seconds=brought_up,
        total_seconds=time.monotonic() - started,
    )


@asynccontextmanager
async def lab(demo: Demo) -> AsyncIterator[Target]:
    """Hold a lab with a running cluster; it is gone afterwards, unless it is to be kept."""
    try:
        yield await demo.ground.prepare()
    finally:
        await demo.ground.leave()


async def measured(demo: Demo, target: Target) -> tuple[tuple[trial.Trial, ...], History]:
    """Run every trial under the eyes of the clients; return the trials and everything the clients saw."""
    expected = predictions(target.topology)
    meter = await RunningMeter.start(target)
    trials: list[trial.Trial] = []
    try:
        await meter.until_calm(since=time.monotonic(), seconds=START_SECONDS)
        for number, fault in enumerate(demo.faults, 1):
            demo.tell(f"fault {number} of {len(demo.faults)}: {fault.title.lower()}")
            done = await trial.run(target, meter, fault)
            trials.append(done)
            prediction = done.prediction(expected)
            demo.tell(told(reports.event(done, meter.history(), prediction)))
        await meter.until_calm(since=time.monotonic(), seconds=trial.RECOVERY_SECONDS)
    finally:
        history = await meter.stop()
    return tuple(trials), history


def predictions(topology: Topology) -> dict[str, Prediction]:
    """Return every prediction for a topology by the fault's name."""
    return {each.fault: each for each in budget.budget(topology)}


def told(event: Event) -> str:
    """Return what one fault cost, in three lines."""
    write, read, predicted = event.write, event.read, event.prediction
    parts = ", ".join(
        f"{part.name} {'unknown' if part.seconds is None else f'{part.seconds:.2f} s'}" for part in event.parts
    )
    stood = (
        f"no writes for {write.seconds:.2f} s (predicted: at most {predicted.write_seconds.maximum:.2f} s), "
        f"no reads for {read.seconds:.2f} s (at most {predicted.read_seconds.maximum:.2f} s)"
    )
    clients = (
        f"{write.acknowledged:,} writes acknowledged, {write.unknown:,} of unknown outcome, {event.errors:,} errors"
    )
    return f"{stood}\nparts: {parts}\nclients: {clients}"
