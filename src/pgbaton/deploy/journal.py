"""What an apply did and when, on the operator's machine: one JSON object a line, on the disk before the next step."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pgbaton.deploy.steps import Plan
from pgbaton.errors import UsageError
from pgbaton.state import read_json, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgbaton.state import ClusterState

PLAN_SUFFIX = ".plan.json"


@dataclass(frozen=True)
class Journal:
    """The journal of one apply; without a path, of one that has nothing to do."""

    path: Path | None

    def record(self, event: str, **details: object) -> None:
        """Add one line and see it on the disk."""
        if self.path is None:
            return
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **details})
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def during(self, what: str, **details: object) -> Iterator[None]:
        """Record that something begins, and that it is done or how it failed."""
        self.record("begun", what=what, **details)
        try:
            yield
        except BaseException as error:
            self.record("failed", what=what, **details, error=str(error) or type(error).__name__)
            raise
        self.record("done", what=what, **details)

    def read(self) -> tuple[dict[str, Any], ...]:
        """Return all lines; one that a crash cut short is left out."""
        if self.path is None or not self.path.exists():
            return ()
        return tuple(filter(None, map(_line, self.path.read_text(encoding="utf-8").splitlines())))


NONE = Journal(None)


def _line(text: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return found


def begin(state: ClusterState, plan: Plan) -> Journal:
    """Save a plan and open its journal."""
    state.create()
    write_private(plan_path(state, plan.id), json.dumps(plan.to_json(), indent=1) + "\n")
    journal = Journal(state.journal_directory / f"{plan.id}.jsonl")
    journal.record("plan", cluster=plan.cluster, steps=len(plan.steps), cost=plan.cost.label)
    return journal


def plan_path(state: ClusterState, plan_id: str) -> Path:
    """Return where a plan is saved."""
    return state.journal_directory / f"{plan_id}{PLAN_SUFFIX}"


def last_plan(state: ClusterState) -> Plan | None:
    """Return the plan of the last apply that began, finished or not; None when there was none."""
    paths = sorted(state.journal_directory.glob(f"*{PLAN_SUFFIX}"))
    return load_plan(paths[-1]) if paths else None


def load_plan(path: Path) -> Plan:
    """Read a saved plan; raises UsageError when the file is not one."""
    try:
        return Plan.from_json(read_json(path))
    except (KeyError, TypeError, ValueError, OSError) as error:
        message = f"not a plan that this version can read ({type(error).__name__}: {error})"
        raise UsageError(message, where=str(path), hint="make one with: pgbaton plan --save FILE") from None


def unfinished(state: ClusterState) -> tuple[str, ...]:
    """Return what the last apply had begun and not done, when it did not come to its end."""
    plan = last_plan(state)
    if plan is None:
        return ()
    lines = Journal(state.journal_directory / f"{plan.id}.jsonl").read()
    if any(line["event"] == "end" for line in lines):
        return ()
    begun = [_name(line) for line in lines if line["event"] == "begun"]
    done = {_name(line) for line in lines if line["event"] == "done"}
    return tuple(name for name in begun if name not in done) or ("its last wave",)


def _name(line: dict[str, Any]) -> str:
    return " on ".join(str(line[key]) for key in ("what", "host") if line.get(key))
