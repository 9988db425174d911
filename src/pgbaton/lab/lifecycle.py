"""Make labs, take them down, and do to their machines and links what fate does to real ones.

Each step asks what is there before it makes anything, so making a lab again completes what is missing of it.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton import state as states
from pgbaton.errors import RefusedError, UsageError
from pgbaton.hosts.machine import MachineHost, is_living, started
from pgbaton.lab import capabilities, cgroups, claims, definition, disk, limits, links, machine, network, record, volume
from pgbaton.lab.record import Cut, Lab, Machine
from pgbaton.state import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from pgbaton.lab.image import Image
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology

#: nspawn keeps a directory here for each machine it ran.
NSPAWN_RUN = Path("/run/systemd/nspawn/propagate")


def silent(_: str) -> None:
    """Report nothing."""


async def create(
    state: ClusterState,
    topology: Topology,
    *,
    image: Image,
    bare: bool = False,
    durable: bool = False,
    report: Callable[[str], None] = silent,
) -> Topology:
    """Make a lab's machines and boot them, or those that are missing; return the topology as the lab has it.

    ``bare`` gives all but the application machine the bare image. Raises RefusedError when the name belongs to a
    real cluster, or to a lab of other hosts; MissingCapabilityError when this machine cannot run labs.
    """
    await capabilities.require()
    wanted = definition.complete(topology, state.name)
    refuse_real(state)
    with state.lock("lab up"):
        described = record.describe(wanted, state, system=image.system.name, durable=durable)
        lab = begin(state, assign(described, image, bare=bare))
        await sweep_orphans(report)
        claims.claim(state)
        limits.widen(report)
        write_private(state.topology_file, definition.to_toml(wanted))
        report(f"lab {lab.name}: network of {len(lab.machines)} machines")
        await network.ensure(lab)
        await together(start(state, lab, each, report) for each in lab.machines)
    return wanted


def refuse_real(state: ClusterState) -> None:
    """Raise RefusedError when a name belongs to a cluster that is no lab."""
    if state.exists and not state.lab_file.exists():
        message = f"{state.name} is a real cluster, no lab"
        raise RefusedError(message, hint="choose another name with --cluster")


def assign(lab: Lab, image: Image, *, bare: bool) -> Lab:
    """Give every machine its image, and databases a volume where this machine can make one.

    Clients need their programs, so the application machine is never bare.
    """
    volumes = volume.possible()

    def with_image(given: Machine) -> Machine:
        each = replace(given, volume=volumes and "database" in given.roles)
        if bare and "application" not in each.roles:
            return replace(each, image=str(image.bare), packages=str(image.packages))
        return replace(each, image=str(image.root))

    return replace(lab, machines=tuple(map(with_image, lab.machines)))


def begin(state: ClusterState, wanted: Lab) -> Lab:
    """Record the lab before anything of it is made; an earlier record is kept if it is of the same lab.

    Raises RefusedError when a lab of other machines has the name.
    """
    state.create()
    if not state.lab_file.exists():
        record.save(state, wanted)
        return wanted
    existing = record.load(state)
    if shape(existing) != shape(wanted):
        message = f"lab {state.name} exists, with other machines, addresses or another operating system"
        hint = f"take it down first: pgbaton lab down --cluster {state.name}; or choose another name with --cluster"
        raise RefusedError(message, hint=hint)
    return record.update(state, lambda lab: renewed(lab, wanted))


def renewed(existing: Lab, wanted: Lab) -> Lab:
    """Return the lab as it is wanted now, on the images it has, as far as these are still there."""

    def kept(now: Machine, then: Machine) -> Machine:
        if not Path(then.image).is_dir():
            return replace(now, volume=then.volume)
        return replace(then, roles=now.roles, replication_address=now.replication_address)

    machines = (kept(each, existing.machine(each.name)) for each in wanted.machines)
    return replace(wanted, machines=tuple(machines))


def shape(lab: Lab) -> Lab:
    """Return what of a lab cannot change while it exists; a network for replication may come to it."""
    machines = (replace(each, roles=(), leader_pid=None, leader_started=None) for each in lab.machines)
    bare = (replace(each, packages=None, volume=False, replication_address=None) for each in machines)
    images = (replace(each, image=Path(each.image).name) for each in bare)
    free = replace(lab, vip=None, more_vips=(), write_port=0, read_port=0)
    plain = replace(free, replication_interface="", replication_subnet=None, cuts=(), losses=(), delays=())
    return replace(plain, machines=tuple(images))


async def start(state: ClusterState, lab: Lab, each: Machine, report: Callable[[str], None]) -> None:
    """Boot a machine unless it runs, and wait until it is up."""
    leader = await machine.find_leader(lab.name, each.name)
    if leader is None:
        await machine.kill(lab.name, each.name)  # what a start that was interrupted left
        await disk.ensure(lab, each)
        await network.set_link(lab, each, up=True)
        leader = await machine.boot(lab, each)
        report(f"{each.name}: booting")
    remember(state, each.name, leader)
    await machine.wait_until_up(lab, each, leader, report=report)
    report(f"{each.name}: up")


def remember(state: ClusterState, name: str, leader: int | None) -> None:
    """Record a machine's leader, or that it is off."""
    since = None if leader is None else started(leader)
    record.update(
        state, lambda lab: lab.with_machine(replace(lab.machine(name), leader_pid=leader, leader_started=since))
    )


