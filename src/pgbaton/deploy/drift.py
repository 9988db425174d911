"""Before anything is touched: is everything still as the plan saw it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.deploy import inventory
from pgbaton.deploy.gate import together
from pgbaton.deploy.steps import Kind
from pgbaton.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.blueprint import Blueprint, HostBlueprint
    from pgbaton.deploy.inventory import Inventory
    from pgbaton.deploy.steps import Plan, Step
    from pgbaton.hosts.base import Host

FILES = frozenset({Kind.FILE, Kind.REMOVE_FILE})


async def check(plan: Plan, blueprint: Blueprint, hosts: Mapping[str, Host]) -> None:
    """Raise RefusedError that names every file that is no longer what the plan saw, here or on any host."""
    for step in plan.steps:
        if step.binary:
            binary(step, blueprint.host(step.host))
    affected = sorted({step.host for step in plan.steps if step.kind in FILES})
    found = await together(*(look(plan, hosts[host]) for host in affected))
    changed = [f"{each.host}: {path}" for each in found for path in changes(plan.steps, each)]
    if changed:
        message = "\n  ".join(["changed since the plan was made:", *changed])
        raise RefusedError(message, hint="make a new plan, and look at it")


def binary(step: Step, blueprint: HostBlueprint) -> bytes:
    """Return the binary file that a step writes; raises RefusedError when it is not the one that the plan saw."""
    for file in blueprint.files:
        if file.path == step.subject and file.shown == step.after and isinstance(file.content, bytes):
            return file.content
    message = f"{step.subject} is not the file that the plan saw: another version of pgbaton made the plan"
    raise RefusedError(message, where=step.host, hint="make a new plan, and look at it")


async def look(plan: Plan, host: Host) -> Inventory:
    """Look at the files of a host that a plan changes."""
    paths = [step.subject for step in plan.steps if step.host == host.name and step.kind in FILES]
    return await inventory.take(host, "".join(f"file {path}\n" for path in paths))


def changes(steps: Iterable[Step], found: Inventory) -> list[str]:
    """Return the files of one host that are not what the plan saw."""
    return [
        step.subject
        for step in steps
        if step.kind in FILES and step.host == found.host and digest_of(found, step.subject) != step.before_digest
    ]


def digest_of(found: Inventory, path: str) -> str:
    """Return the digest of a file; empty when it is missing."""
    facts = found.files.get(path)
    return facts.digest if facts else ""
