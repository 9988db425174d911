"""What one host is asked to carry out in one wave: built from the plan's steps, with secrets in their places. Pure."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from pgbaton.deploy import drift
from pgbaton.deploy.compare import digest
from pgbaton.deploy.steps import Kind, Stage, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbaton.blueprint import HostBlueprint
    from pgbaton.components.base import Check
    from pgbaton.deploy.steps import Plan, PlannedWave
    from pgbaton.secrets import Vault

PATH = re.compile(r"\{(/[^{}]+)\}")


def build(plan: Plan, wave: PlannedWave, host: str, blueprint: HostBlueprint, vault: Vault) -> dict[str, Any]:
    """Return the request for a host's share of a wave. It holds secrets: it goes over standard input only."""
    steps = wave.of(host)
    parts = [part for part in blueprint.parts if Stage.of(part.wave) is wave.stage]
    # A package that this very apply installed may have brought a file that the plan did not see.
    installs = any(step.kind is Kind.PACKAGES and step.host == host for step in plan.steps)
    return {
        "plan": plan.id,
        "cluster": plan.cluster,
        "files": [
            file_entry(step, blueprint, vault) | {"may_appear": installs and not step.before_digest}
            for step in steps
            if step.kind is Kind.FILE
        ],
        "remove": [entry(step) | {"after": ""} for step in steps if step.kind is Kind.REMOVE_FILE],
        "checks": [check_entry(check) for part in parts for check in part.checks],
        "units": unit_entries(steps, [unit.name for part in parts for unit in part.units]),
        "addresses": [step.subject for step in steps if step.kind is Kind.ADDRESS],
        "manifest": {
            "files": [file.path for part in parts for file in part.files],
            "units": [unit.name for part in parts for unit in part.units if not unit.masked],
        },
    }


def entry(step: Step) -> dict[str, Any]:
    """Return what is asked of any file: where it is, what it was, who has to hear of it."""
    return {
        "path": step.subject,
        "before": step.before_digest,
        "stage": step.stage.name.lower(),
        "component": step.component,
        "unit": step.unit,
        "on_change": step.on_change,
        "secret": step.secret,
    }


def file_entry(step: Step, blueprint: HostBlueprint, vault: Vault) -> dict[str, Any]:
    """Return a file to write: its content, or the copy on the host that it comes from."""
    common = entry(step) | {"access": step.access, "source": step.source}
    if step.source:
        return common
    content = drift.binary(step, blueprint) if step.binary else vault.resolve(step.after).encode()
    return common | {"after": digest(content), "content": base64.b64encode(content).decode()}


def check_entry(check: Check) -> dict[str, Any]:
    """Return a validator to run, and the files that it is about."""
    paths = list(dict.fromkeys(path for word in check.argv for path in PATH.findall(word)))
    return {"argv": list(check.argv), "user": check.user, "paths": paths}


def unit_entries(steps: Sequence[Step], order: list[str]) -> list[dict[str, Any]]:
    """Return what to tell units, in the order in which they are to be started."""
    wanted = [step for step in steps if step.kind is Kind.UNIT]
    wanted.sort(key=lambda step: order.index(step.subject) if step.subject in order else len(order))
    return [{"name": step.subject, "actions": list(step.actions)} for step in wanted]
