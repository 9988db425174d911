"""A made-up measurement, for whoever wants its table, its page or its JSON."""

from __future__ import annotations

from pgbaton.measure import plan, results, ways
from pgbaton.measure.latency import Latencies
from pgbaton.measure.pgbench import Outcome
from pgbaton.measure.results import Result
from pgbaton.measure.summary import NotRun, Run
from pgbaton.topology import load, presets

STANDARD = load.loads(presets.text("standard", cluster="orders"))
COMPACT = load.loads(presets.text("compact", cluster="orders"))
#: What a path does, as a share of the direct one's pace and as milliseconds more.
SHARES = {"direct": (1.0, 0.0), "balancer": (0.7, 0.1), "vip": (0.6, 0.12)}


def standing(primary: str = "db1", vip: str | None = "lb1") -> ways.Standing:
    """Return the cluster as it stands, every host alive."""
    return ways.Standing(STANDARD, primary, vip, frozenset(host.name for host in STANDARD.hosts))


def outcome(per_second: float, *, median: float = 1.0, **errors: int) -> Outcome:
    """Return what a run came to, whose latencies are around a median in milliseconds."""
    middle = round(median * 1000)
    latencies = Latencies({middle: 94, 2 * middle: 4, 5 * middle: 2})
    return Outcome(round(per_second), per_second, None, latencies, dict(errors))


def measurement(*, clients: tuple[int, ...] = (1, 16), rounds: int = 3, connect: bool = False) -> Result:
    """Return a whole measurement, in which each round is a tenth slower than the one before."""
    cases = plan.cases(("select-only", "tpcb"), ("simple",), clients, connect=connect)
    request = plan.Request(cases, ways.USUAL, seconds=5, rounds=rounds, scale=10)
    layout = ways.layout(standing(), ways.USUAL, client=None)
    runs = tuple(Run(step, made(step)) for step in plan.steps(request))
    refused = (NotRun(plan.Case("select-only", "simple", 500), "direct", "there is room for 74"),)
    return Result(
        "orders",
        "2026-01-01T12:00:00+00:00",
        "lab machines",
        layout,
        request,
        runs,
        refused,
        results.remarks(layout),
        complete=True,
    )


def made(step: plan.Step) -> Outcome:
    """Return what a step came to."""
    share, more = SHARES[step.way]
    slower = 1 - 0.1 * (step.round - 1)
    return outcome(1000 * step.case.clients**0.5 * share * slower, median=0.5 + more)
