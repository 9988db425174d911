"""One experiment: a trial under the eyes of clients and watchers, with everything gathered, checked and kept."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pgbaton.errors import Error
from pgbaton.proof import checkers, evidence, final, judgement, store, trial
from pgbaton.proof.checkers.base import Evidence
from pgbaton.proof.history import Kind
from pgbaton.proof.outage import Span, measure
from pgbaton.proof.parts import split
from pgbaton.proof.running import SCHEMA, RunningMeter
from pgbaton.proof.story import Story
from pgbaton.proof.watch import VipWatch
from pgbaton.topology import budget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgbaton.proof.audit import FinalRead
    from pgbaton.proof.checkers.base import Holding
    from pgbaton.proof.faults.base import Fault
    from pgbaton.proof.history import History
    from pgbaton.proof.judgement import Objectives
    from pgbaton.proof.results import TrialResult
    from pgbaton.proof.target import Target

#: How long clients may take to be served at the very beginning, when pools are empty.
START_SECONDS = 30.0
#: How long a fault may keep clients without service before it is undone, and the cluster may take to become whole.
PATIENCE = trial.Patience(recovery_seconds=60.0, whole_seconds=90.0)
#: How long clients go on after the cluster is whole, so that the end is quiet as well.
QUIET_END_SECONDS = 1.0
#: How long what is wrong after that may take to pass, with no clients left, before it is held against the cluster.
SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Setting:
    """What is the same in all experiments of a run."""

    workloads: tuple[str, ...]
    objectives: Objectives
    patience: trial.Patience = PATIENCE


@dataclass(frozen=True)
class Observed:
    """A trial and what was seen of it."""

    trial: trial.Trial
    history: History
    holdings: tuple[Holding, ...]


async def run(target: Target, setting: Setting, fault: Fault, *, seed: int, folder: Path) -> tuple[TrialResult, bool]:
    """Make one experiment; return its result, and whether the cluster is fit for another.

    Raises Error when the fault could not be made or undone.
    """
    started, began_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
    if fault.plan is not None:
        store.write(folder, "schedule.json", fault.plan)
    (folder / "topology.toml").write_text(target.state.topology_file.read_text(encoding="utf-8"), encoding="utf-8")
    seen = await observe(target, setting, fault, seed=seed, folder=folder)
    remains = await evidence.remains(target, seconds=SETTLE_SECONDS)
    finals = await read_finals(target, setting)
    done = seen.trial
    gathered = Evidence(
        topology=target.topology,
        history=seen.history,
        window=done.window,
        fault=Span(done.injected, done.healed),
        finals=finals,
        holdings=seen.holdings if target.topology.network.vip else None,
        remains=None if remains is None else tuple(dict.fromkeys((*done.remains, *remains))),
    )
    predictions = {each.fault: each for each in budget.budget(target.topology)}
    checks = (*await asyncio.to_thread(checkers.check, gathered), *done.checks)
    result = judgement.judge(
        done, seen.history, checks, seed=seed, objectives=setting.objectives, predictions=predictions
    )
    logs = await evidence.logs(target, since=done.begin + seen.history.wall_offset_seconds)
    await asyncio.to_thread(keep, folder, target, seen, logs)
    whole = remains == () and done.after is not None
    return replace(result, began_at=began_at, total_seconds=round(time.monotonic() - started, 2)), whole


async def observe(target: Target, setting: Setting, fault: Fault, *, seed: int, folder: Path) -> Observed:
    """Let clients and watchers see a trial from its quiet beginning to its quiet end."""
    watch = VipWatch(target)
    meter = await RunningMeter.start(target, workloads=setting.workloads, directory=folder, seed=seed)
    try:
        watch.start()
        await meter.until_calm(since=time.monotonic(), seconds=START_SECONDS)
        done = await trial.run(target, meter, fault, seed=seed, patience=setting.patience)
        await asyncio.sleep(QUIET_END_SECONDS)
    finally:
        holdings = await watch.stop()
        history = await meter.stop()
    return Observed(done, history, holdings)


async def read_finals(target: Target, setting: Setting) -> tuple[FinalRead, ...]:
    """Read what every database host holds; without a primary there is nothing that could be held against clients."""
    try:
        return await final.read_all(target, setting.workloads)
    except Error as error:
        target.report(f"the final reads: {error}")
        return ()


async def clean_up(target: Target) -> None:
    """Remove what experiments made in the application's database."""
    primary = await target.primary()
    await final.sql(target, primary, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def keep(folder: Path, target: Target, seen: Observed, logs: Mapping[str, str]) -> None:
    """Write what was seen into the trial's folder."""
    store.write(folder, "story.json", story(target, seen).to_dict())
    (folder / "faults.jsonl").write_text("".join(journal(seen)), encoding="utf-8")
    store.keep_history(folder, seen.history)
    store.keep_logs(folder, logs)


def journal(seen: Observed) -> list[str]:
    """Return what was done to the cluster and when, one JSON object a line."""
    done, offset = seen.trial, seen.history.wall_offset_seconds
    moments = {
        "asked for": done.injected,
        "struck": done.struck,
        "clients served": done.served,
        "undone": done.healed,
        "whole": done.end if done.after else None,
    }
    common = {"fault": done.fault.name, "hosts": list(done.hosts)}
    return [
        json.dumps({"event": event, "monotonic": time, "wall": time + offset, **common}) + "\n"
        for event, time in sorted(moments.items(), key=lambda moment: moment[1] or 0.0)
        if time is not None
    ]


def story(target: Target, seen: Observed) -> Story:
    """Return what the drawing of a trial needs."""
    done = seen.trial
    outage = measure(seen.history, Kind.WRITE, done.window).longest
    return Story(
        fault=done.fault.name,
        title=done.fault.title,
        does=done.fault.does,
        hosts=done.hosts,
        window=done.window,
        injected=done.injected,
        struck=done.struck,
        served=done.served,
        healed=done.healed,
        outage=Span(outage.begin, outage.end),
        parts=split(outage, done.expectation.parts, done.marks),
        marks=done.marks,
        holdings=seen.holdings,
        addresses=target.topology.names_by_address,
        primary=done.before.primary,
        vip=done.before.vip,
    )
