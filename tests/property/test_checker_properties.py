from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import permutations, product
from random import Random
from typing import TYPE_CHECKING

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from simulated import Shape, exchanged, simulate

from pgbaton.proof.checkers import check
from pgbaton.proof.checkers.append import append
from pgbaton.proof.checkers.bank import bank
from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.checkers.linearizable import Access, Act, Steps, misfit
from pgbaton.proof.checkers.primaries import primaries
from pgbaton.proof.checkers.reads import reads
from pgbaton.proof.checkers.registers import registers
from pgbaton.proof.checkers.writes import writes
from pgbaton.proof.history import Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.checkers.base import Checker, Evidence
    from pgbaton.proof.history import Operation

SEEDS = st.integers(0, 2**32)
SHAPES = st.builds(
    Shape,
    operations=st.integers(1, 60),
    clients=st.integers(1, 8),
    keys=st.integers(1, 4),
    values=st.sampled_from((0, 0, 2, 5)),
    unknown=st.sampled_from((0.0, 0.1, 0.3)),
    failed=st.sampled_from((0.0, 0.1)),
)
FEW = settings(max_examples=15, deadline=None)


def chosen(evidence: Evidence, random: Random, **wanted: object) -> Operation:
    """Return one of the acknowledged operations with some properties; gives the example up when there is none."""
    found = [
        each
        for each in evidence.history.operations
        if each.outcome is Outcome.OK and all(getattr(each, name) == value for name, value in wanted.items())
    ]
    assume(found)
    return random.choice(found)


def of_one(seed: int, workload: str, **more: float) -> tuple[Evidence, Random]:
    random = Random(seed)
    return simulate(random, Shape(operations=40, workloads=(workload,), **more)), random


def must_reject(checker: Checker, kept: Evidence, doctored: Evidence) -> None:
    assert checker(kept).validity is not Validity.INVALID
    assert checker(doctored).validity is Validity.INVALID


@given(SEEDS, SHAPES)
def test_no_history_of_a_serial_execution_is_ever_called_invalid(seed: int, shape: Shape) -> None:
    for each in check(simulate(Random(seed), shape)):
        assert each.validity is not Validity.INVALID, each


@FEW
@given(SEEDS)
def test_a_dropped_row_is_always_found(seed: int) -> None:
    evidence, random = of_one(seed, "set")
    victim = chosen(evidence, random, kind=Kind.WRITE)
    rows = tuple(row for row in evidence.finals[0].rows if row != (victim.client, victim.id))
    finals = (replace(evidence.finals[0], rows=rows), *evidence.finals[1:])
    must_reject(writes, evidence, replace(evidence, finals=finals))


@FEW
@given(SEEDS)
def test_a_read_of_what_nobody_wrote_to_a_register_is_always_found(seed: int) -> None:
    evidence, random = of_one(seed, "register", values=3)
    victim = chosen(evidence, random, call="read")
    must_reject(registers, evidence, exchanged(evidence, victim, replace(victim, result=99)))


@FEW
@given(SEEDS)
def test_a_read_moved_to_before_the_write_that_it_saw_is_always_found(seed: int) -> None:
    evidence, random = of_one(seed, "register")
    victim = chosen(evidence, random, call="read")
    assume(victim.result is not None)
    writer = next(
        each
        for each in evidence.history.operations
        if each.call in {"write", "cas"} and each.value[-1] == victim.result
    )
    moved = replace(victim, start=writer.start - 0.002, end=writer.start - 0.001)
    must_reject(registers, evidence, exchanged(evidence, victim, moved))


@FEW
@given(SEEDS)
def test_two_elements_that_changed_places_in_a_list_are_always_found(seed: int) -> None:
    evidence, random = of_one(seed, "append")
    found = [
        (each, place)
        for each in evidence.history.operations
        if each.outcome is Outcome.OK
        for place, step in enumerate(each.result)
        if step[0] == "r" and len(step[2]) > 1
    ]
    assume(found)
    victim, place = random.choice(found)
    result = [list(step) for step in victim.result]
    elements = list(result[place][2])
    left = random.randrange(len(elements) - 1)
    elements[left : left + 2] = elements[left + 1], elements[left]
    result[place][2] = elements
    must_reject(append, evidence, exchanged(evidence, victim, replace(victim, result=result)))


@FEW
@given(SEEDS)
def test_a_transaction_that_missed_what_was_acknowledged_before_it_is_always_found(seed: int) -> None:
    evidence, random = of_one(seed, "append")
    acknowledged = {
        (step[1], step[2]): each.end
        for each in evidence.history.operations
        if each.outcome is Outcome.OK
        for step in each.result
        if step[0] == "append"
    }
    found = [
        (each, place)
        for each in evidence.history.operations
        if each.outcome is Outcome.OK and each.kind is Kind.QUERY
        for place, step in enumerate(each.result)
        if step[2] and acknowledged.get((step[1], step[2][-1]), math.inf) < each.start
    ]
    assume(found)
    victim, place = random.choice(found)
    key = victim.result[place][1]
    result = [[call, of, seen[:-1] if of == key else seen] for call, of, seen in victim.result]
    must_reject(append, evidence, exchanged(evidence, victim, replace(victim, result=result)))


