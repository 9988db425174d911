"""Proofs on real machines: a short honest slice of the suites, and violations that were planted and must be found."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from labs import down, up

from pgbaton import state as states
from pgbaton.cli.demo import STOCK
from pgbaton.components import firewall
from pgbaton.hosts import process
from pgbaton.operate.waiting import until
from pgbaton.proof import checkers, evidence, experiment, final, store, workloads
from pgbaton.proof.checkers.base import Check, Evidence, Validity
from pgbaton.proof.experiment import Setting
from pgbaton.proof.faults import named
from pgbaton.proof.faults.base import Strike
from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.judgement import Objectives
from pgbaton.proof.outage import Span
from pgbaton.proof.results import Verdict
from pgbaton.proof.running import RunningMeter, configuration
from pgbaton.proof.target import Target
from pgbaton.proof.workloads.base import Port
from pgbaton.topology.model import ReplicationMode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from labs import Lab

    from pgbaton.proof.meter import MeterConfig
    from pgbaton.proof.results import TrialResult

pytestmark = pytest.mark.lab

PROVEN, VIOLATED, USAGE, OBJECTIVE_MISSED, TERMINATED = 0, 1, 2, 5, 128 + signal.SIGTERM
ALL = ("set", "register", "bank", "append")
#: Where a balancer leads to a primary that nobody should reach any more.
STRAY_PORT = 5999


def target_of(lab: Lab) -> Target:
    return Target(lab.topology, lab.state, lambda _: None)


async def tried(lab: Lab, fault: str, folder: Path) -> TrialResult:
    """Make one experiment with all workloads on a cluster that is whole before and after."""
    (chosen,) = named([fault])
    target = target_of(lab)
    await target.until_whole(seconds=120)
    result, whole = await experiment.run(target, Setting(ALL, Objectives()), chosen, seed=1, folder=folder)
    assert whole, result.remarks
    return result


def check_of(result: TrialResult, name: str) -> Check:
    return next(check for check in result.checks if check.name == name)


# A slice of the suites, as users run them


@pytest.mark.timeout(600)
async def test_a_proof_on_a_lab_that_runs_measures_checks_and_keeps_everything(stock_lab: Lab, tmp_path: Path) -> None:
    await target_of(stock_lab).until_whole(seconds=120)
    page, cases = tmp_path / "page.html", tmp_path / "cases.xml"
    faults = ("--fault", "postmaster-killed", "--fault", "vip-handed-over")
    files = ("--html", str(page), "--junit", str(cases))
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", stock_lab.name, *faults, *files, "--seed", "7")
    said = await process.run(*argv, "-o", "json", check=False, timeout=500)
    assert said.exit_status in {PROVEN, OBJECTIVE_MISSED}, said.stderr + said.stdout
    data: dict[str, Any] = json.loads(said.stdout)
    assert [trial["fault"] for trial in data["trials"]] == ["postmaster-killed", "vip-handed-over"]
    assert data["verdict"] in {"proven", "missed"}
    assert data["not_run"] == []
    for trial in data["trials"]:
        assert (trial["lost"], trial["duplicated"], trial["seed"]) == (0, 0, 7)
        assert trial["acknowledged"] > 500
        assert {check["validity"] for check in trial["checks"].values()} == {"valid"}, trial["checks"]
        assert set(trial["checks"]) >= {"writes", "registers", "bank", "append", "primaries", "vip", "reads", "whole"}
        assert trial["write_outage_seconds"] > 0.005
    # Mostly another one leads then; where Patroni finds no standby fit at that moment, it starts the same one again.
    killed = data["trials"][0]
    assert set(killed["primary"]) <= {"db1", "db2", "db3"}
    assert killed["write_outage_seconds"] > 0.1
    stored = store.find(None)
    assert json.loads((stored.path / "run.json").read_text()) == data
    folder = stored.path / killed["folder"]
    kept = {path.name for path in folder.iterdir()}
    assert kept >= {"trial.json", "story.json", "topology.toml", "faults.jsonl", "history.jsonl.gz", "logs"}
    assert {f"history-{workload}.edn.gz" for workload in ALL} <= kept
    with gzip.open(folder / "logs" / f"{killed['primary'][1]}.log.gz", "rt") as log:
        assert "promoted self to leader" in log.read()
    assert page.read_text().count("<svg") >= 2
    assert cases.read_text().count("<testcase") == 2
    shown = await process.run(sys.executable, "-m", "pgbaton", "report", "show", check=False)
    assert shown.exit_status == said.exit_status
    left = await final.sql(target_of(stock_lab), killed["primary"][1], "SELECT to_regnamespace('pgbaton_proof')")
    assert left == ""


async def test_a_fault_that_is_not_there_is_refused_before_anything_is_done(stock_lab: Lab) -> None:
    before = store.runs()
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", stock_lab.name, "--fault", "meteor")
    said = await process.run(*argv, check=False)
    assert said.exit_status == USAGE
    assert "no fault named meteor" in said.stderr
    assert store.runs() == before


async def test_an_objective_that_is_missed_has_an_exit_code_of_its_own(stock_lab: Lab) -> None:
    await target_of(stock_lab).until_whole(seconds=120)
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", stock_lab.name, "--fault", "switchover")
    said = await process.run(*argv, "--workload", "set", "--max-outage", "0.01", check=False, timeout=300)
    assert said.exit_status == OBJECTIVE_MISSED, said.stderr


async def test_an_interrupted_proof_undoes_its_fault_and_keeps_what_it_has(stock_lab: Lab, tmp_path: Path) -> None:
    target, log = target_of(stock_lab), tmp_path / "log"
    await target.until_whole(seconds=120)
    faults = ("--fault", "vip-handed-over", "--fault", "standby-isolated", "--workload", "set")
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", stock_lab.name, *faults)
    proof = await process.start(*argv, input="", log=log)

    async def struck() -> str | None:
        lab = json.loads((await stock_lab.pgbaton("lab", "status", "-o", "json")).stdout)
        return None if lab["cuts"] else log.read_text()

    await until("the standby is cut off", struck, seconds=120)
    os.kill(proof.pid, signal.SIGTERM)
    assert await proof.end(timeout=60) == TERMINATED
    lab = json.loads((await stock_lab.pgbaton("lab", "status", "-o", "json")).stdout)
    assert lab["cuts"] == []
    kept = store.find(None).result()
    assert kept.complete is False
    assert [trial.fault for trial in kept.trials] == ["vip-handed-over"]
    await target.until_whole(seconds=120)


# Planted violations: a harness that overlooks one of them is worth nothing


@pytest.fixture(scope="module")
def asynchronous_lab(lab_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster that promises less than it should: commits wait for no standby."""
    del lab_home
    file = tmp_path_factory.mktemp("topology") / "topology.toml"
    made = process.capture(sys.executable, "-m", "pgbaton", "init", "--preset", "standard", str(file), timeout=30)
    assert made.ok, made.stderr
    text = file.read_text()
    assert 'mode = "synchronous"' in text
    file.write_text(text.replace('mode = "synchronous"', 'mode = "asynchronous"') + STOCK)
    try:
        yield up("test-mutant", str(file))
    finally:
        down("test-mutant")


