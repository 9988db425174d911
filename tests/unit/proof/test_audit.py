from __future__ import annotations

from pgbaton.proof.audit import FinalRead, audit
from pgbaton.proof.history import Kind, Operation, Outcome


def write(number: int, outcome: Outcome = Outcome.OK) -> Operation:
    return Operation("w", Kind.WRITE, number, 0.0, 0.0, outcome)


def rows(*numbers: int) -> tuple[tuple[str, int], ...]:
    return tuple(("w", number) for number in numbers)


WRITES = (write(1), write(2), write(3, Outcome.FAIL), write(4, Outcome.UNKNOWN), write(5, Outcome.UNKNOWN))


def test_every_promise_kept_is_consistent_and_unknown_writes_are_settled() -> None:
    result = audit(
        WRITES,
        [FinalRead("db1", primary=True, rows=rows(1, 2, 4)), FinalRead("db2", primary=False, rows=rows(1, 2, 4))],
    )
    assert result.consistent
    assert (result.acknowledged, result.failed, result.unknown) == (2, 1, 2)
    assert (result.unknown_present, result.unknown_absent) == (1, 1)
    assert result.findings == ()


def test_an_acknowledged_write_that_the_primary_lacks_is_lost() -> None:
    result = audit(
        WRITES, [FinalRead("db1", primary=True, rows=rows(1)), FinalRead("db2", primary=False, rows=rows(1, 2))]
    )
    assert result.lost == rows(2)
    assert not result.consistent
    assert result.findings[0] == "1 acknowledged writes lost: w/2"


def test_an_acknowledged_write_that_a_standby_lacks_is_missing_there() -> None:
    result = audit(
        WRITES, [FinalRead("db1", primary=True, rows=rows(1, 2)), FinalRead("db2", primary=False, rows=rows(2))]
    )
    assert (result.lost, result.missing) == ((), {"db2": rows(1)})
    assert not result.consistent


def test_a_row_twice_is_duplicated() -> None:
    result = audit(WRITES, [FinalRead("db1", primary=True, rows=rows(1, 2, 2))])
    assert result.duplicated == {"db1": rows(2)}
    assert not result.consistent


def test_a_write_that_had_failed_for_certain_must_not_be_there() -> None:
    result = audit(WRITES, [FinalRead("db1", primary=True, rows=rows(1, 2, 3))])
    assert result.revived == rows(3)
    assert not result.consistent


def test_a_row_that_no_client_wrote_is_a_finding() -> None:
    assert audit(WRITES, [FinalRead("db1", primary=True, rows=rows(1, 2, 99))]).strangers == rows(99)


def test_a_standby_that_never_caught_up_is_a_finding_even_when_all_rows_are_there() -> None:
    result = audit(
        WRITES,
        [
            FinalRead("db1", primary=True, rows=rows(1, 2)),
            FinalRead("db2", primary=False, rows=rows(1, 2), caught_up=False),
        ],
    )
    assert not result.consistent
    assert result.findings == ("db2 was not audited: it had not replayed all WAL in time",)


def test_a_host_that_could_not_be_read_is_a_finding() -> None:
    result = audit(
        WRITES,
        [FinalRead("db1", primary=True, rows=rows(1, 2)), FinalRead("db2", primary=False, problem="powered off")],
    )
    assert result.unread == {"db2": "powered off"}
    assert result.missing == {}


def test_without_a_readable_primary_nothing_can_be_shown_to_be_kept() -> None:
    assert audit(WRITES, [FinalRead("db2", primary=False, rows=rows(1, 2))]).lost == rows(1, 2)


def test_reads_are_no_writes() -> None:
    read = Operation("r", Kind.READ, 1, 0.0, 0.0, Outcome.OK)
    assert audit([read], [FinalRead("db1", primary=True)]).acknowledged == 0
