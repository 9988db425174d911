"""What is mounted on this machine, from the kernel's own list."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5))."""

    point: Path
    kind: str
    options: str


def mounts() -> tuple[Mount, ...]:
    """Return all mounts, in the order they were made."""
    return tuple(map(parse, Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()))


def parse(line: str) -> Mount:
    """Read one line; the optional fields end at a lone hyphen."""
    left, _, right = line.partition(" - ")
    kind, _, options = right.split(" ", 2)
    return Mount(Path(unescape(left.split(" ")[4])), kind, unescape(options))


def unescape(text: str) -> str:
    r"""Undo the kernel's octal escapes, as ``\040`` for a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def below(directory: Path) -> tuple[Path, ...]:
    """Return the mount points at and below a directory, the last mounted first."""
    points = [mount.point for mount in mounts() if mount.point.is_relative_to(directory)]
    return tuple(reversed(points))


def layers() -> tuple[Path, ...]:
    """Return the lower layers of all overlays."""
    lowers = (re.findall(r"lowerdir\+?=([^,]+)", mount.options) for mount in mounts() if mount.kind == "overlay")
    return tuple(Path(layer) for found in lowers for lower in found for layer in lower.split(":"))
