#!/usr/bin/env python3
"""Measure how long the checkers take over a history of all workloads: ``.venv/bin/python benchmarks/checking.py``.

The history is simulated, with some outcomes unknown, as a trial leaves it; the seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "property"))

from simulated import Shape, simulate

from pgbaton.proof.checkers import CHECKERS, applying
from pgbaton.proof.edn import edn


def measure(operations: int, seed: int) -> None:
    """Print what each checker took and concluded."""
    shape = Shape(operations=operations, clients=16, unknown=0.002, keys=8)
    evidence = simulate(Random(seed), shape)  # noqa: S311 - a choice that can be repeated, no secret
    total = 0.0
    for name, checker in CHECKERS:
        if name in applying(evidence):
            began = time.process_time()
            check = checker(evidence)
            took = time.process_time() - began
            total += took
            print(f"{name:<12} {took:6.2f} s  {check.validity}")
    print(f"{'all':<12} {total:6.2f} s  for {operations} operations")
    began = time.process_time()
    lines = sum(1 for workload in shape.workloads for _ in edn(evidence.history, workload))
    print(f"{'EDN':<12} {time.process_time() - began:6.2f} s  {lines} events")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    measure(arguments.operations, arguments.seed)


if __name__ == "__main__":
    main()
