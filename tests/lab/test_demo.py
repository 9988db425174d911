"""The demo from end to end, and proof that its audit notices: every promise is broken once on purpose."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton import state as states
from pgbaton.hosts import process
from pgbaton.operate.waiting import until
from pgbaton.proof import final, trial
from pgbaton.proof.audit import audit
from pgbaton.proof.faults import choose
from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.outage import measure
from pgbaton.proof.running import RunningMeter
from pgbaton.proof.target import Target
from pgbaton.proof.workloads.base import SCHEMA
from pgbaton.proof.workloads.sets import TABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pgbaton.proof.history import History

pytestmark = pytest.mark.lab

OK, REFUSED, OBJECTIVE_MISSED = 0, 6, 5
TERMINATED = 128 + signal.SIGTERM


async def leftovers(name: str) -> list[str]:
    """Return what this machine still has of a lab."""
    namespaces = (await process.run("ip", "netns", "list")).stdout.splitlines()
    mounts = (await process.run("mount")).stdout.splitlines()
    found = [line for line in (*namespaces, *mounts) if f"pgb-{name}" in line or f"/{name}/" in line]
    return found + [str(path) for path in (states.cluster(name).directory,) if path.exists()]


@pytest.mark.timeout(1200)
async def test_the_demo_loses_nothing_reports_everything_and_leaves_nothing(tmp_path: Path, lab_home: Path) -> None:
    assert lab_home
    page = tmp_path / "page.html"
    argv = (sys.executable, "-m", "pgbaton", "demo", "--cluster", "test-demo", "--report", str(page), "-o", "json")
    said = await process.run(*argv, check=False, timeout=1100)
    assert said.exit_status in {OK, OBJECTIVE_MISSED}, said.stderr
    data: dict[str, Any] = json.loads(said.stdout)
    assert [event["fault"] for event in data["events"]] == [fault.name for fault in choose((), standard())]
    assert data["passed"] is (said.exit_status == OK)
    assert (data["audit"]["lost"], data["audit"]["findings"]) == (0, [])
    assert data["audit"]["hosts"] == ["db1", "db2", "db3"]
    for event in data["events"]:
        assert event["acknowledged"] > 0
        assert 0 < event["write_outage_seconds"] < 60
        assert event["parts"]["reconnection"] is not None
    power_off = data["events"][-1]
    assert power_off["write_outage_seconds"] < 5, "agents need not wait until the lock of a silent host expires"
    assert power_off["primary"]["before"] != power_off["primary"]["after"]
    assert data["events"][2]["vip"]["before"] != data["events"][2]["vip"]["after"]
    assert page.read_text().count("<svg") == 5
    assert await leftovers("test-demo") == []


def standard() -> Any:  # noqa: ANN401 - a topology
    from pgbaton.topology import load, presets  # noqa: PLC0415 - here alone

    return load.loads(presets.text("standard"))


async def test_an_interrupted_demo_cleans_up(tmp_path: Path, lab_home: Path) -> None:
    assert lab_home
    page, log = tmp_path / "page.html", tmp_path / "log"
    argv = (sys.executable, "-m", "pgbaton", "demo", "--cluster", "test-stop", "--report", str(page))
    demo = await process.start(*argv, input="", log=log)

    async def booting() -> str | None:
        return None if "booting" in log.read_text() else log.read_text()

    await until("machines boot", booting, seconds=300)
    os.kill(demo.pid, signal.SIGTERM)
    assert await demo.end(timeout=120) == TERMINATED
    assert "interrupted: cleaning up" in log.read_text()
    assert await leftovers("test-stop") == []
    assert not page.exists()


async def test_a_demo_refuses_the_name_of_a_lab_that_is_not_its_own(stock_lab: Any, tmp_path: Path) -> None:  # noqa: ANN401 - the fixture's own type is the conftest's
    said = await stock_lab.pgbaton("demo", "--report", str(tmp_path / "page.html"))
    assert said.exit_status == REFUSED
    assert "exists already, and the demo would break it" in said.stderr
    assert (await stock_lab.pgbaton("lab", "status", "-o", "json")).ok


@pytest.fixture
async def target(stock_lab: Any) -> AsyncIterator[Target]:  # noqa: ANN401 - see above
    target = Target(stock_lab.topology, stock_lab.state, lambda _: None)
    await target.until_whole(seconds=120)
    yield target
    await target.until_whole(seconds=120)
    await final.sql(target, (await target.roles()).primary, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


async def observed(target: Target) -> tuple[trial.Trial, History]:
    """Put the cluster through a postmaster's death under the eyes of the clients."""
    (fault,) = choose(["postmaster-killed"], target.topology)
    meter = await RunningMeter.start(target)
    try:
        done = await trial.run(target, meter, fault)
    finally:
        history = await meter.stop()
    return done, history


