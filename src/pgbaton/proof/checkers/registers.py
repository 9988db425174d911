"""Whether every register behaved as one copy that everybody looked at: linearizability, key by key. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.checkers.linearizable import Access, Act, GivenUpError, Misfit, Steps, misfit
from pgbaton.proof.checkers.words import differing, examples, moment, name, some
from pgbaton.proof.history import Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.proof.checkers.base import Evidence
    from pgbaton.proof.history import History, Operation

NAME = "registers"
#: Steps of the search, each about two millionths of a second: enough for any key that clients did not crowd on, and
#: for all keys together.
STEPS_PER_KEY = 300_000
STEPS = 2_000_000


def registers(evidence: Evidence) -> Check:
    """Find keys whose accesses no order explains; what the primary holds at the end counts as a last look."""
    by_key = accesses(evidence.history)
    seen = sum(access.end < math.inf for of_key in by_key.values() for access in of_key)
    final = next((read.registers for read in evidence.finals if read.primary and not read.problem), None)
    misfits, given_up = _search(_with_last_look(by_key, final))
    wrong = [
        *(_explain(evidence, key, found) for key, found in misfits.items()),
        *differing(evidence, "registers", {read.host: read.registers for read in evidence.finals}),
    ]
    doubts = []
    if given_up:
        doubts.append(f"the search was given up for {len(given_up)} keys: {some(given_up)}")
    if final is None:
        doubts.append("the registers on the primary could not be read at the end")
    if not seen:
        doubts.append("no access to a register was acknowledged: nothing is shown")
    validity = Validity.INVALID if wrong else Validity.UNKNOWN if doubts else Validity.VALID
    figures = {"keys": len(by_key), "acknowledged": seen, "wrong_keys": len(misfits), "given_up_keys": len(given_up)}
    return Check(NAME, validity, (*examples(wrong), *doubts), figures)


def accesses(history: History) -> dict[int, list[Access]]:
    """Return by key what was done to registers on the write port, or may have been."""
    by_key: dict[int, list[Access]] = {}
    for operation in history.operations:
        if operation.workload == "register" and operation.kind is not Kind.READ:
            access = _access(operation)
            if access:
                by_key.setdefault(operation.value[0], []).append(access)
    return by_key


def _access(operation: Operation) -> Access | None:
    """Return what an operation did, None when it did nothing, or nothing that anybody could tell."""
    start, end, value = operation.start, operation.end, operation.value
    if operation.outcome is Outcome.FAIL:
        return None
    known = operation.outcome is Outcome.OK
    match operation.call:
        case "write":
            return Access(Act.WRITE, start, end if known else math.inf, new=value[1], operation=operation)
        case "cas" if known and not operation.result:
            return Access(Act.MISS, start, end, old=value[1], operation=operation)
        case "cas":
            return Access(Act.CHANGE, start, end if known else math.inf, value[1], value[2], operation)
        case "read" if known:
            return Access(Act.SEE, start, end, old=operation.result, operation=operation)
    return None


def _with_last_look(by_key: Mapping[int, list[Access]], final: Mapping[int, int] | None) -> dict[int, list[Access]]:
    if final is None:
        return dict(by_key)
    return {
        key: [*by_key.get(key, []), Access(Act.SEE, math.inf, math.inf, old=final.get(key))]
        for key in by_key.keys() | final.keys()
    }


def _search(by_key: Mapping[int, list[Access]]) -> tuple[dict[int, Misfit], list[int]]:
    """Return the misfits by key, and the keys for which the steps did not suffice."""
    misfits: dict[int, Misfit] = {}
    given_up: list[int] = []
    left = STEPS
    for key in sorted(by_key):
        allowed = min(STEPS_PER_KEY, left)
        steps = Steps(allowed)
        try:
            found = misfit(by_key[key], steps)
        except GivenUpError:
            given_up.append(key)
        else:
            if found:
                misfits[key] = found
        left -= allowed - max(0, steps.left)
    return misfits, given_up


def _explain(evidence: Evidence, key: int, found: Misfit) -> str:
    """Say which access has no place, and what it would have had to see."""
    possible = " or ".join("no value" if value is None else str(value) for value in found.possible)
    operation = found.access.operation
    old = "no value" if found.access.old is None else found.access.old
    if operation is None:
        return f"key {key} holds {old} at the end, where only {possible} is possible"
    did = {
        Act.SEE: f"read {old}",
        Act.MISS: f"saw that it was not {old}",
        Act.CHANGE: f"changed {old} to {found.access.new}",
        Act.WRITE: f"wrote {found.access.new}",
    }[found.access.act]
    return (
        f"key {key}: {name(operation)} {did}, answered {moment(evidence, operation.end)}, "
        f"where only {possible} is possible"
    )
