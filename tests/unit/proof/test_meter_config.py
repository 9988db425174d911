from __future__ import annotations

from pgbaton.proof.history import Kind, Operation, Outcome
from pgbaton.proof.meter import MeterConfig, conninfo, load, standard_clients
from pgbaton.proof.running import unserved
from pgbaton.proof.session import first_line

CONFIG = MeterConfig(
    "/tmp/log",  # noqa: S108 - never opened
    "pgbaton_proof.writes",
    {"host": "10.0.0.1", "password": "hush"},
    {"host": "10.0.0.1", "password": "hush"},
    standard_clients(),
    prepare=("SELECT 1",),
)


def test_a_configuration_reads_back_as_it_was_and_is_one_line() -> None:
    line = CONFIG.dump()
    assert line.count("\n") == 1
    assert load(line) == CONFIG


def test_the_password_is_not_in_a_configurations_representation() -> None:
    assert "hush" not in repr(CONFIG)


def test_a_connection_string_bounds_the_kernels_patience_and_quotes_values() -> None:
    text = conninfo({"host": "10.0.0.1", "password": "it's a 'secret' \\"}).decode()
    assert "tcp_user_timeout=2000" in text
    assert r"password='it\'s a \'secret\' \\'" in text


def test_there_are_held_and_new_connections_for_writes_and_reads() -> None:
    kinds = {(client.kind, client.held) for client in standard_clients()}
    assert kinds == {(kind, held) for kind in (Kind.WRITE, Kind.READ) for held in (True, False)}
    assert len({client.name for client in standard_clients()}) == len(standard_clients())


def served(client: str, times: list[float], outcome: Outcome = Outcome.OK) -> list[Operation]:
    return [Operation(client, Kind.WRITE, number, time, time, outcome) for number, time in enumerate(times)]


def test_a_client_counts_as_served_only_without_a_break() -> None:
    steady = [97 + step / 10 for step in range(31)]
    names = [client.name for client in standard_clients()]
    everybody = [operation for name in names for operation in served(name, steady)]
    assert unserved(everybody, 100.0) == ()
    without = [operation for operation in everybody if operation.client != "writer-2"]
    assert unserved(without, 100.0) == ("writer-2",)
    broken = [*without, *served("writer-2", [98.9, 99.0, 99.9])]
    assert unserved(broken, 100.0) == ("writer-2",)
    failing = [*without, *served("writer-2", steady, Outcome.FAIL)]
    assert unserved(failing, 100.0) == ("writer-2",)


def test_a_libpq_message_is_shortened_to_what_it_says() -> None:
    message = 'connection to server at "10.0.0.1", port 5000 failed: FATAL:  sorry, too many clients already\n'
    assert first_line(message) == "FATAL: sorry, too many clients already"
