from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.pq import TransactionStatus

from pgbaton.errors import UsageError
from pgbaton.proof import final
from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.session import Failure, Rejected, Undecided, judge
from pgbaton.proof.workloads import WORKLOADS, append, bank, named, names, pgbench, register, sets
from pgbaton.proof.workloads.base import Port, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbaton.proof.workloads.base import Generator, Request, Workload

IDLE, IN_ERROR, GONE = TransactionStatus.IDLE, TransactionStatus.INERROR, TransactionStatus.UNKNOWN
PRIMARY = ("10.0.0.1", "00000003000000000000002A", "88000256")
STANDBY = ("10.0.0.2", None, "88000000")
BEGUN, COMMITTED = Reply("BEGIN"), Reply("COMMIT")
SERIALIZATION = Failure("40001", "40001: could not serialize access")
RECORDED = [workload for workload in WORKLOADS.values() if not workload.is_load]


def generator(workload: Workload, seed: int = 1) -> Generator:
    assert workload.generator is not None
    return workload.generator(Random(seed), workload.clients)


def asked(workload: Workload, count: int, seed: int = 1) -> list[Request]:
    """Return what the clients ask in turns, when all goes well and nothing is ever there to be read."""
    source, requests = generator(workload, seed), []
    for turn in range(count):
        number, place = divmod(turn, len(workload.clients))
        request = source.next(workload.clients[place], number + 1)
        source.learn(request, Outcome.OK, True if request.call == "cas" else None)
        requests.append(request)
    return requests


def of_call(workload: Workload, call: str) -> Request:
    return next(request for request in asked(workload, 400) if request.call == call)


# what an answer means for the outcome


@pytest.mark.parametrize("script", [False, True])
def test_an_answer_counts_only_when_the_server_is_ready_again_and_gave_no_warning(*, script: bool) -> None:
    answers = (BEGUN, COMMITTED) if script else (Reply("INSERT 0 1", (PRIMARY,)),)
    assert judge(answers, IDLE, (), script=script) == answers
    with pytest.raises(Undecided, match="before the server was ready"):
        judge(answers, GONE, (), script=script)
    with pytest.raises(Undecided, match="warning 01000"):
        judge(answers, IDLE, ("warning 01000: canceling wait for synchronous replication",), script=script)


def test_a_statement_that_a_living_session_rejects_has_failed() -> None:
    with pytest.raises(Rejected, match="read-only"):
        judge((Failure("25006", "25006: cannot execute INSERT in a read-only transaction"),), IDLE, ())


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure("57P01", "57P01: terminating connection"), GONE),
        (Failure("", "server closed the connection unexpectedly"), IDLE),
        (Failure("40003", "40003: statement completion unknown"), IDLE),
        (Failure("08007", "08007: transaction resolution unknown"), IDLE),
        (SERIALIZATION, TransactionStatus.ACTIVE),
    ],
)
def test_an_error_leaves_it_open_when_its_session_died_or_it_says_so(
    failure: Failure, status: TransactionStatus
) -> None:
    with pytest.raises(Undecided):
        judge((failure,), status, ())


@pytest.mark.parametrize("status", [IDLE, IN_ERROR])
def test_a_serialization_failure_before_or_at_the_commit_has_failed(status: TransactionStatus) -> None:
    with pytest.raises(Rejected, match="40001"):
        judge((BEGUN, Reply("INSERT 0 1"), SERIALIZATION), status, (), script=True)


def test_an_error_after_a_commit_leaves_it_open() -> None:
    with pytest.raises(Undecided):
        judge((BEGUN, COMMITTED, SERIALIZATION), IDLE, (), script=True)


def test_a_commit_that_is_answered_with_rollback_has_failed_whatever_it_warns_of() -> None:
    with pytest.raises(Rejected, match="rolled back"):
        judge((BEGUN, Reply("ROLLBACK")), IDLE, ("warning 25P01: no transaction",), script=True)


@pytest.mark.parametrize("answers", [(), (BEGUN, Reply("INSERT 0 1"))])
def test_a_script_without_the_answer_to_its_commit_is_open(answers: Sequence[Reply]) -> None:
    with pytest.raises(Undecided):
        judge(answers, IDLE, (), script=True)


def test_a_statement_with_more_than_one_answer_is_open() -> None:
    with pytest.raises(Undecided):
        judge((Reply("INSERT 0 1"), Reply("INSERT 0 1")), IDLE, ())


# what is asked


@pytest.mark.parametrize("workload", RECORDED, ids=lambda workload: workload.name)
def test_the_same_seed_asks_the_same_and_another_seed_something_else(workload: Workload) -> None:
    assert asked(workload, 200, seed=5) == asked(workload, 200, seed=5)
    assert asked(workload, 200, seed=5) != asked(workload, 200, seed=6)


