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
    journal = of(state, plan)
    journal.record("plan", cluster=plan.cluster, steps=len(plan.steps), cost=plan.cost.label)
    return journal


def plan_path(state: ClusterState, plan_id: str) -> Path:
    """Return where a plan is saved."""
    return state.journal_directory / f"{plan_id}{PLAN_SUFFIX}"


def last_plan(state: ClusterState) -> Plan | None:
    """Return the plan of the last apply that began, finished or not; None when there was none."""
    paths = plan_paths(state)
    return load_plan(paths[-1]) if paths else None


def plan_paths(state: ClusterState) -> list[Path]:
    """Return where the plans of all applies are saved, the oldest first."""
    return sorted(state.journal_directory.glob(f"*{PLAN_SUFFIX}"))


def is_finished(state: ClusterState, plan: Plan) -> bool:
    """Tell whether the apply of a plan came to its end."""
    return any(line["event"] == "end" for line in of(state, plan).read())


def of(state: ClusterState, plan: Plan) -> Journal:
    """Return the journal of a plan."""
    return Journal(state.journal_directory / f"{plan.id}.jsonl")


def since_last_finished(state: ClusterState) -> tuple[Plan, ...]:
    """Return the last plan, behind those before it that were begun and not finished: together they are one change."""
    found: list[Plan] = []
    for path in reversed(plan_paths(state)):
        plan = load_plan(path)
        if found and is_finished(state, plan):
            break
        found.insert(0, plan)
    return tuple(found)


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
    if plan is None or is_finished(state, plan):
        return ()
    lines = of(state, plan).read()
    done = {_name(line) for line in lines if line["event"] == "done"}
    begun = dict.fromkeys(_name(line) for line in lines if line["event"] == "begun")
    return tuple(name for name in begun if name not in done) or ("the waves after the last one done",)


def _name(line: dict[str, Any]) -> str:
    return " on ".join(str(line[key]) for key in ("what", "host") if line.get(key))
