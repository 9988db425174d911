"""A made-up demonstration of the stock parts, whose every figure is known."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from pgbaton.cli.demo import STOCK
from pgbaton.lab.definition import complete
from pgbaton.proof import report as reports
from pgbaton.proof.audit import FinalRead, audit
from pgbaton.proof.faults import DEMONSTRATED, named
from pgbaton.proof.faults.base import Strike
from pgbaton.proof.history import History, Kind, Operation, Outcome
from pgbaton.proof.marks import Mark, Moment
from pgbaton.proof.report import Report
from pgbaton.proof.target import Roles, Target
from pgbaton.proof.trial import Trial
from pgbaton.state import ClusterState
from pgbaton.topology import budget, load, presets

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Fault

TOPOLOGY = complete(load.loads(presets.text("standard") + STOCK), "demo")
BEGIN, END = 1000.0, 1080.0
DB1, DB2, DB3 = "10.77.0.21", "10.77.0.22", "10.77.0.23"
#: When reads are answered: standbys go on without a primary.
ANSWERED = (
    (BEGIN, 1004.0, DB2),
    (1004.3, 1015.0, DB3),
    (1015.3, 1027.0, DB1),
    (1027.4, 1040.0, DB1),
    (1040.2, END, DB2),
)
#: Who acknowledges writes and until when; between these stretches nobody does.
SERVED = ((BEGIN, 1004.0, DB1), (1005.1, 1015.0, DB2), (1016.6, 1027.0, DB3), (1027.4, 1040.0, DB3), (1062.3, END, DB1))
ROLES = (
    Roles("db1", "lb1", ("db2", "db3")),
    Roles("db2", "lb1", ("db1", "db3")),
    Roles("db3", "lb1", ("db1", "db2")),
    Roles("db3", "lb2", ("db1", "db2")),
    Roles("db1", "lb2", ("db2", "db3")),
)
MARKS = (
    (
        Mark(Moment.DETECTED, 1004.3, "db1", "Primary crashed. Failing over."),
        Mark(Moment.ELECTED, 1004.6, "db2", "promoted self to leader"),
        Mark(Moment.WRITABLE, 1004.8, "db2", "database system is ready to accept connections"),
        Mark(Moment.ROUTED, 1005.0, "lb1", "Server primary/db2 is UP"),
    ),
    (
        Mark(Moment.RELEASED, 1015.9, "db2", "Leader key released"),
        Mark(Moment.ELECTED, 1016.1, "db3", "acquired session lock"),
        Mark(Moment.ROUTED, 1016.5, "lb1", "Server primary/db3 is UP"),
    ),
    (Mark(Moment.CLAIMED, 1027.32, "lb2", "(vip) Entering MASTER STATE"),),
    (
        Mark(Moment.DETECTED, 1059.9, "db1", "Request failed to db3: GET"),
        Mark(Moment.ELECTED, 1061.9, "db1", "promoted self to leader"),
        Mark(Moment.WRITABLE, 1062.0, "db1", "database system is ready to accept connections"),
        Mark(Moment.ROUTED, 1062.2, "lb2", "Server primary/db1 is UP"),
    ),
)


def operations() -> list[Operation]:
    """Two writers and a reader every 20 ms; in each gap one write fails and one stays unknown."""
    made = []
    for index, client in enumerate(("writer-1", "writer-2", "reader-1")):
        kind = Kind.READ if client.startswith("reader") else Kind.WRITE
        number = 0
        for begin, end, server in ANSWERED if kind is Kind.READ else SERVED:
            steps = round((end - begin) / 0.02)
            for step in range(steps + 1):
                number += 1
                done = begin + step * 0.02 + (index * 0.005 if 0 < step < steps else 0)
                made.append(Operation(client, kind, number, done - 0.003, done, Outcome.OK, server=server))
            for outcome, error in (
                (Outcome.FAIL, "connect: refused"),
                (Outcome.UNKNOWN, "connection lost: closed"),
            ):
                number += 1
                made.append(Operation(client, kind, number, end, end + 0.1, outcome, error))
    return [each for each in made if each.end <= END]


def strike(fault: Fault, before: Roles) -> Strike:
    random = Random(1)
    target = Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), lambda _: None)
    return Strike(target, fault.victims(before, random), before, random)


def trials() -> tuple[Trial, ...]:
    struck = zip(named(DEMONSTRATED), ROLES, ROLES[1:], (each[1] for each in SERVED), MARKS, strict=False)
    return tuple(
        Trial(
            fault=fault,
            hosts=strike(fault, before).hosts,
            expectation=fault.expects(strike(fault, before)),
            before=before,
            after=after,
            begin=at - 0.5,
            injected=at,
            struck=at,
            served=at + 5,
            healed=at + 6,
            end=at + (25 if at == 1040 else 7),
            marks=marks,
        )
        for fault, before, after, at, marks in struck
    )


def made_report(*, lose: tuple[tuple[str, int], ...] = ()) -> Report:
    history = History(tuple(sorted(operations(), key=lambda each: each.end)), finished=True)
    kept = tuple(
        (each.client, each.id)
        for each in history.of(Kind.WRITE)
        if each.outcome is Outcome.OK and (each.client, each.id) not in lose
    )
    reads = tuple(FinalRead(name, primary=name == "db1", rows=kept) for name in ("db1", "db2", "db3"))
    audited = audit(history.operations, reads)
    predictions = {each.fault: each for each in budget.budget(TOPOLOGY)}
    events = reports.events(trials(), history, audited, predictions)
    return Report(TOPOLOGY, "debian-13, PostgreSQL 17", events, history, audited, reads, 24.2, 131.0)
