"""A file of bytes travels like any other, and is never shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pgbaton.components.base import describe
from pgbaton.deploy import diff, journal, rollback
from pgbaton.deploy.steps import Kind, Plan, Step
from pgbaton.errors import RefusedError

if TYPE_CHECKING:
    from benches import Bench

FIRST, SECOND = b"PK\x03\x04\x00first\xff", b"PK\x03\x04\x00second\xff"
PATH = "/etc/dcs/program"


async def bring(bench: Bench, program: bytes) -> Plan:
    """Apply another program beside etcd's stand-in, by way of a plan that was saved."""
    bench.components[0].program = program
    made = saved(await bench.plan(previous="before"))
    await bench.apply(made)
    return made


def saved(plan: Plan) -> Plan:
    return Plan.from_json(json.loads(json.dumps(plan.to_json())))


def step_of(plan: Plan) -> Step:
    return next(step for step in plan.steps if step.kind is Kind.FILE and step.subject == PATH and step.host == "db2")


def written(bench: Bench) -> bytes:
    return (bench.root("db2") / PATH.lstrip("/")).read_bytes()


async def test_bytes_reach_the_host_as_they_are_and_a_second_plan_has_nothing_to_do(deployed: Bench) -> None:
    await bring(deployed, FIRST)
    assert written(deployed) == FIRST
    assert (deployed.root("db2") / PATH.lstrip("/")).stat().st_mode & 0o777 == 0o755
    assert not (await deployed.plan()).changes


async def test_a_plan_says_what_the_bytes_are_and_holds_none_of_them(deployed: Bench) -> None:
    await bring(deployed, FIRST)
    deployed.components[0].program = SECOND
    made = await deployed.plan()
    assert diff.unified(step_of(made))[3:] == [f"-{describe(FIRST)}", f"+{describe(SECOND)}"]
    assert describe(SECOND).startswith("binary, 12 bytes, sha256 ")
    assert "second" not in json.dumps(made.to_json())


async def test_a_rollback_puts_the_earlier_bytes_back_and_says_what_they_are(deployed: Bench) -> None:
    await bring(deployed, FIRST)
    made = await bring(deployed, SECOND)
    deployed.components[0].program = FIRST
    back = await rollback.make(
        [made], deployed.topology, deployed.blueprint, deployed.hosts, deployed.vault, desired=deployed.desired
    )
    assert (step_of(back).before, step_of(back).after) == (describe(SECOND), describe(FIRST))
    await deployed.apply(saved(back))
    assert written(deployed) == FIRST


async def test_bytes_that_changed_on_a_host_since_the_plan_are_refused(deployed: Bench) -> None:
    await bring(deployed, FIRST)
    deployed.components[0].program = SECOND
    made = await deployed.plan()
    (deployed.root("db2") / PATH.lstrip("/")).write_bytes(b"\0somebody's")
    with pytest.raises(RefusedError, match=f"db2: {PATH}"):
        await deployed.apply(made)


async def test_a_plan_of_another_version_is_refused_before_anything_is_touched(deployed: Bench) -> None:
    deployed.components[0].line = "second"
    deployed.components[0].program = FIRST
    made = saved(await deployed.plan())
    deployed.components[0].program = SECOND
    with pytest.raises(RefusedError, match="another version of pgbaton made the plan"):
        await deployed.apply(made)
    deployed.components[0].program = None
    with pytest.raises(RefusedError, match="another version of pgbaton made the plan"):
        await deployed.apply(made)
    assert "first" in (deployed.root("db2") / "etc/dcs/main.conf").read_text()
    assert deployed.calls == []


async def test_bytes_that_leave_the_blueprint_leave_the_host(deployed: Bench) -> None:
    await bring(deployed, FIRST)
    deployed.components[0].program = None
    made = await deployed.plan()
    assert [step.before for step in made.steps if step.host == "db2"] == [describe(FIRST)]
    await deployed.apply(made)
    assert not (deployed.root("db2") / PATH.lstrip("/")).exists()
    assert "PK" not in (journal.plan_path(deployed.state, made.id)).read_text()
