"""Faults under way: noted beside the cluster before they are struck, and crossed out once they are undone.

A run that is killed undoes nothing. The next one on the same cluster finds its note, says so, and undoes the fault. A
lab that is taken down takes its notes with it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error
from pgbaton.proof import faults, soak
from pgbaton.proof.faults.base import Strike, nothing
from pgbaton.proof.finishing import to_the_end
from pgbaton.proof.target import Roles
from pgbaton.state import read_json, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgbaton.proof.faults.base import Fault
    from pgbaton.proof.target import Target


@dataclass(frozen=True)
class Note:
    """A fault that was struck and not undone: on which hosts, and since when (ISO 8601)."""

    path: Path
    fault: Fault
    hosts: tuple[str, ...]
    since: str
    before: Roles

    def __str__(self) -> str:
        """Return it in a sentence."""
        since = f"{datetime.fromisoformat(self.since):%-d %B %Y, %H:%M:%S %Z}"
        where = ", ".join(self.hosts)
        return f"{self.fault.name} was struck on {where} at {since}, and never undone: {self.fault.does}"


def begin(fault: Fault, strike: Strike) -> Path | None:
    """Note a fault that is about to be struck; None for one that leaves nothing to undo. Raises Error if it cannot."""
    if fault.heal is nothing:
        return None
    directory = notes(strike.target)
    path = directory / f"{time.time_ns()}-{fault.name}.json"
    since = datetime.now(UTC).isoformat(timespec="seconds")
    data = {"fault": fault.name, "hosts": strike.hosts, "since": since, "before": asdict(strike.before)}
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, json.dumps(data) + "\n")
    except OSError as error:
        message = f"a fault that cannot be noted is not struck: {error.strerror or error}"
        raise Error(message, where=str(path), hint="make room there, or make it writable") from error
    return path


async def undo(fault: Fault, strike: Strike, note: Path | None) -> None:
    """Undo a fault, and cross it out once it is undone."""
    await fault.heal(strike)
    cross_out(note)


def cross_out(note: Path | None) -> None:
    """Remove a note, if one was made."""
    if note is not None:
        note.unlink(missing_ok=True)


def notes(target: Target) -> Path:
    """Return the directory where faults of a cluster are noted."""
    return target.directory / "under-way"


def left(target: Target) -> tuple[tuple[Note, ...], tuple[Path, ...]]:
    """Return the faults that were left on a cluster, and the notes that nothing can be made of."""
    known, unknown = [], []
    for path in sorted(notes(target).glob("*.json")):
        try:
            known.append(parse(path, read_json(path), target))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, Error):
            unknown.append(path)
    return tuple(known), tuple(unknown)


def parse(path: Path, data: Mapping[str, Any], target: Target) -> Note:
    """Read a note; raises UsageError, ValueError, KeyError or TypeError for one that nothing can be made of."""
    fault = undoing(data["fault"])
    hosts = tuple(data["hosts"])
    if not hosts or not all(target.topology.has_host(name) for name in hosts):
        message = "not the hosts of this cluster"
        raise ValueError(message)
    datetime.fromisoformat(data["since"])
    before: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data["before"].items()}
    return Note(path, fault, hosts, data["since"], Roles(**before))


def undoing(name: str) -> Fault:
    """Return a fault by name, for its undoing: that of a soak is the same however long it was to last.

    Raises UsageError for a name that is none.
    """
    made = {fault.name: fault for fault in soak.faults_of(0)}
    return made[name] if name in made else faults.named([name])[0]


async def undo_left(target: Target) -> bool:
    """Tell of the faults that were left on a cluster, and undo them; tell whether there were any.

    One that cannot be undone is told of, and stays noted.
    """
    known, unknown = left(target)
    for note in known:
        target.report(f"{note}; undoing it now")
        strike = Strike(target, note.hosts, note.before, Random(0))  # noqa: S311 - nothing is chosen any more
        try:
            await to_the_end(undo(note.fault, strike, note.path))
        except Error as error:
            target.report(f"{note.fault.name} could not be undone: {error}")
    for path in unknown:
        target.report(f"{path} tells of a fault that was left, and is of no use: undo it by hand, and remove the file")
    return bool(known)
