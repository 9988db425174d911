"""Reference pages that the code knows better than anybody; written before each build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from generators import commands, faults, hosts, refused, topology

if TYPE_CHECKING:
    from pathlib import Path

PAGES = {
    "commands.md": commands.page,
    "faults.md": faults.page,
    "hosts.md": hosts.page,
    "refused.md": refused.page,
    "topology.md": topology.page,
}


def write(directory: Path) -> None:
    """Write every page; one that would not change keeps its time, so that it is not built again."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        path, text = directory / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
