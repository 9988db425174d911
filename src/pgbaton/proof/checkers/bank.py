"""Whether transfers moved money and made or lost none. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.checkers.words import differing, examples, moment, name, some
from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.workloads.bank import ACCOUNTS, INITIAL_BALANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgbaton.proof.checkers.base import Evidence
    from pgbaton.proof.history import Operation

NAME = "bank"
TOTAL = ACCOUNTS * INITIAL_BALANCE
#: Transfers of unknown outcome double what final balances may be; with more of them balances are not recomputed.
DECIDABLE_UNKNOWN = 12

Balances = tuple[int, ...]


def bank(evidence: Evidence) -> Check:
    """Find totals that are not what was there at first, balances below zero, and balances that no transfers explain."""
    operations = [each for each in evidence.history.operations if each.workload == NAME]
    totals = [each for each in operations if each.call == "total" and each.outcome is Outcome.OK]
    finals = {read.host: read.accounts for read in evidence.finals if read.accounts is not None and not read.problem}
    seen = [
        f"{name(each)} saw on the port for {'reads' if each.kind is Kind.READ else 'writes'} {problem}, answered "
        f"{moment(evidence, each.end)}"
        for each in totals
        for problem in problems(dict(each.result))
    ]
    held = [f"{host} holds {problem} at the end" for host, accounts in finals.items() for problem in problems(accounts)]
    primary = next((finals[read.host] for read in evidence.finals if read.primary and read.host in finals), None)
    transfers = [each for each in operations if each.call == "transfer"]
    unexplained = _unexplained(primary, transfers) if primary is not None else ()
    wrong = (*examples(seen), *held, *unexplained, *differing(evidence, "balances", finals))
    doubts = []
    if primary is None:
        doubts.append("the accounts on the primary could not be read at the end")
    if not totals:
        doubts.append("no total was answered: nothing is shown")
    validity = Validity.INVALID if wrong else Validity.UNKNOWN if doubts else Validity.VALID
    outcomes = Counter(each.outcome for each in transfers)
    figures = {
        "totals": len(totals),
        "wrong_totals": len({each.split(" ", 1)[0] for each in seen}),
        "transfers": sum(each.outcome is Outcome.OK and bool(each.result) for each in transfers),
        "unknown": outcomes[Outcome.UNKNOWN],
        "recomputed": primary is not None and outcomes[Outcome.UNKNOWN] <= DECIDABLE_UNKNOWN,
        "expected_total": TOTAL,
        "final_totals": {host: sum(accounts.values()) for host, accounts in finals.items()},
    }
    return Check(NAME, validity, (*wrong, *doubts), figures)


def problems(accounts: Mapping[int, int]) -> Iterable[str]:
    """Say what is wrong with some balances by themselves."""
    total = sum(accounts.values())
    if len(accounts) != ACCOUNTS:
        yield f"{len(accounts)} accounts of {ACCOUNTS}"
    if total != TOTAL:
        yield f"a total of {total} instead of {TOTAL}"
    below = [f"{account} with {balance}" for account, balance in sorted(accounts.items()) if balance < 0]
    if below:
        yield f"accounts below zero: {some(below)}"


def _unexplained(accounts: Mapping[int, int], transfers: Sequence[Operation]) -> Iterable[str]:
    """Say when the acknowledged transfers, and any of those of unknown outcome, do not make the final balances."""
    done = [each for each in transfers if each.outcome is Outcome.OK and each.result]
    unknown = [each for each in transfers if each.outcome is Outcome.UNKNOWN]
    if len(unknown) > DECIDABLE_UNKNOWN:
        return
    places = {account: place for place, account in enumerate(sorted(accounts))}
    if any(account not in places for each in (*done, *unknown) for account in each.value[:2]):
        yield "transfers name accounts that are not there at the end"
        return
    held = tuple(accounts[account] for account in places)
    expected: Balances = tuple(INITIAL_BALANCE for _ in places)
    for each in done:
        expected = _moved(expected, places, each)
    possible = {expected}
    for each in unknown:
        possible |= {_moved(balances, places, each) for balances in possible}
    if held not in possible:
        nearest = min(
            possible, key=lambda balances: sum(left != right for left, right in zip(balances, held, strict=True))
        )
        differ = [
            f"{account} has {held[place]} instead of {nearest[place]}"
            for account, place in places.items()
            if held[place] != nearest[place]
        ]
        yield f"the acknowledged transfers do not make the final balances: account {some(differ)}"


def _moved(balances: Balances, places: Mapping[int, int], transfer: Operation) -> Balances:
    source, target, amount = transfer.value
    after = list(balances)
    after[places[source]] -= amount
    after[places[target]] += amount
    return tuple(after)
