"""Agents on real machines, beside real Patroni: what they shorten, and what is left when they are gone."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.components.agent import UNIT
from pgbaton.errors import UnhealthyError
from pgbaton.hosts import process
from pgbaton.operate.waiting import until
from pgbaton.proof import upkeep
from pgbaton.proof.target import Target

if TYPE_CHECKING:
    from labs import Lab

pytestmark = pytest.mark.lab

PROVEN, OBJECTIVE_MISSED = 0, 5
#: Whatever Patroni does by itself about a host that is silent comes later than this: a lock's life less one loop.
LOCK_SECONDS = 19.0
#: An agent is to stay below 40 MB; a new version of Python may take a little more.
MOST_BYTES = 48_000_000
FAULTS = ("primary-power-off", "postmaster-stopped-sessions-ended")


def target_of(lab: Lab) -> Target:
    return Target(lab.topology, lab.state, lambda _: None)


@pytest.mark.timeout(600)
async def test_a_lock_is_not_waited_for_and_nothing_acknowledged_is_lost(standard_lab: Lab) -> None:
    await target_of(standard_lab).until_whole(seconds=120)
    faults = [word for fault in FAULTS for word in ("--fault", fault)]
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", standard_lab.name, *faults, "--trials", "1")
    said = await process.run(*argv, "--seed", "7", "-o", "json", check=False, timeout=550)
    assert said.exit_status in {PROVEN, OBJECTIVE_MISSED}, said.stderr + said.stdout
    data: dict[str, Any] = json.loads(said.stdout)
    assert [trial["fault"] for trial in data["trials"]] == list(FAULTS)
    for trial in data["trials"]:
        assert (trial["lost"], trial["duplicated"]) == (0, 0)
        assert {check["validity"] for check in trial["checks"].values()} == {"valid"}, trial["checks"]
        assert trial["write_outage_seconds"] < LOCK_SECONDS / 2, trial["fault"]


async def test_every_agent_tells_what_it_has_heard_and_has_used(standard_lab: Lab) -> None:
    target = target_of(standard_lab)
    await target.until_whole(seconds=120)
    told = await upkeep.ask_all(target)
    names = {spec.name for spec in target.topology.voters}
    assert set(told) == names
    for name, sample in told.items():
        assert isinstance(sample, upkeep.Sample), (name, sample)
        assert set(sample.gaps) == names - {name}
        assert sample.processor_seconds > 0
        assert sample.memory_bytes < MOST_BYTES


async def test_clients_are_held_through_a_switchover(standard_lab: Lab) -> None:
    target = target_of(standard_lab)
    await target.until_whole(seconds=120)
    before = await target.roles()
    said = await standard_lab.pgbaton("switchover", "--yes", "-o", "json")
    assert said.ok, said.stderr
    done = json.loads(said.stdout)
    assert (done["from"], done["held"]) == (before.primary, True), said.stderr
    await target.until_whole(seconds=120)


async def test_a_hand_over_that_cannot_hold_clients_changes_nothing_and_patroni_does_it(standard_lab: Lab) -> None:
    target = target_of(standard_lab)
    await target.until_whole(seconds=120)
    before = await target.roles()
    balancer = standard_lab.hosts()["lb2"]
    await balancer.run("systemctl", "stop", UNIT)
    try:
        said = await standard_lab.pgbaton("switchover", "--yes", "-o", "json")
    finally:
        await balancer.run("systemctl", "start", UNIT)
    assert said.ok, said.stderr
    assert json.loads(said.stdout)["held"] is False
    assert "clients are not held meanwhile" in said.stderr
    assert (await target.roles()).primary != before.primary
    await target.until_whole(seconds=120)


async def test_without_any_agent_left_the_cluster_is_a_stock_cluster(standard_lab: Lab) -> None:
    target = target_of(standard_lab)
    await target.until_whole(seconds=120)
    before, hosts = await target.roles(), standard_lab.hosts()
    voters = [hosts[host.name] for host in standard_lab.topology.voters]
    await asyncio.gather(*(host.run("systemctl", "stop", UNIT) for host in voters))
    try:
        await hosts[before.primary].run("pkill", "-KILL", "-o", "-x", "postgres")

        async def led() -> str | None:
            try:
                now = await target.primary()
            except UnhealthyError as error:
                return error.message
            return f"{now} is primary" if now == before.primary else None

        await until("another primary", led, seconds=60, interval_seconds=0.3)
    finally:
        await asyncio.gather(*(host.run("systemctl", "start", UNIT) for host in voters))
    await target.until_whole(seconds=120)
