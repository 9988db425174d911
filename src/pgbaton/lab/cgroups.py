"""Each machine in control groups of its own: they keep machines apart, and say which processes are whose.

Where systemd runs this machine, a machine's group is a transient scope delegated to it; elsewhere it is a directory
in systemd's own hierarchy and in the unified one, whichever of them are mounted.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from pgbaton.hosts import process
from pgbaton.lab.mounts import mounts

#: Exists exactly when systemd is this machine's first process (sd_booted(3)).
SYSTEMD = Path("/run/systemd/system")
TOP = "pgbaton"


def systemd_runs() -> bool:
    """Tell whether systemd runs this machine."""
    return SYSTEMD.is_dir()


def unit(cluster: str, host: str) -> str:
    """Return the name of a machine's scope."""
    return f"{TOP}-{cluster}.{host}.scope"


def hierarchies() -> tuple[Path, ...]:
    """Return where the hierarchies are mounted that systemd uses in a machine: v2, or v2 beside its own of v1."""
    named = "name=systemd"
    found = (
        mount for mount in mounts() if mount.kind == "cgroup2" or (mount.kind == "cgroup" and named in mount.options)
    )
    return tuple(dict.fromkeys(mount.point for mount in found))


async def hosts(cluster: str) -> tuple[str, ...]:
    """Return the hosts of a lab that have control groups."""
    if systemd_runs():
        prefix = unit(cluster, "").removesuffix(".scope")
        listing = await process.run("systemctl", "list-units", "--all", "--plain", "--no-legend", f"{prefix}*.scope")
        units = (line.split()[0] for line in listing.stdout.splitlines())
        return tuple(name.removeprefix(prefix).removesuffix(".scope") for name in units)
    tops = (hierarchy / TOP / cluster for hierarchy in hierarchies())
    return tuple(sorted({path.name for top in tops if top.is_dir() for path in top.iterdir() if path.is_dir()}))


async def directories(cluster: str, host: str) -> tuple[Path, ...]:
    """Return the control groups of a machine that exist."""
    group = f"{TOP}/{cluster}/{host}"
    if systemd_runs():
        asked = ("systemctl", "show", "--property=ControlGroup", "--value", unit(cluster, host))
        group = (await process.run(*asked)).stdout.strip().lstrip("/")
    found = (hierarchy / group for hierarchy in hierarchies()) if group else ()
    return tuple(path for path in found if path.is_dir())


async def members(cluster: str, host: str) -> frozenset[int]:
    """Return the ids of the processes in a machine's groups, as this machine numbers them."""
    pids: set[int] = set()
    for directory in await directories(cluster, host):
        pids.update(processes_below(directory))
    return frozenset(pids - {0})


def processes_below(top: Path) -> set[int]:
    """Return the ids of the processes in a group and all groups in it, of which some may go away meanwhile."""
    pids: set[int] = set()
    for path, _, _ in os.walk(top):
        with suppress(OSError):
            pids.update(map(int, Path(path, "cgroup.procs").read_text(encoding="ascii").split()))
    return pids


def enter(cluster: str, host: str) -> tuple[str, ...]:
    """Return the argv prefix that starts a program as the first one in a machine's groups."""
    if systemd_runs():
        scope = ("systemd-run", "--scope", "--collect", "--quiet", f"--unit={unit(cluster, host)}")
        return (*scope, "--property=Delegate=yes", "--")
    paths = [hierarchy / TOP / cluster / host for hierarchy in hierarchies()]
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    joins = (f"echo 0 > {shlex.quote(str(path / 'cgroup.procs'))}" for path in paths)
    return ("sh", "-c", " && ".join([*joins, 'exec "$@"']), "sh")


def remove(cluster: str, host: str) -> None:
    """Remove a machine's empty groups; scopes go by themselves."""
    if not systemd_runs():
        for hierarchy in hierarchies():
            remove_tree(hierarchy / TOP / cluster / host)


def remove_cluster(cluster: str) -> None:
    """Remove the groups above the machines, as far as no other lab needs them."""
    if not systemd_runs():
        for hierarchy in hierarchies():
            for path in (hierarchy / TOP / cluster, hierarchy / TOP):
                with suppress(OSError):  # not there, or not empty
                    path.rmdir()


def remove_tree(top: Path) -> None:
    """Remove a group and all groups in it, the innermost first."""
    for path, _, _ in os.walk(top, topdown=False):
        Path(path).rmdir()
