"""Whether transactions on lists were serializable, in an order that agrees with real time. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.checkers.cycles import cycles, explain
from pgbaton.proof.checkers.transactions import dependencies, orders, real_time, transactions
from pgbaton.proof.checkers.words import differing, examples, moment, some
from pgbaton.proof.history import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pgbaton.proof.checkers.base import Evidence
    from pgbaton.proof.checkers.cycles import Cycle
    from pgbaton.proof.checkers.transactions import Orders, Read, Transaction

NAME = "append"


def append(evidence: Evidence) -> Check:
    """Find what no serial order of the transactions explains; the final lists on the primary count as a last read."""
    final = next((read.lists for read in evidence.finals if read.primary and not read.problem), None)
    found = transactions(evidence.history, final)
    known = orders(found)
    committed = [each for each in found if known.committed(each)]
    found_cycles = cycles((*dependencies(committed, known), *real_time(committed)))
    kinds = {
        "wrong_elements": list(_elements(known)),
        "wrong_reads": list(_reads(committed, known)),
        "lost": [] if final is None else list(_lost(evidence, committed, final)),
        "vanished": [] if final is None else list(_vanished(known, final)),
        "cycles": [explain(cycle, {each.number: each for each in found}) for cycle in found_cycles],
        "differing": list(differing(evidence, "lists", {read.host: read.lists for read in evidence.finals})),
    }
    doubts = []
    if final is None:
        doubts.append("the lists on the primary could not be read at the end")
    acknowledged = sum(each.outcome is Outcome.OK and each.operation is not None for each in found)
    if not acknowledged:
        doubts.append("no transaction was acknowledged: nothing is shown")
    wrong = [sentence for sentences in kinds.values() for sentence in examples(sentences)]
    validity = Validity.INVALID if wrong else Validity.UNKNOWN if doubts else Validity.VALID
    figures = _figures(found, known, found_cycles) | {kind: len(sentences) for kind, sentences in kinds.items()}
    return Check(NAME, validity, (*wrong, *doubts), {"acknowledged": acknowledged, **figures})


def _figures(found: Sequence[Transaction], known: Orders, found_cycles: Sequence[Cycle]) -> dict[str, object]:
    unknown = [each for each in found if each.outcome is Outcome.UNKNOWN]
    return {
        "keys": len(known.lists),
        "elements": sum(len(elements) for elements in known.lists.values()),
        "unknown": len(unknown),
        "unknown_present": sum(known.committed(each) for each in unknown),
        "sorts": dict(Counter(cycle.sort for cycle in found_cycles)),
    }


def _elements(known: Orders) -> Iterator[str]:
    """Say what is wrong with elements by themselves: there twice, of nobody, or of a transaction that failed."""
    for key, elements in known.lists.items():
        twice = [element for element, count in Counter(elements).items() if count > 1]
        if twice:
            yield f"duplicate elements in key {key}: {some(twice)}"
        strangers = [element for element in elements if (key, element) not in known.writers]
        if strangers:
            yield f"key {key} shows what nobody appended: {some(strangers)}"
        for element in elements:
            writer = known.writers.get((key, element))
            if writer and writer.outcome is Outcome.FAIL:
                yield f"G1a (aborted read): key {key} shows {element}, which {writer} appended, and that had failed"


def _reads(committed: Iterable[Transaction], known: Orders) -> Iterator[str]:
    """Say what is wrong with single reads: another order, an unfinished transaction, or not its own appends."""
    for transaction in committed:
        seen: dict[int, Read] = {}
        for read in transaction.reads:
            if not read.shows_own:
                yield f"internal: {transaction} did not see {some(read.own)}, which it had appended to key {read.key}"
            elif read.key in seen and seen[read.key].others != read.others:
                yield f"internal: {transaction} read key {read.key} twice, and it had changed meanwhile"
            seen[read.key] = read
            if not known.agrees(read.key, read.elements):
                yield from _incompatible(transaction, read, known)
            yield from _intermediate(transaction, read, known)


def _incompatible(transaction: Transaction, read: Read, known: Orders) -> Iterator[str]:
    key = read.key
    place = next(
        place for place, (left, right) in enumerate(zip(read.elements, known.lists[key], strict=False)) if left != right
    )
    others = (element for element in read.elements if (key, element) not in known.writers)
    stranger = next(others, None)
    if stranger is not None:
        yield f"{transaction} read {stranger} of key {key}, which nobody appended"
    yield (
        f"incompatible orders: {transaction} read {read.elements[place]} of key {key} "
        f"where others read {known.lists[key][place]}"
    )


def _intermediate(transaction: Transaction, read: Read, known: Orders) -> Iterator[str]:
    """Say when a read ends within what another transaction appended."""
    if not read.others:
        return
    last = read.others[-1]
    writer = known.writers.get((read.key, last))
    if writer and writer is not transaction and writer.appends[read.key][-1] != last:
        yield (
            f"G1b (intermediate read): {transaction} read key {read.key} up to {last}, "
            f"after which {writer} appended more to it"
        )


def _lost(evidence: Evidence, committed: Iterable[Transaction], final: Mapping[int, Sequence[int]]) -> Iterator[str]:
    """Say what a transaction appended that took place and is not in the final lists."""
    held = {key: frozenset(elements) for key, elements in final.items()}
    for transaction in committed:
        for key, appended in transaction.appends.items():
            missing = [element for element in appended if element not in held.get(key, ())]
            if missing and transaction.outcome is Outcome.OK:
                when = moment(evidence, transaction.end)
                yield f"lost: {transaction} appended {some(missing)} to key {key}, acknowledged {when}"
            elif missing:
                yield f"torn: {transaction} took place in part: {some(missing)} is not in key {key}"


def _vanished(known: Orders, final: Mapping[int, Sequence[int]]) -> Iterator[str]:
    """Say what was read and is not there at the end."""
    for key, elements in known.lists.items():
        held = frozenset(final.get(key, ()))
        gone = [element for element in elements if element not in held]
        if gone:
            yield f"vanished: {some(gone)} had been read of key {key} and is not there at the end"
