"""Build and cache the images that machines are laid over."""

from __future__ import annotations

import asyncio
import fcntl
import shlex
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.errors import CommandError, RefusedError, UnreachableError
from pgbaton.hosts import process
from pgbaton.lab import capabilities, recipe
from pgbaton.lab.mounts import below, layers
from pgbaton.state import cache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pgbaton.lab.recipe import System

#: How long one build may take, and how long to wait for another one's end, in seconds.
BUILD_SECONDS = 1_200


@dataclass(frozen=True)
class Image:
    """An operating system's roots, full and bare, and the packages the full one is made of."""

    system: System
    directory: Path

    @property
    def root(self) -> Path:
        """Return the root that has every package."""
        return self.directory / "root"

    @property
    def bare(self) -> Path:
        """Return the root of a freshly installed server."""
        return self.directory / "bare"

    @property
    def packages(self) -> Path:
        """Return the repository of packages."""
        return self.directory / "packages"


def of(system: System) -> Image:
    """Return where the image of an operating system is, or would be."""
    return Image(system, directory() / f"{system.name}-{recipe.fingerprint(system)}")


def directory() -> Path:
    """Return where images are kept."""
    return cache() / "images"


async def ensure(system: System, *, report: Callable[[str], None], bare: bool = False, refresh: bool = False) -> Image:
    """Return an image, built first when it is not there; ``refresh`` builds it in any case.

    Raises MissingCapabilityError without the programs for it, RefusedError when a lab uses what is to be replaced.
    """
    image = of(system)
    if not refresh and image.root.is_dir() and (image.bare.is_dir() or not bare):
        return image
    await capabilities.require_for_images()
    async with exclusive(system, report):
        await discard_unfinished(system)
        if refresh:
            await discard(image)
        if not image.root.is_dir():
            await build(image, report)
            await prune(image)
        if bare and not image.bare.is_dir():
            await build_bare(image, report)
    return image


async def build(image: Image, report: Callable[[str], None]) -> None:
    """Build the full root and keep its packages; nothing is seen of it before it is complete."""
    report(f"image {image.system.name}: building (a minute or two, once)")
    work = unfinished(image)
    work.mkdir(parents=True)
    keep = recipe.KEEP.format(target=shlex.quote(str(work / "packages")))
    hooks = (f"--essential-hook={recipe.NO_MAIN_CLUSTER}", f"--customize-hook={keep}", script(work, recipe.finish()))
    include = recipe.packages(image.system)
    await mmdebstrap(*hooks, "--skip=essential/unlink", include=include, into=(image.system.suite, str(work / "root")))
    await process.run("sh", "-c", recipe.INDEX, "sh", str(work / "packages"), timeout=BUILD_SECONDS)
    work.rename(image.directory)
    report(f"image {image.system.name}: ready in {image.directory}")


async def build_bare(image: Image, report: Callable[[str], None]) -> None:
    """Build the bare root beside the full one, out of the packages kept from that."""
    report(f"image {image.system.name}: building its bare root")
    work = unfinished(image)
    work.mkdir(parents=True)
    repository = recipe.repository(shlex.quote(str(image.packages)))
    hooks = (script(work, recipe.finish()), script(work, repository, name="repository"), "--skip=cleanup/apt/lists")
    mirror = f"deb [trusted=yes] copy://{image.packages} ./"
    await mmdebstrap(*hooks, include=recipe.BASE, into=("", str(work / "bare"), mirror))
    (work / "bare").rename(image.bare)
    await remove(work)
    report(f"image {image.system.name}: bare root ready in {image.bare}")


async def mmdebstrap(*options: str, include: tuple[str, ...], into: tuple[str, ...]) -> None:
    """Run mmdebstrap, its mounts unseen by the rest of this machine and gone with it."""
    argv = ("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(include)}", *options)
    try:
        await process.run("unshare", "--mount", "--", *argv, *into, timeout=BUILD_SECONDS)
    except CommandError as error:
        hint = "does `apt-get update` work on this machine? The image is made of packages from the same mirrors"
        raise CommandError(error.message, where="lab image", hint=hint) from None


def script(work: Path, text: str, *, name: str = "finish") -> str:
    """Write a script into the work directory and return the option that has it run on the new root."""
    path = work / f"{name}.sh"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return f"--customize-hook={path}"


def unfinished(image: Image) -> Path:
    """Return where an image is while it is being built."""
    return image.directory.with_name(f".{image.directory.name}.unfinished")


async def discard_unfinished(system: System) -> None:
    """Remove what an interrupted build left."""
    for path in directory().glob(f".{system.name}-*.unfinished"):
        await remove(path)


async def discard(image: Image) -> None:
    """Remove an image; raises RefusedError while a lab's machines are laid over it."""
    if in_use(image.directory):
        message = f"machines of a lab are laid over {image.directory}"
        raise RefusedError(message, hint="take the lab down first: pgbaton lab down")
    if image.directory.exists():
        gone = unfinished(image)
        image.directory.rename(gone)
        await remove(gone)


async def prune(image: Image) -> None:
    """Remove images of the same system that were made by other recipes and that no lab uses."""
    for path in directory().glob(f"{image.system.name}-*"):
        if path != image.directory and not in_use(path):
            await remove(path)


def in_use(path: Path) -> bool:
    """Tell whether any mounted overlay has a layer in a directory."""
    return any(layer.is_relative_to(path) for layer in layers())


async def remove(path: Path) -> None:
    """Remove a directory tree; raises RefusedError when something is mounted in it."""
    if mounted := below(path):
        message = f"{mounted[0]} is mounted, so {path} is not removed"
        raise RefusedError(message, hint=f"umount {mounted[0]}")
    await process.run("rm", "-rf", "--one-file-system", "--", str(path), timeout=BUILD_SECONDS)


@asynccontextmanager
async def exclusive(system: System, report: Callable[[str], None]) -> AsyncIterator[None]:
    """Hold the right to build images of a system; waits while another process does."""
    directory().mkdir(parents=True, exist_ok=True)
    with (directory() / f".{system.name}.lock").open("a") as file:
        if not acquired(file.fileno()):
            report(f"image {system.name}: waiting for another command that builds it")
            await acquire(file.fileno())
        yield


async def acquire(descriptor: int) -> None:
    """Wait for a lock on an open file; raises UnreachableError after the time a build may take."""
    for _ in range(BUILD_SECONDS * 2):
        await asyncio.sleep(0.5)
        if acquired(descriptor):
            return
    message = f"another command has been building this image for {BUILD_SECONDS} s"
    raise UnreachableError(message, where=str(directory()), hint="end it, then try again")


def acquired(descriptor: int) -> bool:
    """Try to take the lock on an open file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