@pytest.mark.timeout(600)
async def test_synchronous_replication_loses_nothing_with_a_lagging_primary(stock_lab: Lab, tmp_path: Path) -> None:
    result = await tried(stock_lab, "lagging-primary-power-off", tmp_path)
    assert result.lost == 0
    assert {check.name for check in result.checks if check.validity is not Validity.VALID} == set()


@pytest.mark.timeout(600)
async def test_asynchronous_replication_is_found_to_lose_writes(asynchronous_lab: Lab, tmp_path: Path) -> None:
    assert asynchronous_lab.topology.replication.mode is ReplicationMode.ASYNCHRONOUS
    result = await tried(asynchronous_lab, "lagging-primary-power-off", tmp_path)
    assert result.verdict is Verdict.VIOLATED
    assert check_of(result, "writes").validity is Validity.INVALID
    assert result.lost > 50, "a second of acknowledged writes was on no standby"


@pytest.mark.timeout(600)
async def test_a_replaced_primary_that_stays_reachable_is_found(asynchronous_lab: Lab, tmp_path: Path) -> None:
    """Patroni is stopped on the primary, and a stray way leads there past every check: two primaries acknowledge."""
    target = target_of(asynchronous_lab)
    await target.until_whole(seconds=120)
    before = await target.roles()
    (fault,) = named(["patroni-stopped"])
    strike = Strike(target, (before.primary,), before, None)  # type: ignore[arg-type] - it chooses nothing
    stray = await open_stray_way(target, before.primary)
    meter = await start_with_strays(target, tmp_path)
    try:
        await meter.until_calm(since=time.monotonic(), seconds=60)
        injected = time.monotonic()
        await fault.inject(strike)

        async def replaced() -> str | None:
            servers = {each.server for each in meter.recent() if each.kind is Kind.WRITE and each.outcome is Outcome.OK}
            return None if len(servers) > 1 else f"only {servers} acknowledge"

        await until("two servers acknowledge writes", replaced, seconds=60)
        await asyncio.sleep(3)
    finally:
        await fault.heal(strike)
        healed = time.monotonic()
        await close_stray_way(target, stray)
        history = await meter.stop()
    await target.until_whole(seconds=120)
    gathered = Evidence(
        target.topology,
        history,
        Span(injected, time.monotonic()),
        Span(injected, healed),
        await final.read_all(target, ("set", "register")),
        remains=await evidence.remains(target),
    )
    found = {check.name: check for check in checkers.check(gathered)}
    assert found["primaries"].validity is Validity.INVALID, found["primaries"]
    assert found["writes"].validity is Validity.INVALID, found["writes"]
    assert found["registers"].validity is Validity.INVALID, found["registers"]


