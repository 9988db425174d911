"""Compare a blueprint with its hosts: everything that an apply would change, and nothing is changed by asking."""

from __future__ import annotations

import secrets as randomness
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from pgbaton.components import manual, patroni
from pgbaton.deploy import addresses, diff, establish, inventory, objects, offered, places, waves
from pgbaton.deploy.compare import host_steps
from pgbaton.deploy.gate import together
from pgbaton.deploy.steps import Cost, Kind, Plan, Stage, Step
from pgbaton.deploy.waves import Situation
from pgbaton.errors import RefusedError, UsageError
from pgbaton.hosts.files import read_files
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgbaton.blueprint import Blueprint, HostBlueprint
    from pgbaton.deploy.addresses import Leaving
    from pgbaton.deploy.inventory import Inventory
    from pgbaton.deploy.objects import Current, Desired
    from pgbaton.hosts.base import Host
    from pgbaton.secrets import Vault
    from pgbaton.topology.model import Topology

__all__ = ["Plan", "Source", "Survey", "assemble", "make", "survey"]


@dataclass(frozen=True)
class Source:
    """Where a plan comes from: the topology file's text, that of the one applied before, what was newly issued.

    ``leaving`` are addresses that were VIPs before.
    """

    topology: str = ""
    previous_topology: str | None = None
    issued: tuple[str, ...] = ()
    leaving: tuple[Leaving, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What all hosts of a cluster have now, and what its primary has; None where there is no primary."""

    inventories: dict[str, Inventory]
    current: Current | None

    @property
    def primary(self) -> str | None:
        """Return the host whose server is primary; None when there is none, or more than one."""
        found = [each.host for each in self.inventories.values() if each.server == "primary"]
        return found[0] if len(found) == 1 else None


async def make(
    topology: Topology,
    blueprint: Blueprint,
    hosts: Mapping[str, Host],
    vault: Vault,
    *,
    source: Source | None = None,
    desired: Desired | None = None,
) -> Plan:
    """Return what an apply would change; ``vault`` has every secret, if only provisionally.

    Raises UnreachableError for hosts that do not answer, RefusedError for those of another cluster, and for what
    cannot be had inside this one.
    """
    wanted, origin = desired or objects.desired(topology), source or Source()
    seen = await survey(topology, blueprint, hosts, wanted, leaving=origin.leaving)
    objects.refuse_impossible(wanted, seen.current)
    await offered.check(topology, hosts)
    steps = [step for host in present(blueprint) for step in host_steps(host, seen.inventories[host.host], vault)]
    steps = await describe(steps, seen, hosts, vault)
    steps += addresses.steps(origin.leaving, seen.inventories)
    standbys = len(topology.with_role(Role.DATABASE)) > 1
    if topology.with_role(Role.DATABASE):
        steps += objects.steps(wanted, seen.current, vault, standbys=standbys)
    notes = (*establish.notes(topology, seen), *(objects.unmanaged(wanted, seen.current) if seen.current else ()))
    notes += tuple(places.notes(topology, seen.inventories))
    return assemble(topology, blueprint, seen, steps, source=origin, notes=notes)


def assemble(
    topology: Topology,
    blueprint: Blueprint,
    seen: Survey,
    steps: Sequence[Step],
    *,
    source: Source,
    notes: tuple[str, ...] = (),
) -> Plan:
    """Return steps as a plan, in waves."""
    now = datetime.now(UTC)
    arranged = waves.arrange(steps, situations(topology, blueprint, seen))
    return Plan(
        # Names sort by age, in the journal's directory and on the hosts.
        id=f"{now:%Y%m%dT%H%M%S.%f}-{randomness.token_hex(2)}",
        cluster=topology.name,
        created=now.isoformat(timespec="seconds"),
        topology=source.topology,
        previous_topology=source.previous_topology,
        waves=arranged,
        issued=source.issued,
        notes=notes,
    )


def present(blueprint: Blueprint) -> list[HostBlueprint]:
    """Return the hosts that get anything, or did; those of applications alone may be out of our reach."""
    return [host for host in blueprint.hosts if host.parts or host.was_managed]


async def survey(
    topology: Topology,
    blueprint: Blueprint,
    hosts: Mapping[str, Host],
    wanted: Desired,
    *,
    leaving: Sequence[Leaving] = (),
) -> Survey:
    """Look at all hosts at the same time, then at what the primary has."""
    found = await together(*(look(topology, host, hosts, leaving) for host in present(blueprint)))
    seen = Survey({each.host: each for each in found}, None)
    refuse_others(topology, seen)
    establish.refuse_change_of_kind(topology, seen)
    places.refuse_moves(topology, found)
    if seen.primary is None:
        return seen
    current = await objects.read(hosts[seen.primary], wanted)
    places.refuse_other_locations(wanted, current)
    places.refuse_other_segments(wanted, current)
    return replace(seen, current=current)


async def look(
    topology: Topology, blueprint: HostBlueprint, hosts: Mapping[str, Host], leaving: Sequence[Leaving] = ()
) -> Inventory:
    """Look at one host, and whether it has one of the addresses that are to leave it."""
    if blueprint.host not in hosts:
        message = f"no way to reach host {blueprint.host}: it is in the topology, and the cluster has no such machine"
        raise UsageError(message, hint="a lab keeps the hosts it was made with: pgbaton lab down, then lab up")
    roles = topology.host(blueprint.host).roles
    is_database = Role.DATABASE in roles
    port, data = (topology.postgresql.port, topology.data_directory) if is_database else (None, None)
    # Patroni looks after the data by itself.
    kept = data if topology.is_manual else None
    vips = tuple(map(str, topology.network.vips)) if Role.BALANCER in roles else ()
    gone = [each.address for each in leaving if blueprint.host in each.hosts]
    asked = inventory.questions(blueprint, server_port=port, data=data, kept=kept, vips=vips, addresses=gone)
    return await inventory.take(hosts[blueprint.host], asked, vips=vips)


def refuse_others(topology: Topology, seen: Survey) -> None:
    """Raise RefusedError when a host belongs to another cluster."""
    for each in seen.inventories.values():
        if each.manifest and each.manifest.cluster not in {"", topology.name}:
            message = f"this host belongs to cluster {each.manifest.cluster}, not to {topology.name}"
            hint = f"check the addresses; a host that is free to be used again has no {inventory.HOME}/manifest.json"
            raise RefusedError(message, where=each.host, hint=hint)


def situations(topology: Topology, blueprint: Blueprint, seen: Survey) -> dict[Stage, Sequence[Situation]]:
    """Return for each stage its hosts, the one to come up first in front, with what decides their order."""
    names = [host.host for host in present(blueprint)]
    # The host that may become primary comes first, in the topology's order.
    first = topology.first_primary.name if topology.is_manual else None
    names.sort(key=lambda name: (name != first, not topology.host(name).failover))
    return {stage: [situation(blueprint.host(name), stage, seen) for name in names] for stage in Stage}


def situation(blueprint: HostBlueprint, stage: Stage, seen: Survey) -> Situation:
    """Return one host's situation in a stage; what is left over counts as running, so that it goes one by one."""
    found = seen.inventories[blueprint.host]
    parts = [part for part in blueprint.parts if Stage.of(part.wave) is stage]
    # A timer that is still to come does not mean that nothing runs which could be interrupted.
    units = [unit.name for part in parts for unit in part.units if not unit.masked and not is_timer(unit.name)]
    running = stage is Stage.LEFTOVERS or (bool(units) and all(found.unit(name).running for name in units))
    active = found.holds_vip if stage >= Stage.POOLER else found.server == "primary"
    return Situation(blueprint.host, running, active, found.has_data)


def is_timer(unit: str) -> bool:
    """Tell whether a unit only starts another one now and then."""
    return unit.endswith(".timer")


async def describe(steps: list[Step], seen: Survey, hosts: Mapping[str, Host], vault: Vault) -> list[Step]:
    """Fill in the texts of the files that are there now, fit to be shown, and what they say of the cost."""
    wanted = {host: [step for step in steps if step.host == host and is_shown(step)] for host in hosts}
    asked = {host: [step.subject for step in shown] for host, shown in wanted.items() if shown}
    contents = await together(*(read_files(hosts[host], paths) for host, paths in asked.items()))
    found = {
        (host, path): diff.text_of(state.content)
        for host, files in zip(asked, contents, strict=True)
        for path, state in files.items()
    }
    filled = [replace(step, before=present_text(step, found, vault)) for step in steps]
    return [with_restart_cost(step, seen) for step in filled]


def present_text(step: Step, found: Mapping[tuple[str, str], str], vault: Vault) -> str:
    """Return the text of the file that a step changes, fit to be shown."""
    return diff.presentable(vault, found.get((step.host, step.subject), ""), beside=step.after)


def is_shown(step: Step) -> bool:
    """Tell whether a step needs the text of a file that is there now."""
    return step.kind in {Kind.FILE, Kind.REMOVE_FILE} and bool(step.before_digest) and not step.secret


def with_restart_cost(step: Step, seen: Survey) -> Step:
    """Return the server's configuration with its true cost: some settings take effect at its restart only."""
    readers = {patroni.CONFIG: parameters, manual.CONFIG: manual.parameters}
    if step.subject not in readers or seen.current is None or step.cost is not Cost.RELOAD:
        return step
    read = readers[step.subject]
    old, new = read(step.before), read(step.after)
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    if not changed & seen.current.restart_settings:
        return step
    return replace(step, cost=Cost.SWITCHOVER if step.host == seen.primary else Cost.RESTART)


def parameters(text: str) -> dict[str, Any]:
    """Return the server's parameters in the text of Patroni's configuration; none when it cannot be read.

    Where the server listens is among them: Patroni has a key of its own for both.
    """
    try:
        server = yaml.safe_load(text)["postgresql"]
        found, (addresses, _, port) = server["parameters"], str(server["listen"]).rpartition(":")
    except (yaml.YAMLError, KeyError, TypeError):
        return {}
    return {**found, "listen_addresses": addresses, "port": port} if isinstance(found, dict) else {}
