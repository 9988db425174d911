from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pgbaton.lab import disk, lifecycle, record, volume
from pgbaton.lab.image import Image
from pgbaton.lab.recipe import system
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets


def lab(tmp_path: Path, *, durable: bool = False) -> record.Lab:
    topology = load.loads(presets.text("standard"))
    return record.describe(topology, ClusterState("trial", tmp_path), system="debian-13", durable=durable)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / volume.POINT.lstrip("/")).mkdir(parents=True)
    return root


async def test_a_volume_is_a_sparse_file_that_is_made_once(tmp_path: Path, root: Path) -> None:
    image = tmp_path / volume.IMAGE
    await volume.make(image, root)
    made = image.stat()
    assert made.st_size == 4 << 30
    assert made.st_blocks * 512 < 8 << 20
    await volume.make(image, root)
    assert image.stat().st_mtime_ns == made.st_mtime_ns
    assert sorted(os.listdir(tmp_path)) == ["root", volume.IMAGE]  # noqa: PTH208 - in a coroutine


async def test_what_an_interrupted_making_left_is_made_anew(tmp_path: Path, root: Path) -> None:
    image = tmp_path / volume.IMAGE
    image.with_suffix(".new").write_text("half of it")
    await volume.make(image, root)
    with image.open("rb") as made:
        made.seek(1024 + 56)
        assert made.read(2) == b"\x53\xef", "the magic number of ext4"


async def test_the_covered_directory_is_made_in_a_bare_root(tmp_path: Path) -> None:
    await volume.make(tmp_path / volume.IMAGE, tmp_path / "bare")
    assert (tmp_path / "bare" / volume.POINT.lstrip("/")).is_dir()


def test_the_volume_of_a_durable_lab_is_with_its_disks(tmp_path: Path) -> None:
    durable, passing = lab(tmp_path, durable=True), lab(tmp_path)
    machine = durable.machine("db1")
    assert disk.volume_image(durable, machine) == tmp_path / "disks" / "db1" / volume.IMAGE
    assert disk.volume_image(passing, machine) == record.RUN / "trial" / "db1" / "disk" / volume.IMAGE


def test_databases_alone_have_volumes_where_they_can_be_made(tmp_path: Path) -> None:
    image = Image(system("debian-13"), tmp_path)
    assigned = lifecycle.assign(lab(tmp_path), image, bare=False)
    with_volume = {each.name for each in assigned.machines if each.volume}
    assert with_volume == ({"db1", "db2", "db3"} if volume.possible() else set())


def test_a_lab_from_before_volumes_goes_on_without(tmp_path: Path) -> None:
    image = Image(system("debian-13"), tmp_path)
    wanted = lifecycle.assign(lab(tmp_path), image, bare=False)
    old = replace(wanted, machines=tuple(replace(each, volume=False, image=str(tmp_path)) for each in wanted.machines))
    data = old.to_json()
    for host in data["hosts"]:
        del host["volume"]
    assert not any(each.volume for each in record.Lab.from_json(data).machines)
    assert not any(each.volume for each in lifecycle.renewed(old, wanted).machines)


def test_a_process_without_the_volume_does_not_see_it() -> None:
    assert not volume.sees(os.getpid(), Path("/nowhere"))
    assert not volume.sees(0, Path(volume.POINT))


async def test_nothing_is_waited_for_where_no_device_has_a_file(tmp_path: Path) -> None:
    await volume.until_gone(tmp_path)
