"""Checkers: pure functions from what a trial left behind to a conclusion; adding one is a line in CHECKERS.

What each finds, and what it cannot see:

==========  ==================================================================  =========================================
checker     finds                                                               cannot see
==========  ==================================================================  =========================================
writes      acknowledged writes lost or missing on a host, doubled writes,      a change of order; what a host had and
            failed writes that are there, rows of nobody                        lost again before the end
registers   accesses to a key that no single copy could have answered so        keys on which the search was given up
bank        totals that changed, balances below zero or that no transfers       lost transfers while too many are of
            explain                                                             unknown outcome
append      cycles of transactions (G0 to G2-item, in real time too), aborted,  predicates: transactions name their keys;
            intermediate and incompatible reads, lost and doubled appends       what nobody read and no list shows
primaries   a timeline acknowledged by two servers, acknowledgements on an      a second primary that acknowledged no
            earlier timeline after a later one's first                          write; acknowledgements under way
vip         two holders for longer than a hand-over takes                       stretches between two looks
reads       what nobody wrote; reads further behind than the topology allows    staleness on a cluster that nobody writes
                                                                                to; a standby further behind not asked
whole       what was still wrong with the cluster at the end                    what nobody looks for
==========  ==================================================================  =========================================
"""  # noqa: E501 - a table

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.proof.checkers.append import append
from pgbaton.proof.checkers.bank import bank
from pgbaton.proof.checkers.primaries import primaries
from pgbaton.proof.checkers.reads import reads
from pgbaton.proof.checkers.registers import registers
from pgbaton.proof.checkers.vip import vip
from pgbaton.proof.checkers.whole import whole
from pgbaton.proof.checkers.writes import writes
from pgbaton.proof.history import Kind

if TYPE_CHECKING:
    from pgbaton.proof.checkers.base import Check, Checker, Evidence

CHECKERS: tuple[tuple[str, Checker], ...] = (
    ("writes", writes),
    ("registers", registers),
    ("bank", bank),
    ("append", append),
    ("primaries", primaries),
    ("vip", vip),
    ("reads", reads),
    ("whole", whole),
)
#: The workload that each of these judges.
JUDGED = {"writes": "set", "registers": "register", "bank": "bank", "append": "append"}


def check(evidence: Evidence) -> tuple[Check, ...]:
    """Run the checkers that apply: those of workloads that did not run, and of parts that are not there, do not."""
    names = applying(evidence)
    return tuple(checker(evidence) for name, checker in CHECKERS if name in names)


def applying(evidence: Evidence) -> frozenset[str]:
    """Return the names of the checkers for which there is something to judge."""
    ran = {(each.workload, each.kind) for each in evidence.history.operations}
    names = {name for name, workload in JUDGED.items() if ran & {(workload, Kind.WRITE), (workload, Kind.QUERY)}}
    kinds = {kind for _, kind in ran}
    if Kind.WRITE in kinds:
        names.add("primaries")
    if Kind.READ in kinds:
        names.add("reads")
    if evidence.topology.network.vip is not None:
        names.add("vip")
    return frozenset(names | {"whole"})
