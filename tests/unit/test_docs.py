"""Pages written by hand say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgbaton import errors
from pgbaton.topology.model import Balancing, Orchestration, Pooling, Postgresql, Timings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PORTS = {
    name: field.default
    for section in (Balancing, Orchestration, Pooling, Postgresql)
    for name, field in section.model_fields.items()
    if name == "port" or name.endswith("_port")
}


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", Timings.model_fields)
def test_every_timing_is_explained_with_its_default(name: str) -> None:
    defaults = Timings()
    default = defaults.heartbeat_seconds if name == "heartbeat_interval" else getattr(defaults, name)
    assert re.search(rf"^`{name}` = {re.escape(f'{default:g}')}$", page("timings.md"), re.MULTILINE)


@pytest.mark.parametrize("name", PORTS)
def test_every_port_is_listed(name: str) -> None:
    assert re.search(rf"\b{PORTS[name]}\b", page("ports.md"))


def test_every_exit_code_is_listed() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page("exit-codes.md"), re.MULTILINE)}
    kinds = {
        kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Error)
    }
    assert kinds <= listed


def test_every_page_is_linked_from_the_first_one_as_markdown_and_for_sphinx() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")} - {"index"}
    written = {page for page in pages if not page.startswith(("_build/", "reference/generated/"))}
    assert written
    assert [page for page in sorted(written) if f"]({page}.md)" not in index] == []
    assert [page for page in sorted(written) if f"\n{page}\n" not in index] == []


def test_every_variable_that_is_read_is_documented() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    read = {name for text in sources for name in re.findall(r'"(PGBATON_[A-Z_]+|NO_COLOR)"', text)}
    assert {"PGBATON_STATE_HOME", "NO_COLOR"} <= read
    assert [name for name in sorted(read) if f"`{name}`" not in page("environment.md")] == []