@FEW
@given(SEEDS)
def test_an_element_dropped_from_the_final_list_is_always_found(seed: int) -> None:
    evidence, random = of_one(seed, "append")
    victim = chosen(evidence, random, kind=Kind.WRITE)
    _, key, element = next(step for step in victim.result if step[0] == "append")
    lists = dict(evidence.finals[0].lists or {})
    lists[key] = tuple(each for each in lists[key] if each != element)
    finals = (replace(evidence.finals[0], lists=lists),)
    must_reject(append, evidence, replace(evidence, finals=finals))


@FEW
@given(SEEDS, st.integers(-5, 5).filter(bool))
def test_money_made_or_lost_in_a_total_is_always_found(seed: int, amount: int) -> None:
    evidence, random = of_one(seed, "bank")
    victim = chosen(evidence, random, call="total")
    (account, balance), *others = victim.result
    doctored = replace(victim, result=[[account, balance + amount], *others])
    must_reject(bank, evidence, exchanged(evidence, victim, doctored))


@FEW
@given(SEEDS)
def test_an_acknowledged_transfer_that_was_undone_is_found_when_all_outcomes_are_known(seed: int) -> None:
    evidence, random = of_one(seed, "bank", unknown=0.0)
    source, target, amount = chosen(evidence, random, call="transfer", result=True).value
    accounts = dict(evidence.finals[0].accounts or {})
    accounts[source] += amount
    accounts[target] -= amount
    assume(accounts[target] >= 0)
    must_reject(bank, evidence, replace(evidence, finals=(replace(evidence.finals[0], accounts=accounts),)))


@FEW
@given(SEEDS)
def test_a_second_server_on_a_timeline_is_always_found(seed: int) -> None:
    evidence, random = of_one(seed, "set")
    victim = chosen(evidence, random, kind=Kind.WRITE, timeline=2)
    assume(sum(each.timeline == 2 and each.kind is Kind.WRITE for each in evidence.history.operations) > 1)
    must_reject(primaries, evidence, exchanged(evidence, victim, replace(victim, server="10.77.0.23")))


@FEW
@given(SEEDS)
def test_a_read_of_a_row_that_nobody_has_written_yet_is_always_found(seed: int) -> None:
    evidence, random = of_one(seed, "set")
    victim = chosen(evidence, random, kind=Kind.READ)
    must_reject(reads, evidence, exchanged(evidence, victim, replace(victim, result=10_000)))


def by_force(accesses: Sequence[Access]) -> bool:
    """Tell whether some order of all accesses that returned, and of any of the others, agrees with every view."""
    sure = [each for each in accesses if each.returns]
    maybe = [each for each in accesses if not each.returns]
    for used in product((False, True), repeat=len(maybe)):
        taken = sure + [each for each, use in zip(maybe, used, strict=True) if use]
        if any(_agrees(order) for order in permutations(taken)):
            return True
    return False


def _agrees(order: Iterable[Access]) -> bool:
    value, latest = None, -math.inf
    for each in order:
        latest = max(latest, each.start)
        if each.end < latest or not each.suits(value):
            return False
        value = each.new if each.changes else value
    return True


VALUES = st.sampled_from((None, 1, 2))
MOMENTS = st.integers(0, 8).map(float)


@st.composite
def small_accesses(draw: st.DrawFn) -> list[Access]:
    made = []
    for _ in range(draw(st.integers(1, 5))):
        act = draw(st.sampled_from(Act))
        start, took = draw(MOMENTS), draw(st.integers(0, 4))
        changes = act in {Act.WRITE, Act.CHANGE}
        end = math.inf if changes and draw(st.integers(0, 3)) == 0 else start + took
        new = draw(st.sampled_from((1, 2))) if changes else None
        made.append(Access(act, start, end, draw(VALUES), new))
    return made


@settings(max_examples=200, deadline=None)
@given(small_accesses())
def test_the_search_agrees_with_brute_force_on_every_small_history(accesses: list[Access]) -> None:
    assert (misfit(accesses, Steps(100_000)) is None) == by_force(accesses)


def test_twenty_thousand_operations_of_all_workloads_are_checked_in_seconds() -> None:
    evidence = simulate(Random(1), Shape(operations=20_000, clients=16, unknown=0.002, keys=8))
    began = time.process_time()  # of the processor: a busy machine makes no checker slow
    checks = check(evidence)
    took = time.process_time() - began
    assert {each.name: each.validity for each in checks if each.validity is Validity.INVALID} == {}
    assert next(each for each in checks if each.name == "registers").figures["given_up_keys"] == 0
    assert took < 10.0
