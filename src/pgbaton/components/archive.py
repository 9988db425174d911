"""The agent as one file: its package in an archive that Python runs. The same sources give the same bytes anywhere."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

INTERPRETER = "/usr/bin/python3"
PACKAGE = "pgbaton"
#: The agent imports nothing of the package around it but the package itself, which has the version.
INSIDE = "agent"
#: What Python runs when it is given the archive.
MAIN = '''"""Run the agent."""

import sys

from pgbaton.agent.__main__ import main

sys.exit(main())
'''
#: Nothing of an archive may depend on when and where it was made: the oldest time that the format knows.
TIME = (1980, 1, 1, 0, 0, 0)
UNIX = 3
MODE = 0o100644


@cache
def build() -> bytes:
    """Return the archive."""
    content = io.BytesIO()
    content.write(f"#!{INTERPRETER}\n".encode())
    # Not compressed: what a compressor makes of the same bytes differs between its versions.
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, text in sorted(sources().items()):
            archive.writestr(entry(name), text)
    return content.getvalue()


def sources() -> dict[str, bytes]:
    """Return all files of the archive by name."""
    package = resources.files(PACKAGE)
    found = {f"{PACKAGE}/__init__.py": package.joinpath("__init__.py").read_bytes(), "__main__.py": MAIN.encode()}
    return found | dict(modules(package.joinpath(INSIDE), f"{PACKAGE}/{INSIDE}"))


def modules(directory: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the Python files of a package and of those within it, by their names in the archive."""
    for child in directory.iterdir():
        if child.is_dir():
            yield from modules(child, f"{name}/{child.name}")
        elif child.name.endswith(".py"):
            yield f"{name}/{child.name}", child.read_bytes()


def entry(name: str) -> zipfile.ZipInfo:
    """Return what the archive says of a file: the same wherever it is built."""
    info = zipfile.ZipInfo(name, TIME)
    info.create_system = UNIX
    info.external_attr = MODE << 16
    return info
