"""Find out whether this machine can run a lab, and say what is missing and how to get it."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass

from pgbaton.errors import MissingCapabilityError
from pgbaton.hosts import process

#: Programs and the Debian packages they come in.
PROGRAMS = {
    "ip": "iproute2",
    "journalctl": "systemd",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
IMAGE_PROGRAMS = {"dpkg-deb": "dpkg", "mmdebstrap": "mmdebstrap", "unshare": "util-linux"}


@dataclass(frozen=True)
class Probe:
    """A trial of one thing the kernel must allow; it leaves nothing behind, being done in namespaces of its own."""

    what: str
    script: str
    remedy: str


NAMESPACES = Probe(
    "namespaces for networks and mounts",
    "true",
    "run on a machine or in a container that may use unshare(2): a virtual machine, or a privileged container",
)
PROBES = (
    Probe(
        "overlay file systems on a tmpfs",
        "mount -t tmpfs tmpfs /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/r"
        " && mount -t overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w overlay /mnt/r",
        "load the kernel module: modprobe overlay",
    ),
    Probe(
        "bridges and veth links",
        "ip link add name b0 type bridge && ip link add name x0 type veth peer name y0 && ip link set dev x0 master b0",
        "load the kernel modules: modprobe -a bridge veth",
    ),
    Probe(
        "nftables on bridges (for lab cut)",
        "nft 'add table bridge t; add chain bridge t c { type filter hook forward priority 0; }'",
        "load the kernel modules: modprobe -a nf_tables nft_meta_bridge",
    ),
)


async def require() -> None:
    """Return when this machine can run a lab; raises MissingCapabilityError naming everything that it lacks."""
    require_root()
    require_programs(PROGRAMS)
    await require_probes((NAMESPACES,))
    await require_probes(PROBES)


async def require_for_images() -> None:
    """Return when this machine can build images; raises MissingCapabilityError."""
    require_root()
    require_programs(IMAGE_PROGRAMS)
    await require_probes((NAMESPACES,))


def require_root() -> None:
    """Raise MissingCapabilityError unless the process runs as root."""
    if os.geteuid() != 0:
        message = "a lab needs root: it makes namespaces, mounts and machines"
        raise MissingCapabilityError(message, hint="run it with sudo, or as root")


def require_programs(programs: dict[str, str]) -> None:
    """Raise MissingCapabilityError unless every program is found."""
    missing = {program: package for program, package in programs.items() if shutil.which(program) is None}
    if missing:
        message = f"this machine lacks {', '.join(missing)}"
        hint = f"on Debian: apt-get install {' '.join(sorted(set(missing.values())))}"
        raise MissingCapabilityError(message, hint=hint)


async def require_probes(probes: tuple[Probe, ...]) -> None:
    """Try everything at once; raises MissingCapabilityError with what failed."""
    failures = await asyncio.gather(*map(attempt, probes))
    failed = [(probe, said) for probe, said in zip(probes, failures, strict=True) if said is not None]
    if failed:
        message = "this machine's kernel does not allow " + "; ".join(
            f"{probe.what} ({said})" for probe, said in failed
        )
        raise MissingCapabilityError(message, hint="; ".join(probe.remedy for probe, _ in failed))


async def attempt(probe: Probe) -> str | None:
    """Return what a failed probe said, None for one that succeeded."""
    result = await process.run("unshare", "--net", "--mount", "--", "sh", "-c", probe.script, check=False)
    return None if result.ok else (result.stderr.strip() or f"exit status {result.exit_status}")
