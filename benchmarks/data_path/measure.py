#!/usr/bin/env python3
"""Measure the data path: PostgreSQL itself beside VIP → HAProxy → PgBouncer → PostgreSQL, by turns, in a lab.

Run as root from a checkout: ``sudo .venv/bin/python benchmarks/data_path/measure.py [--short] [--variants] [--write]``.
The page goes to standard output, and with ``--write NAME`` to NAME.md, NAME.json and its pictures beside this program.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import goals
import path_lab as lab
import variants
from measuring import Measuring
from path_page import page

from pgbaton.errors import Error
from pgbaton.measure import chart, plan, summary
from pgbaton.measure.plan import Case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.measure.summary import Row
    from pgbaton.proof.target import Target

HERE = Path(__file__).parent
CLUSTER = "data-path"
WAYS = ("direct", "vip")
PROTOCOLS = ("simple", "extended", "prepared")
CLIENTS = (1, 4, 16, 64, 150, 500, 1_000, 2_000)
#: TPC-B waits for locks on as many branches as the scale has: more clients measure those.
WRITERS = (1, 16, 64, 150)
LOGGING_IN = (1, 16, 150)
SHORT = (
    *plan.cases(("select-only",), ("simple",), (1, 16, 150, 500, 2_000)),
    *plan.cases(("select-only",), ("extended", "prepared"), (16,)),
    *plan.cases(("tpcb",), ("simple",), (1, 16)),
    *plan.cases(("tpcb",), ("prepared",), (16,)),
    Case("select-only", "simple", 16, connect=True),
)
WHOLE = (
    *plan.cases(("select-only",), PROTOCOLS, CLIENTS),
    *plan.cases(("tpcb",), PROTOCOLS, WRITERS),
    *plan.cases(("select-only",), ("simple",), LOGGING_IN, connect=True),
)
REMARK = (
    "plain connections, as the product has them: no topology turns TLS off, on either side; "
    "`--variants plain` tries it on files changed by hand"
)
#: Whose versions are told.
PROGRAMS = {"haproxy": "haproxy", "pgbouncer": "pgbouncer", "postgresql": "postgresql-17"}


def tell(text: str) -> None:
    """Report progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def measure(asked: argparse.Namespace) -> tuple[dict[str, Any], tuple[Row, ...]]:
    """Make the lab, measure, and take it down; return what was seen as JSON has it, and its rows."""
    request = plan.Request(
        SHORT if asked.short else WHOLE, WAYS, seconds=asked.seconds, rounds=asked.rounds, scale=asked.scale
    )
    storms = tuple(min(count, lab.entrances()) for count in asked.storms)
    ground = lab.ground(asked.cluster, tell)
    began = datetime.now(UTC).isoformat(timespec="seconds")
    tried, stormed, remarks = list[dict[str, Any]](), list[dict[str, Any]](), [REMARK]
    try:
        target = await ground.prepare()
        known = await versions(target)
        run = Measuring(target, request, tuple(asked.idle), tuple(dict.fromkeys(storms)))
        try:
            if not asked.only_variants:
                await run.run()
            tried, stormed = await try_variants(target, asked)
        except Error as error:
            # What was measured by then took long to measure.
            tell(f"not brought to its end: {error}")
            remarks.append(f"the run was not brought to its end: {error.message}")
    finally:
        if not asked.keep:
            await ground.leave()
    data = {
        "began_at": began,
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}",
        "versions": known,
        "replication": str(ground.topology.replication.mode),
        "rounds": asked.rounds,
        "seconds": asked.seconds,
        "scale": asked.scale,
        "file_limit": lab.files(),
        "client_limit": lab.entrances(),
        "rows": run.rows(),
        "not_run": [each.to_dict() for each in run.not_run.values()],
        "memory": run.memory,
        "storms": [*run.stormed, *stormed],
        "variants": tried,
        "remarks": remarks,
    }
    return data | {"goals": goals.judged(data)}, summary.rows(run.runs)