@pytest.mark.parametrize("workload", RECORDED, ids=lambda workload: workload.name)
def test_every_call_of_a_workloads_clients_comes_up_with_the_right_kind(workload: Workload) -> None:
    source = generator(workload)
    for client in workload.clients:
        kinds = {source.next(client, number).kind for number in range(1, 100)}
        assert (kinds == {Kind.READ}) if client.port is Port.READ else (Kind.READ not in kinds)
    assert {request.call for request in asked(workload, 400)} == {
        call for client in workload.clients for call in client.calls
    }


def test_only_a_script_is_sent_as_one_message_and_it_ends_with_its_commit() -> None:
    for request in (request for workload in RECORDED for request in asked(workload, 100)):
        assert request.statement.startswith("BEGIN") == request.script
        assert request.statement.endswith("; COMMIT") == request.script
        assert (";" in request.statement) == request.script
        assert not (request.script and request.parameters)


def test_an_element_is_a_clients_name_and_the_number_of_its_operation() -> None:
    writer = sets.SET.clients[0]
    assert generator(sets.SET).next(writer, 17).parameters == (writer.name, "17")


def test_whoever_looks_for_the_newest_names_a_client_that_writes() -> None:
    writers = {client.name for client in sets.SET.clients if "add" in client.calls}
    assert {request.value for request in asked(sets.SET, 400) if request.call == "newest"} == writers


def test_every_value_written_to_a_register_is_new() -> None:
    source = generator(register.REGISTER)
    written = []
    for number in range(1, 2000):
        request = source.next(register.REGISTER.clients[0], number)
        source.learn(request, Outcome.OK, {"read": None, "cas": True}.get(request.call))
        if request.call != "read":
            written.append(request.value[-1])
    assert len(set(written)) == len(written) > 1000


def test_a_compare_and_set_mostly_expects_what_was_seen_last() -> None:
    source = generator(register.REGISTER)
    values: dict[int, int] = {}
    hits = []
    for number in range(1, 2000):
        request = source.next(register.REGISTER.clients[0], number)
        key, result = request.value[0], None
        match request.call:
            case "write":
                values[key] = request.value[1]
            case "cas":
                result = values.get(key) == request.value[1]
                hits.append(result)
                values[key] = request.value[2] if result else values[key]
            case _:
                result = values.get(key)
        source.learn(request, Outcome.OK, result)
    assert 0.7 < sum(hits) / len(hits) < 0.95


def test_a_register_is_given_up_after_a_while_and_few_are_in_use_at_a_time() -> None:
    keys = [request.value[0] for request in asked(register.REGISTER, 3000)]
    uses = {key: keys.count(key) for key in set(keys)}
    assert max(uses.values()) == register.OPERATIONS_OF_KEY
    assert len(set(keys[-100:])) <= 2 * register.KEYS < len(uses)


def test_a_register_with_too_many_writes_of_unknown_outcome_is_given_up() -> None:
    source = generator(register.REGISTER)
    unknown: dict[int, int] = {}
    for number in range(1, 3000):
        request = source.next(register.REGISTER.clients[0], number)
        source.learn(request, Outcome.UNKNOWN, None)
        unknown[request.value[0]] = unknown.get(request.value[0], 0) + (request.kind is Kind.WRITE)
    assert max(unknown.values()) == register.UNKNOWN_OF_KEY


def test_a_transfer_locks_in_order_and_is_between_two_accounts() -> None:
    transfers = [request for request in asked(bank.BANK, 2000) if request.call == "transfer"]
    for request in transfers:
        source, target, amount = request.value
        assert source != target
        assert 0 < amount <= bank.LARGEST
        assert request.statement.index("ORDER BY id FOR UPDATE") < request.statement.index("UPDATE pgbaton")
    assert {account for request in transfers for account in request.value[:2]} == set(range(bank.ACCOUNTS))


def test_an_element_is_appended_to_its_key_once_and_lists_stay_short() -> None:
    requests = asked(append.APPEND, 3000)
    appended = [(key, element) for request in requests for call, key, element in request.value if call == "append"]
    assert len(set(appended)) == len(appended) > 1000
    assert max(element for _, element in appended) == append.APPENDS_OF_KEY
    assert {len(request.value) for request in requests} == {1, 2, 3, 4}
    for request in requests:
        appends = any(call == "append" for call, *_ in request.value)
        assert request.kind is (Kind.WRITE if appends else Kind.QUERY)


# what an answer means for the result


def reading(workload: Workload, request: Request, *replies: Reply) -> Any:  # noqa: ANN401 - a Reading
    assert workload.read is not None
    return workload.read(request, replies)


def test_an_answer_tells_who_gave_it_on_which_timeline_and_where_in_the_log() -> None:
    seen = reading(sets.SET, of_call(sets.SET, "add"), Reply("INSERT 0 1", (PRIMARY,)))
    assert (seen.server, seen.timeline, seen.lsn) == ("10.0.0.1", 3, 88000256)
    assert (seen.result, seen.changed) == (None, True)


@pytest.mark.parametrize(("newest", "result"), [("12", 12), (None, None)])
def test_a_look_at_a_standby_has_no_timeline(newest: str | None, result: int | None) -> None:
    seen = reading(sets.SET, of_call(sets.SET, "newest"), Reply("SELECT 1", ((*STANDBY, newest),)))
    assert (seen.server, seen.timeline, seen.lsn, seen.result) == ("10.0.0.2", None, 88000000, result)


