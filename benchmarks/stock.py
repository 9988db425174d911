#!/usr/bin/env python3
"""Write a run of the full suite on the stock stack into the documentation: its table, its page, every shortfall.

``.venv/bin/python benchmarks/stock.py RUN``, RUN being what ``pgbaton report list`` shows. What fell short of what is
right must have an explanation in docs/proofs/explanations.toml, by the fault's name: without one this fails, so that
nothing unexplained is published.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

from pgbaton.proof import faults, store
from pgbaton.proof.reporting import page, words
from pgbaton.proof.results import FaultSummary, RunResult, Verdict

DOCS = Path(__file__).parent.parent / "docs"
EXPLANATIONS = DOCS / "proofs" / "explanations.toml"
PAGE = DOCS / "proofs" / "stock.html"
TABLE = DOCS / "proofs" / "stock.md"

HEAD = """# What the stock stack was seen to do

Every fault of the full suite on the preset `standard`: stock parts, nothing of pgbaton's in the path. Five hosts, the
clients and the meter shared one machine with two cores ({system}); {began}, seed {seed}. Outages are of writes, by
clients through the VIP. [The whole report](stock.html) has every trial, and the course of each fault's worst.

{lead}

Lost acknowledged writes, in all trials: **{lost}**.
"""
COLUMNS = ("fault", "trials", "median", "worst", "allowed", "verdict")


def main() -> int:
    """Write the page and the table; return 1 when something has no explanation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="name of a stored run, or the beginning of it")
    stored = store.find(parser.parse_args().run)
    run = stored.result()
    explained = tomllib.loads(EXPLANATIONS.read_text(encoding="utf-8"))
    missing = [each.fault for each in shortfalls(run) if each.fault not in explained]
    if missing:
        print(f"without an explanation in {EXPLANATIONS}: {', '.join(missing)}", file=sys.stderr)
        return 1
    PAGE.write_text(page.render(run, stored.story, stored.history), encoding="utf-8")
    TABLE.write_text(text(run, explained), encoding="utf-8")
    return 0


def shortfalls(run: RunResult) -> tuple[FaultSummary, ...]:
    """Return the faults that were not proven in every trial."""
    return tuple(each for each in run.summary if each.verdict is not Verdict.PROVEN)


def text(run: RunResult, explained: dict[str, str]) -> str:
    """Return the page of the documentation."""
    lost = sum(trial.lost for trial in run.trials)
    head = HEAD.format(system=run.system, began=run.began_at[:10], seed=run.seed, lead=words.lead(run), lost=lost)
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|---|---|---|---|", *map(row, run.summary)]
    short = [entry(each, explained[each.fault]) for each in shortfalls(run)]
    missing = [f"- `{each.fault}`: {each.reason}" for each in run.not_run]
    return (
        "\n".join(
            [
                head,
                *lines,
                "",
                "## What fell short of what is right",
                "",
                *short,
                "## Not run",
                "",
                *(missing or ["Nothing."]),
            ]
        )
        + "\n"
    )


def row(summary: FaultSummary) -> str:
    """Return a fault's line."""
    limit = summary.trials[0].limit_seconds
    cells = (
        f"`{summary.fault}`",
        str(len(summary.trials)),
        words.seconds(summary.median_seconds),
        words.seconds(summary.max_seconds),
        "none" if limit is None else words.seconds(limit),
        str(summary.verdict),
    )
    return f"| {' | '.join(cells)} |"


def entry(summary: FaultSummary, explanation: str) -> str:
    """Return what a fault's trials lacked, and why."""
    (right,) = [fault.right for fault in faults.FAULTS if fault.name == summary.fault] or [""]
    short = sum(trial.verdict is not Verdict.PROVEN for trial in summary.trials)
    counted = f"{summary.verdict} in {short} of {len(summary.trials)}"
    return f"`{summary.fault}` ({counted})\n: Right would be: {right}. {explanation.strip()}\n"


if __name__ == "__main__":
    sys.exit(main())
