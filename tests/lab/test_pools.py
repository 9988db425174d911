"""Pools in depth: processes that share a port, modes and sizes of their own, storms, and who is behind a connection."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from test_stack import conninfo, in_app

from pgbaton.components import pgbouncer
from pgbaton.hosts import process
from pgbaton.operate.waiting import until
from pgbaton.proof.storm import Storm
from pgbaton.proof.target import Target
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from labs import Lab

pytestmark = pytest.mark.lab

REFUSED = 6
#: What one process of the two on a port has of a pool.
SIZE, PROCESSES = 6, 2
CHANGES = f"""
[pooling]
processes = {PROCESSES}
size = {SIZE}
reserve = 0
application_name_add_host = true

[balancing]
log_connections = true

[[users]]
name = "app"
roles = ["pg_read_all_data"]

[[users]]
name = "old"
pool_mode = "session"
pool_size = 2

[[databases]]
name = "app"
owner = "app"
extensions = ["citext"]
connection_limit = 90

[[databases]]
name = "lines"
owner = "app"
pool_mode = "statement"
encoding = "LATIN1"
locale = "C"
"""
COUNT = """
SELECT usename, count(*) FROM pg_stat_activity WHERE datname = 'app' AND usename <> 'postgres' GROUP BY 1;
"""
#: What dsn says once of all of them.
ENTRANCE: list[str] = []
SLEEP = 'psql -XAtq -d "$URI" -c "SELECT pg_sleep(50)" 2>&1'
CANCEL = """
SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(50)%';
"""
NAMES = "SELECT pid, application_name FROM pg_stat_activity WHERE datname = 'app';"


def changed(text: str) -> str:
    """Return a topology with the pools of this module in the place of its own."""
    for table in ("users", "databases", "pooling", "balancing"):
        text = re.sub(rf"^\[+{table}\]+[^\n]*\n(?:(?!\[)[^\n]*\n?)*", "", text, flags=re.MULTILINE)
    return text + CHANGES


@pytest.fixture(scope="module")
def pool_lab(standard_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The lab with agents, made what this module wants by an apply while it runs."""
    file = tmp_path_factory.mktemp("pools") / "pools.toml"
    file.write_text(changed(standard_lab.state.topology_file.read_text()))
    said = asyncio.run(standard_lab.pgbaton("apply", str(file), "--yes"))
    assert said.ok, said.stderr
    made = type(standard_lab)(standard_lab.state, load(standard_lab.state.topology_file))
    asyncio.run(target_of(made).until_whole(seconds=120))
    return made


def target_of(lab: Lab) -> Target:
    return Target(lab.topology, lab.state, lambda _: None)


async def way(lab: Lab, *, user: str = "app", database: str = "app", password: str | None = None) -> str:
    """Return a URI for writes of any user and database."""
    if not ENTRANCE:
        ENTRANCE.append(await conninfo(lab))
    (uri,) = ENTRANCE
    word = password or lab.vault.value(f"password/user/{user}")
    return re.sub(r"//[^@]+@([^/]+)/\w+", rf"//{user}:{word}@\1/{database}", uri)


async def holder(lab: Lab) -> str:
    return (await target_of(lab).roles()).vip or ""


async def told_by(lab: Lab, name: str, instance: str, table: str) -> list[dict[str, str]]:
    """Return what a PgBouncer of a balancer shows."""
    argv = pgbouncer.console(lab.topology, instance)
    plain = [word for word in argv if word != "-XAt"]
    said = await lab.hosts()[name].run(*plain, "-X", "--csv", "-c", f"SHOW {table}")
    head, *rows = (line.split(",") for line in said.stdout.splitlines())
    return [dict(zip(head, row, strict=False)) for row in rows]


async def on_primary(lab: Lab, sql: str, database: str = "app") -> str:
    primary = lab.hosts()[await target_of(lab).primary()]
    argv = ("runuser", "-u", "postgres", "--", "psql", "-XAtq", "-d", database, "-f", "-")
    return (await primary.run(*argv, input=sql)).stdout.strip()


async def storm(lab: Lab, sessions: int, *, once: bool, statement: str, seconds: float = 60) -> dict[str, Any]:
    """Let many clients come at once, and return what they saw."""
    target = target_of(lab)
    where: Mapping[str, Any] = {**target.conninfo(), "connect_timeout": 60}
    argv = target.client_argv("pgbaton.proof.storm")
    sent = Storm(where, sessions, seconds, statement, once=once).dump()
    said = await process.run(*argv, input=sent, timeout=seconds + 30)
    seen: dict[str, Any] = json.loads(said.stdout)
    return seen


