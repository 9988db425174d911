"""Databases, memberships and extensions: what a plan says, what the server is told, what is refused before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgbaton.components.postgres import DatabaseRole, DatabaseSpec, databases, roles
from pgbaton.deploy import objects, offered
from pgbaton.deploy.databases import DatabaseNow, plain_locale
from pgbaton.deploy.objects import Current, Desired
from pgbaton.errors import RefusedError
from pgbaton.hosts.fake import FakeHost
from pgbaton.secrets import Vault, scram_verifier
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.topology.model import Topology


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path)
    made.ensure(["user/app"], (), days=1)
    return made


def wanted(*, role: DatabaseRole | None = None, **database: object) -> Desired:
    spec = DatabaseSpec("shop", "app", **database)  # type: ignore[arg-type]
    return Desired(5432, {}, (role or DatabaseRole("app", "user/app"),), (spec,), "")


def current(vault: Vault, desired: Desired, **more: object) -> Current:
    verifier = str(scram_verifier(vault.value("password/user/app")))
    marks = dict.fromkeys(desired.lookup_places, desired.lookup_mark)
    has = {"roles": {"app": (True, -1, verifier)}, "databases": {"shop": DatabaseNow("app")}, "lookups": marks}
    return Current(**{**has, **more})  # type: ignore[arg-type]


async def said(vault: Vault, desired: Desired, now: Current | None) -> str:
    """Return the SQL with which a server is made what is wanted, without what comes before all."""
    host = FakeHost("db1", answers={("runuser",): ""})
    await objects.carry_out(host, desired, objects.steps(desired, now, vault, standbys=True), vault)
    return host.calls[0][1].removeprefix(objects.PREAMBLE) if host.calls else ""


def shown(vault: Vault, desired: Desired, now: Current | None) -> list[tuple[str, str, str]]:
    steps = objects.steps(desired, now, vault, standbys=True)
    return [
        (f"{step.action} {step.subject}", step.before, step.after) for step in steps if "lookup" not in step.subject
    ]


def topology(more: str) -> Topology:
    text = presets.text("standard").replace('[[databases]]\nname = "app"\nowner = "app"\n', "")
    return load.loads(f'{text}\n[[databases]]\nname = "app"\nowner = "app"\n{more}')


async def test_a_database_is_made_with_its_encoding_its_locale_and_its_limit(vault: Vault) -> None:
    desired = wanted(encoding="LATIN1", locale="C", connection_limit=50)
    assert ("create database shop", "", "OWNER app CONNECTION LIMIT 50 ENCODING LATIN1 LOCALE C") in shown(
        vault, desired, None
    )
    sql = "CREATE DATABASE \"shop\" OWNER \"app\" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' CONNECTION LIMIT 50;"
    assert sql in await said(vault, desired, None)
    assert 'CREATE DATABASE "shop" OWNER "app";\n' in await said(vault, wanted(), None)


async def test_an_owner_and_a_limit_that_changed_are_changed(vault: Vault) -> None:
    desired = wanted(connection_limit=7)
    now = current(vault, desired, databases={"shop": DatabaseNow("postgres", 9)})
    change = ("change database shop", "OWNER postgres CONNECTION LIMIT 9", "OWNER app CONNECTION LIMIT 7")
    assert shown(vault, desired, now) == [change]
    sql = await said(vault, desired, now)
    assert sql == (
        '\\connect postgres\nALTER DATABASE "shop" OWNER TO "app";\nALTER DATABASE "shop" CONNECTION LIMIT 7;\n'
    )
    assert shown(vault, desired, current(vault, desired, databases={"shop": DatabaseNow("app", 7)})) == []


def test_an_encoding_or_a_locale_that_is_another_is_refused(vault: Vault) -> None:
    desired = wanted(encoding="LATIN1", locale="C")
    with pytest.raises(RefusedError, match="has the encoding UTF8, and the topology says LATIN1") as refused:
        objects.refuse_impossible(desired, current(vault, desired))
    assert "has the locale C.UTF-8, and the topology says C" in str(refused.value)
    objects.refuse_impossible(desired, current(vault, desired, databases={}))
    same = wanted(encoding="UTF8", locale="C.utf8")
    objects.refuse_impossible(same, current(vault, same))
    assert plain_locale("de_DE.UTF-8@euro") == plain_locale("de_DE.utf8@euro") != plain_locale("de_DE")


async def test_only_extensions_that_are_missing_are_made_and_none_is_dropped(vault: Vault) -> None:
    desired = wanted(extensions=("citext", "hstore"))
    now = current(vault, desired, databases={"shop": DatabaseNow("app", extensions=("plpgsql", "hstore", "xml2"))})
    assert shown(vault, desired, now) == [("create extension citext in shop", "", "citext")]
    assert await said(vault, desired, now) == '\\connect "shop"\nCREATE EXTENSION IF NOT EXISTS "citext" CASCADE;\n'
    full = DatabaseNow("app", extensions=("citext", "hstore"))
    assert shown(vault, desired, current(vault, desired, databases={"shop": full})) == []


async def test_extensions_of_a_new_database_come_after_it(vault: Vault) -> None:
    sql = await said(vault, wanted(extensions=("citext",)), None)
    assert sql.index("CREATE DATABASE") < sql.index('\\connect "shop"') < sql.index("CREATE EXTENSION")


async def test_memberships_follow_the_topology_where_it_names_them(vault: Vault) -> None:
    role = DatabaseRole("app", "user/app", -1, ("pg_monitor",), only=True)
    desired = wanted(role=role)
    now = current(vault, desired, memberships={"app": ("pg_read_all_data",)})
    ((what, before, after),) = shown(vault, desired, now)
    assert what == "change role app"
    assert before.endswith(" IN ROLE pg_read_all_data")
    assert after.endswith(" IN ROLE pg_monitor")
    sql = await said(vault, desired, now)
    assert "REVOKE %s FROM %s GRANTED BY %s" in sql
    assert "rolname = ANY ('{pg_monitor}')" in sql
    assert sql.endswith('GRANT "pg_monitor" TO "app";\n')
    assert shown(vault, desired, current(vault, desired, memberships={"app": ("pg_monitor",)})) == []


def test_memberships_that_nobody_names_are_left_alone(vault: Vault) -> None:
    left = current(vault, wanted(), memberships={"app": ("pg_read_all_data",)})
    assert shown(vault, wanted(), left) == []
    none = wanted(role=DatabaseRole("app", "user/app", -1, (), only=True))
    ((_, before, after),) = shown(vault, none, left)
    assert before == f"{after} IN ROLE pg_read_all_data"


async def test_a_password_that_is_the_same_keeps_its_verifier(vault: Vault) -> None:
    """Another salt would lock poolers out that hold the keys of clients that logged in before."""
    desired = wanted(role=DatabaseRole("app", "user/app", 5))
    sql = await said(vault, desired, current(vault, desired))
    assert sql == 'ALTER ROLE "app" LOGIN CONNECTION LIMIT 5;\n'
    vault.renew("password/user/app")
    assert "SCRAM-SHA-256$" in await said(vault, desired, current(vault, desired, roles={"app": (True, 5, None)}))


def test_a_role_that_nobody_makes_is_refused_before_anything_changes(vault: Vault) -> None:
    desired = wanted(role=DatabaseRole("app", "user/app", -1, ("reporting",), only=True))
    for now in (None, current(vault, desired)):
        with pytest.raises(RefusedError, match="role reporting, for app, is not there"):
            objects.refuse_impossible(desired, now)
    by_hand = current(vault, desired)
    by_hand.roles["reporting"] = (False, -1, None)
    objects.refuse_impossible(desired, by_hand)
    predefined = wanted(role=DatabaseRole("app", "user/app", -1, ("pg_read_all_data",), only=True))
    objects.refuse_impossible(predefined, None)


def test_a_topologys_users_and_databases_are_what_is_wanted() -> None:
    made = topology('extensions = ["citext"]\nconnection_limit = 300\nencoding = "UTF8"\nlocale = "C"\n')
    assert databases(made) == (DatabaseSpec("app", "app", 300, "UTF8", "C", ("citext",)),)
    role = next(role for role in roles(made) if role.name == "app")
    assert (role.member_of, role.only) == ((), False)


async def test_what_a_database_host_lacks_is_refused_with_its_name() -> None:
    made = topology('extensions = ["citext", "postgis"]\nlocale = "de_DE.UTF-8"\n')
    has = "extension citext\nextension postgis\nlocale de_DE.utf8\n"
    hosts = {host.name: FakeHost(host.name, answers={("sh", "-c", offered.LOOK): has}) for host in made.hosts}
    await offered.check(made, hosts)
    hosts["db2"].answers["sh", "-c", offered.LOOK] = "extension citext\nlocale en_GB.utf8\n"
    with pytest.raises(RefusedError) as refused:
        await offered.check(made, hosts)
    assert "extension postgis, wanted in database app, is not on db2\n" in f"{refused.value}\n"
    assert "locale de_DE.UTF-8, wanted in database app, is not on db2\n" in f"{refused.value}\n"


async def test_before_there_is_a_server_its_package_is_what_counts() -> None:
    made = topology('extensions = ["pg_trgm"]\n')
    bare = {host.name: FakeHost(host.name, answers={("sh", "-c", offered.LOOK): "locale C\n"}) for host in made.hosts}
    await offered.check(made, bare)
    with pytest.raises(RefusedError, match="extension postgis, wanted in database app, is not on db1, db2, db3"):
        await offered.check(topology('extensions = ["postgis"]\n'), bare)


async def test_nobody_is_asked_where_nothing_is_wanted() -> None:
    await offered.check(load.loads(presets.text("standard")), {})
