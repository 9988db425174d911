"""``pgbaton bench`` on a running cluster: figures of every path, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from pgbaton.hosts import process
from pgbaton.measure import database
from pgbaton.measure.client import BROUGHT, DIRECTORY, UNIT
from pgbaton.proof.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from labs import Lab

pytestmark = pytest.mark.lab

SCHEMAS = "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgbaton_bench'"
LEFT = f"ls -d {DIRECTORY} {BROUGHT} 2> /dev/null; systemctl is-active {UNIT} | grep -vx inactive; true"
BRIEF = ("--scale", "1", "--seconds", "1")


async def left(lab: Lab) -> list[str]:
    """Return what a measurement has left on the cluster: schemas, files, units."""
    target = Target(lab.topology, lab.state, print)
    found = ["schema"] if await database.sql(target, await target.primary(), SCHEMAS) != "0" else []
    for name, host in lab.hosts().items():
        found += [f"{name}: {line}" for line in (await host.run("sh", "-c", LEFT)).stdout.splitlines()]
    return found


async def test_every_path_is_measured_and_nothing_is_left(stock_lab: Lab, tmp_path: Path) -> None:
    page = tmp_path / "path.html"
    cases = ("--profile", "select-only", "--profile", "tpcb", "--clients", "4", "--rounds", "1")
    said = await stock_lab.pgbaton("bench", *BRIEF, *cases, "--html", str(page), "-o", "json")
    assert said.ok, said.stderr
    data = json.loads(said.stdout)
    assert data["complete"]
    assert len(data["rows"]) == 2 * 3
    for row in data["rows"]:
        assert row["transactions"] > 0, row
        assert row["errors"] == 0, row
        assert 0 < row["latency_milliseconds"]["median"] <= row["latency_milliseconds"]["p99"]
    assert {way["name"]: way["loopback"] for way in data["paths"]} == {"direct": False, "balancer": False, "vip": False}
    assert "Trans./s" in page.read_text(encoding="utf-8")
    assert await left(stock_lab) == []


async def test_new_connections_tell_what_a_login_takes_and_prepared_statements_go_through(stock_lab: Lab) -> None:
    asked = ("--connect", "--clients", "4", "--rounds", "1", "--protocol", "prepared", "-o", "json")
    said = await stock_lab.pgbaton("bench", *BRIEF, *asked, "--path", "direct", "--path", "vip")
    assert said.ok, said.stderr
    direct, vip = json.loads(said.stdout)["rows"]
    for row in (direct, vip):
        assert row["transactions"] > 0, row
        assert row["errors"] == 0, row
        # A transaction is told of with its login: nearly all of it.
        assert row["latency_milliseconds"]["p99"] > row["login_milliseconds"] / 2 > 0
    assert (direct["path"], direct["ratio_to_direct"], vip["path"]) == ("direct", 1.0, "vip")


async def test_one_that_is_interrupted_leaves_nothing(stock_lab: Lab, tmp_path: Path) -> None:
    asked = ("bench", "--cluster", stock_lab.name, "--scale", "1", "--seconds", "60", "--clients", "4", "-o", "json")
    log = tmp_path / "bench.log"
    child = await process.start(sys.executable, "-m", "pgbaton", *asked, input="", log=log)
    balancers = [stock_lab.hosts()[name] for name in ("lb1", "lb2")]
    async with asyncio.timeout(60):
        while not any([(await host.run("pgrep", "-x", "pgbench", check=False)).ok for host in balancers]):
            assert child.exit_status is None, log.read_text()
            await asyncio.sleep(0.2)
    assert await left(stock_lab) != []
    os.kill(child.pid, signal.SIGTERM)
    async with asyncio.timeout(30):
        status = await child.process.wait()
    said = log.read_text(encoding="utf-8")
    assert status == 128 + signal.SIGTERM, said
    assert '"error": "interrupted by SIGTERM"' in said
    assert await left(stock_lab) == []


async def test_other_tables_of_pgbenchs_are_left_alone(stock_lab: Lab) -> None:
    target = Target(stock_lab.topology, stock_lab.state, print)
    primary = await target.primary()
    await database.sql(target, primary, "CREATE TABLE public.pgbench_accounts (aid int)")
    try:
        said = await stock_lab.pgbaton("bench", *BRIEF)
        assert said.exit_status == 6
        assert "public.pgbench_accounts" in said.stderr
        assert await left(stock_lab) == []
    finally:
        await database.sql(target, primary, "DROP TABLE public.pgbench_accounts")