async def test_an_apply_makes_roles_databases_and_extensions_what_the_topology_says(pool_lab: Lab) -> None:
    asked = """
    SELECT datconnlimit FROM pg_database WHERE datname = 'app';
    SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = 'lines';
    SELECT pg_has_role('app', 'pg_read_all_data', 'member');
    SELECT count(*) FROM pg_extension WHERE extname = 'citext';
    """
    assert (await on_primary(pool_lab, asked)).splitlines() == ["90", "LATIN1|C", "t", "1"]
    again = await pool_lab.pgbaton("plan", "-o", "json")
    assert json.loads(again.stdout)["waves"] == [], again.stdout


async def test_what_cannot_be_had_is_refused_before_anything_changes(pool_lab: Lab, tmp_path: Path) -> None:
    text = pool_lab.state.topology_file.read_text()
    inside = text.replace("pg_read_all_data", "nobodys_role").replace('encoding = "LATIN1"', 'encoding = "UTF8"')
    wishes = {
        inside: ("role nobodys_role, for app, is not there", "has the encoding LATIN1"),
        text.replace("citext", "no_such_thing"): (
            "extension no_such_thing, wanted in database app, is not on db1, db2",
        ),
    }
    for number, (wish, why) in enumerate(wishes.items()):
        file = tmp_path / f"{number}.toml"
        file.write_text(wish)
        said = await pool_lab.pgbaton("plan", str(file))
        assert said.exit_status == REFUSED, said.stderr
        assert all(each in said.stderr for each in ("nothing was changed", *why)), said.stderr


async def test_a_role_made_by_hand_logs_in_at_once(pool_lab: Lab) -> None:
    await on_primary(
        pool_lab,
        "CREATE ROLE by_hand LOGIN PASSWORD 'made-by-hand'; CREATE ROLE strong SUPERUSER LOGIN "
        "PASSWORD 'made-by-hand';",
    )
    uri = await way(pool_lab, user="by_hand", password="made-by-hand")
    said = await in_app(pool_lab, uri, 'psql -XAtq -d "$URI" -c "SELECT current_user"')
    assert said.stdout.strip() == "by_hand", said.stderr
    uri = await way(pool_lab, user="strong", password="made-by-hand")
    assert not (await in_app(pool_lab, uri, 'psql -XAtq -d "$URI" -c "SELECT 1"')).ok
    await on_primary(pool_lab, "DROP ROLE by_hand; DROP ROLE strong;")


async def test_cancel_requests_find_the_process_of_their_query(pool_lab: Lab) -> None:
    """Each query of nine is cancelled over a connection of its own, which comes to any of the processes.

    Three at a time: whoever waits for a server has no query that could be cancelled.
    """
    uri = await way(pool_lab)
    one = """
    psql -XAtq -d "$URI" -c "SELECT pg_sleep(60)" > /tmp/cancel.$1 2>&1 & psql=$!
    sleep 2.5; kill -INT $psql; wait $psql; cat /tmp/cancel.$1"""
    for _ in range(3):
        said = await asyncio.gather(*(in_app(pool_lab, uri, one.replace("$1", str(number))) for number in range(3)))
        assert [each.stdout.count("canceling statement due to user request") for each in said] == [1] * 3


async def test_a_storm_of_short_connections_becomes_a_queue(pool_lab: Lab) -> None:
    most: dict[str, int] = {}

    async def count() -> None:
        while True:
            rows = await on_primary(
                pool_lab,
                "SELECT usename, count(*) FROM pg_stat_activity WHERE datname = 'app' AND "
                "usename <> 'postgres' GROUP BY 1;",
            )
            for name, number in (line.split("|") for line in rows.splitlines()):
                most[name] = max(int(number), most.get(name, 0))

    counting = asyncio.create_task(count())
    seen = await storm(pool_lab, 300, once=True, statement="SELECT pg_sleep(0.01)")
    counting.cancel()
    assert seen == {"sessions": 300, "logins": 300, "statements": 300}
    assert 0 < most["app"] <= 2 * SIZE, "the pools for writes and for reads"
    assert most["pgbouncer"] <= 2 * PROCESSES, "look-ups"
    name = await holder(pool_lab)
    used = [
        int(row["total_query_count"])
        for instance in ("write", "write-2")
        for row in await told_by(pool_lab, name, instance, "STATS")
        if row["database"] == "app"
    ]
    assert min(used) > 0, "the kernel spread the clients over both processes"


async def test_a_database_pooled_by_statement_refuses_transactions(pool_lab: Lab) -> None:
    uri = await way(pool_lab, database="lines")
    said = await in_app(pool_lab, uri, 'psql -XAtq -d "$URI" -c "SELECT 1"')
    assert said.stdout.strip() == "1", said.stderr
    said = await in_app(pool_lab, uri, 'echo "BEGIN; SELECT 1;" | psql -XAtq -v ON_ERROR_STOP=1 -d "$URI"')
    assert not said.ok
    assert "transaction blocks not allowed in statement pooling mode" in said.stderr


