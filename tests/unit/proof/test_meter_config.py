from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import pytest

from pgbaton.proof import running
from pgbaton.proof.history import Kind, Operation, Outcome, operation_line
from pgbaton.proof.meter import MeterConfig, conninfo, load, next_beat
from pgbaton.proof.running import unserved
from pgbaton.proof.session import first_line
from pgbaton.proof.workloads import WORKLOADS
from pgbaton.proof.workloads.base import Port

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pgbaton.hosts.process import Child

CLIENTS = tuple(client for workload in WORKLOADS.values() for client in workload.clients)
CONFIG = MeterConfig(
    "/tmp/log",  # noqa: S108 - never opened
    {"host": "10.0.0.1", "password": "hush"},
    {"host": "10.0.0.1", "password": "hush"},
    CLIENTS,
    prepare=("SELECT 1",),
    seed=7,
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
    kinds = {(client.port, client.held) for client in WORKLOADS["set"].clients}
    assert kinds == {(port, held) for port in Port for held in (True, False)}


def test_no_two_clients_of_any_workloads_share_a_name() -> None:
    assert len({client.name for client in CLIENTS}) == len(CLIENTS)


def test_the_writers_that_measure_beat_in_turns_of_less_than_five_milliseconds() -> None:
    writers = [client for client in WORKLOADS["set"].clients if client.held and client.port is Port.WRITE]
    assert {client.period_seconds for client in writers} == {0.016}
    assert [client.phase_seconds for client in writers] == pytest.approx([0.0, 0.004, 0.008, 0.012])


@pytest.mark.parametrize(("ended", "due"), [(100.003, 100.01), (100.0101, 100.02), (100.035, 100.04)])
def test_a_client_keeps_to_its_beats_and_misses_those_that_an_operation_took(ended: float, due: float) -> None:
    operation = Operation("writer-1", Kind.WRITE, 1, 100.0, ended, Outcome.OK)
    assert next_beat(100.0, 0.01, operation) == pytest.approx(due)


def served(client: str, times: list[float], outcome: Outcome = Outcome.OK) -> list[Operation]:
    return [Operation(client, Kind.WRITE, number, time, time, outcome) for number, time in enumerate(times)]


def test_a_client_counts_as_served_only_without_a_break() -> None:
    steady = [97 + step / 10 for step in range(31)]
    names = ("writer-1", "writer-2")
    everybody = [operation for name in (*names, "reader-1") for operation in served(name, steady)]
    assert unserved(everybody, names, 100.0) == ()
    without = [operation for operation in everybody if operation.client != "writer-2"]
    assert unserved(without, names, 100.0) == ("writer-2",)
    broken = [*without, *served("writer-2", [98.9, 99.0, 99.9])]
    assert unserved(broken, names, 100.0) == ("writer-2",)
    failing = [*without, *served("writer-2", steady, Outcome.FAIL)]
    assert unserved(failing, names, 100.0) == ("writer-2",)


def test_a_libpq_message_is_shortened_to_what_it_says() -> None:
    message = 'connection to server at "10.0.0.1", port 5000 failed: FATAL:  sorry, too many clients already\n'
    assert first_line(message) == "FATAL: sorry, too many clients already"


def logged(path: Path, ends: Iterable[float]) -> None:
    operations = (Operation("writer-1", Kind.WRITE, n, end - 0.01, end, Outcome.OK) for n, end in enumerate(ends))
    path.write_text("".join(operation_line(operation) + "\n" for operation in operations))


@pytest.mark.parametrize("size", [1_000, 1 << 20])
def test_what_was_logged_lately_is_found_however_much_was_logged_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(running, "RECENT_BYTES", size)
    logged(tmp_path / "log", [*(now - 1000 + n for n in range(500)), now - 1, now])
    meter = running.RunningMeter(cast("Child", None), tmp_path / "log", ("writer-1",))
    assert [each.id for each in meter.recent()] == [500, 501]
    assert [each.id for each in meter.recent()] == [500, 501]


def test_a_file_is_read_from_a_whole_line_on_and_a_small_one_from_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"first\nsecond\nthird\n")
    with (tmp_path / "log").open("rb") as file:
        assert [running.late_line(file, size) for size in (100, 19, 10, 1)] == [0, 0, 13, 19]
