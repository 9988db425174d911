"""What ``pgbaton bench`` makes of its options, what it refuses, and how it ends."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "measure"))

from made_measurement import STANDARD, measurement, outcome

from pgbaton import state as states
from pgbaton.cli import bench as command
from pgbaton.errors import Error, RefusedError, UnhealthyError, UsageError
from pgbaton.measure import bench as measuring
from pgbaton.measure import plan
from pgbaton.topology import presets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from click.testing import Result

    from pgbaton.measure.bench import Bench
    from pgbaton.measure.ways import Layout
    from pgbaton.proof.target import Target

MADE = measurement()


class Played:
    """A cluster that is looked at and measured without any host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, lab: bool) -> None:
        state = states.cluster("orders")
        state.create()
        state.topology_file.write_text(presets.text("standard", cluster="orders"))
        if lab:
            hosts = [{"name": host.name, "leader_pid": None} for host in STANDARD.hosts]
            state.lab_file.write_text(json.dumps({"hosts": hosts}))
        self.asked: tuple[Sequence[str], str | None] | None = None
        self.requests: list[plan.Request] = []
        self.runs = MADE.runs
        self.error: BaseException | None = None
        monkeypatch.setattr(measuring, "look", self.look)
        monkeypatch.setattr(measuring.Bench, "run", self.run_bench(self))

    async def look(self, _: Target, names: Sequence[str], *, client: str | None) -> Layout:
        self.asked = (names, client)
        return MADE.layout

    @staticmethod
    def run_bench(played: Played) -> Callable[[Bench], Awaitable[None]]:
        async def run(bench: Bench) -> None:
            played.requests.append(bench.result.request)
            bench.result = replace(bench.result, runs=played.runs, complete=played.error is None)
            if played.error is not None:
                raise played.error

        return run

    def invoke(self, *arguments: str) -> Result:
        return CliRunner().invoke(command.bench, arguments, catch_exceptions=True)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("PGBATON_CLUSTER", raising=False)
    return tmp_path


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch, lab=True)


def test_a_lab_is_measured_without_a_question_by_three_paths(lab: Played) -> None:
    ended = lab.invoke("--clients", "1, 16,150", "--profile", "tpcb", "--protocol", "prepared", "--connect")
    assert ended.exit_code == 0, ended.output
    assert lab.asked == (("direct", "balancer", "vip"), None)
    (request,) = lab.requests
    assert request.cases == tuple(plan.Case("tpcb", "prepared", clients, connect=True) for clients in (1, 16, 150))
    assert (request.seconds, request.rounds, request.scale) == (5, 3, 10)
    assert "Profile" in ended.stdout
    assert "0.60" in ended.stdout


def test_the_same_figures_come_as_json(lab: Played) -> None:
    ended = lab.invoke("-o", "json", "--path", "vip", "--path", "pooler", "--from", "lb2")
    assert lab.asked == (("vip", "pooler"), "lb2")
    data = json.loads(ended.stdout)
    assert (data["cluster"], data["complete"], len(data["rows"])) == ("orders", True, 12)


def test_a_page_is_written_where_it_is_asked_for(lab: Played, tmp_path: Path) -> None:
    assert lab.invoke("--html", str(tmp_path / "path.html")).exit_code == 0
    assert "pgbaton bench · cluster orders" in (tmp_path / "path.html").read_text()
    ended = lab.invoke("--html", str(tmp_path / "nowhere" / "path.html"))
    assert isinstance(ended.exception, UsageError)
    assert len(lab.requests) == 1


@pytest.mark.parametrize("clients", ["0", "1,x", "", "1,,2", "10001", "-1"])
def test_numbers_of_clients_that_are_none_are_refused(lab: Played, clients: str) -> None:
    ended = lab.invoke("--clients", clients)
    assert ended.exit_code == 2
    assert "numbers from 1 to 10,000, parted by commas" in ended.output
    assert not lab.requests


def test_a_host_that_the_cluster_does_not_have_is_refused(lab: Played) -> None:
    ended = lab.invoke("--from", "lb9")
    assert isinstance(ended.exception, UsageError)
    assert "no host is named lb9" in str(ended.exception)


def test_on_a_cluster_in_use_it_is_confirmed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Played(monkeypatch, lab=False)
    ended = real.invoke()
    assert isinstance(ended.exception, RefusedError)
    assert not real.requests
    assert "pgbench works on lb2, as fast as it can" in ended.stderr
    assert real.invoke("--yes").exit_code == 0
    assert len(real.requests) == 1


def test_errors_of_clients_are_told_by_the_exit_code_too(lab: Played) -> None:
    first, *others = MADE.runs
    lab.runs = (replace(first, outcome=outcome(5, lost=3)), *others)
    ended = lab.invoke()
    assert isinstance(ended.exception, Error)
    assert "clients had 3 errors" in str(ended.exception)
    assert "3 times: lost" in ended.stdout


def test_a_measurement_that_measured_nothing_is_no_success(lab: Played) -> None:
    lab.runs = ()
    ended = lab.invoke()
    assert isinstance(ended.exception, Error)
    assert "nothing could be measured" in str(ended.exception)


def test_one_that_ends_by_an_error_still_prints_what_there_is_and_why_there_is_no_more(
    lab: Played, tmp_path: Path
) -> None:
    lab.error = UnhealthyError("the primary moved from db1 to db2 meanwhile")
    ended = lab.invoke("-o", "json", "--html", str(tmp_path / "path.html"))
    assert ended.exception is lab.error
    data = json.loads(ended.stdout)
    assert (data["complete"], data["error"], len(data["rows"])) == (False, str(lab.error), 12)
    assert "not brought to its end" in (tmp_path / "path.html").read_text()
