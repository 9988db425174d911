#!/usr/bin/env python3
"""Measure what users wait for: image, bring-up, a second apply, help, and the demo with its outages.

Run as root from a checkout: ``sudo .venv/bin/python benchmarks/figures.py [--trials 3]``. Every figure comes from the
same run of this program; the table goes to standard output, and to benchmarks/figures.md with ``--write``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def timed(*arguments: str, **environment: str) -> tuple[float, str]:
    """Run a command of pgbaton; return the seconds it took and what it printed."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pgbaton", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"pgbaton {' '.join(arguments)} exited with {done.returncode}\n{done.stderr}")
    return time.monotonic() - began, done.stdout


def measure(trials: int, *, image: bool) -> dict[str, list[float]]:
    """Return the seconds of every trial, by figure."""
    seconds: dict[str, list[float]] = {}

    def note(figure: str, value: float) -> None:
        seconds.setdefault(figure, []).append(value)
        print(f"{figure}: {value:.2f} s", file=sys.stderr)

    if image:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as cache:
            note("lab image", timed("lab", "image", PGBATON_CACHE_HOME=cache)[0])
    timed("lab", "image")
    with tempfile.TemporaryDirectory() as home:
        for _ in range(trials):
            note("pgbaton --help", timed("--help")[0])
            note("lab up, from a cached image", timed("lab", "up", "--cluster", "figures", PGBATON_STATE_HOME=home)[0])
            note("second apply", timed("apply", "--yes", "--cluster", "figures", PGBATON_STATE_HOME=home)[0])
            note("status", timed("status", "--cluster", "figures", PGBATON_STATE_HOME=home)[0])
            timed("lab", "down", "--cluster", "figures", PGBATON_STATE_HOME=home)
            took, printed = timed("demo", "--stock", "--cluster", "figures", "-o", "json", PGBATON_STATE_HOME=home)
            note("demo", took)
            for event in json.loads(printed)["events"]:
                note(f"write outage, {event['fault']}", event["write_outage_seconds"])
                note(f"read outage, {event['fault']}", event["read_outage_seconds"])
                note(f"lost writes, {event['fault']}", float(event["lost"]))
    return seconds


def table(seconds: dict[str, list[float]]) -> str:
    """Return the figures as a Markdown table."""
    rows = [
        f"| {name} | {statistics.median(values):.2f} | {max(values):.2f} | {len(values)} |"
        for name, values in seconds.items()
    ]
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, {time.strftime('%Y-%m-%d', time.gmtime())}"
    return "\n".join(
        [
            f"Measured on {machine}; seconds, or a count of writes.",
            "",
            "| what | median | worst | trials |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--image", action="store_true", help="also build an image from nothing")
    parser.add_argument("--write", action="store_true", help="write benchmarks/figures.md")
    options = parser.parse_args()
    text = table(measure(options.trials, image=options.image))
    print(text)
    if options.write:
        (HERE / "figures.md").write_text(f"# Figures\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
