from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pgbaton.components.postgres import DatabaseRole, DatabaseSpec, TablespaceSpec
from pgbaton.deploy import diff, objects, roles
from pgbaton.deploy.databases import DatabaseNow
from pgbaton.deploy.objects import Current, Desired
from pgbaton.deploy.steps import Cost
from pgbaton.errors import CommandError
from pgbaton.hosts.fake import FakeHost
from pgbaton.secrets import Vault, scram_verifier

if TYPE_CHECKING:
    from pathlib import Path

ROLE = DatabaseRole("app", "user/app", 20)
WANTED = Desired(5432, {"ttl": 20}, (ROLE,), (DatabaseSpec("shop", "app"),), "SELECT 1;")
MARKS = dict.fromkeys(("template1", "postgres", "shop"), WANTED.lookup_mark)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path)
    made.ensure(["user/app"], (), days=1)
    return made


def settled(vault: Vault, **more: object) -> Current:
    """What a primary has when there is nothing to do, but for ``more``."""
    verifier = str(scram_verifier(vault.value("password/user/app")))
    has = {
        "dynamic": {"ttl": 20},
        "roles": {"app": (True, 20, verifier)},
        "databases": {"shop": DatabaseNow("app")},
        "lookups": MARKS,
    }
    return Current(**{**has, **more})  # type: ignore[arg-type]


def subjects(current: Current | None, vault: Vault) -> list[str]:
    return [f"{step.action} {step.subject}" for step in objects.steps(WANTED, current, vault, standbys=True)]


def test_nothing_is_to_do_when_all_is_there(vault: Vault) -> None:
    assert subjects(settled(vault), vault) == []


def test_without_a_primary_everything_will_be_made(vault: Vault) -> None:
    assert subjects(None, vault) == [
        "create role app",
        "create database shop",
        "create lookup in template1",
        "create lookup in postgres",
        "create lookup in shop",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"roles": {}}, ["create role app"]),
        ({"roles": {"app": (False, 20, None)}}, ["change role app"]),
        ({"roles": {"app": (True, 5, None)}}, ["change role app"]),
        ({"roles": {"app": (True, 20, str(scram_verifier("other")))}}, ["change role app"]),
        ({"databases": {}}, ["create database shop"]),
        ({"databases": {"shop": DatabaseNow("postgres")}}, ["change database shop"]),
        ({"databases": {"shop": DatabaseNow("app", 5)}}, ["change database shop"]),
        ({"lookups": {**MARKS, "shop": "older"}}, ["change lookup in shop"]),
        ({"lookups": {**MARKS, "template1": None}}, ["create lookup in template1"]),
        ({"dynamic": {"ttl": 30}}, ["patch dynamic configuration"]),
        ({"pending": ("max_connections",)}, ["restart pending restart"]),
    ],
)
def test_each_difference_is_a_step(vault: Vault, change: dict[str, object], expected: list[str]) -> None:
    assert subjects(settled(vault, **change), vault) == expected


def test_a_role_with_a_stranger_password_shows_neither(vault: Vault) -> None:
    stranger = str(scram_verifier("other"))
    (step,) = objects.steps(WANTED, settled(vault, roles={"app": (True, 20, stranger)}), vault, standbys=True)
    assert stranger not in step.before
    assert step.before.endswith(diff.MASK)
    assert step.after.endswith("<<secret:password/user/app>>")


def test_a_role_gets_the_memberships_that_it_lacks(vault: Vault) -> None:
    role = DatabaseRole("app", "user/app", 20, ("pg_monitor",))
    wanted = Desired(5432, {}, (role,), (), "")
    marks = dict.fromkeys(wanted.lookup_places, wanted.lookup_mark)
    lacking, member = (settled(vault, lookups=marks, memberships=groups) for groups in ({}, {"app": ("pg_monitor",)}))
    assert objects.steps(wanted, member, vault, standbys=True) == ()
    (step,) = objects.steps(wanted, lacking, vault, standbys=True)
    assert (step.before, step.after) == (f"{step.before}", f"{step.before} IN ROLE pg_monitor")
    assert 'GRANT "pg_monitor" TO "app";\n' in roles.membership_sql(role)


def test_a_setting_of_the_postmaster_costs_a_switchover(vault: Vault) -> None:
    wanted = Desired(5432, {"postgresql": {"parameters": {"max_connections": 300, "work_mem": "8MB"}}}, (), (), "")
    has = {"postgresql": {"parameters": {"max_connections": 200, "work_mem": "8MB"}}}
    marks = dict.fromkeys(wanted.lookup_places, wanted.lookup_mark)
    current = Current(dynamic=has, lookups=marks, restart_settings=frozenset({"max_connections"}))
    assert [step.cost for step in objects.steps(wanted, current, vault, standbys=True)] == [Cost.SWITCHOVER]
    assert [step.cost for step in objects.steps(wanted, current, vault, standbys=False)] == [Cost.RESTART]


def test_only_postgresql_parameters_are_the_topologys_alone() -> None:
    wanted = {"ttl": 20, "postgresql": {"parameters": {"a": 1}}}
    current = {"ttl": 20, "mine": 1, "postgresql": {"pg_hba": ["x"], "parameters": {"a": 1, "b": 2}}}
    assert objects.difference(wanted, current) == {"postgresql": {"parameters": {"b": None}}}


