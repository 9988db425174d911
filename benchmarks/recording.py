#!/usr/bin/env python3
"""How many operations a second the meter records, and what that costs it: all workloads at a multiple of their pace.

Run as root from the repository: ``.venv/bin/python benchmarks/recording.py --cluster NAME``, NAME being a lab that is
whole and has nothing else to do. Prints one JSON object per pace: operations a second that were asked for and that
were recorded, the meter's share of one core, how much of the time it was not scheduled, the gaps between acknowledged
writes, and the median latency of a write.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pgbaton import state
from pgbaton.hosts import process
from pgbaton.proof import experiment, workloads
from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.outage import acknowledgements, quantile
from pgbaton.proof.running import RunningMeter, configuration
from pgbaton.proof.target import Target
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from pgbaton.proof.history import History
    from pgbaton.proof.meter import MeterConfig

TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """Return how much processor time a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def faster(config: MeterConfig, pace: float) -> MeterConfig:
    """Return a configuration whose held clients work at a multiple of their pace."""
    clients = tuple(
        replace(client, period_seconds=client.period_seconds / pace, phase_seconds=client.phase_seconds / pace)
        if client.held
        else client
        for client in config.clients
    )
    return replace(config, clients=clients)


async def record(target: Target, pace: float, seconds: float) -> dict[str, object]:
    """Let all workloads run for a while and return what was recorded."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "history.jsonl"
        config = faster(configuration(target, workloads.named(workloads.names(())), log, seed=1), pace)
        argv = target.client_argv("pgbaton.proof.meter")
        child = await process.start(*argv, input=config.dump(), log=Path(directory) / "meter.log")
        meter = RunningMeter(child, log, tuple(client.name for client in config.clients if client.must_be_served))
        await meter.until_calm(since=time.monotonic(), seconds=60)
        began, used = time.monotonic(), processor_seconds(child.pid)
        await asyncio.sleep(seconds)
        ended, spent = time.monotonic(), processor_seconds(child.pid) - used
        history = await meter.stop()
    asked = sum(1 / client.period_seconds for client in config.clients)
    return {"pace": pace, "asked_per_second": round(asked), **figures(history, began, ended, spent)}


def figures(history: History, began: float, ended: float, spent: float) -> dict[str, object]:
    """Return what a history shows of the time between two moments."""
    seen = [each for each in history.operations if began <= each.end <= ended]
    times = acknowledgements(each for each in seen if each.kind is Kind.WRITE)
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    writes = [each.seconds for each in seen if each.kind is Kind.WRITE and each.outcome is Outcome.OK]
    stalled = sum(stall.seconds for stall in history.stalls if began <= stall.at <= ended)
    return {
        "recorded_per_second": round(len(seen) / (ended - began), 1),
        "meter_share_of_a_core": round(spent / (ended - began), 3),
        "not_scheduled_share": round(stalled / (ended - began), 3),
        "write_gap_median_ms": round(quantile(gaps, 0.5) * 1000, 2),
        "write_gap_p99_ms": round(quantile(gaps, 0.99) * 1000, 2),
        "write_median_ms": round(median(writes) * 1000, 2),
    }


async def main() -> None:
    """Measure at every pace asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", required=True, help="a lab that is whole")
    parser.add_argument(
        "--pace", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0], help="multiples of the usual pace"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each")
    options = parser.parse_args()
    of = state.select(options.cluster)
    target = Target(load(of.topology_file), of, print)
    for pace in options.pace:
        print(json.dumps(await record(target, pace, options.seconds)), flush=True)
    await experiment.clean_up(target)


if __name__ == "__main__":
    asyncio.run(main())
