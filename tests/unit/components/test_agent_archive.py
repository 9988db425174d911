"""The agent as one file: always the same bytes, and a program that runs where there is nothing else of ours."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import pgbaton
from pgbaton.components import archive

SOURCES = Path(pgbaton.__file__).parent


def pythons() -> list[str]:
    """The interpreters of this machine that are as old or as new as those of the hosts."""
    names = ("python3", "python3.11", "python3.12", "python3.13")
    homes = (Path.home() / ".pyenv" / "versions").glob("3.1[1-3]*/bin/python3")
    found = [path for name in names if (path := shutil.which(name))] + [str(path) for path in homes]
    runs = "import sys, asyncio, ssl; sys.exit(sys.version_info < (3, 11))"
    return [
        each
        for each in dict.fromkeys(found)
        if subprocess.run((each, "-I", "-c", runs), check=False, capture_output=True, timeout=60).returncode == 0
    ]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "agent.pyz"
    path.write_bytes(archive.build())
    return path


def test_two_builds_are_the_same_bytes() -> None:
    first = archive.build()
    archive.build.cache_clear()
    assert archive.build() == first


def test_an_archive_depends_on_names_and_contents_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = archive.build()
    turned = dict(reversed(archive.sources().items()))
    monkeypatch.setattr(archive, "sources", lambda: turned)
    archive.build.cache_clear()
    assert archive.build() == first
    archive.build.cache_clear()


def test_the_archive_has_the_agents_own_sources_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(archive.build())) as opened:
        names = opened.namelist()
        assert opened.testzip() is None
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in opened.infolist())
        assert all(info.compress_type == zipfile.ZIP_STORED for info in opened.infolist())
        assert opened.read("pgbaton/agent/settings.py") == (SOURCES / "agent" / "settings.py").read_bytes()
    modules = {f"pgbaton/{path.relative_to(SOURCES)}" for path in (SOURCES / "agent").rglob("*.py")}
    assert set(names) == {"__main__.py", "pgbaton/__init__.py", *modules}
    assert names == sorted(names)


def test_the_package_around_the_agent_imports_nothing() -> None:
    assert "import" not in (SOURCES / "__init__.py").read_text(encoding="utf-8")


def test_it_begins_with_its_interpreter() -> None:
    assert archive.build().startswith(b"#!/usr/bin/python3\nPK\x03\x04")


@pytest.mark.parametrize("python", pythons())
def test_it_runs_alone(python: str, program: Path) -> None:
    ran = subprocess.run(
        (python, "-I", program, "--version"), check=False, capture_output=True, text=True, timeout=60, cwd="/"
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"pgbaton-agent {pgbaton.__version__}\n", "")
