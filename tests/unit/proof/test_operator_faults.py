"""Faults of operators, load, standbys and configuration: what of them needs no machine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from pgbaton.agent.acting import server
from pgbaton.agent.decisions import flushing
from pgbaton.errors import RefusedError, UnhealthyError
from pgbaton.lab import definition
from pgbaton.proof import storm
from pgbaton.proof.faults import configuration, disks, load, named, operations, services, standbys
from pgbaton.proof.faults.base import Service, Strike, Suite
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import budget, presets
from pgbaton.topology import load as topologies

TOPOLOGY = topologies.loads(presets.text("standard"))
ROLES = Roles("db1", "lb1", ("db2", "db3"), synchronous=("db3",), balancers=("lb1", "lb2"))


@pytest.mark.parametrize(("name", "value"), configuration.IMPOSSIBLE)
def test_an_impossible_setting_is_one_that_only_a_server_can_refuse(name: str, value: str) -> None:
    text = definition.to_toml(configuration.with_setting(TOPOLOGY, name, value))
    assert topologies.loads(text).postgresql.settings[name] == value


def test_the_candidate_is_a_standby_that_commits_wait_for() -> None:
    assert operations.candidate(ROLES) == "db3"
    assert operations.candidate(replace(ROLES, synchronous=())) == "db2"
    with pytest.raises(UnhealthyError, match="no standby to switch over to"):
        operations.candidate(Roles("db1", None, ()))


def test_a_standby_that_no_commit_waits_for_is_preferred() -> None:
    assert standbys.a_standby(ROLES, Random(1)) == ("db2",)
    assert standbys.a_standby(replace(ROLES, synchronous=("db2", "db3")), Random(1)) in {("db2",), ("db3",)}
    with pytest.raises(UnhealthyError, match="no standby to strike"):
        standbys.a_standby(Roles("db1", None, ()), Random(1))


async def test_a_switchover_that_is_refused_is_told_and_the_fault_strikes_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    struck = asyncio.Event()

    async def refuse(*_: object, **__: object) -> None:
        message = "not now"
        raise RefusedError(message)

    async def act(_: Strike) -> None:
        struck.set()

    monkeypatch.setattr(operations, "switchover", refuse)
    for name in ("HANDING_OVER_SECONDS", "HELD_SECONDS"):
        monkeypatch.setattr(operations, name, 0.0)
    monkeypatch.setattr(Target, "hosts", {})
    target = Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), said.append)
    await operations.during_switchover(act)(Strike(target, ("db3",), ROLES, Random(1)))
    assert struck.is_set()
    assert said == ["the switchover says: not now"]


def test_a_storm_keeps_its_password_to_itself_and_to_the_limit_of_files() -> None:
    made = storm.Storm({"password": "secret"}, 100, 1.0, "SELECT 1")
    assert "secret" not in repr(made)
    assert "secret" in made.dump()
    assert storm.bounded(1) == 1
    assert 1 <= storm.bounded(10**9) < 10**9


def test_the_pool_is_that_of_the_database_or_else_of_all() -> None:
    target = Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), lambda _: None)
    assert load.pool_size(target) == TOPOLOGY.pooling.size
    databases = (TOPOLOGY.databases[0].model_copy(update={"pool_size": 3}),)
    assert load.pool_size(replace(target, topology=TOPOLOGY.model_copy(update={"databases": databases}))) == 3


def test_only_switchovers_are_safe_on_a_cluster_in_use() -> None:
    modules = (operations, load, standbys, configuration)
    safe = {fault.name for module in modules for fault in module.FAULTS if not fault.lab}
    assert safe == {"switchover", "two-switchovers"}


def test_the_standard_suite_has_the_storm_the_frozen_replay_and_the_lost_hand_over() -> None:
    faults = named(["connection-storm", "standby-replay-frozen", "primary-power-off-during-switchover"])
    assert {fault.suite for fault in faults} == {Suite.STANDARD}


def test_a_disk_that_hangs_may_cost_the_agents_patience_and_a_crash_or_a_dead_host_where_there_are_none() -> None:
    (fault,) = named(["data-disk-hangs"])
    without = topologies.loads(presets.text("standard") + "\n[orchestration]\nagent = false\n")
    targets = (Target(each, ClusterState("demo", Path("/nowhere")), lambda _: None) for each in (TOPOLOGY, without))
    limits = [fault.expects(Strike(target, ("db1",), ROLES, Random(1))).limit_seconds for target in targets]
    crash = budget.prediction(TOPOLOGY, "postmaster-killed").write_seconds.maximum
    death = budget.prediction(without, "primary-power-off").write_seconds.maximum
    assert limits == [crash + disks.STUCK_SECONDS, death]
    assert flushing.PATIENCE_SECONDS + 2 * server.USUAL_SECONDS < disks.STUCK_SECONDS < fault.hold_seconds


def test_clients_need_not_be_served_while_there_is_no_room() -> None:
    full, hangs = named(["data-disk-full", "data-disk-hangs"])
    assert (full.service, hangs.service) == (Service.AFTER_HEALING, Service.RETURNS)


async def test_one_of_several_processes_can_be_killed_only_where_there_are_several() -> None:
    target = Target(TOPOLOGY, ClusterState("standard", Path("/nowhere")), lambda _: None)
    assert "processes is 1" in (await services.no_second_process(target) or "")
    pooling = TOPOLOGY.pooling.model_copy(update={"processes": 2})
    several = replace(target, topology=TOPOLOGY.model_copy(update={"pooling": pooling}))
    assert await services.no_second_process(several) is None