async def start_with_strays(target: Target, directory: Path) -> RunningMeter:
    """Start clients on the usual way, and as many on the stray one."""
    log = directory / "history.jsonl"
    config = with_strays(configuration(target, workloads.named(["set", "register"]), log, seed=1))
    argv = target.client_argv("pgbaton.proof.meter")
    child = await process.start(*argv, input=config.dump(), log=directory / "meter.log")
    return RunningMeter(child, log, tuple(client.name for client in config.clients if client.must_be_served))


def with_strays(config: MeterConfig) -> MeterConfig:
    """Return a meter's configuration in which the way for reads is the stray one, and half of the writers take it."""
    usual = tuple(client for client in config.clients if client.port is Port.WRITE)
    strays = tuple(
        replace(client, name=f"stray-{client.name}", port=Port.READ, must_be_served=False) for client in usual
    )
    way = {**config.write, "port": STRAY_PORT, "sslmode": "require"}
    del way["sslrootcert"]
    return replace(config, clients=usual + strays, read=way)


async def open_stray_way(target: Target, primary: str) -> str:
    """Have the VIP's holder lead a port of its own to one server, whatever that server is; return the holder."""
    holder = (await target.roles()).vip
    assert holder is not None
    address = target.topology.host(primary).address
    config = (
        "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1m\n  timeout server 1m\n"
        f"listen stray\n  bind :{STRAY_PORT}\n  server one {address}:{target.topology.postgresql.port}\n"
    )
    host = target.hosts[holder]
    await host.run("sh", "-c", "cat > /run/stray.cfg", input=config)
    await host.run("nft", "insert", "rule", "inet", "pgbaton", "input", "tcp", "dport", str(STRAY_PORT), "accept")
    await host.run("haproxy", "-D", "-p", "/run/stray.pid", "-f", "/run/stray.cfg")
    return holder


async def close_stray_way(target: Target, holder: str) -> None:
    """Take the stray way back, rule and all."""
    host = target.hosts[holder]
    await host.run("sh", "-c", 'kill "$(cat /run/stray.pid)"; rm -f /run/stray.*', check=False)
    await host.run("systemctl", "reload", firewall.UNIT, check=False)


# A lab of its own


@pytest.mark.timeout(900)
async def test_a_proof_makes_a_lab_of_its_own_and_leaves_nothing(lab_home: Path) -> None:
    argv = (sys.executable, "-m", "pgbaton", "prove", "--preset", "classic", "--name", "test-prove")
    options = ("--fault", "backup-balancer-power-off", "--fault", "packet-loss", "--workload", "set", "-o", "json")
    said = await process.run(*argv, *options, check=False, timeout=800)
    data: dict[str, Any] = json.loads(said.stdout)
    assert said.exit_status in {PROVEN, OBJECTIVE_MISSED}, said.stderr
    assert data["cluster"] == "test-prove"
    assert len(data["trials"]) + len(data["not_run"]) == 2
    assert not states.cluster("test-prove").directory.exists()
    assert store.directory() == lab_home / "proofs"
    assert store.find(None).result().cluster == "test-prove"
    namespaces = (await process.run("ip", "netns", "list")).stdout
    assert "test-prove" not in namespaces
