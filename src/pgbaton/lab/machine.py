"""One machine: systemd booted by systemd-nspawn on the machine's disk, in its namespace and its control groups."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.errors import CommandError, UnhealthyError
from pgbaton.hosts import process
from pgbaton.hosts.machine import MachineHost, started
from pgbaton.lab import cgroups, disk, network, recipe, record, volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.lab.record import Lab, Machine

#: How long a machine may take to boot, and how long to go away, in seconds.
BOOT_SECONDS = 90.0
END_SECONDS = 15.0
GRACE_SECONDS = 3.0
POLL_SECONDS = 0.05
#: systemd in a machine asks for no more open files than this.
OPEN_FILES = 524_288

#: The new process leads a session of its own and is nobody's child when the shell has gone; it prints its id.
DETACH = 'log=$1; shift; setsid "$@" >> "$log" 2>&1 < /dev/null & echo $!'


async def boot(lab: Lab, machine: Machine) -> int:
    """Start a machine and return its leader: the first process in it, as this machine numbers it.

    Raises UnhealthyError, with the end of what its console shows, when it does not start.
    """
    prefix = volume.mounted(disk.volume_image(lab, machine), disk.root(lab, machine)) if machine.volume else ()
    argv = (*cgroups.enter(lab.name, machine.name), *prefix, *nspawn(lab, machine))
    log = str(disk.console(lab, machine))
    printed = await process.run("sh", "-c", DETACH, "sh", log, *argv, where=machine.name)
    guardian = int(printed.stdout)
    deadline = time.monotonic() + BOOT_SECONDS
    while (leader := await find_leader(lab.name, machine.name)) is None:
        if started(guardian) is None or time.monotonic() > deadline:
            message = f"the machine does not start; the end of its console:\n{console_tail(lab, machine)}"
            hint = f"pgbaton lab logs --console {machine.name} shows all of it"
            raise UnhealthyError(message, where=machine.name, hint=hint)
        await asyncio.sleep(POLL_SECONDS)
    return leader


def nspawn(lab: Lab, machine: Machine) -> tuple[str, ...]:
    """Return the command line of a machine."""
    files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], OPEN_FILES)
    packages = () if machine.packages is None else (f"--bind-ro={machine.packages}:{recipe.PACKAGES}",)
    return (
        "env",
        "UNIFIED_CGROUP_HIERARCHY=1",  # as on a real host of today, whatever this machine has itself
        "systemd-nspawn",
        "--quiet",
        f"--directory={disk.root(lab, machine)}",
        f"--machine={nspawn_name(lab, machine)}",
        f"--hostname={machine.name}",
        "--register=no",  # there may be no machined to register with
        "--keep-unit",
        f"--network-namespace-path={network.NAMESPACES / machine.netns}",
        "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
        f"--rlimit=RLIMIT_NOFILE=1024:{files}",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        *packages,
        "--boot",
    )


def nspawn_name(lab: Lab, machine: Machine) -> str:
    """Return the name nspawn knows a machine by; host names end at 64 characters."""
    return f"{lab.name}.{machine.name}"[:64].rstrip(".-")


async def wait_until_up(lab: Lab, machine: Machine, leader: int, *, report: Callable[[str], None]) -> None:
    """Wait until a machine has started all its units; raises UnhealthyError when it takes too long."""
    host = MachineHost(machine.name, leader)
    deadline = time.monotonic() + BOOT_SECONDS
    state = ""
    while started(leader) is not None and time.monotonic() < deadline:
        remaining = deadline - time.monotonic()
        said = await host.run("systemctl", "is-system-running", "--wait", check=False, timeout=remaining)
        state = said.stdout.strip()
        if state == "running":
            return
        if state == "degraded":
            failed = await host.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", check=False)
            report(f"{machine.name}: failed units: {', '.join(line.split()[0] for line in failed.stdout.splitlines())}")
            return
        await asyncio.sleep(POLL_SECONDS)  # systemd does not answer yet
    what = f"is still {state or 'silent'} {BOOT_SECONDS:g} s after its start" if started(leader) else "died"
    message = f"the machine {what}; the end of its console:\n{console_tail(lab, machine)}"
    raise UnhealthyError(message, where=machine.name, hint=f"pgbaton lab logs {machine.name}")


async def find_leader(cluster: str, host: str) -> int | None:
    """Return a machine's leader, None when it does not run. The kernel is asked, no record is believed."""
    members = await cgroups.members(cluster, host)
    return next(filter(is_leader, members), None)


def is_leader(pid: int) -> bool:
    """Tell whether a process is the first in its process namespace and the child of nspawn."""
    try:
        fields = status_of(str(pid))
        parent = status_of(fields["PPid"])
    except OSError:
        return False
    ids = fields["NSpid"].split()
    first = ids[-1] == "1" and len(ids) == len(status_of("self")["NSpid"].split()) + 1
    return first and parent["Name"] == "systemd-nspawn" and not fields["State"].startswith("Z")


def status_of(pid: str) -> dict[str, str]:
    """Return what the kernel says of a process (proc(5)); raises OSError when there is none."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


async def kill(cluster: str, host: str) -> None:
    """End a machine as a power cut does, and wait until nothing of it runs; raises CommandError if something stays.

    The leader dies first: all processes in the machine die with it, with no chance to act on each other's deaths,
    and nspawn has time to clean up after itself. What waits for a frozen volume ends only when that thaws.
    """
    top = record.RUN / cluster / host
    deadline = time.monotonic() + END_SECONDS
    grace = time.monotonic() + GRACE_SECONDS
    leader = await find_leader(cluster, host)
    if leader is not None:
        end(leader)
    while members := await cgroups.members(cluster, host):
        await volume.thaw(members, top / "root")
        if leader is None or time.monotonic() > grace:
            for pid in members:
                end(pid)
        if time.monotonic() > deadline:
            message = f"processes {', '.join(map(str, sorted(members)))} do not end"
            raise CommandError(message, where=host, hint="they may wait for a device; try pgbaton lab down again")
        await asyncio.sleep(POLL_SECONDS)
    cgroups.remove(cluster, host)
    await volume.until_gone(top)


def end(pid: int) -> None:
    """Kill a process; one that is gone is fine."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def console_tail(lab: Lab, machine: Machine) -> str:
    """Return the last lines that a machine wrote on its console."""
    path = disk.console(lab, machine)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return "\n".join(lines[-15:])
