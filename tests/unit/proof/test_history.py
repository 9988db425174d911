from __future__ import annotations

import pytest

from pgbaton.errors import Error
from pgbaton.proof.history import (
    Kind,
    Operation,
    Outcome,
    Stall,
    closing_line,
    opening_line,
    operation_line,
    parse,
    stall_line,
)

WRITE = Operation("writer-1", Kind.WRITE, 7, 10.0, 10.004, Outcome.OK, server="10.0.0.1")
LOST = Operation("writer-2", Kind.WRITE, 3, 9.0, 10.0, Outcome.UNKNOWN, error="connection lost: closed")


def log(*lines: str) -> list[str]:
    return [line + "\n" for line in lines]


def test_a_log_reads_back_as_what_was_written_in_the_order_of_the_ends() -> None:
    lines = log(
        opening_line(monotonic=5.0, wall=1005.0),
        operation_line(WRITE),
        operation_line(LOST),
        stall_line(Stall(9.5, 0.02)),
        closing_line(monotonic=11.0),
    )
    history = parse(lines)
    assert history.operations == (LOST, WRITE)
    assert history.stalls == (Stall(9.5, 0.02),)
    assert history.wall_offset_seconds == 1000.0
    assert history.finished
    assert history.clients == ("writer-2", "writer-1")


def test_a_line_that_was_cut_short_is_left_out_and_the_log_is_not_finished() -> None:
    history = parse([*log(operation_line(WRITE)), operation_line(LOST)[:-5]])
    assert history.operations == (WRITE,)
    assert not history.finished


def test_what_is_no_log_is_refused_with_the_line() -> None:
    with pytest.raises(Error, match=r"line 2: not an event of a meter: 'hello'"):
        parse(log(operation_line(WRITE), "hello"))


def test_an_error_has_a_class_and_a_detail() -> None:
    assert LOST.error_class == "connection lost"
    assert WRITE.error_class is None
