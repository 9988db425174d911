"""Directories of WAL and tablespaces: the list, the look whether they are free, the program that clones into them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from pgbaton import blueprint
from pgbaton.components import directories, manual, patroni, postgres
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

HERE = Path(__file__).parents[2]
APART = load.load(HERE / "golden/apart.toml")
PRESET = load.loads(presets.text("standard"))
#: What stands in for pg_basebackup: it tells its arguments.
TELL = "printf '%s\\n'"


def moved(tmp_path: Path) -> Topology:
    """Return the topology with its directories below a directory of the test's."""
    text = (HERE / "golden/apart.toml").read_text(encoding="utf-8")
    return load.loads(text).model_copy(
        update={
            "postgresql": APART.postgresql.model_copy(update={"wal_directory": f"{tmp_path}/wal/main"}),
            "tablespaces": (APART.tablespaces[0].model_copy(update={"location": f"{tmp_path}/fast"}),),
        }
    )


def cloned(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run the program as Patroni does, with a stand-in for pg_basebackup."""
    text = directories.clone(moved(tmp_path)).replace("/usr/lib/postgresql/17/bin/pg_basebackup", TELL)
    method = patroni.cloning(moved(tmp_path))["clone"]
    options = [f"--{key}={value}" for key, value in method.items() if key != "command"]
    own = ["--scope=apart", "--role=replica", f"--datadir={tmp_path}/data", "--connstring=host=n1 user=replicator"]
    argv = ["/bin/sh", "-s", "--", *own, *options]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False)


def by_hand() -> Topology:
    """Return a cluster that a person fails over, with WAL and a tablespace in places of their own."""
    more = '\n[[tablespaces]]\nname = "fast"\nlocation = "/srv/fast/orders"\nowner = "app"\n'
    places = '[postgresql]\ndata_directory = "/srv/pg/data"\nwal_directory = "/srv/wal/main"\n'
    return load.loads(presets.text("manual").replace("[postgresql]\n", places, 1) + more)


def test_where_a_person_promotes_the_servers_own_unit_waits_for_them_and_may_write_there() -> None:
    made = {file.path: file.shown for file in blueprint.draw(by_hand()).host("db1").files}
    unit = made[f"/etc/systemd/system/{manual.UNIT}"]
    assert f"\nAfter=network.target {directories.UNIT}\n" in unit
    assert "\nRequiresMountsFor=/srv/pg/data\n" in unit
    assert f"\nExecStartPre=+/usr/bin/systemctl --quiet is-active {directories.UNIT}\n" in unit
    assert "-/srv/fast/orders" in unit
    assert "-/srv/wal " in unit
    assert f"\nBefore={manual.UNIT}\n" in made[f"/etc/systemd/system/{directories.UNIT}"]
    assert directories.CLONE not in made, "the host's own program clones"
    places = manual.settings(by_hand(), by_hand().host("db1"))
    assert (places["wal_directory"], places["leftovers"]) == ("/srv/wal/main", directories.leftovers(by_hand()))


def test_a_topology_without_such_directories_has_nothing_of_it() -> None:
    for host in blueprint.draw(PRESET).hosts:
        assert not any(part.component == "directories" for part in host.parts)
    assert patroni.cloning(PRESET)["create_replica_methods"] == ["basebackup"]
    assert set(patroni.unit_section(PRESET, PRESET.host("db1"))) == {"StartLimitIntervalSec"}


def test_only_database_hosts_have_them() -> None:
    parts = {host.host: {part.component for part in host.parts} for host in blueprint.draw(APART).hosts}
    assert {name for name, components in parts.items() if "directories" in components} == {"n1", "n2", "n3", "far"}


def test_the_server_may_write_to_them_and_waits_for_their_disks() -> None:
    places = postgres.writable(APART)
    assert {"/srv/pg", "/srv/wal", "/srv/fast/orders"} <= set(places)
    assert patroni.unit_section(APART, APART.host("n1"))["RequiresMountsFor"] == "/srv/pg/data"
    assert patroni.unit_section(APART, APART.host("n1"))["After"] == directories.UNIT
    assert f"+/usr/bin/systemctl --quiet is-active {directories.UNIT}" in patroni.service(APART)["ExecStartPre"]
    assert "RequiresMountsFor=/srv/wal/main /srv/fast/orders\n" in directories.service(APART)


def test_a_place_below_one_that_may_be_written_to_needs_no_restart() -> None:
    near = APART.tablespaces[0].model_copy(update={"name": "near", "location": "/srv/pg/fast"})
    more = APART.model_copy(update={"tablespaces": (*APART.tablespaces, near)})
    assert patroni.service(more) == patroni.service(APART)
    assert patroni.unit_section(more, more.host("n1")) == patroni.unit_section(APART, APART.host("n1"))


def test_the_first_server_and_every_clone_put_wal_where_it_belongs() -> None:
    made = patroni.configuration(APART, APART.host("n1"))
    assert {"waldir": "/srv/wal/main"} in made["bootstrap"]["initdb"]
    assert made["postgresql"]["create_replica_methods"] == ["clone"]
    assert made["postgresql"]["clone"]["waldir"] == "/srv/wal/main"
    assert {"waldir": "/srv/wal/main"} in made["postgresql"]["basebackup"]
    assert yaml.safe_load(yaml.safe_dump(made["postgresql"]["clone"])) == made["postgresql"]["clone"]


def test_a_clone_finds_empty_what_an_earlier_one_left(tmp_path: Path) -> None:
    for left in ("fast/PG_17_202406281/5/16384", "wal/main/000000010000000000000001", "wal/main/archive_status/x"):
        (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / left).touch()
    said = cloned(tmp_path)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == [
        f"--pgdata={tmp_path}/data",
        "--wal-method=stream",
        "--verbose",
        "--dbname=host=n1 user=replicator",
        "--max-rate=1000M",
        "--checkpoint=fast",
        f"--waldir={tmp_path}/wal/main",
    ]
    assert list((tmp_path / "fast").iterdir()) == []
    assert list((tmp_path / "wal/main").iterdir()) == []


def test_a_clone_leaves_alone_what_is_no_servers(tmp_path: Path) -> None:
    for name in ("fast/PG_15_202209061", "fast/photos", "wal/main/notes"):
        (tmp_path / name).mkdir(parents=True)
    assert cloned(tmp_path).returncode == 0
    assert {path.name for path in (tmp_path / "fast").iterdir()} == {"PG_15_202209061", "photos"}
    assert (tmp_path / "wal/main/notes").exists()


def test_nothing_is_cloned_beside_data_or_taken_from_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/PG_VERSION").touch()
    (tmp_path / "fast/PG_17_1").mkdir(parents=True)
    said = cloned(tmp_path)
    assert said.returncode == 1
    assert "is not empty" in said.stderr
    assert (tmp_path / "fast/PG_17_1").exists()


def free(tmp_path: Path, *places: str) -> subprocess.CompletedProcess[str]:
    listed = tmp_path / "directories.conf"
    argv = ["/bin/sh", "-c", directories.FREE, "new", str(listed), *places]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_new_directories_must_be_free(tmp_path: Path) -> None:
    (tmp_path / "full/x").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    assert free(tmp_path, f"{tmp_path}/none", f"{tmp_path}/empty").returncode == 0
    full = free(tmp_path, f"{tmp_path}/full")
    assert (full.returncode, full.stderr.startswith(f"{tmp_path}/full is not empty")) == (1, True)
    mounted = free(tmp_path, "/proc")
    assert (mounted.returncode, "/proc/main" in mounted.stderr) == (1, True)


def test_directories_that_were_there_before_may_be_full(tmp_path: Path) -> None:
    (tmp_path / "full/x").mkdir(parents=True)
    (tmp_path / "directories.conf").write_text(f"d {tmp_path}/full 0700 postgres postgres -\n")
    assert free(tmp_path, f"{tmp_path}/full").returncode == 0