def status(state: ClusterState) -> Lab:
    """Return a lab as it is now: machines that have died are off. Raises UsageError when the cluster is no lab."""
    lab = record.load(state)
    return replace(lab, machines=tuple(map(as_it_is, lab.machines)))


def as_it_is(each: Machine) -> Machine:
    """Return a machine's record with its leader only if that still runs."""
    if is_living(each.leader_pid, each.leader_started):
        return each
    return replace(each, leader_pid=None, leader_started=None)


def host(state: ClusterState, name: str) -> MachineHost:
    """Return the transport to a machine; raises UsageError when the lab has none of that name."""
    return MachineHost(name, status(state).machine(name).leader_pid)


async def destroy(state: ClusterState, *, report: Callable[[str], None] = silent) -> None:
    """Take a lab down and forget it, secrets and all; what is missing of it is fine."""
    capabilities.require_root()
    if state.exists:
        record.load(state)
    with state.lock("lab down"):
        if claims.owned(state):
            await sweep(state.name, report)
        await sweep_orphans(report)
        shutil.rmtree(state.directory)
    report(f"lab {state.name}: gone")


async def sweep(cluster: str, report: Callable[[str], None]) -> None:
    """Remove everything of a lab that the kernel knows of: processes, groups, mounts, namespaces, files."""
    report(f"lab {cluster}: ending its machines")
    await together(machine.kill(cluster, host) for host in await cgroups.hosts(cluster))
    cgroups.remove_cluster(cluster)
    report(f"lab {cluster}: removing mounts and namespaces")
    await disk.unmount(record.RUN / cluster)
    await network.remove_namespaces(network.namespaces(cluster))
    claims.release(cluster)
    forget_in_nspawn(cluster)


def forget_in_nspawn(cluster: str) -> None:
    """Remove what nspawn keeps of machines that were killed."""
    for path in NSPAWN_RUN.glob(f"{cluster}.*"):
        with suppress(OSError):  # not empty: somebody else's after all
            path.rmdir()


async def sweep_orphans(report: Callable[[str], None]) -> None:
    """Remove labs that nobody can take down any more, because their state directories are gone."""
    for cluster in claims.orphans():
        await sweep(cluster, report)


def labs() -> tuple[ClusterState, ...]:
    """Return the states of all labs, of those too whose making was interrupted at once."""
    found = sorted((states.home() / "clusters").glob("*/lab.json"))
    return tuple(states.cluster(path.parent.name) for path in found)


async def power_off(state: ClusterState, host: str) -> None:
    """Cut a machine's power: its link first, so that nobody hears it die, then everything in it at once.

    Its disk stays; its network namespace is made anew, for nothing configured in it outlives a power cut.
    """
    lab = status(state)
    each = lab.machine(host)
    if await machine.find_leader(lab.name, host) is None:
        message = f"{host} is off already"
        raise UsageError(message, hint=f"pgbaton lab power-on {host}")
    await network.set_link(lab, each, up=False)
    await machine.kill(lab.name, host)
    remember(state, host, None)
    await network.replug(lab, each, up=False)


async def power_on(state: ClusterState, host: str, *, report: Callable[[str], None] = silent) -> None:
    """Boot a machine that is off, from the disk it had; raises UsageError when it runs."""
    lab = status(state)
    each = lab.machine(host)
    if await machine.find_leader(lab.name, each.name) is not None:
        message = f"{host} runs already"
        raise UsageError(message, hint=f"pgbaton lab power-off {host}")
    claims.claim(state)
    await network.ensure(lab)
    await start(state, lab, each, report)


async def cut(state: ClusterState, a: str, b: str, *, one_way: bool = False, network: str = "") -> Lab:
    """Have the fabric drop everything from ``a`` to ``b``, and back unless ``one_way``; return the lab.

    ``network`` is the one that is cut, empty for both. Raises UsageError for machines that are not both in it.
    """
    if a == b:
        message = f"{a} cannot be cut off from itself"
        raise UsageError(message, hint="name two machines")
    there, back = Cut(a, b, network=network), Cut(b, a, network=network)
    return await links.impair(state, there) if one_way else await links.impair(state, there, back)


async def heal(state: ClusterState) -> Lab:
    """Take back all cuts, losses and delays; return the lab."""
    return await links.heal(state)


async def together(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Do several things at once; when one fails, the others are cancelled and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
