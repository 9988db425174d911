"""The page of everything that is put on hosts, from the blueprint of a preset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton import blueprint
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.blueprint import Part
    from pgbaton.components.base import File

HEAD = """# Files and units on the hosts

What an apply of the preset `standard` puts on its hosts, by component; `pgbaton render` shows the files themselves, for
any topology. Everything here belongs to pgbaton: changes made by hand are shown by `plan` and overwritten by `apply`.
The last column says what a change asks of the unit that reads the file.
"""


def page() -> str:
    """Return the page."""
    drawn = blueprint.draw(load.loads(presets.text("standard")))
    parts: dict[str, list[tuple[str, Part]]] = {}
    for host in drawn.hosts:
        for part in host.parts:
            parts.setdefault(part.component, []).append((host.host, part))
    return "\n".join([HEAD, *(section(name, found) for name, found in parts.items())])


def section(name: str, found: list[tuple[str, Part]]) -> str:
    """Return a component's section: where it is, its packages, units and files."""
    hosts = ", ".join(host for host, _ in found)
    packages = names(package for _, part in found for package in part.packages)
    units = names(unit.name + (" (masked)" if unit.masked else "") for _, part in found for unit in part.units)
    files = {file.path: file for _, part in found for file in part.files}
    lines = [f"## {name}\n", f"On {hosts}.\n"]
    lines += [f"Packages: {packages}.\n"] if packages else []
    lines += [f"Units: {units}.\n"] if units else []
    if files:
        rows = "".join(row(file) for file in files.values())
        lines.append(f"| file | mode | owner | a change asks for |\n|---|---|---|---|\n{rows}")
    return "\n".join(lines)


def names(values: Iterator[str]) -> str:
    """Return names as code, each once, in the order in which they came."""
    return ", ".join(f"`{value}`" for value in dict.fromkeys(values))


def row(file: File) -> str:
    """Return a file's row of the table."""
    effect = f"{file.on_change} of `{file.unit}`" if file.unit and file.on_change != "nothing" else "nothing"
    return f"| `{file.path}` | {file.mode:04o} | {file.owner}:{file.group} | {effect} |\n"