def test_values_that_mean_the_same_are_the_same() -> None:
    assert objects.difference({"a": True, "b": 5, "c": "on"}, {"a": "on", "b": "5", "c": True}) == {}


def test_roles_and_databases_of_others_are_told_and_left_alone(vault: Vault) -> None:
    current = settled(vault)
    current.roles["report"] = (True, -1, None)
    current.databases["archive"] = DatabaseNow("report")
    notes = objects.unmanaged(WANTED, current)
    assert notes == (
        "roles not managed, left alone: report",
        "databases not managed, left alone: archive",
    )


async def test_passwords_go_to_the_server_as_verifiers_over_standard_input(vault: Vault) -> None:
    host = FakeHost("db1", answers={("runuser",): "", ("patronictl",): ""})
    await objects.carry_out(host, WANTED, objects.steps(WANTED, None, vault, standbys=True), vault)
    ((argv, sql),) = host.calls
    assert vault.value("password/user/app") not in sql
    assert "SCRAM-SHA-256$4096:" in sql
    assert not [word for word in argv if "SCRAM" in word]
    assert sql.index("log_statement") < sql.index("pg_stat_statements.track_utility = off") < sql.index("ROLE")
    assert sql.index("ROLE") < sql.index("connect") < sql.index("CREATE DATABASE") < sql.index('connect "shop"')


async def test_a_failed_statement_shows_no_verifier(vault: Vault) -> None:
    verifier = str(scram_verifier("x"))
    host = FakeHost("db1", answers={("runuser",): CommandError(f"LINE 1: ... PASSWORD '{verifier}'")})
    with pytest.raises(CommandError) as caught:
        await objects.carry_out(host, WANTED, objects.steps(WANTED, None, vault, standbys=True), vault)
    assert verifier not in str(caught.value)


async def test_a_patch_goes_to_patroni_over_standard_input(vault: Vault) -> None:
    host = FakeHost("db1", answers={("patronictl",): ""})
    current = settled(vault, dynamic={"ttl": 30})
    await objects.carry_out(host, WANTED, objects.steps(WANTED, current, vault, standbys=True), vault)
    assert host.calls[0][0][-4:] == ("--force", "--quiet", "--apply", "-")
    assert host.calls[0][1] == "ttl: 20\n"


def test_what_the_primary_said_is_read() -> None:
    server = {
        "roles": {"a": [True, 5, None]},
        "memberships": {"a": ["pg_monitor"]},
        "databases": {"d": ["a", 7, "UTF8", "C"], "e": ["a", -1, "UTF8", "C"]},
        "tablespaces": {"fast": ["a", "/srv/fast"]},
        "restart_settings": ["x"],
        "pending": ["x"],
        "wal_segment_size_mb": 4,
        "limits": {"x": 5},
    }
    said = json.dumps(server) + '\n{"lookup": "d", "mark": "m", "extensions": ["x"]}\n---\nttl: 20\n'
    read = objects.parse(said)
    assert read.dynamic == {"ttl": 20}
    assert read.roles == {"a": (True, 5, None)}
    assert read.memberships == {"a": ("pg_monitor",)}
    assert read.lookups == {"d": "m"}
    assert read.databases["d"] == DatabaseNow("a", 7, "UTF8", "C", ("x",))
    assert read.databases["e"].extensions is None
    assert read.tablespaces == {"fast": ("a", "/srv/fast")}
    assert (read.pending, read.limits, read.wal_segment_size_mb) == (("x",), {"x": 5}, 4)


FAST = TablespaceSpec("fast", "app", "/srv/fast/orders")
SPREAD = replace(WANTED, tablespaces=(FAST,))


def spread(vault: Vault, **has: tuple[str, str]) -> list[str]:
    current = settled(vault, tablespaces=has)
    return [
        f"{step.action} {step.subject}: {step.after}" for step in objects.steps(SPREAD, current, vault, standbys=True)
    ]


def test_a_tablespace_is_made_and_given_to_its_owner(vault: Vault) -> None:
    after = "OWNER app LOCATION /srv/fast/orders"
    assert spread(vault) == [f"create tablespace fast: {after}"]
    assert spread(vault, fast=("postgres", FAST.location)) == [f"change tablespace fast: {after}"]
    assert spread(vault, fast=("app", FAST.location)) == []


def test_a_tablespace_comes_after_its_owner_and_before_the_databases(vault: Vault) -> None:
    todo = {step.subject: step for step in objects.steps(SPREAD, None, vault, standbys=True)}
    sql = "".join(objects.script(SPREAD, todo, vault))
    wanted = (
        'CREATE ROLE "app"',
        'CREATE TABLESPACE "fast" OWNER "app" LOCATION \'/srv/fast/orders\';',
        "CREATE DATABASE",
    )
    places = [sql.index(words) for words in wanted]
    assert places == sorted(places)
    changed = {step.subject: step for step in objects.steps(SPREAD, elsewhere(vault), vault, standbys=True)}
    assert "".join(objects.script(SPREAD, changed, vault)) == 'ALTER TABLESPACE "fast" OWNER TO "app";\n'


def elsewhere(vault: Vault) -> Current:
    return settled(vault, tablespaces={"fast": ("postgres", FAST.location)})


def test_tablespaces_that_the_topology_does_not_name_are_told_of(vault: Vault) -> None:
    current = settled(vault, tablespaces={"slow": ("app", "/srv/slow")})
    assert objects.unmanaged(WANTED, current) == ("tablespaces not managed, left alone: slow",)
