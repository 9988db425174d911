"""What ``pgbaton prove`` makes of its options, and what it refuses before anything is made."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from pgbaton.cli import common
from pgbaton.cli import prove as command
from pgbaton.cli.prove import Asked, chosen_faults, ground_of, proof_of, unfinished
from pgbaton.errors import Error, RefusedError, UnhealthyError, UsageError
from pgbaton.proof import chaos, faults, store, underway
from pgbaton.proof.faults.base import Strike, Suite
from pgbaton.proof.ground import OwnLab, Standing
from pgbaton.proof.prove import Prover
from pgbaton.proof.results import RunResult
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from click.testing import Result

PLAIN = Asked(
    topology=None,
    preset=None,
    fault=(),
    suite=None,
    minutes=None,
    schedule=None,
    trials=None,
    seed=7,
    workload=(),
    max_outage=None,
    max_lost=0,
    target="lab",
    name="prove",
    keep=False,
)
RUN = RunResult("pgbaton", "prove", "debian", 7, "2026-01-01T00:00:00", "suite smoke", request=PLAIN.to_dict())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PGBATON_STATE_HOME", str(tmp_path))
    return tmp_path


def test_the_smallest_suite_is_run_once_with_every_workload_that_checks_unless_asked_otherwise() -> None:
    proof = proof_of(PLAIN)
    assert proof.faults == faults.of_suite(Suite.SMOKE)
    assert len(proof.faults) == 5
    assert (proof.trials, proof.seed) == (1, 7)
    assert proof.setting.workloads == ("set", "register", "bank", "append")


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        ({"suite": "standard"}, 3),
        ({"suite": "full"}, 3),
        ({"suite": "full", "trials": 2}, 2),
        ({"fault": ("switchover",)}, 1),
        ({"suite": "chaos"}, 1),
        ({"suite": "soak"}, 1),
        ({"suite": "soak", "trials": 2}, 2),
        ({"schedule": Path("schedule.json")}, 1),
    ],
)
def test_larger_suites_are_run_more_often(changes: dict[str, Any], times: int) -> None:
    assert replace(PLAIN, **changes).times == times


def test_an_operator_comes_when_the_user_says_and_at_once_otherwise() -> None:
    asked = replace(PLAIN, fault=("primary-power-off-and-failover",))
    does = [proof_of(each).faults[0].does for each in (asked, replace(asked, operator_seconds=90.0))]
    assert ["comes after 0 s" in does[0], "comes after 90 s" in does[1]] == [True, True]
    assert Asked.from_dict(replace(asked, operator_seconds=90.0).to_dict()).operator_seconds == 90.0
    before = {key: value for key, value in asked.to_dict().items() if key != "operator_seconds"}
    assert Asked.from_dict(before).operator_seconds == 0.0, "runs of before can be gone on with"


def test_the_trials_of_a_run_go_through_all_faults_before_any_is_repeated() -> None:
    proof = proof_of(replace(PLAIN, fault=("switchover", "postmaster-killed"), trials=2))
    assert [(fault.name, seed) for fault, seed in proof.rounds] == [
        ("switchover", 7),
        ("postmaster-killed", 7),
        ("switchover", 8),
        ("postmaster-killed", 8),
    ]


def test_every_trial_of_chaos_has_a_schedule_of_its_own_seed() -> None:
    first, second = chosen_faults(replace(PLAIN, suite="chaos", trials=2))
    assert first.plan != second.plan
    (again,) = chosen_faults(replace(PLAIN, suite="chaos", seed=8))
    assert again.plan == second.plan


def test_chaos_chooses_among_the_faults_that_are_named() -> None:
    (drawn,) = chosen_faults(replace(PLAIN, suite="chaos", minutes=10.0, fault=("switchover", "haproxy-killed")))
    assert drawn.plan is not None
    assert {act["fault"] for act in drawn.plan["acts"]} <= {"switchover", "haproxy-killed"}


@pytest.mark.parametrize(
    ("suite", "minutes", "lasting"), [("chaos", None, 3), ("soak", None, 60), ("chaos", 10.0, 10), ("soak", 3.0, 3)]
)
def test_a_soak_lasts_an_hour_and_chaos_some_minutes_unless_asked_otherwise(
    suite: str, minutes: float | None, lasting: float
) -> None:
    assert replace(PLAIN, suite=suite, minutes=minutes).lasting_minutes == lasting


def test_a_soak_is_a_load_alone_and_one_with_agents_paused_of_the_same_seed_each_time() -> None:
    proof = proof_of(replace(PLAIN, suite="soak", minutes=30.0, trials=2))
    assert [(fault.name, seed) for fault, seed in proof.rounds] == [
        ("full-load", 7),
        ("agents-paused-under-full-load", 7),
        ("full-load", 8),
        ("agents-paused-under-full-load", 8),
    ]
    assert ["for 30 min" in proof.faults[0].does, "for 5 min" in proof.faults[1].does] == [True, True]
    assert not any(fault.plan for fault in proof.faults)


def test_on_a_real_cluster_there_is_no_soak(home: Path) -> None:
    with pytest.raises(RefusedError, match="none of these faults is safe in production"):
        command.agree(real_cluster(home), proof_of(replace(PLAIN, suite="soak")), yes=True)


def test_a_schedule_is_repeated_from_its_file(tmp_path: Path) -> None:
    schedule = chaos.draw(3, 60, ["switchover"])
    file = tmp_path / "schedule.json"
    file.write_text(json.dumps(schedule.to_dict()))
    (fault,) = chosen_faults(replace(PLAIN, schedule=file))
    assert fault.plan == schedule.to_dict()
    file.write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        chosen_faults(replace(PLAIN, schedule=file))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fault": ("meteor",)}, "no fault named meteor"),
        ({"workload": ("games",)}, "no workload named games"),
    ],
)
def test_what_there_is_none_of_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        proof_of(replace(PLAIN, **changes))


@pytest.mark.parametrize("changes", [{"preset": "classic"}, {"keep": True}])
def test_what_is_for_a_lab_that_is_made_does_not_go_with_a_cluster_that_exists(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is a cluster that exists"):
        ground_of(replace(PLAIN, target="orders", **changes), lambda _: None)


def test_a_name_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(UsageError, match="cannot be a cluster's name") as caught:
        ground_of(replace(PLAIN, name="../demo"), lambda _: None)
    assert caught.value.where == "--name"
    assert isinstance(ground_of(PLAIN, lambda _: None), OwnLab)


def real_cluster(home: Path) -> Standing:
    topology = load.loads(presets.text("standard"))
    return Standing(Target(topology, ClusterState("orders", home / "orders"), lambda _: None))


def test_on_a_real_cluster_nothing_is_done_without_a_yes(home: Path) -> None:
    proof = proof_of(replace(PLAIN, fault=("switchover",)))
    with pytest.raises(RefusedError, match="needs a confirmation"):
        command.agree(real_cluster(home), proof, yes=False)
    command.agree(real_cluster(home), proof, yes=True)


def test_on_a_real_cluster_there_is_nothing_to_do_when_no_fault_is_safe(home: Path) -> None:
    proof = proof_of(replace(PLAIN, fault=("primary-power-off",)))
    with pytest.raises(RefusedError, match="none of these faults is safe in production"):
        command.agree(real_cluster(home), proof, yes=True)


def test_on_a_real_cluster_what_a_killed_run_left_is_told_before_the_question(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ground = real_cluster(home)
    (fault,) = faults.named(["vip-handed-over"])
    roles = Roles("db1", "lb1", ("db2",))
    underway.begin(fault, Strike(ground.target, ("lb1",), roles, Random(1)))
    command.agree(ground, proof_of(replace(PLAIN, fault=("switchover",))), yes=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "vip-handed-over was struck on lb1 at " in said
    assert f"and never undone: {fault.does}; that is undone first" in said


def test_few_faults_are_safe_in_production() -> None:
    safe = {fault.name for fault in faults.FAULTS if not fault.lab}
    assert safe <= {"switchover", "two-switchovers", "vip-handed-over", "pooler-restarted", "bad-configuration-applied"}
    assert {"switchover", "vip-handed-over", "pooler-restarted"} <= safe


def test_what_was_asked_for_is_read_back(tmp_path: Path) -> None:
    asked = replace(PLAIN, fault=("switchover",), topology=tmp_path / "orders.toml")
    assert Asked.from_dict(json.loads(json.dumps(asked.to_dict()))) == asked


@pytest.mark.parametrize("minutes", [None, 3.0])
def test_a_soak_that_was_interrupted_is_gone_on_with_as_it_was_asked_for(minutes: float | None) -> None:
    run, asked = store.create("prove"), replace(PLAIN, suite="soak", minutes=minutes, trials=2)
    run.save(replace(RUN, request=asked.to_dict()))
    assert command.asked_again(click.Context(command.prove), run) == asked


def test_only_a_run_that_was_interrupted_is_gone_on_with() -> None:
    run = store.create("prove")
    run.save(RUN)
    assert unfinished(run.name) == run
    run.save(replace(RUN, complete=True))
    with pytest.raises(UsageError, match="is complete"):
        unfinished(run.name)
    run.save(replace(RUN, request={}))
    with pytest.raises(UsageError, match="does not say what was asked for"):
        unfinished(run.name)


def test_all_faults_are_listed_a_line_each() -> None:
    shown = CliRunner().invoke(command.prove, ["--list"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    rows = dict(line.split(maxsplit=1) for line in shown.output.splitlines()[1:-1])
    assert list(rows) == [fault.name for fault in faults.FAULTS]
    assert all(rows[fault.name].endswith(fault.title) for fault in faults.FAULTS)
    assert rows["switchover"].split()[:2] == ["smoke", "yes"]
    assert not any(line.endswith(" ") for line in shown.output.splitlines())


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_cuts_no_fault(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    terminal = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(common, "out", lambda: terminal)
    command.show_faults(command.listed_faults())
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= width
    words = " ".join(shown.split())
    assert all(fault.name in words for fault in faults.FAULTS)
    assert "Primary cut off from its synchronous" in words


def test_faults_are_listed_as_json_with_what_must_come_of_them() -> None:
    shown = CliRunner().invoke(command.prove, ["-o", "json", "--list"])
    told = {fault["name"]: fault for fault in json.loads(shown.stdout)["faults"]}
    assert set(told) == {fault.name for fault in faults.FAULTS}
    assert told["switchover"]["safe"]
    assert all(set(fault) == {"name", "suite", "safe", "title", "does", "right"} for fault in told.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--resume", ""], "--resume is empty"),
        (["--target", ""], "--target is empty"),
        (["--resume", "2026", "--trials", "2"], "--trials does not go with --resume"),
        (["--suite", "full", "--fault", "switchover"], "--fault does not go with --suite full"),
        (["--suite", "soak", "--fault", "switchover"], "--fault does not go with --suite soak"),
        (["--minutes", "5"], "--minutes does not go with anything but --suite chaos or soak"),
        (["--suite", "full", "--minutes", "5"], "--minutes does not go with anything but --suite chaos or soak"),
        (["--schedule", __file__, "--suite", "soak"], "--schedule does not go with --suite"),
        (["--target", "orders", "--name", "x"], "--name does not go with --target orders"),
        (["--schedule", __file__, "--suite", "chaos"], "--schedule does not go with --suite"),
        ([__file__, "--preset", "classic"], "TOPOLOGY does not go with --preset"),
        (["--operator-seconds", "9"], "--operator-seconds does not go with anything but --fault"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: list[str], said: str) -> None:
    error = CliRunner().invoke(command.prove, arguments).exception
    assert isinstance(error, UsageError)
    assert said in error.message


@pytest.mark.parametrize(
    "arguments",
    [
        ["--suite", "chaos", "--minutes", "1", "--fault", "switchover"],
        ["--suite", "soak", "--minutes", "240", "--trials", "2"],
        ["--suite", "soak"],
    ],
)
def test_what_goes_together_is_not_refused(home: Path, arguments: list[str]) -> None:
    error = CliRunner().invoke(command.prove, ["--target", "orders", *arguments, "--yes"]).exception
    assert "no cluster named orders" in str(error)
    assert not (home / "proofs").exists()


@pytest.mark.parametrize("suite", ["chaos", "soak"])
@pytest.mark.parametrize("minutes", ["0.4", "241"])
def test_chaos_and_soak_last_half_a_minute_at_the_least_and_four_hours_at_the_most(suite: str, minutes: str) -> None:
    shown = CliRunner().invoke(command.prove, ["--suite", suite, "--minutes", minutes])
    assert shown.exit_code == 2
    assert "240" in shown.output


@pytest.mark.parametrize("option", ["--max-outage", "--minutes"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_that_are_none_are_refused(option: str, value: str) -> None:
    shown = CliRunner().invoke(command.prove, ["--suite", "chaos", option, value])
    assert shown.exit_code == 2
    assert isinstance(shown.exception, SystemExit)


def test_a_fault_that_is_named_twice_is_meant_once() -> None:
    assert len(chosen_faults(replace(PLAIN, fault=("switchover", "switchover")))) == 1


def test_every_trial_of_chaos_is_told_apart_by_its_seed() -> None:
    rounds = proof_of(replace(PLAIN, suite="chaos", trials=3)).rounds
    assert [seed for _, seed in rounds] == [7, 8, 9]
    for fault, seed in rounds:
        (again,) = chosen_faults(replace(PLAIN, suite="chaos", seed=seed))
        assert again.plan == fault.plan


@pytest.mark.parametrize(
    "request_of",
    [
        {"a": 1},
        {**PLAIN.to_dict(), "x": 1},
        {**PLAIN.to_dict(), "trials": "x"},
        {**PLAIN.to_dict(), "suite": "x"},
        {**PLAIN.to_dict(), "schedule": "/nowhere.json"},
        {**PLAIN.to_dict(), "fault": 3},
    ],
)
def test_a_run_whose_request_is_damaged_is_not_gone_on_with(request_of: dict[str, Any]) -> None:
    run = store.create("prove")
    run.save(replace(RUN, request=request_of))
    error = CliRunner().invoke(command.prove, ["--resume", run.name]).exception
    assert isinstance(error, UsageError)
    assert "cannot go on with what was asked for" in error.message


def ended(monkeypatch: pytest.MonkeyPatch, home: Path, run: Callable[[Prover], Awaitable[RunResult]]) -> Result:
    """Run a proof of a real cluster that ends as it is made to."""
    monkeypatch.setattr(command, "ground_of", lambda *_: real_cluster(home))
    monkeypatch.setattr(Prover, "run", run)
    arguments = ["--target", "orders", "--fault", "switchover", "--seed", "7", "--yes", "-o", "json"]
    return CliRunner().invoke(command.prove, arguments)


async def refused(_: Prover) -> RunResult:
    message = "nothing was done to orders: db3: unreachable"
    raise UnhealthyError(message)


async def terminated(_: Prover) -> RunResult:
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.Event().wait()
    raise AssertionError


async def out_of_room(prover: Prover) -> RunResult:
    raise OSError(errno.ENOSPC, "No space left on device", str(prover.stored.path))


@pytest.mark.parametrize(
    ("run", "said", "exit_code"),
    [
        (refused, "nothing was done to orders: db3: unreachable", 1),
        (terminated, "interrupted by SIGTERM", 143),
        (out_of_room, "the run cannot be kept: No space left on device", 1),
    ],
)
def test_a_run_that_ends_early_prints_what_there_is_and_why_as_json(
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    run: Callable[[Prover], Awaitable[RunResult]],
    said: str,
    exit_code: int,
) -> None:
    result = ended(monkeypatch, home, run)
    data = json.loads(result.stdout)
    assert said in data["error"]
    assert (data["verdict"], data["complete"], data["trials"], data["seed"]) == ("unknown", False, [], 7)
    assert data["cluster"] == "orders"
    # click's runner knows no exit codes but its own and those of sys.exit()
    assert result.exit_code == exit_code


def test_a_run_that_comes_to_its_end_has_no_error_in_its_json(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    async def complete(prover: Prover) -> RunResult:
        prover._note(complete=True)
        return prover.result

    assert "error" not in json.loads(ended(monkeypatch, home, complete).stdout)


def test_a_run_that_cannot_be_kept_is_told_in_plain_words(home: Path) -> None:
    (home / "proofs").write_text("in the way")
    with pytest.raises(Error, match="the run cannot be kept") as caught, command.keeping(), store.alone("prove"):
        pass
    assert caught.value.exit_code == 1
