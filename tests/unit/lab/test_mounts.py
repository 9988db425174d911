from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.lab import mounts
from pgbaton.lab.mounts import Mount

if TYPE_CHECKING:
    import pytest

LINE = (
    r"36 35 98:0 / /run/a\040b rw,noatime master:1 propagate_from:2 - overlay none "
    r"rw,lowerdir=/cache/x/root:/other,upperdir=/u,workdir=/w"
)


def test_a_line_of_mountinfo_is_read_whatever_optional_fields_it_has() -> None:
    assert mounts.parse(LINE).point == Path("/run/a b")
    assert mounts.parse(LINE).kind == "overlay"
    assert mounts.parse("1 2 0:1 / /proc rw - proc proc rw").point == Path("/proc")


def test_this_machine_has_its_root_mounted() -> None:
    assert Path("/") in {mount.point for mount in mounts.mounts()}


def test_what_is_below_a_directory_comes_in_the_order_to_unmount(monkeypatch: pytest.MonkeyPatch) -> None:
    points = ["/run/lab", "/run/lab/disk", "/run/laboratory", "/run/lab/root"]
    monkeypatch.setattr(mounts, "mounts", lambda: tuple(Mount(Path(point), "tmpfs", "rw") for point in points))
    assert mounts.below(Path("/run/lab")) == tuple(map(Path, ("/run/lab/root", "/run/lab/disk", "/run/lab")))


def test_all_lower_layers_of_overlays_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: (mounts.parse(LINE), Mount(Path("/t"), "tmpfs", "lowerdir=/no")))
    assert mounts.layers() == (Path("/cache/x/root"), Path("/other"))
