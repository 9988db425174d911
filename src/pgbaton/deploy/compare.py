"""One host's blueprint against its inventory: the steps that make the one into the other. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pgbaton.components.base import OnChange
from pgbaton.deploy import diff
from pgbaton.deploy.inventory import access
from pgbaton.deploy.steps import DATABASE_UNITS, Cost, Kind, Stage, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pgbaton.blueprint import HostBlueprint, Part
    from pgbaton.components.base import File, Unit
    from pgbaton.deploy.inventory import Inventory, UnitFacts
    from pgbaton.secrets import Vault

STRENGTH = {OnChange.NOTHING: 0, OnChange.RELOAD: 1, OnChange.RESTART: 2}
LEFTOVER = "leftover"


def host_steps(blueprint: HostBlueprint, inventory: Inventory, vault: Vault) -> tuple[Step, ...]:
    """Return everything to do on a host; the texts of what is there now are still to be filled in."""
    files = [step for part in blueprint.parts for step in file_steps(part, inventory, vault)]
    demands = unit_demands(blueprint, files, inventory)
    units = [step for part in blueprint.parts for step in unit_steps(part, inventory, demands)]
    return (*package_steps(blueprint, inventory), *files, *units, *leftovers(blueprint, inventory))


def package_steps(blueprint: HostBlueprint, inventory: Inventory) -> Iterator[Step]:
    """Yield one step for all packages that are missing."""
    missing = [package for package in blueprint.packages if package not in inventory.packages]
    if missing:
        names = " ".join(missing)
        yield Step(Kind.PACKAGES, Stage.PACKAGES, inventory.host, "packages", names, "install", after=names)


def file_steps(part: Part, inventory: Inventory, vault: Vault) -> Iterator[Step]:
    """Yield a step for each file of a component that is missing, or differs in content, mode, owner or group."""
    for file in part.files:
        found = inventory.files.get(file.path)
        wanted = access(file.mode, file.owner, file.group)
        if found is None or found.digest != digest(written(file, vault)) or found.access != wanted:
            yield file_step(part, file, inventory)


def written(file: File, vault: Vault) -> bytes:
    """Return what is written for a file: its bytes, or its text with every secret in the place of its reference."""
    return vault.resolve(file.content).encode() if isinstance(file.content, str) else file.content


def file_step(part: Part, file: File, inventory: Inventory) -> Step:
    """Return the step that writes a file."""
    found = inventory.files.get(file.path)
    return Step(
        Kind.FILE,
        Stage.of(part.wave),
        inventory.host,
        part.component,
        file.path,
        "change" if found else "create",
        cost_of(file.unit, file.on_change, inventory),
        after=file.shown,
        before_digest=found.digest if found else "",
        before_access=found.access if found else "",
        access=access(file.mode, file.owner, file.group),
        secret=diff.wholly_secret(file.shown),
        binary=isinstance(file.content, bytes),
        unit=file.unit or "",
        on_change=file.on_change.value,
    )


def digest(content: str | bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def concerned(unit: str, known: Iterable[str]) -> list[str]:
    """Return the units that a file's unit stands for: itself, or every instance of a template (``name@.service``)."""
    stem, at, _ = unit.partition("@.")
    return [name for name in known if name.startswith(f"{stem}@")] if at else [unit]


def cost_of(unit: str | None, change: OnChange, inventory: Inventory) -> Cost:
    """Return what a change costs that a unit has to hear of; nothing where the unit does not run."""
    if not any(inventory.unit(name).running for name in concerned(unit or "", inventory.units)):
        return Cost.NOTHING
    if change is OnChange.RESTART and unit in DATABASE_UNITS and inventory.server == "primary":
        return Cost.SWITCHOVER
    return Cost(STRENGTH[change])


def unit_demands(blueprint: HostBlueprint, files: list[Step], inventory: Inventory) -> dict[str, OnChange]:
    """Return by unit the strongest thing that changed files, or an interrupted apply's, ask of it."""
    known = [unit.name for unit in blueprint.units]
    asked = [(name, OnChange(step.on_change)) for step in files for name in concerned(step.unit, known)]
    asked += [(unit, OnChange(change)) for unit, change in inventory.waiting.items()]
    demands: dict[str, OnChange] = {}
    for unit, change in asked:
        demands[unit] = max(demands.get(unit, OnChange.NOTHING), change, key=STRENGTH.__getitem__)
    return demands


def unit_steps(part: Part, inventory: Inventory, demands: Mapping[str, OnChange]) -> Iterator[Step]:
    """Yield a step for each unit of a component that is not as it should be, or has to hear of changed files."""
    for unit in part.units:
        facts = inventory.unit(unit.name)
        demand = demands.get(unit.name, OnChange.NOTHING)
        actions = unit_actions(unit, facts, demand)
        if actions:
            cost = Cost.NOTHING if unit.masked else cost_of(unit.name, demand, inventory)
            wanted = "masked" if unit.masked else "enabled, active"
            place = (Stage.of(part.wave), inventory.host, part.component, unit.name)
            yield Step(Kind.UNIT, *place, ", ".join(actions), cost, before=describe(facts), after=wanted)


def unit_actions(unit: Unit, facts: UnitFacts, demand: OnChange) -> tuple[str, ...]:
    """Return what to tell systemd, in order."""
    if unit.masked:
        return () if facts.masked and not facts.running else ("mask",)
    actions = [action for action, needed in (("unmask", facts.masked), ("enable", not facts.enabled)) if needed]
    if not facts.running:
        actions.append("start")
    elif demand is not OnChange.NOTHING:
        actions.append(demand.value)
    elif facts.needs_reload:
        actions.append("daemon-reload")
    return tuple(actions)


def describe(facts: UnitFacts) -> str:
    """Return a unit's state in two words."""
    if facts.load == "not-found":
        return "not there"
    return f"{facts.enablement or 'disabled'}, {facts.active}"


def leftovers(blueprint: HostBlueprint, inventory: Inventory) -> Iterator[Step]:
    """Yield what pgbaton once put on the host and the blueprint no longer has: units to stop, files to remove."""
    if inventory.manifest is None:
        return
    yield from leftover_units(blueprint, inventory)
    place = (Stage.LEFTOVERS, inventory.host, LEFTOVER)
    for path in set_aside(inventory.manifest.files, {file.path for file in blueprint.files}):
        found = inventory.files.get(path)
        if found:
            yield Step(Kind.REMOVE_FILE, *place, path, "remove", before_digest=found.digest, before_access=found.access)


def leftover_units(blueprint: HostBlueprint, inventory: Inventory) -> Iterator[Step]:
    """Yield what stops the units that pgbaton once brought up and the blueprint no longer has."""
    earlier = inventory.manifest.units if inventory.manifest else ()
    for name in set_aside(earlier, {unit.name for unit in blueprint.units}):
        facts = inventory.unit(name)
        if facts.running or (facts.enabled and facts.load != "not-found"):
            cost = cost_of(name, OnChange.RESTART, inventory)
            place = (Stage.LEFTOVERS, inventory.host, LEFTOVER, name)
            yield Step(Kind.UNIT, *place, "disable", cost, describe(facts), "disabled, inactive")


def set_aside(earlier: tuple[str, ...] | Mapping[str, str], wanted: set[str]) -> list[str]:
    """Return what was there earlier and is no longer wanted."""
    return sorted(set(earlier) - wanted)