async def test_an_audit_passes_a_cluster_that_kept_its_promises_and_fails_one_that_did_not(target: Target) -> None:
    done, history = await observed(target)
    # Who is primary then is Patroni's to say: it starts a server in place when no standby answers it in time.
    seen = measure(history, Kind.WRITE, done.window)
    assert seen.longest.begin >= done.injected - 0.5
    assert not seen.longest.open
    kept = audit(history.operations, await final.read_all(target))
    assert kept.findings == ()
    assert kept.acknowledged > 100

    async def tampered(statement: str) -> None:
        await final.sql(target, done.after.primary, statement)

    write = next(each for each in history.of(Kind.WRITE) if each.outcome is Outcome.OK)
    row = f"client = '{write.client}' AND id = {write.id}"
    await tampered(f"DELETE FROM {TABLE} WHERE {row}")  # noqa: S608 - made here
    lost = audit(history.operations, await final.read_all(target))
    assert lost.lost == ((write.client, write.id),)
    assert set(lost.missing) == {"db1", "db2", "db3"}
    await tampered(f"INSERT INTO {TABLE} SELECT '{write.client}', {write.id} FROM generate_series(1, 2)")  # noqa: S608 - made here
    twice = audit(history.operations, await final.read_all(target))
    assert twice.duplicated[done.after.primary] == ((write.client, write.id),)
    await tampered(f"INSERT INTO {TABLE} VALUES ('nobody', 1)")  # noqa: S608 - made here
    strange = audit(history.operations, await final.read_all(target))
    assert strange.strangers == (("nobody", 1),)


async def replay(target: Target, host: str, number: str) -> None:
    """Freeze or thaw a standby's startup process: Patroni would resume a replay that is merely paused."""
    await target.hosts[host].run("pkill", f"-{number}", "-f", "postgres: .*startup recovering")


async def test_a_standby_that_does_not_catch_up_is_a_finding(target: Target) -> None:
    roles = await target.roles()
    lagging = roles.standbys[0]
    await final.sql(target, roles.primary, f"CREATE SCHEMA {SCHEMA} CREATE TABLE writes (client text, id bigint)")
    assert all(read.caught_up for read in await final.read_all(target))
    await replay(target, lagging, "STOP")
    try:
        await final.sql(target, roles.primary, f"INSERT INTO {TABLE} VALUES ('a', 1)")  # noqa: S608 - our own name
        reads = await final.read_all(target, seconds=2)
    finally:
        await replay(target, lagging, "CONT")
    assert [read.host for read in reads if not read.caught_up] == [lagging]
    assert not audit((), reads).consistent


async def test_clients_keep_their_password_out_of_the_process_table(target: Target) -> None:
    password = target.conninfo()["password"]
    meter = await RunningMeter.start(target)
    try:
        await meter.until_calm(since=time.monotonic(), seconds=30)
        table = (await process.run("ps", "axeww", "-o", "args")).stdout
    finally:
        await meter.stop()
    assert "pgbaton.proof.meter" in table
    assert str(password) not in table
    assert str(password) not in meter.log.read_text()
