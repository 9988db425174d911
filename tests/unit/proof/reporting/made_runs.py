"""Made-up runs that look like real ones, and whose every figure can be known."""

from __future__ import annotations

import math
from random import Random

from pgbaton.proof.checkers.base import Check, Holding, Validity
from pgbaton.proof.faults import FAULTS
from pgbaton.proof.history import History, Kind, Operation, Outcome
from pgbaton.proof.marks import Mark, Moment
from pgbaton.proof.outage import Span
from pgbaton.proof.parts import Part
from pgbaton.proof.results import Latencies, NotRun, RunResult, TrialResult
from pgbaton.proof.story import Story

ADDRESSES = {"10.77.0.11": "lb1", "10.77.0.12": "lb2", "10.77.0.21": "db1", "10.77.0.22": "db2", "10.77.0.23": "db3"}
DB1, DB2 = "10.77.0.21", "10.77.0.22"
CHECKERS = ("set", "register", "bank", "append", "primaries", "vip", "stale-reads", "whole")
INJECTED = 1000.0


def checks(**validities: Validity) -> tuple[Check, ...]:
    """Every checker valid, but for those named, each with a finding."""
    return tuple(
        Check(name, validity, () if validity is Validity.VALID else (f"{name} saw something",), {"operations": 1000})
        for name in CHECKERS
        for validity in (validities.get(name.replace("-", "_"), Validity.VALID),)
    )


def trial(fault: str = "postmaster-killed", *, outage: float = 1.2, seed: int = 7, **changes: object) -> TrialResult:
    """One trial that is proven unless changed."""
    known = {each.name: each.title for each in FAULTS}
    ended = outage if math.isfinite(outage) else 10.0
    shares = (("detection", 0.5), ("election", 0.25), ("promotion", 0.1), ("routing", 0.1), ("reconnection", 0.05))
    plain: dict[str, object] = {
        "fault": fault,
        "title": known.get(fault, fault.replace("-", " ").capitalize()),
        "seed": seed,
        "hosts": ("db1",),
        "began_at": "2026-11-20T10:00:00+00:00",
        "write_outage_seconds": outage,
        "read_outage_seconds": 0.05 + ended / 20,
        "acknowledged": 12_345,
        "lost": 0,
        "duplicated": 0,
        "unknown": 3,
        "errors": 40,
        "checks": checks(),
        "parts": tuple(Part(name, ended * share, f"db2: {name}") for name, share in shares),
        "limit_seconds": 5.0,
        "limit_source": "budget",
        "error_classes": {"connect": 30, "timeout": 10},
        "clients": {"writer-1": ended, "writer-2": ended * 1.1},
        "latency": {
            "before": Latencies(0.0021, 0.0044, 0.0071, 0.02),
            "during": None,
            "after": Latencies(0.0024, 0.0052, 0.0093, 0.09),
        },
        "primary": ("db1", "db2"),
        "vip": ("lb1", "lb1"),
        "gaps": ((4.5, 0.13),),
        "operations_per_second": 1012.0,
        "whole_again_seconds": 6.0 + ended,
        "total_seconds": 31.5,
        "folder": f"trials/001-{fault}",
    }
    return TrialResult(**{**plain, **changes})  # type: ignore[arg-type]


def run(*trials: TrialResult, **changes: object) -> RunResult:
    """Return a run that came to its end."""
    plain: dict[str, object] = {
        "label": "standard",
        "cluster": "made",
        "system": "debian-13, PostgreSQL 17",
        "seed": 1,
        "began_at": "2026-11-20T10:00:00+00:00",
        "asked": "--suite standard --trials 3",
        "versions": {"postgresql-17": "17.6-0+deb13u1", "patroni": "4.0.7-1", "etcd-server": "3.5.16-4"},
        "trials": trials,
        "total_seconds": 4031.0,
        "complete": True,
    }
    return RunResult(**{**plain, **changes})  # type: ignore[arg-type]


def names(count: int) -> list[str]:
    """Return names of faults: those that exist, and invented ones until there are enough."""
    parts = ("patroni", "etcd-leader", "haproxy", "pgbouncer-write", "keepalived", "standby", "primary-disk")
    acts = ("stopped", "killed", "hangs", "cut-one-way", "cut-off", "full", "delayed", "loses-packets")
    invented = (f"{part}-{act}" for act in acts for part in parts)
    return list(dict.fromkeys([*(fault.name for fault in FAULTS), *invented]))[:count]