async def try_variants(target: Target, asked: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Try the settings that were asked for."""
    chosen = [
        each
        for each in variants.VARIANTS
        if asked.variants is not None and each.name in (asked.variants or [each.name])
    ]
    if not chosen:
        return [], []
    return await variants.measure(target, chosen, rounds=asked.rounds, seconds=asked.seconds, scale=asked.scale)


async def versions(target: Target) -> dict[str, str]:
    """Return the versions of the programs on the way."""
    host = target.hosts[target.topology.hosts[0].name]
    listing = (await host.run("dpkg-query", "-W", "-f", "${Package} ${Version}\n", *PROGRAMS.values())).stdout
    found = dict(line.split() for line in listing.splitlines())
    return {name: found[package] for name, package in PROGRAMS.items()}


def pictures(rows: tuple[Row, ...]) -> Iterator[tuple[str, str, str]]:
    """Yield the title, the file's name and the drawing of each picture: throughput, then latency, by kind of work."""

    def kind(row: Row) -> tuple[str, str, bool]:
        return row.case.profile, row.case.protocol, row.case.connect

    for (profile, protocol, connect), group in groupby(sorted(rows, key=kind), key=kind):
        of = tuple(group)
        what = f"{profile}, {protocol}{', new connections' if connect else ''}"
        name = f"{profile}-{protocol}{'-new' if connect else ''}"
        if len(chart.clients(of)) > 1 or connect:
            ways = [row.way for row in of]
            title = f"Transactions a second: {what}"
            yield title, f"{name}.svg", chart.alone(chart.throughput(of), title, ways)
            title = f"Latency (median, 95th, 99th percentile): {what}"
            yield title, f"{name}-latency.svg", chart.alone(chart.latency(of), title, ways)


def numbers(text: str) -> list[int]:
    """Return the numbers in a list parted by commas."""
    return [int(word) for word in text.split(",") if word.strip()]


def options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few cases: minutes instead of an hour")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8, help="of each step")
    parser.add_argument("--scale", type=int, default=20)
    parser.add_argument("--idle", type=numbers, default=[500, 2_000], metavar="N,N", help="idle clients")
    parser.add_argument(
        "--storms", type=numbers, default=[1_000, 5_000], metavar="N,N", help="clients at once, or what files allow"
    )
    known = ", ".join(each.name for each in variants.VARIANTS)
    parser.add_argument("--variants", nargs="*", metavar="NAME", help=f"try settings: all, or some of {known}")
    parser.add_argument("--only-variants", action="store_true", help="measure nothing else")
    parser.add_argument("--cluster", default=CLUSTER, help="name of the lab")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument(
        "--write", metavar="NAME", nargs="?", const="results", help="write NAME.md, NAME.json, pictures"
    )
    parser.add_argument("--render", type=Path, metavar="JSON", help="make the page of an earlier run's JSON anew")
    return parser.parse_args()


def write(name: str, data: dict[str, Any]) -> None:
    """Write the page and the JSON."""
    (HERE / f"{name}.md").write_text(page(data), encoding="utf-8")
    (HERE / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, and show what came of it."""
    asked = options()
    if asked.render:
        data = json.loads(asked.render.read_text(encoding="utf-8"))
        data["goals"] = goals.judged(data)
        print(page(data))
        if asked.write:
            write(asked.write, data)
        return
    data, rows = asyncio.run(measure(asked))
    drawn = list(pictures(rows))
    data["pictures"] = [{"title": title, "file": f"{asked.write or 'results'}-{file}"} for title, file, _ in drawn]
    print(page(data))
    if asked.write:
        for _, file, drawing in drawn:
            (HERE / f"{asked.write}-{file}").write_text(drawing, encoding="utf-8")
        write(asked.write, data)


if __name__ == "__main__":
    main()
