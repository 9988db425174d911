"""Hosts of PgBouncer with programs that are made up: its console, and what else a script calls there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.hosts.fake import FakeHost

if TYPE_CHECKING:
    from pathlib import Path

#: What runs a program as another user: here as the same.
RUNUSER = '#!/bin/sh\nshift 3\nexec "$@"\n'


def pooler_host(root: Path, name: str, *, programs: dict[str, str], files: dict[str, str]) -> FakeHost:
    """Return a host with programs, and with files beside them that tell these what to do."""
    there = root / name / "fake" / "bin"
    there.mkdir(parents=True)
    for program, text in {"runuser": RUNUSER, **programs}.items():
        (there / program).write_text(text)
        (there / program).chmod(0o755)
    for file, text in files.items():
        (there.parent / file).write_text(text)
    return FakeHost(name, root=root / name)
