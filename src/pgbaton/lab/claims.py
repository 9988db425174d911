"""Who owns a lab's name on this machine.

Namespaces, mounts and control groups have names that all users of this machine share, but state directories can be
many: the run directory says whose the lab of a name is, so that nobody touches another's.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.errors import RefusedError
from pgbaton.lab import limits, record
from pgbaton.state import read_json

if TYPE_CHECKING:
    from pgbaton.state import ClusterState

OWNER = "owner.json"


def claim(state: ClusterState) -> None:
    """Take a lab's name for a state directory; raises RefusedError when a lab of another one has it."""
    if owner(state.name) is None:
        make(state)
    holder = owner(state.name)
    if holder is None:
        message = f"{record.RUN / state.name} exists, but does not say whose it is"
        raise RefusedError(message, hint="unmount what is mounted in it, then remove it")
    if holder != state.directory:
        message = f"a lab named {state.name} exists already; its state is in {holder}"
        raise RefusedError(message, hint="choose another name with --cluster")


def make(state: ClusterState) -> None:
    """Make the run directory with its owner's name in it, at once: of two commands only one succeeds."""
    record.RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = record.RUN / f".{state.name}.{os.getpid()}"
    draft.mkdir(mode=0o755)
    (draft / OWNER).write_text(json.dumps({"state": str(state.directory)}) + "\n", encoding="utf-8")
    try:
        draft.rename(record.RUN / state.name)
    except OSError:  # the other one was faster
        shutil.rmtree(draft)


def owner(cluster: str) -> Path | None:
    """Return the state directory that a lab's name belongs to, None when the name is free."""
    path = record.RUN / cluster / OWNER
    return Path(read_json(path)["state"]) if path.exists() else None


def owned(state: ClusterState) -> bool:
    """Tell whether what exists under a lab's name belongs to a state directory."""
    return owner(state.name) == state.directory


def orphans() -> tuple[str, ...]:
    """Return the names of labs whose state directory has gone, so that nobody could take them down."""
    names = (path.parent.name for path in record.RUN.glob(f"*/{OWNER}"))
    return tuple(name for name in names if not ((directory := owner(name)) and (directory / "lab.json").exists()))


def release(cluster: str) -> None:
    """Give a lab's name up; nothing may be mounted in its run directory any more."""
    gone = record.RUN / f".{cluster}.{os.getpid()}"
    with suppress(FileNotFoundError):
        (record.RUN / cluster).rename(gone)  # at once: a directory without an owner would be nobody's to remove
    shutil.rmtree(gone, ignore_errors=True)
    limits.restore()
    if record.RUN.is_dir() and not any(record.RUN.iterdir()):
        record.RUN.rmdir()
