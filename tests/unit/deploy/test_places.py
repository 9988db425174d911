"""What of a running server another topology cannot move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton.deploy import inventory, objects, places
from pgbaton.deploy.inventory import Inventory
from pgbaton.deploy.objects import Current
from pgbaton.errors import RefusedError
from pgbaton.hosts.fake import FakeHost
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

TEXT = (Path(__file__).parents[2] / "golden/apart.toml").read_text(encoding="utf-8")
APART = load.loads(TEXT)
DATA = "/srv/pg/data"
LINKS = {f"{DATA}/pg_wal": "/srv/wal/main", f"{DATA}/pg_tblspc/16384": "/srv/fast/orders"}


def changed(old: str, new: str) -> Topology:
    assert TEXT.count(old) == 1
    return load.loads(TEXT.replace(old, new))


def running(**links: str) -> Inventory:
    return Inventory("n1", server="primary", links={**LINKS, **links})


def test_what_the_topology_names_may_be_in_use() -> None:
    places.refuse_moves(APART, [running()])
    places.refuse_moves(load.loads(presets.text("standard")), [Inventory("db1", server="primary")])


@pytest.mark.parametrize("new", ["", 'wal_directory = "/srv/log/main"\n'])
def test_wal_that_is_in_use_is_not_taken_away(new: str) -> None:
    topology = changed('wal_directory = "/srv/wal/main"\n', new)
    with pytest.raises(RefusedError, match="its WAL is in /srv/wal/main") as caught:
        places.refuse_moves(topology, [running()])
    assert caught.value.where == "n1"
    assert 'keep wal_directory = "/srv/wal/main"' in str(caught.value.hint)


def test_a_tablespace_that_is_in_use_is_not_taken_away() -> None:
    topology = changed('location = "/srv/fast/orders"', 'location = "/srv/slow/orders"')
    with pytest.raises(RefusedError, match="a tablespace is in /srv/fast/orders, and the topology has none there"):
        places.refuse_moves(topology, [running()])


def test_a_tablespace_that_somebody_made_where_the_server_may_write_is_left_alone() -> None:
    places.refuse_moves(APART, [running(**{f"{DATA}/pg_tblspc/9": "/srv/pg/by-hand"})])


def test_a_tablespaces_location_cannot_change() -> None:
    current = Current(tablespaces={"fast": ("app", "/srv/pg/elsewhere")})
    with pytest.raises(RefusedError, match="tablespace fast is in /srv/pg/elsewhere") as caught:
        places.refuse_other_locations(objects.desired(APART), current)
    assert "SET TABLESPACE" in str(caught.value.hint)
    places.refuse_other_locations(objects.desired(APART), Current(tablespaces={"fast": ("app", "/srv/fast/orders")}))
    places.refuse_other_locations(objects.desired(APART), Current())


def test_the_size_of_files_of_wal_cannot_change() -> None:
    wanted = objects.desired(load.loads(presets.text("standard")))
    with pytest.raises(RefusedError, match="files of WAL are of 16 MiB here, and the topology says 4") as caught:
        places.refuse_other_segments(wanted, Current(wal_segment_size_mb=16))
    assert "wal_segment_size_mb = 16" in str(caught.value.hint)
    places.refuse_other_segments(wanted, Current(wal_segment_size_mb=4))
    places.refuse_other_segments(wanted, Current())


def test_data_do_not_move_away_from_their_wal() -> None:
    topology = changed('data_directory = "/srv/pg/data"', 'data_directory = "/srv/pg/other"')
    with pytest.raises(RefusedError, match="/srv/fast/orders, /srv/wal/main would still be full"):
        places.refuse_other_data(APART, topology)
    places.refuse_other_data(APART, APART)
    places.refuse_other_data(None, topology)


def test_a_plan_says_whose_wal_is_not_where_it_should_be_yet() -> None:
    seen = {
        "n1": Inventory("n1", server="primary", links={}),
        "n2": running(),
        "n3": Inventory("n3", server="standby", links={f"{DATA}/pg_wal": "/srv/pg/wal"}),
        "far": Inventory("far"),
    }
    assert list(places.notes(APART, seen)) == [
        f"WAL of n1 stays in {DATA}/pg_wal until it is cloned anew: pgbaton reinit n1",
        "WAL of n3 stays in /srv/pg/wal until it is cloned anew: pgbaton reinit n3",
    ]
    assert list(places.notes(load.loads(presets.text("standard")), seen)) == []


async def test_a_hosts_links_are_found(tmp_path: Path) -> None:
    data = tmp_path / DATA.lstrip("/")
    (data / "pg_tblspc").mkdir(parents=True)
    (data / "pg_wal").symlink_to("/srv/wal/main")
    (data / "pg_tblspc/16384").symlink_to("/srv/fast/orders")
    found = await inventory.take(FakeHost("n1", root=tmp_path), f"links {DATA}\n")
    assert found.links == LINKS