@pytest.mark.parametrize(("answer", "done"), [("t", True), ("f", False)])
def test_a_compare_and_set_that_found_another_value_changed_nothing(*, answer: str, done: bool) -> None:
    request = of_call(register.REGISTER, "cas")
    seen = reading(register.REGISTER, request, Reply("SELECT 1", ((*PRIMARY, answer),)))
    assert (seen.result, seen.changed) == (done, done)


@pytest.mark.parametrize(("value", "result"), [("7", 7), (None, None)])
def test_a_register_is_read_as_a_number_or_as_nothing(value: str | None, result: int | None) -> None:
    request = of_call(register.REGISTER, "read")
    seen = reading(register.REGISTER, request, Reply("SELECT 1", ((*PRIMARY, value),)))
    assert seen.result == result


@pytest.mark.parametrize(("tag", "done"), [("UPDATE 1", True), ("UPDATE 0", False)])
def test_a_transfer_that_found_too_little_changed_nothing(*, tag: str, done: bool) -> None:
    replies = (BEGUN, Reply("SELECT 2", ((), ())), Reply(tag), Reply("SELECT 1", (PRIMARY,)), COMMITTED)
    seen = reading(bank.BANK, of_call(bank.BANK, "transfer"), *replies)
    assert (seen.result, seen.changed, seen.timeline) == (done, done, 3)


def test_a_total_is_read_as_accounts_with_their_balances() -> None:
    request = of_call(bank.BANK, "total")
    seen = reading(bank.BANK, request, Reply("SELECT 1", ((*STANDBY, "[[0, 90], [1, 110]]"),)))
    assert seen.result == [[0, 90], [1, 110]]


def test_a_transaction_reads_back_as_it_was_asked_with_the_lists_it_saw() -> None:
    steps = [["append", 3, 5], ["r", 3, None], ["r", 4, None], ["append", 4, 1]]
    request = next(each for each in asked(append.APPEND, 400) if len(each.value) == 4)
    request.value[:] = steps
    inserted = Reply("INSERT 0 1")
    looks = (Reply("SELECT 1", (("1 2 5",),)), Reply("SELECT 0"))
    replies = (BEGUN, inserted, *looks, inserted, Reply("SELECT 1", (PRIMARY,)), COMMITTED)
    seen = reading(append.APPEND, request, *replies)
    assert seen.result == [["append", 3, 5], ["r", 3, [1, 2, 5]], ["r", 4, []], ["append", 4, 1]]
    assert steps[1][2] is None, "what was asked stays as it was"


# what is there at the end


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("set", "writer-1,1\nwriter-1,2\n", {"rows": (("writer-1", 1), ("writer-1", 2))}),
        ("register", "1,14\n5,3\n", {"registers": {1: 14, 5: 3}}),
        ("bank", "0,100\n1,-3\n", {"accounts": {0: 100, 1: -3}}),
        ("append", "1,1 2 3\n2,7\n", {"lists": {1: (1, 2, 3), 2: (7,)}}),
    ],
)
def test_what_tables_hold_at_the_end_is_read(name: str, text: str, found: dict[str, Any]) -> None:
    settle = WORKLOADS[name].settle
    assert settle is not None
    assert settle(text) == found
    assert all(not value for value in settle("").values())


# which there are


def test_workloads_are_found_by_name_each_once() -> None:
    assert [workload.name for workload in named(["bank", "set", "bank"])] == ["bank", "set"]
    with pytest.raises(UsageError, match="no workload named queue"):
        named(["queue"])


def test_all_that_check_something_are_meant_when_none_is_named() -> None:
    assert names(()) == ("set", "register", "bank", "append")
    assert names(["pgbench", "set"]) == ("pgbench", "set")


def test_pgbench_gets_its_password_from_a_file_and_works_in_our_schema() -> None:
    parameters: dict[str, str | int] = {
        "host": "10.0.0.1",
        "port": 5000,
        "dbname": "app",
        "user": "app",
        "password": r"a:b\c",
    }
    assert pgbench.password_line(parameters) == "10.0.0.1:5000:app:app:a\\:b\\\\c\n"
    tables = [line.split()[1] for line in pgbench.SCRIPT.splitlines() if line.startswith("UPDATE")]
    assert {table.partition(".")[0] for table in tables} == {"pgbaton_proof"}
    assert f"--rate={pgbench.RATE}" in pgbench.argv("pgbench", "host=x", "/script", seed=4)


def test_the_answers_to_all_final_queries_are_told_apart_even_when_they_are_empty() -> None:
    said = "-- next\nwriter-1,1\n-- next\n-- next\n0,100\n-- next\n"
    assert final.settled(named(["set", "append", "pgbench", "bank"]), said) == {
        "rows": (("writer-1", 1),),
        "lists": {},
        "accounts": {0: 100},
    }
