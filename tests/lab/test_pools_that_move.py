"""PgBouncer in each of its places, one after the other in one cluster that serves clients all the while."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from labs import Lab, down, up

from pgbaton.cli.demo import AGENTS
from pgbaton.proof import final, trial
from pgbaton.proof.audit import audit
from pgbaton.proof.faults import choose
from pgbaton.proof.history import Kind, Outcome
from pgbaton.proof.outage import Span, measure
from pgbaton.proof.running import RunningMeter
from pgbaton.proof.target import Target
from pgbaton.proof.workloads.base import SCHEMA
from pgbaton.topology import load, placement, presets
from pgbaton.topology.model import Placement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgbaton.topology.model import Topology

pytestmark = pytest.mark.lab

NAME = "test-pools"
#: The order is one in which each place has something that the one before it had not.
PLACES = (Placement.POOLER, Placement.DATABASE, Placement.APPLICATION, Placement.NONE, Placement.BALANCER)
#: While pools move, each client is cut once and connects again: that is no longer than a switchover without agents.
MOVE_SECONDS = 5.0
SWITCHOVER_SECONDS = 5.0
HOSTS = ('roles = ["database", "dcs"]', 'roles = ["database", "dcs", "pooler"]')
APPLICATION = '\n[[hosts]]\nname = "shop"\naddress = "10.77.0.41"\nroles = ["application"]\n'


def text(where: Placement) -> str:
    """Return the standard topology with its pools in some place, whose databases' hosts may have poolers as well."""
    standard = presets.text("standard", cluster=NAME).replace(*HOSTS)
    standard = standard.replace("[balancing]", "[balancing]\nsynchronous_port = 5002")
    standard = standard.replace("[replication]", "[replication]\napply = true")
    standard = standard.replace("# size = 20", "size = 8 #")
    return standard.replace("[pooling]", f'[pooling]\nplacement = "{where}"') + AGENTS + APPLICATION


@pytest.fixture(scope="module")
def lab(lab_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert lab_home
    file = tmp_path_factory.mktemp("pools") / "pools.toml"
    file.write_text(text(PLACES[0]))
    try:
        yield up(NAME, str(file))
    finally:
        down(NAME)


def target_of(lab: Lab, topology: Topology) -> Target:
    return Target(topology, lab.state, lambda _: None)


def past_the_applications_pool(target: Target) -> Target:
    """Return the target for clients that come through the VIP wherever pools are."""
    pooling = target.topology.pooling.model_copy(update={"placement": Placement.NONE})
    return replace(target, topology=target.topology.model_copy(update={"pooling": pooling}))


async def move(lab: Lab, where: Placement, directory: Path) -> None:
    """Place the pools elsewhere, under the eyes of clients."""
    target = target_of(lab, load.load(lab.state.topology_file))
    meter = await RunningMeter.start(past_the_applications_pool(target))
    begun = time.monotonic()
    try:
        file = directory / f"{where}.toml"
        file.write_text(text(where))
        said = await lab.pgbaton("apply", str(file), "--yes")
        assert said.ok, said.stderr
        await target_of(lab, load.loads(text(where))).until_whole(seconds=60)
        await meter.until_calm(since=begun, seconds=30)
        ended = time.monotonic()
    finally:
        history = await meter.stop()
    seen = measure(history, Kind.WRITE, Span(begun, ended))
    assert not seen.longest.open
    assert seen.longest.seconds < MOVE_SECONDS, f"to {where}: {seen.longest}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("where", PLACES)
async def test_pools_work_in_each_place_and_get_there_without_an_outage(
    where: Placement, lab: Lab, tmp_path: Path
) -> None:
    topology = load.loads(text(where))
    if load.load(lab.state.topology_file).pooling.placement is not where:
        await move(lab, where, tmp_path)
    target = target_of(lab, topology)
    await target.until_whole(seconds=120)
    again = await lab.pgbaton("plan", "--detailed-exitcode")
    assert again.exit_status == 0, again.stdout
    units = "systemctl is-active 'pgbouncer@*' || true"
    running = {name: (await host.run("sh", "-c", units)).stdout for name, host in lab.hosts().items()}
    assert {name for name, said in running.items() if "active" in said.split()} == {
        host.name for host in placement.poolers(topology)
    }
    await reads_what_was_written(lab)
    await switches_over(target, lab)


#: Each row is read on the synchronous standby as soon as its commit was acknowledged. Arguments: how many.
WRITE_AND_READ = """
IFS= read -r write; IFS= read -r read
psql -XqAt -d "$write" -c 'CREATE TABLE IF NOT EXISTS fresh (n int)' -c 'TRUNCATE fresh'
for n in $(seq "$1"); do
  psql -XqAt -d "$write" -c "INSERT INTO fresh VALUES ($n)"
  psql -XqAt -d "$read" -c "SELECT max(n), bool_and(pg_is_in_recovery()) FROM fresh"
done
"""
READS = 10


async def reads_what_was_written(lab: Lab) -> None:
    """Read on the port for synchronous standbys what was acknowledged just before."""
    ways = [(await lab.pgbaton("dsn", "--with-password", *more)).stdout for more in ((), ("--synchronous",))]
    argv = ("sh", "-c", WRITE_AND_READ, "sh", str(READS))
    said = await lab.hosts()["shop"].run(*argv, input="".join(ways), timeout=60)
    assert said.stdout.splitlines() == [f"{number}|t" for number in range(1, READS + 1)], said.stderr


async def switches_over(target: Target, lab: Lab) -> None:
    """Move the primary under the eyes of the applications' own clients: nothing is lost, and soon all are served."""
    (fault,) = choose(["switchover"], target.topology)
    meter = await RunningMeter.start(target)
    try:
        done = await trial.run(target, meter, fault)
    finally:
        history = await meter.stop()
    assert done.after is not None
    assert done.after.primary != done.before.primary
    assert (done.kept_service, done.remains) == (True, ())
    seen = measure(history, Kind.WRITE, done.window)
    assert not seen.longest.open
    assert seen.longest.seconds < SWITCHOVER_SECONDS, seen.longest
    told = {write.server for write in history.operations if (write.kind, write.outcome) == (Kind.WRITE, Outcome.OK)}
    assert {done.before.primary, done.after.primary} == {target.topology.names_by_address.get(str(at)) for at in told}
    if placement.holders(target.topology):
        assert not seen.errors, "clients were held"
    kept = audit(history.operations, await final.read_all(target))
    assert kept.findings == ()
    await final.sql(target, done.after.primary, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    assert json.loads((await lab.pgbaton("status", "-o", "json")).stdout)["health"] == "healthy"
