"""A machine's disk: an overlay of its own changes over the image."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pgbaton.hosts import process
from pgbaton.lab import volume
from pgbaton.lab.mounts import below

if TYPE_CHECKING:
    from pgbaton.lab.record import Lab, Machine

#: What a machine may write; it takes memory only as it is used.
SIZE = "6g"


def root(lab: Lab, machine: Machine) -> Path:
    """Return where a machine's root is mounted."""
    return directory(lab, machine) / "root"


def directory(lab: Lab, machine: Machine) -> Path:
    """Return where a machine's run-time files are."""
    return lab.run_directory / machine.name


def console(lab: Lab, machine: Machine) -> Path:
    """Return the file that has what a machine wrote on its console."""
    return directory(lab, machine) / "console.log"


async def ensure(lab: Lab, machine: Machine) -> None:
    """Make and mount a machine's disk unless it is mounted; the overlay comes last, so it is whole when it is there."""
    if root(lab, machine) not in below(directory(lab, machine)):
        await lay(lab, machine)
    if machine.volume:
        await volume.make(volume_image(lab, machine), root(lab, machine))


async def lay(lab: Lab, machine: Machine) -> None:
    """Lay a machine's changes over its image."""
    await unmount(directory(lab, machine))
    root(lab, machine).mkdir(parents=True, exist_ok=True)
    changes = await make_changes(lab, machine)
    upper, work = changes / "upper", changes / "work"
    for path in (upper, work):
        make_directory(path)
    seed(lab, machine, upper)
    layers = f"lowerdir={machine.image},upperdir={upper},workdir={work}"
    await process.run("mount", "-t", "overlay", "-o", layers, f"pgbaton-{lab.name}", str(root(lab, machine)))


def changes_directory(lab: Lab, machine: Machine) -> Path:
    """Return where a machine's changes go: memory, or a directory that outlives a reboot of this machine."""
    return Path(lab.durable) / machine.name if lab.durable else directory(lab, machine) / "disk"


def volume_image(lab: Lab, machine: Machine) -> Path:
    """Return the file that a machine's data volume is in."""
    return changes_directory(lab, machine) / volume.IMAGE


async def make_changes(lab: Lab, machine: Machine) -> Path:
    """Make the place for a machine's changes, and return it."""
    place = changes_directory(lab, machine)
    place.mkdir(parents=True, exist_ok=True)
    if not lab.durable:
        await process.run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", f"pgbaton-{lab.name}", str(place))
    return place


def seed(lab: Lab, machine: Machine, upper: Path) -> None:
    """Write what makes a machine itself: names, addresses, identity, host key. What exists is kept."""
    private, public = host_key(machine.name)
    names = "".join(f"{other.address} {other.name}\n" for other in lab.machines)
    hosts = f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{names}"
    write_new(upper / "etc/hostname", f"{machine.name}\n")
    write_new(upper / "etc/hosts", hosts)
    write_new(upper / "etc/machine-id", f"{secrets.token_hex(16)}\n")
    write_new(upper / "etc/ssh/ssh_host_ed25519_key", private, mode=0o600)
    write_new(upper / "etc/ssh/ssh_host_ed25519_key.pub", public)


def write_new(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file unless there is one."""
    if not path.exists():
        make_directory(path.parent)
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)


def make_directory(path: Path) -> None:
    """Make a directory and those above it that are missing; machines' own users go there, whatever the umask here."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir()
        path.chmod(0o755)


def host_key(comment: str) -> tuple[str, str]:
    """Return a new SSH host key in OpenSSH's forms, private and public."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(), f"{public} {comment}\n"


async def unmount(top: Path) -> None:
    """Unmount everything at and below a directory; what a reader still holds open goes when it lets go."""
    for point in below(top):
        if not (await process.run("umount", str(point), check=False)).ok:
            await process.run("umount", "--lazy", str(point))
