from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from benches import Fake

from pgbaton.components.base import Wave
from pgbaton.deploy import journal, rollback
from pgbaton.deploy.steps import Stage
from pgbaton.errors import RefusedError, UnhealthyError
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from benches import Bench

    from pgbaton.deploy.steps import Plan


async def change(bench: Bench, line: str) -> Plan:
    """Apply another line in etcd's stand-in."""
    bench.components[0].line = line
    made = await bench.plan(previous="the text of before")
    await bench.apply(made)
    return made


async def take_back(bench: Bench, *undone: Plan) -> Plan:
    bench.components[0].line = "first"
    plan = await rollback.make(undone, bench.topology, bench.blueprint, bench.hosts, bench.vault, desired=bench.desired)
    await bench.apply(plan)
    return plan


async def test_files_and_their_units_go_back(deployed: Bench) -> None:
    made = await change(deployed, "second")
    deployed.forget_calls()
    plan = await take_back(deployed, made)
    assert "first" in (deployed.root("db3") / "etc/dcs/main.conf").read_text()
    assert deployed.calls == [f"{host} reload-or-restart dcs.service" for host in ("db2", "db3", "db1")]
    assert plan.topology == "the text of before"
    assert not (await deployed.plan()).changes


async def test_a_rollback_shows_a_difference_with_references(deployed: Bench) -> None:
    made = await change(deployed, "second")
    plan = await take_back(deployed, made)
    step = next(step for step in plan.steps if step.subject == "/etc/dcs/main.conf")
    assert (step.before.splitlines()[0], step.after.splitlines()[0]) == ("line = second", "line = first")
    assert "<<secret:password/app>>" in step.after


async def test_what_was_created_is_removed_and_what_was_removed_comes_back(deployed: Bench) -> None:
    deployed.components[2].extra = False
    made = await deployed.plan(previous="before")
    await deployed.apply(made)
    deployed.components[2].extra = True
    await take_back(deployed, made)
    assert (deployed.root("lb1") / "etc/balancer/extra").read_text() == "extra\n"
    again = replace(journal.last_plan(deployed.state), previous_topology="before")  # type: ignore[type-var]
    deployed.components[2].extra = False
    await take_back(deployed, again)
    assert not (deployed.root("lb1") / "etc/balancer/extra").exists()


async def test_a_component_that_was_added_is_stopped_before_its_files_go(deployed: Bench) -> None:
    known = deployed.components
    deployed.components = (Fake("agent", Wave.AGENT, Role.DCS, "agent.service"), *known)
    made = await deployed.plan(previous="before")
    await deployed.apply(made)
    assert "db2 start agent.service" in deployed.calls
    deployed.components = known
    plan = await take_back(deployed, made)
    steps = [step for wave in plan.waves for step in wave.steps if step.host == "db2"]
    assert {step.stage for step in steps} == {Stage.AGENT}
    assert (deployed.root("db2") / "fake/units/agent.service/state").read_text() == "inactive\n"
    assert not (deployed.root("db2") / "etc/agent/main.conf").exists()
    assert not (await deployed.plan()).changes


async def test_dynamic_configuration_goes_back(deployed: Bench) -> None:
    deployed.dynamic = {"ttl": 30}
    made = await deployed.plan(previous="before")
    await deployed.apply(made)
    deployed.dynamic = {"ttl": 20}
    await take_back(deployed, made)
    assert deployed.server.dynamic == {"ttl": 20}


async def test_an_unfinished_apply_and_the_one_that_completed_it_go_back_together(deployed: Bench) -> None:
    broken = deployed.root("db3") / "fake/units/dcs.service/broken"
    broken.touch()
    with pytest.raises(UnhealthyError):
        await change(deployed, "second")
    broken.unlink()
    (deployed.root("db3") / "fake/units/dcs.service/state").write_text("active\n")
    await change(deployed, "second")
    undone = journal.since_last_finished(deployed.state)
    assert len(undone) == 2
    await take_back(deployed, *undone)
    assert not (await deployed.plan()).changes


async def test_the_first_apply_cannot_be_taken_back(deployed: Bench) -> None:
    first = journal.last_plan(deployed.state)
    assert first is not None
    with pytest.raises(RefusedError, match="was the first of this cluster"):
        await take_back(deployed, first)
