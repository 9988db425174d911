#!/usr/bin/env python3
"""Prove every place of PgBouncer, with Patroni and by hand, and write what each event costs into the documentation.

Run as root from a checkout: ``sudo .venv/bin/python benchmarks/placements.py [--trials 3] [--only pooler-manual,…]``.
Each combination is a lab of its own, put through the smoke suite by ``pgbaton prove``; the figures go to
docs/reference/placements.md, every trial to placements.json beside this program, where later combinations are added.
``--render`` makes the page anew, ``--topology pooler-manual`` prints what is deployed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pgbaton.cli.demo import AGENTS
from pgbaton.topology import presets
from pgbaton.topology.model import Placement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HERE = Path(__file__).parent
FIGURES = HERE / "placements.json"
PAGE = HERE.parent / "docs" / "reference" / "placements.md"
LAB = "placements"
KINDS = {"patroni": "standard", "manual": "manual"}
#: What further hosts a place needs, beside a preset's own.
HOSTS = {
    Placement.POOLER: (("pool1", 31, "pooler"), ("pool2", 32, "pooler")),
    Placement.APPLICATION: (("shop1", 41, "application"),),
}
#: The events, by the faults that make them where Patroni promotes and where a person does.
EVENTS = {
    "server killed": ("postmaster-killed", "postmaster-killed-in-place"),
    "switchover": ("switchover", "switchover"),
    "primary's host powered off": ("primary-power-off", "primary-power-off-and-failover"),
    "HAProxy killed": ("haproxy-killed", "haproxy-killed"),
    "active balancer powered off": ("balancer-power-off", "balancer-power-off"),
}
HEAD = """# What each place of PgBouncer costs

Every [place of PgBouncer](../howto/place-pgbouncer.md), with Patroni and agents (preset `standard`,
`detection_time = 0.25` and `advert_interval = 0.05` as in the demonstration) and where a person promotes (preset
`manual`, who comes at once), put through the same events by `benchmarks/placements.py`: {machine}, {day},
{trials} of each, all hosts and clients on that one machine.

Seconds without any acknowledged write, over all clients: the median, the worst in brackets, and after a slash what
`pgbaton budget` predicts at most. Below it, how many of the clients' operations failed or stayed unknown, per trial.
Acknowledged writes lost, in all {count} trials: **{lost}**.
"""
SAYS = {
    "patroni": "With Patroni and agents",
    "manual": "Where a person promotes",
}
REMARK = """In the first two places agents hold clients during a switchover. Elsewhere sessions end and connect again,
and where HAProxy sits between the client and the pool, or the server, each of them does so by itself.

A server that is killed starts again where it is when nobody but a person may promote another: meanwhile the clients of
pools wait, and others try again and again. A host that is powered off waits for that person; with
`--operator-seconds` the proof lets them take their time.
"""


def topology(name: str) -> str:
    """Return the topology of a combination, as ``pooler-manual``."""
    place, _, kind = name.partition("-")
    text = presets.text(KINDS[kind], cluster=LAB).replace("[pooling]", f'[pooling]\nplacement = "{place}"')
    for host, number, role in HOSTS.get(Placement(place), ()):
        text += f'\n[[hosts]]\nname = "{host}"\naddress = "10.77.0.{number}"\nroles = ["{role}"]\n'
    return text + (AGENTS if kind == "patroni" else "")


def names() -> tuple[str, ...]:
    """Return all combinations."""
    return tuple(f"{place}-{kind}" for kind in KINDS for place in Placement)


def faults(name: str) -> tuple[str, ...]:
    """Return the faults that make the events of a combination."""
    column = list(KINDS).index(name.partition("-")[2])
    return tuple(pair[column] for pair in EVENTS.values())


def prove(name: str, trials: int) -> dict[str, Any]:
    """Put one combination through all events; return its trials, or why there are none."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "topology.toml"
        file.write_text(topology(name), encoding="utf-8")
        struck = [word for fault in faults(name) for word in ("--fault", fault)]
        argv = (sys.executable, "-m", "pgbaton", "prove", str(file), *struck, "--trials", str(trials), "--name", LAB)
        said = subprocess.run((*argv, "-o", "json"), stdout=subprocess.PIPE, check=False)
    data = json.loads(said.stdout)
    return {
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}",
        "verdict": data["verdict"],
        "trials": [brief(trial) for trial in data["trials"]],
        "not_run": data["not_run"],
    }


