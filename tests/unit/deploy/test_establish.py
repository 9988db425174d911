"""The servers of a cluster that a person fails over: one primary is made, once, and nobody by guess."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pgbaton.deploy import establish, plan
from pgbaton.deploy.inventory import Inventory, Manifest
from pgbaton.deploy.steps import Stage
from pgbaton.deploy.waves import Situation, batches
from pgbaton.errors import RefusedError, UnhealthyError, UnreachableError
from pgbaton.hosts.fake import FakeHost
from pgbaton.secrets import scram_verifier
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.deploy.work import Work
    from pgbaton.hosts.fake import Answer
    from pgbaton.topology.model import Topology

MANUAL = load.loads(presets.text("manual"))
THERE = ("test", "-f", f"{MANUAL.data_directory}/PG_VERSION")
PRIMARY, NOBODY = "S\tf\n", "S\t\n"


def survey(topology: Topology, **data: bool) -> plan.Survey:
    hosts = [host.name for host in topology.hosts]
    return plan.Survey({name: Inventory(name, has_data=data.get(name, False)) for name in hosts}, None)


def work(db1: dict[tuple[str, ...], Answer], db2: dict[tuple[str, ...], Answer], told: list[str]) -> Work:
    """Return an apply on two databases; what a host is not told to answer, it refuses."""
    nothing: dict[tuple[str, ...], Any] = {("install",): "", ("systemctl",): "", ("runuser",): ""}
    hosts = {name: FakeHost(name, answers={**nothing, **answers}) for name, answers in (("db1", db1), ("db2", db2))}
    vault = SimpleNamespace(value=lambda _: "secret")
    return cast("Work", SimpleNamespace(topology=MANUAL, hosts=hosts, vault=vault, report=told.append))


def asked(of: Work, host: str) -> list[str]:
    """Return what a host's own program was told, in order."""
    return [
        argv[7] for argv, _ in cast("FakeHost", of.hosts[host]).calls if argv[:2] == ("runuser", "-u") and len(argv) > 7
    ]


def test_a_plan_says_who_becomes_primary_and_who_is_cloned() -> None:
    assert establish.notes(MANUAL, survey(MANUAL)) == ("db1 gets new data and is the primary; cloned from it: db2",)
    assert establish.notes(MANUAL, survey(MANUAL, db1=True)) == ("without data, cloned from the primary: db2",)
    assert establish.notes(MANUAL, survey(MANUAL, db1=True, db2=True)) == ()
    standard = load.loads(presets.text("standard"))
    assert establish.notes(standard, survey(standard)) == ()


@pytest.mark.parametrize(
    ("preset", "unit"), [("manual", "patroni.service"), ("standard", "pgbaton-postgresql.service")]
)
def test_the_kind_of_a_cluster_that_runs_is_not_changed(preset: str, unit: str) -> None:
    topology = load.loads(presets.text(preset))
    seen = survey(topology)
    establish.refuse_change_of_kind(topology, seen)
    seen.inventories["db1"] = Inventory("db1", manifest=Manifest(topology.name, units=(unit,)))
    with pytest.raises(RefusedError, match="cannot be changed"):
        establish.refuse_change_of_kind(topology, seen)


def test_the_first_primary_comes_first_and_servers_that_have_data_come_together() -> None:
    fresh = [Situation("db2"), Situation("db1")]
    assert batches(Stage.DATABASE, fresh) == (("db2",), ("db1",))
    kept = [Situation("db2", kept=True), Situation("db1")]
    assert batches(Stage.DATABASE, kept) == (("db2", "db1"),)


def test_an_empty_cluster_gets_its_primary_on_the_first_host_alone() -> None:
    told: list[str] = []
    made = work({}, {}, told)
    for host in made.hosts.values():
        cast("FakeHost", host).answers.update({("sh", "-c"): NOBODY})

    async def nobody(_: Work) -> list[str]:
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(establish, "data_holders", nobody)
        with pytest.raises(RefusedError, match="neither has db1"):
            asyncio.run(establish.server(made, "db2"))
        asyncio.run(establish.server(made, "db1"))
    assert told == ["db1: making the first primary's data"]
    assert "initialise" in asked(made, "db1")
    assert asked(made, "db2") == []


def test_no_server_is_made_while_a_host_cannot_be_asked() -> None:
    made = work({THERE: ""}, {THERE: UnreachableError("no route")}, [])
    with pytest.raises(RefusedError, match="cannot be asked, which may be primary"):
        asyncio.run(establish.server(made, "db1"))


def test_no_primary_is_made_beside_data_that_nobody_leads() -> None:
    made = work({("sh", "-c"): NOBODY}, {("sh", "-c"): NOBODY}, [])

    async def holders(_: Work) -> list[str]:
        return ["db2"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(establish, "data_holders", holders)
        with pytest.raises(RefusedError, match="there are data on db2, and servers out of recovery are: none"):
            asyncio.run(establish.server(made, "db1"))
    assert asked(made, "db1") == []


def test_a_server_that_is_held_back_says_why() -> None:
    waits = FakeHost("db1", answers={("systemctl", "is-active"): "inactive\n"})
    refusal = UnhealthyError("db2 is primary")
    waits.answers[("runuser",)] = refusal
    with pytest.raises(UnhealthyError, match="db2 is primary"):
        asyncio.run(establish.refuse_held_back(waits))


def test_roles_of_servers_are_made_where_they_are_not_and_no_standby_is_waited_for() -> None:
    verifier = scram_verifier("secret", salt=b"0" * 16)
    sql = establish.roles_sql({"replicator": verifier, "rewind": verifier})
    assert sql.startswith("SET synchronous_commit = local;")
    assert "CREATE ROLE replicator LOGIN REPLICATION" in sql
    assert "CREATE ROLE rewind LOGIN PASSWORD" in sql
    assert "secret" not in sql
    assert sql.count("GRANT EXECUTE") == len(establish.REWIND_FUNCTIONS)


def test_a_slot_has_a_name_that_postgresql_takes() -> None:
    assert "pg_create_physical_replication_slot('db_north_1', true)" in establish.slot_sql("db-north-1")