async def test_who_is_behind_a_connection_is_told_and_logged(pool_lab: Lab) -> None:
    sleeping = asyncio.create_task(in_app(pool_lab, await way(pool_lab), SLEEP))
    (address,) = (await pool_lab.hosts()["app"].run("hostname", "-I")).stdout.split()
    found: list[dict[str, Any]] = []

    async def look() -> str | None:
        said = await pool_lab.pgbaton("clients", "-o", "json")
        clients = json.loads(said.stdout)["clients"]
        found[:] = [each for each in clients if each["address"] == address and each["server_pid"]]
        return None if found else said.stdout + said.stderr

    await until("the client is told of", look, seconds=30, interval_seconds=0.1)
    (client,) = found
    assert (client["user"], client["database"], client["entry"]) == ("app", "app", "write")
    names = dict(line.split("|") for line in (await on_primary(pool_lab, NAMES)).splitlines())
    assert names[str(client["server_pid"])] == f"psql - {client['seen_as']}"
    logged = await pool_lab.pgbaton("logs", "--since", "2m", "--unit", "haproxy", "--grep", client["seen_as"])
    assert f"client {address}:{client['port']} on port 5000 (write): pooler" in logged.stdout
    assert await on_primary(pool_lab, CANCEL) == "1"
    assert "canceling statement" in (await sleeping).stdout


async def test_one_process_of_two_that_is_killed_takes_nobody_elses_clients(pool_lab: Lab) -> None:
    uri, name = await way(pool_lab), await holder(pool_lab)
    running = [asyncio.create_task(in_app(pool_lab, uri, SLEEP)) for _ in range(6)]
    clients: dict[str, int] = {}

    async def look() -> str | None:
        for instance in ("write", "write-2"):
            rows = await told_by(pool_lab, name, instance, "CLIENTS")
            clients[instance] = sum(row["database"] == "app" for row in rows)
        return None if sum(clients.values()) == len(running) else str(clients)

    await until("all clients are there", look, seconds=30, interval_seconds=0.1)
    await pool_lab.hosts()[name].run("systemctl", "kill", "--signal=KILL", "pgbouncer@write-2.service")
    done, left = await asyncio.wait(running, timeout=3)
    assert (len(done), len(left)) == (clients["write-2"], clients["write"])
    assert all("connection" in each.result().stdout for each in done), [each.result().stdout for each in done]
    for _ in range(len(left)):  # those that wait for a server come after those that have one
        await on_primary(pool_lab, CANCEL)
        _, left = await asyncio.wait(left, timeout=1) if left else (None, left)
    assert not left
    await target_of(pool_lab).until_whole(seconds=60)


async def test_a_switchover_holds_the_clients_of_every_process(pool_lab: Lab) -> None:
    working = asyncio.create_task(storm(pool_lab, 12, once=False, statement="SELECT pg_sleep(0.01)", seconds=8))
    await asyncio.sleep(1)
    said = await pool_lab.pgbaton("switchover", "--yes", "-o", "json")
    assert said.ok, said.stderr
    assert json.loads(said.stdout)["held"] is True, said.stdout
    seen = await working
    assert not [word for word in seen if word.startswith("error")], seen
    await target_of(pool_lab).until_whole(seconds=60)


async def test_a_switchover_goes_patronis_way_where_one_user_is_pooled_by_session(pool_lab: Lab) -> None:
    uri = await way(pool_lab, user="old")
    assert (await in_app(pool_lab, uri, 'psql -XAtq -d "$URI" -c "SELECT 1"')).ok
    said = await pool_lab.pgbaton("switchover", "--yes", "-o", "json")
    assert said.ok, said.stderr
    assert json.loads(said.stdout)["held"] is False, said.stdout
    assert "session pooling" in said.stderr
    await target_of(pool_lab).until_whole(seconds=60)


async def test_a_password_that_is_renewed_takes_the_olds_place(pool_lab: Lab) -> None:
    before = await way(pool_lab)
    assert (await pool_lab.pgbaton("secrets", "rotate", "password/user/app")).ok
    said = await pool_lab.pgbaton("apply", "--yes")
    assert said.ok, said.stderr
    assert (await in_app(pool_lab, await way(pool_lab), 'psql -XAtq -d "$URI" -c "SELECT 1"')).ok
    assert "authentication failed" in (await in_app(pool_lab, before, 'psql -XAtq -d "$URI" -c "SELECT 1"')).stderr
