"""Take the last apply's configuration back: a plan like any other, made of the copies that the hosts kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgbaton.components.base import OnChange
from pgbaton.deploy import addresses, compare, inventory, objects, plan
from pgbaton.deploy.diff import presentable, text_of
from pgbaton.deploy.gate import together
from pgbaton.deploy.steps import Kind, Stage, Step
from pgbaton.errors import Error, RefusedError
from pgbaton.hosts.files import read_files
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pgbaton.blueprint import Blueprint, HostBlueprint
    from pgbaton.deploy.inventory import Inventory
    from pgbaton.deploy.objects import Desired
    from pgbaton.deploy.steps import Plan
    from pgbaton.hosts.base import Host
    from pgbaton.secrets import Vault
    from pgbaton.topology.model import Topology

#: One file's entry in the index of what a host kept.
Entry = dict[str, Any]


async def make(
    undone: Sequence[Plan],
    topology: Topology,
    blueprint: Blueprint,
    hosts: Mapping[str, Host],
    vault: Vault,
    *,
    desired: Desired | None = None,
) -> Plan:
    """Return the plan that takes plans back, the oldest first; topology and blueprint are of before.

    Packages, certificates, roles and databases stay as they are. Raises RefusedError when nothing came before.
    """
    last = undone[-1]
    if last.previous_topology is None:
        message = f"plan {last.id} was the first of this cluster: there is no earlier configuration"
        raise RefusedError(message, hint="change the topology and apply it; or take the cluster down as a whole")
    wanted = desired or objects.desired(topology)
    leaving = addresses.leaving((each.topology for each in undone), topology)
    seen = await plan.survey(topology, blueprint, hosts, wanted, leaving=leaving)
    indexes = dict(await together(*(index(undone, hosts[host.host]) for host in plan.present(blueprint))))
    steps = [step for host in plan.present(blueprint) for step in host_steps(host, seen.inventories, indexes)]
    # What comes back has to be known before its cost can be.
    steps = await with_kept_texts(steps, hosts, vault)
    steps = await plan.describe(steps, seen, hosts, vault)
    steps += addresses.steps(leaving, seen.inventories)
    if seen.current:
        standbys = len(topology.with_role(Role.DATABASE)) > 1
        steps += objects.dynamic_steps(wanted, seen.current, standbys=standbys)
    source = plan.Source(last.previous_topology, last.topology)
    return plan.assemble(topology, blueprint, seen, steps, source=source)


async def index(undone: Sequence[Plan], host: Host) -> tuple[str, list[Entry]]:
    """Return what a host kept when it carried out plans; of files that several replaced, what the first found."""
    paths = [f"{inventory.HOME}/previous/{each.id}/index.json" for each in undone]
    found = await read_files(host, paths)
    entries: dict[str, Entry] = {}
    for path in reversed(paths):
        if path in found:
            entries |= {entry["path"]: entry for entry in read_index(host.name, path, found[path].content)}
    return host.name, list(entries.values())


def read_index(host: str, path: str, content: bytes) -> list[Entry]:
    """Read an index of kept files."""
    try:
        entries: list[Entry] = json.loads(content)
    except ValueError:
        message = "the index of kept files is damaged"
        raise Error(message, where=f"{host}: {path}", hint="apply the earlier topology file instead") from None
    return entries


def host_steps(
    blueprint: HostBlueprint, inventories: Mapping[str, Inventory], indexes: Mapping[str, list[Entry]]
) -> Iterator[Step]:
    """Yield the steps that put one host's files back, and what its units have to hear of it."""
    now = inventories[blueprint.host]
    files = [step for entry in indexes[blueprint.host] if not entry["secret"] for step in file_steps(entry, now)]
    yield from files
    yield from stops(blueprint, now, files)
    demands = compare.unit_demands(blueprint, [step for step in files if step.unit], now)
    for part in blueprint.parts:
        yield from compare.unit_steps(part, now, demands)


def stops(blueprint: HostBlueprint, now: Inventory, files: Sequence[Step]) -> Iterator[Step]:
    """Yield what stops the units that came with what is taken back: while their files are there, so in their stage."""
    stages = {step.unit: step.stage for step in files}
    for step in compare.leftover_units(blueprint, now):
        yield replace(step, stage=stages.get(step.subject, step.stage))


def file_steps(entry: Entry, now: Inventory) -> Iterator[Step]:
    """Yield the step that puts a kept file back, or removes one that was not there before."""
    found = now.files.get(entry["path"])
    kind, action = (Kind.FILE, "put back") if entry["kept"] else (Kind.REMOVE_FILE, "remove")
    now_has = (found.digest, found.access) if found else ("", "")
    if now_has == (entry["digest"], entry["access"]):
        return
    yield Step(
        kind,
        Stage[entry["stage"].upper()],
        now.host,
        entry["component"],
        entry["path"],
        action,
        compare.cost_of(entry["unit"] or None, OnChange(entry["on_change"]), now),
        before_digest=now_has[0],
        before_access=now_has[1],
        access=entry["access"],
        unit=entry["unit"],
        on_change=entry["on_change"],
        source=entry["kept"] or "",
    )


async def with_kept_texts(steps: list[Step], hosts: Mapping[str, Host], vault: Vault) -> list[Step]:
    """Fill in the texts that come back, fit to be shown."""
    sources = {host: [step.source for step in steps if step.host == host and step.source] for host in hosts}
    asked = {host: paths for host, paths in sources.items() if paths}
    contents = await together(*(read_files(hosts[host], paths) for host, paths in asked.items()))
    texts = {
        (host, path): presentable(vault, text_of(state.content))
        for host, files in zip(asked, contents, strict=True)
        for path, state in files.items()
    }
    return [replace(step, after=texts.get((step.host, step.source), step.after)) for step in steps]
