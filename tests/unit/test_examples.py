"""The programs in examples/clients: each is on a page, and what they need is locked together with the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "clients"
PROGRAMS = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.glob("*/app*.*"))


def pins(lock: str) -> dict[str, set[str]]:
    """Return every version that a lock has of each package."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_there_are_programs() -> None:
    assert len(PROGRAMS) == 6


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_is_shown_whole_on_a_page(program: str) -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "howto").glob("clients-*.md"))
    assert f"{{literalinclude}} ../../examples/clients/{program}\n" in pages


def test_what_both_locks_have_is_the_same_version() -> None:
    clients, rest = pins("requirements-clients.lock"), pins("requirements.lock")
    shared = clients.keys() & rest.keys()
    assert "psycopg" in shared
    assert {name: clients[name] for name in shared} == {name: rest[name] for name in shared}


def test_node_s_packages_are_pinned() -> None:
    asked = json.loads((EXAMPLES / "node" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((EXAMPLES / "node" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in asked} == asked
    assert all(package.get("integrity") for name, package in locked.items() if name)
