"""The store: one folder a run, one folder a trial in it, so that what was shown can be looked at and checked again.

A run's folder has ``run.json``, ``report.html`` and ``junit.xml``; a trial's what is named in FILES. Histories and
logs are compressed: ``zcat`` shows them. Nothing secret is in any of them.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import shutil
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgbaton import state as states
from pgbaton.errors import Error, RefusedError, UsageError
from pgbaton.proof import edn
from pgbaton.proof.history import History, parse
from pgbaton.proof.results import RunResult, TrialResult
from pgbaton.proof.story import Story

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RUN = "run.json"
PAGE = "report.html"
JUNIT = "junit.xml"
#: What a trial's folder has, and what it is for.
FILES = {
    "trial.json": "the measurement and the verdict",
    "story.json": "what happened when, on the history's clock",
    "topology.toml": "the cluster's topology",
    "faults.jsonl": "the journal of the fault: what was done and when",
    "history.jsonl.gz": "every operation of every client",
    "history-WORKLOAD.edn.gz": "the same in Jepsen's form, for elle and knossos",
    "logs/HOST.log.gz": "each host's journal since the fault",
}
HISTORY = "history.jsonl"


@dataclass(frozen=True)
class StoredRun:
    """A run's folder."""

    path: Path

    @property
    def name(self) -> str:
        """Return the name by which commands know the run."""
        return self.path.name

    @property
    def page(self) -> Path:
        """Return the path of the report's page."""
        return self.path / PAGE

    def result(self) -> RunResult:
        """Return what the run came to, so far; raises Error for a file that is not one of ours."""
        file = self.path / RUN
        try:
            result = RunResult.from_dict(json.loads(file.read_text(encoding="utf-8")))
            result.to_dict()  # looks at every value, so that a wrong one is met here
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"not the record of a run: {type(error).__name__}: {error}"
            raise Error(message, where=str(file), hint="pgbaton report list shows the runs that are stored") from None
        return result

    def save(self, result: RunResult) -> None:
        """Write what the run came to, in one piece."""
        states.write_private(self.path / RUN, dump(result.to_dict()))

    def discard(self) -> None:
        """Remove a run that showed nothing at all."""
        shutil.rmtree(self.path)

    def folder(self, trial: TrialResult) -> Path:
        """Return a trial's folder."""
        return self.path / trial.folder

    def begin_trial(self, name: str) -> Path:
        """Make and return the folder of the next trial."""
        trials = self.path / "trials"
        numbers = [int(number) for path in trials.glob("*-*") if (number := path.name.partition("-")[0]).isdecimal()]
        folder = trials / f"{max(numbers, default=0) + 1:03d}-{name}"
        folder.mkdir(mode=0o700, parents=True)
        return folder

    def story(self, trial: TrialResult) -> Story | None:
        """Return a trial's course, None when it was not kept or is damaged."""
        file = self.folder(trial) / "story.json"
        try:
            return Story.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def history(self, trial: TrialResult) -> History | None:
        """Return a trial's history, None when it was not kept or is damaged."""
        file = self.folder(trial) / f"{HISTORY}.gz"
        try:
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                return parse(lines)
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, Error):
            return None


def directory() -> Path:
    """Return where all runs are kept."""
    return states.home() / "proofs"


@contextmanager
def alone(label: str, *, command: str = "prove", option: str = "--name") -> Iterator[None]:
    """Keep others from proving the same cluster at the same time; raises RefusedError while one does.

    Two proofs would break each other's faults and tables, and one would take the other's lab for a left-over.
    ``command`` is told to those that come meanwhile, ``option`` is the one by which they can name another lab.
    """
    directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory() / f".{label}.lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            message = f"another pgbaton {file.read().strip() or command} is at work on {label}"
            raise RefusedError(message, hint=f"wait for it to end; or make a lab of another {option}") from None
        file.truncate(0)
        file.write(command)
        file.flush()
        yield


def create(label: str) -> StoredRun:
    """Make the folder of a new run, named by the time and what is put to the proof."""
    begun = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        path = directory() / f"{begun}-{label}{suffix}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        (path / "trials").mkdir(mode=0o700)
        return StoredRun(path)
    message = "no free name for the run's folder"
    raise Error(message, where=str(directory()))


def runs() -> tuple[StoredRun, ...]:
    """Return all runs, the newest first."""
    return tuple(StoredRun(file.parent) for file in sorted(directory().glob(f"*/{RUN}"), reverse=True))


def find(name: str | None) -> StoredRun:
    """Return a run by its name, the beginning of it, or its path; the newest for None. Raises UsageError."""
    if name is not None and (Path(name) / RUN).is_file():
        return StoredRun(Path(name).resolve())
    stored = runs()
    exact = [run for run in stored if run.name == name]
    fitting = exact or [run for run in stored if name is None or run.name.startswith(name)]
    if not fitting or (name is not None and len(fitting) > 1):
        among = ", ".join(run.name for run in (fitting or stored)[:5]) or "none"
        begun = "several runs begin with" if fitting else "no run begins with"
        message = "no run is stored" if name is None else f"{begun} {name}"
        raise UsageError(message, hint=f"stored: {among}; pgbaton prove makes one, pgbaton report list shows all")
    return fitting[0]


def dump(data: Any) -> str:  # noqa: ANN401 - anything JSON can carry
    """Return data as the JSON that is stored."""
    return json.dumps(data, indent=1, default=str) + "\n"


def write(folder: Path, name: str, data: Any) -> None:  # noqa: ANN401 - anything JSON can carry
    """Write a JSON file into a folder."""
    (folder / name).write_text(dump(data), encoding="utf-8")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a compressed text file."""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=4) as file:
        file.writelines(lines)


def keep_history(folder: Path, history: History) -> None:
    """Compress the meter's log, and write the history in Jepsen's form beside it."""
    log = folder / HISTORY
    with log.open(encoding="utf-8") as lines:
        write_lines(folder / f"{HISTORY}.gz", lines)
    log.unlink()
    for workload in dict.fromkeys(operation.workload for operation in history.operations):
        lines_of = (f"{line}\n" for line in edn.edn(history, workload))
        write_lines(folder / f"history-{workload}.edn.gz", lines_of)


def keep_logs(folder: Path, logs: Mapping[str, str]) -> None:
    """Write each host's log."""
    (folder / "logs").mkdir(exist_ok=True)
    for host, text in logs.items():
        write_lines(folder / "logs" / f"{host}.log.gz", (text,))