def brief(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page needs of a trial."""
    kept = ("fault", "seed", "write_outage_seconds", "limit_seconds", "acknowledged", "lost", "errors", "unknown")
    found = [finding for check in trial["checks"].values() for finding in check["findings"]]
    return {**{key: trial[key] for key in kept}, "verdict": trial["verdict"], "said": [*trial["objections"], *found]}


def page(data: Mapping[str, Any]) -> str:
    """Return the page of all combinations that were measured."""
    trials = [trial for each in data.values() for trial in each["trials"]]
    counts = {len(of_fault(each, fault)) for name, each in data.items() for fault in faults(name)} - {0}
    head = HEAD.format(
        machine=" or ".join(dict.fromkeys(each["machine"] for each in data.values())),
        day=" and ".join(dict.fromkeys(each["began_at"][:10] for each in data.values())),
        trials="one trial" if counts == {1} else f"{' or '.join(map(str, sorted(counts)))} trials",
        count=len(trials),
        lost=sum(trial["lost"] for trial in trials),
    )
    tables = (f"## {title}\n\n{table(data, kind)}\n" for kind, title in SAYS.items())
    return "\n".join((head, *tables, REMARK, *shortfalls(data)))


def table(data: Mapping[str, Any], kind: str) -> str:
    """Return the table of one kind: a row a place, a column an event."""
    measured = {place: each for place in Placement if (each := data.get(f"{place}-{kind}")) is not None}
    rows = [
        (f"`{place}`", *(cell(each, fault) for fault in faults(f"{place}-{kind}"))) for place, each in measured.items()
    ]
    lines = (("placement", *EVENTS), ("---",) * (len(EVENTS) + 1), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(each: Mapping[str, Any], fault: str) -> str:
    """Return what an event costs in one place."""
    trials = of_fault(each, fault)
    if not trials:
        return "not run"
    outages = [trial["write_outage_seconds"] for trial in trials]
    limit = trials[0]["limit_seconds"]
    failed = median(trial["errors"] + trial["unknown"] for trial in trials)
    predicted = "" if limit is None else f" / {limit:.2g}"
    if None in outages:
        return "∞"
    worst = "" if len(outages) == 1 else f" ({max(outages):.2f})"
    return f"{median(outages):.2f}{worst}{predicted}<br>{failed:g} failed"


def of_fault(each: Mapping[str, Any], fault: str) -> list[Mapping[str, Any]]:
    """Return the trials of one fault."""
    return [trial for trial in each["trials"] if trial["fault"] == fault]


def shortfalls(data: Mapping[str, Any]) -> Iterable[str]:
    """Yield what was not as it should be."""
    lines = [
        f"- `{name}`, {trial['fault']}: {trial['verdict']}: {'; '.join(trial['said']) or 'longer than predicted'}"
        for name, each in data.items()
        for trial in each["trials"]
        if trial["verdict"] != "proven"
    ]
    lines += [
        f"- `{name}`, {left['fault']}: {left['reason']}" for name, each in data.items() for left in each["not_run"]
    ]
    return ("## What fell short", "", *lines, "") if lines else ()


def chosen(text: str | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return the combinations in a list parted by commas, all for None; ends the program for an unknown one."""
    wanted = tuple(text.split(",")) if text else tuple(known)
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    return wanted


def main() -> None:
    """Measure what was asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join(names())}")
    parser.add_argument("--render", action="store_true", help="measure nothing, make the page anew")
    parser.add_argument("--topology", metavar="A", help="print that combination's topology, and do nothing else")
    asked = parser.parse_args()
    if asked.topology:
        sys.stdout.write(topology(*chosen(asked.topology, names())))
        return
    data = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for name in () if asked.render else chosen(asked.only, names()):
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        data[name] = prove(name, asked.trials)
        FIGURES.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page({name: data[name] for name in names() if name in data}), encoding="utf-8")


if __name__ == "__main__":
    main()
