from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pgbaton.errors import RefusedError
from pgbaton.hosts import process
from pgbaton.hosts.process import Result
from pgbaton.lab import capabilities, image, mounts, recipe
from pgbaton.lab.mounts import Mount

SYSTEM = recipe.system("debian-13")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    async def nothing() -> None:
        """Let the test run where images cannot be built."""

    monkeypatch.setenv("PGBATON_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(capabilities, "require_for_images", nothing)
    return tmp_path


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have builds make an empty root, and return what was built."""
    roots: list[str] = []

    async def mmdebstrap(*_: str, include: tuple[str, ...], into: tuple[str, ...]) -> None:
        del include
        await asyncio.sleep(0.01)
        roots.append(into[1])
        make_empty(Path(into[1]))

    run = process.run

    async def without_index(*argv: str, timeout: float) -> Result:
        return Result(argv, 0, "", "") if recipe.INDEX in argv else await run(*argv, timeout=timeout)

    monkeypatch.setattr(image, "mmdebstrap", mmdebstrap)
    monkeypatch.setattr(process, "run", without_index)
    return roots


def make_empty(root: Path) -> None:
    """Make what a build makes, with nothing in it."""
    root.mkdir()
    (root.parent / "packages").mkdir(exist_ok=True)


def quiet(_: str) -> None:
    """Report nothing."""


async def test_an_image_is_built_once(built: list[str]) -> None:
    first = await image.ensure(SYSTEM, report=quiet)
    assert await image.ensure(SYSTEM, report=quiet) == first
    assert first.root.is_dir()
    assert len(built) == 1


async def test_two_commands_at_once_build_one_image(built: list[str]) -> None:
    said: list[str] = []
    await asyncio.gather(image.ensure(SYSTEM, report=said.append), image.ensure(SYSTEM, report=said.append))
    assert len(built) == 1
    assert any("waiting for another command" in line for line in said)


async def test_the_bare_root_is_added_to_the_image(built: list[str]) -> None:
    await image.ensure(SYSTEM, report=quiet)
    made = await image.ensure(SYSTEM, bare=True, report=quiet)
    assert made.bare.is_dir()
    assert len(built) == 2


async def test_what_an_interrupted_build_left_is_removed(built: list[str], cache: Path) -> None:
    left = cache / "images" / ".debian-13-0123456789ab.unfinished"
    (left / "root").mkdir(parents=True)
    await image.ensure(SYSTEM, report=quiet)
    assert not left.exists()
    assert [path.name for path in (cache / "images").glob(".*unfinished")] == []
    assert len(built) == 1


@pytest.mark.usefixtures("built")
async def test_images_of_earlier_recipes_go_unless_a_lab_uses_them(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    unused, used, other = (cache / "images" / name for name in ("debian-13-old", "debian-13-used", "debian-12-old"))
    for path in (unused, used, other):
        path.mkdir(parents=True)
    lower = Mount(Path("/run/root"), "overlay", f"rw,lowerdir={used}/root,upperdir=/u")
    monkeypatch.setattr(mounts, "mounts", lambda: (lower,))
    await image.ensure(SYSTEM, report=quiet)
    assert [path.exists() for path in (unused, used, other)] == [False, True, True]


async def test_refresh_builds_anew_unless_a_lab_uses_the_image(
    built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await image.ensure(SYSTEM, report=quiet)
    await image.ensure(SYSTEM, refresh=True, report=quiet)
    assert len(built) == 2
    lower = Mount(Path("/run/root"), "overlay", f"rw,lowerdir={made.root},upperdir=/u")
    monkeypatch.setattr(mounts, "mounts", lambda: (lower,))
    with pytest.raises(RefusedError, match="laid over"):
        await image.ensure(SYSTEM, refresh=True, report=quiet)
    assert made.root.is_dir()


async def test_nothing_is_removed_while_something_is_mounted_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mounts, "mounts", lambda: (Mount(tmp_path / "tree" / "proc", "proc", "rw"),))
    (tmp_path / "tree").mkdir()
    with pytest.raises(RefusedError, match="is mounted"):
        await image.remove(tmp_path / "tree")
    assert (tmp_path / "tree").exists()
