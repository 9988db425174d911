"""A cluster that has nothing where it usually is: other ports, WAL and a tablespace elsewhere, a standby far away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from labs import Lab, down, up

from pgbaton.operate.operation import Operation
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.operate.members import View

pytestmark = pytest.mark.lab

FILE = Path(__file__).parents[1] / "golden/apart.toml"
DATABASES = ("n1", "n2", "n3", "far")
DATA, WAL, FAST = "/srv/pg/data", "/srv/wal/main", "/srv/fast/orders"
REFUSED = 6


@pytest.fixture(scope="module")
def lab(lab_home: Path) -> Iterator[Lab]:
    assert lab_home
    try:
        yield up("test-apart", str(FILE))
    finally:
        down("test-apart")


def operation(lab: Lab) -> Operation:
    return Operation(lab.topology, lab.hosts(), lambda _: None, timeout_seconds=60)


async def whole(lab: Lab) -> View:
    """Wait until every standby streams and one is recorded as synchronous; return how it is then."""
    work = operation(lab)

    async def look() -> str | None:
        view = await work.look()
        missing = set(DATABASES) - view.streaming - set(view.primaries)
        return ", ".join(f"{host}: {view.said(host)}" for host in missing) or (None if view.synchronous else "no sync")

    await until("the cluster is whole", look, seconds=60, interval_seconds=0.3)
    return await work.look()


async def through_the_vip(lab: Lab, sql: str) -> str:
    uri = (await lab.pgbaton("dsn", "--with-password")).stdout
    assert ":15000/" in uri
    script = f'IFS= read -r URI; psql -XAtq -d "$URI" -c "{sql}"'
    said = await lab.hosts()["app"].run("sh", "-c", script, input=uri, check=False)
    assert said.ok, said.stderr
    return said.stdout.strip()


async def has_everything(lab: Lab, count: str) -> None:
    """Look on every host: WAL and the tablespace are where they belong, and the rows are there."""
    work = operation(lab)
    for name in DATABASES:
        links = await lab.hosts()[name].run("readlink", f"{DATA}/pg_wal")
        assert links.stdout.strip() == WAL, name
        assert (await lab.hosts()[name].run("ls", FAST)).stdout.startswith("PG_"), name

        async def rows(name: str = name) -> str | None:
            found = await work.hosts[name].run(
                *("runuser", "-u", "postgres", "--", "psql", "-XAtq", "-h", "/var/run/postgresql", "-p", "15432"),
                *("-d", "app", "-c", "SELECT count(*) FROM orders"),
                check=False,
            )
            return None if found.stdout.strip() == count else f"{found.stdout}{found.stderr}"

        await until(f"{name} has all rows", rows, seconds=20, interval_seconds=0.3)


async def test_it_comes_up_as_one_that_is_as_usual_does(lab: Lab) -> None:
    said = await lab.pgbaton("status", "-o", "json")
    assert json.loads(said.stdout)["health"] == "healthy", said.stdout
    await through_the_vip(lab, "CREATE TABLE orders (id int) TABLESPACE fast; INSERT INTO orders VALUES (1)")
    await has_everything(lab, "1")
    again = await lab.pgbaton("plan", "--detailed-exitcode")
    assert again.exit_status == 0, again.stdout


async def test_the_far_standby_follows_another_and_has_no_say(lab: Lab) -> None:
    view = await whole(lab)
    assert view.synchronous <= {"n1", "n2"}
    assert view.running["n3"].streaming_to == {"far"}
    assert view.primary is not None
    assert "far" not in view.running[view.primary].streaming_to
    status = json.loads((await lab.pgbaton("status", "-o", "json")).stdout)
    rows = {row["name"]: row for row in status["hosts"]}
    assert (rows["far"]["state"], rows["far"]["sync_state"], rows["far"]["reads_from"]) == ("streaming", "async", [])
    assert rows["n3"]["reads_from"] == ["n1", "n2", "n3"]
    assert [row["host"] for row in status["agents"]] == ["n1", "n2", "n3"]
    refused = await lab.pgbaton("switchover", "--yes", "--to", "far")
    assert refused.exit_status == REFUSED
    assert "far as primary: excluded" in refused.stderr


async def test_it_switches_over_and_clones_standbys_anew(lab: Lab) -> None:
    before = (await whole(lab)).primary
    moved = await lab.pgbaton("switchover", "--yes")
    assert moved.ok, moved.stderr
    assert before in {"n1", "n2"}
    view = await whole(lab)
    assert view.primary in {"n1", "n2"} - {before}
    await through_the_vip(lab, "INSERT INTO orders VALUES (2)")
    for host in (str(before), "far"):
        said = await lab.pgbaton("reinit", host, "--yes")
        assert said.ok, said.stderr
    await has_everything(lab, "2")
    assert (await whole(lab)).primary == view.primary


async def test_what_a_copy_left_that_was_cut_short_is_in_nobodys_way(lab: Lab) -> None:
    """Its tablespace and WAL are full, and there are no links any more by which Patroni could know of them."""
    far = lab.hosts()["far"]
    await far.run("systemctl", "kill", "--signal=KILL", "patroni.service")
    await far.run("systemctl", "stop", "patroni.service")
    await far.run("rm", "-rf", DATA)
    assert (await far.run("ls", FAST)).stdout.startswith("PG_")
    await far.run("systemctl", "start", "patroni.service")
    await whole(lab)
    await has_everything(lab, "2")


async def test_places_that_are_in_use_cannot_be_taken_away(lab: Lab, tmp_path: Path) -> None:
    text = lab.state.topology_file.read_text()
    changes = {
        f'location = "{FAST}"': ('location = "/srv/slow/orders"', "a tablespace is in"),
        f'wal_directory = "{WAL}"': ("", "its WAL is in"),
        f'data_directory = "{DATA}"': ('data_directory = "/srv/pg/other"', "would still be full"),
    }
    for old, (new, reason) in changes.items():
        file = tmp_path / "changed.toml"
        assert old in text
        file.write_text(text.replace(old, new))
        said = await lab.pgbaton("plan", str(file))
        assert (said.exit_status, reason in said.stderr) == (REFUSED, True), said.stdout + said.stderr


async def test_a_tablespace_can_be_added_while_it_runs(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    more = '\n[[tablespaces]]\nname = "more"\nlocation = "/srv/pg/more"\nowner = "app"\n'
    file.write_text(lab.state.topology_file.read_text() + more)
    before = {name: server.started for name, server in (await whole(lab)).running.items()}
    said = await lab.pgbaton("apply", str(file), "--yes")
    assert said.ok, said.stderr
    await through_the_vip(lab, "CREATE TABLE more (id int) TABLESPACE more")
    assert {name: server.started for name, server in (await whole(lab)).running.items()} == before
    assert await through_the_vip(lab, "SELECT count(*) FROM more") == "0"
