"""Two labs for the tests of the lab itself, and what the kernel shows of a lab."""

from __future__ import annotations

from pathlib import Path

from pgbaton.lab import cgroups
from pgbaton.lab.mounts import mounts
from pgbaton.topology.model import Topology

HOSTS = [
    {"name": "one", "address": "10.99.0.11", "roles": ["database"]},
    {"name": "two", "address": "10.99.0.12", "roles": ["database"]},
]


def topology(name: str) -> Topology:
    """Return a topology of two hosts; every lab made of it has the same addresses."""
    network = {"subnet": "10.99.0.0/24", "vip": "10.99.0.100"}
    return Topology.model_validate({"schema": 1, "cluster": {"name": name}, "hosts": HOSTS, "network": network})


def traces(cluster: str) -> list[str]:
    """Return everything on this machine that belongs to a lab of that name."""
    marks = (f"/run/pgbaton/{cluster}/", f"--machine={cluster}.")
    found = [str(mount.point) for mount in mounts() if f"/run/pgbaton/{cluster}/" in f"{mount.point}/"]
    found += [str(path) for path in Path("/run/netns").glob(f"pgb-{cluster}*")]
    found += [str(path) for path in Path("/run/pgbaton").glob(f"*{cluster}*")]
    found += [str(path) for path in Path("/run/systemd/nspawn/propagate").glob(f"{cluster}.*")]
    found += [str(top / "pgbaton" / cluster) for top in cgroups.hierarchies() if (top / "pgbaton" / cluster).exists()]
    return found + [line for line in command_lines() if any(mark in line for mark in marks)]


def command_lines() -> list[str]:
    """Return the command lines of all processes, with their ids before them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(f"{path.parent.name} {path.read_text(errors='replace').replace(chr(0), ' ')}")
        except OSError:  # it ended meanwhile
            continue
    return lines


def nspawn_locks(cluster: str) -> list[Path]:
    """Return the lock files that nspawn keeps for a lab's roots."""
    roots = [path.stat() for path in Path(f"/run/pgbaton/{cluster}").glob("*/root")]
    return [Path(f"/run/systemd/nspawn/locks/inode-{root.st_dev}:{root.st_ino}") for root in roots]
