"""pgbench on the application's machine: how it is started, what is asked of it, and what is left."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.hosts.fake import FakeHost
from pgbaton.lab import definition
from pgbaton.proof import final
from pgbaton.proof.faults import bench
from pgbaton.proof.faults.base import Strike
from pgbaton.proof.faults.bench import Bench
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path

TOPOLOGY = definition.complete(load.loads(presets.text("standard")), "trial")
ROLES = Roles("db1", "lb2", ("db2", "db3"))
SAYS = {"systemd-run": "", "env": "", "systemctl": "3\n", "rm": "", "sh": ""}


class Played:
    """An application's machine that does as it is told, and what servers were told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        self.app = FakeHost("app", answers={(program,): said for program, said in SAYS.items()})
        self.told: list[str] = []
        monkeypatch.setattr(Target, "hosts", {"app": self.app})
        monkeypatch.setattr(Target, "roles", replaced)
        monkeypatch.setattr(final, "sql", self.sql)
        state = ClusterState("trial", home / "trial")
        state.create()
        state.vault_directory.mkdir(exist_ok=True)
        owner = TOPOLOGY.databases[0].owner
        secrets = {f"password/user/{owner}": "a:b\\c", "ca": "authority"}
        (state.vault_directory / "vault.json").write_text(json.dumps(secrets))
        self.target = Target(TOPOLOGY, state, lambda _: None)
        self.strike = Strike(self.target, ("db1",), ROLES, Random(1))

    async def sql(self, _: Target, name: str, statement: str) -> str:
        self.told.append(f"{name}: {statement}")
        return "1234"


async def replaced(_: Target) -> Roles:
    """Tell that another one leads now than before."""
    return Roles("db2", "lb2", ("db1", "db3"))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    return Played(monkeypatch, tmp_path)


async def test_the_tables_are_made_before_pgbench_works_on_its_own(played: Played) -> None:
    await bench.start(played.target, Bench(clients=10, seconds=300, branches=4))
    made, works = played.app.calls[-2][0], played.app.calls[-1][0]
    assert {"--initialize", "--scale=4"} <= set(made)
    assert works[:2] == ("systemd-run", f"--unit={bench.UNIT}")
    assert {"--client=10", "--time=300"} <= set(works)
    assert not any("Restart" in word or "abort" in word for word in works)


async def test_the_password_is_in_a_file_alone(played: Played) -> None:
    await bench.start(played.target, Bench(clients=1, seconds=1))
    written = {argv[4]: (text, argv[5]) for argv, text in played.app.calls if argv[0] == "sh"}
    assert written[f"{bench.DIRECTORY}/pgpass"] == ("*:*:*:*:a\\:b\\\\c\n", "0600")
    assert not any("a:b" in word for argv, _ in played.app.calls for word in argv)


@pytest.mark.parametrize(("version", "ends"), [(17, True), (15, False)])
def test_one_that_is_started_again_ends_with_its_first_lost_client_where_it_can(
    played: Played, version: int, *, ends: bool
) -> None:
    topology = TOPOLOGY.model_copy(update={"postgresql": TOPOLOGY.postgresql.model_copy(update={"version": version})})
    target = Target(topology, played.target.state, lambda _: None)
    argv = bench.in_background(target, Bench(clients=40, seconds=3600, again=True))
    assert "--property=Restart=on-failure" in argv
    assert argv.index("--property=Restart=on-failure") < argv.index("pgbench")
    assert ("--exit-on-abort" in argv) is ends


async def test_what_it_did_is_asked_of_systemd_and_of_the_one_that_was_primary(played: Played) -> None:
    assert await bench.started_again(played.strike) == 3
    assert await bench.transactions(played.strike) == 1234
    assert played.told == ["db1: SELECT count(*) FROM pgbench_history"]


async def test_nothing_of_it_is_left_on_the_machine_or_on_whoever_is_primary_then(played: Played) -> None:
    await bench.end(played.strike)
    assert [argv for argv, _ in played.app.calls] == [
        ("systemctl", "stop", bench.UNIT),
        ("rm", "-rf", bench.DIRECTORY),
    ]
    assert played.told == [f"db2: DROP TABLE IF EXISTS {bench.TABLES}"]


async def test_a_cluster_without_a_machine_for_it_is_told_of(played: Played) -> None:
    assert await bench.missing(played.target) is None
    bare = Target(load.loads(presets.text("standard")), played.target.state, lambda _: None)
    assert await bench.missing(bare) == "no machine has the role application"