def large(*, faults: int = 50, trials: int = 3, seed: int = 1) -> RunResult:
    """Return a run as large as the full suite, with misses, a violation, one inconclusive check, some not run."""
    random = Random(seed)
    made = []
    for number, fault in enumerate(names(faults)):
        usual = math.exp(random.uniform(math.log(0.02), math.log(6.0)))
        for _ in range(trials):
            outage = usual * random.uniform(0.8, 1.3)
            made.append(trial(fault, outage=outage, seed=random.randrange(10**6), limit_seconds=max(1.5 * usual, 0.2)))
        if number % 17 == 5:
            made[-1] = trial(fault, outage=usual * 2.1, seed=99, limit_seconds=1.5 * usual)
        if number == 11:
            made[-1] = trial(fault, outage=math.inf, seed=13, served=False, whole_again_seconds=None)
        if number == 21:
            lost = checks(set=Validity.INVALID, primaries=Validity.INVALID)
            made[-2] = trial(fault, outage=usual, seed=21, lost=3, checks=lost)
        if number == 30:
            made[-3] = trial(fault, outage=usual, seed=30, checks=checks(append=Validity.UNKNOWN))
    left_out = tuple(
        NotRun(name, title, reason)
        for name, title, reason in (
            ("clock-jump", "Clock jumps forward", "this kernel has no time namespaces"),
            ("packet-loss", "A third of all packets lost", "this kernel has no sch_netem"),
            ("disk-hangs", "Data directory frozen", "the data directory is no file system of its own"),
        )
    )
    return run(*made, not_run=left_out)


def story(of: TrialResult, *, twice: bool = False) -> Story:
    """Return the course that belongs to a trial's figures."""
    ended = of.write_outage_seconds if math.isfinite(of.write_outage_seconds) else 40.0
    begin = INJECTED + 0.02
    outage = Span(begin, begin + ended)
    marks = (
        Mark(Moment.DETECTED, begin + 0.5 * ended, "db2", "Request failed to db1: GET"),
        Mark(Moment.ELECTED, begin + 0.75 * ended, "db2", "promoted self to leader"),
        Mark(Moment.WRITABLE, begin + 0.85 * ended, "db2", "database system is ready to accept connections"),
        Mark(Moment.ROUTED, begin + 0.95 * ended, "lb1", "Server primary/db2 is UP"),
        Mark(Moment.ROUTED, begin + 0.95 * ended + 0.03, "lb2", "Server primary/db2 is UP"),
    )
    window = Span(INJECTED - 0.5, INJECTED + ended + 14.0)
    holdings = [Holding("lb1", Span(window.begin - 3, window.end))]
    if twice:
        holdings.append(Holding("lb2", Span(INJECTED + 0.3, INJECTED + 2.3)))
    return Story(
        fault=of.fault,
        title=of.title,
        does="the postmaster gets SIGKILL",
        hosts=of.hosts,
        window=window,
        injected=INJECTED,
        struck=INJECTED + 0.015,
        served=outage.end,
        healed=INJECTED + ended + 6.0,
        outage=outage,
        parts=of.parts,
        marks=marks,
        holdings=tuple(holdings),
        addresses=ADDRESSES,
        primary="db1",
        vip="lb1",
    )


def history(of: Story, *, clients: int = 8, pace: float = 0.01, seed: int = 1) -> History:
    """Return what clients did: writers stop for the outage, readers pause for a moment only."""
    random = Random(seed)
    made: list[Operation] = []
    for client in range(clients):
        kind = Kind.READ if client % 4 == 3 else Kind.WRITE
        time, number = of.window.begin - 3.0, 0
        while time < of.window.end:
            number += 1
            time += pace * random.uniform(0.7, 1.5)
            out = of.outage if kind is Kind.WRITE else Span(of.outage.begin, of.outage.begin + 0.1)
            if out.begin < time < out.end:
                time = out.end + random.uniform(0, 0.03)
            server = DB1 if time <= of.outage.begin else DB2
            made.append(Operation(f"client-{client}", kind, number, time - 0.003, time, Outcome.OK, server=server))
    return History(tuple(sorted(made, key=lambda each: each.end)), finished=True)
