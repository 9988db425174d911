from __future__ import annotations

from dataclasses import replace

from made import TOPOLOGY, access, add, evidence, final, txn

from pgbaton.proof.checkers import CHECKERS, JUDGED, applying, check
from pgbaton.proof.checkers.base import Validity, worst
from pgbaton.proof.history import Kind, Operation, Outcome


def names(*operations: Operation) -> set[str]:
    return {each.name for each in check(evidence(operations, final()))}


def test_only_checkers_with_something_to_judge_give_a_check() -> None:
    total = Operation("t", Kind.QUERY, 1, 1, 2, Outcome.FAIL, workload="bank", call="total")
    read = Operation("r", Kind.READ, 1, 1, 2, Outcome.OK, call="newest", value="w")
    assert names() == {"vip", "whole"}
    assert names(add(1)) == {"writes", "primaries", "vip", "whole"}
    assert names(read) == {"reads", "vip", "whole"}
    assert names(access(1, "read", [1], 1, 2)) == {"registers", "vip", "whole"}
    assert names(total) == {"bank", "vip", "whole"}
    assert names(txn(1, 1, 2, ("append", 1, 1))) == {"append", "primaries", "vip", "whole"}


def test_a_cluster_without_a_vip_is_not_judged_by_one() -> None:
    bare = TOPOLOGY.model_copy(update={"network": TOPOLOGY.network.model_copy(update={"vip": None})})
    assert "vip" not in applying(replace(evidence(), topology=bare))


def test_every_check_bears_the_name_that_its_checker_is_listed_by() -> None:
    seen = evidence([add(1)], final())
    assert [checker(seen).name for _, checker in CHECKERS] == [name for name, _ in CHECKERS]
    assert JUDGED.keys() <= dict(CHECKERS).keys()


def test_the_worst_conclusion_counts() -> None:
    assert worst(each.validity for each in check(evidence([add(1)], final(), remains=()))) is Validity.INVALID
    assert worst([Validity.VALID, Validity.UNKNOWN]) is Validity.UNKNOWN
    assert worst([]) is Validity.VALID
