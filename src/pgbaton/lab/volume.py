"""A database machine's data volume: a small file system of its own that can fill up and be frozen.

Every lab's database machines have one, not only those made for proving, so that what is proven is what was looked at
before. It takes 30 ms of a machine's start and 3 MiB; the file is sparse, has no journal and no barriers: a machine's
power cut does not empty this machine's page cache.

The volume is mounted in the mount namespace that its machine is started in, and nowhere else. So it goes away with the
machine's last process, the loop device with it (autoclear), however that process ended; a mount on this machine itself
would be copied into the namespace of every machine that happens to start meanwhile, and be kept by it.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from pgbaton.errors import CommandError
from pgbaton.hosts import process
from pgbaton.lab.mounts import parse

#: Where Debian's PostgreSQL has its data.
POINT = "/var/lib/postgresql"
SIZE = "4G"
IMAGE = "volume.img"
#: How long a volume may take to be written out and let go of once its machine has ended, in seconds.
GONE_SECONDS = 15.0
POLL_SECONDS = 0.02

#: No room is kept back for root, and the few inodes that 4 GiB of tables need.
MAKE = ("mkfs.ext4", "-q", "-F", "-m", "0", "-i", "262144", "-O", "^has_journal")
OPTIONS = "loop,discard,barrier=0,noinit_itable,noatime"
#: Arguments: image, mount point, then what is started with it mounted.
MOUNT = f'image=$1; point=$2; shift 2; mount -t ext4 -o {OPTIONS} "$image" "$point" && exec "$@"'


def possible() -> bool:
    """Tell whether this machine can make volumes: it has loop devices and the programs."""
    return Path("/dev/loop-control").exists() and all(map(shutil.which, ("mkfs.ext4", "fsfreeze", "unshare")))


async def make(image: Path, root: Path) -> None:
    """Make the directory that a volume will cover, and its image, owned as the directory, unless there is one."""
    point = covered(root)
    if image in set(image.parent.iterdir()):
        return
    owner = point.stat()
    draft = image.with_suffix(".new")
    extended = f"nodiscard,lazy_itable_init=1,root_owner={owner.st_uid}:{owner.st_gid}"
    await process.run("truncate", "--size=0", str(draft))
    await process.run("truncate", f"--size={SIZE}", str(draft))
    await process.run(*MAKE, "-E", extended, str(draft))
    draft.replace(image)


def covered(root: Path) -> Path:
    """Return the directory in a machine's root that its volume covers; it is made if there is none."""
    point = root / POINT.lstrip("/")
    point.mkdir(parents=True, exist_ok=True)
    return point


def mounted(image: Path, root: Path) -> tuple[str, ...]:
    """Return the argv prefix that starts a program with the volume in place, in a mount namespace of its own."""
    return ("unshare", "--mount", "--", "sh", "-c", MOUNT, "sh", str(image), str(root / POINT.lstrip("/")))


async def thaw(pids: frozenset[int], root: Path) -> None:
    """Unfreeze the volume that processes of a machine see: those that wait for it cannot be killed otherwise."""
    for pid in pids:
        for point in (root / POINT.lstrip("/"), Path(POINT)):
            if sees(pid, point):
                await process.run("fsfreeze", "--unfreeze", f"/proc/{pid}/root{point}", check=False)
                return


def sees(pid: int, point: Path) -> bool:
    """Tell whether a process has a volume mounted at a point."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(mount.kind == "ext4" and mount.point == point for mount in map(parse, lines) if mount is not None)


async def until_gone(top: Path) -> None:
    """Wait until no loop device has a file below a directory; raises CommandError when one stays."""
    deadline = time.monotonic() + GONE_SECONDS
    while held := [str(device) for device, file in devices() if file.is_relative_to(top)]:
        if time.monotonic() > deadline:
            message = f"{', '.join(held)} still has a volume of the machine"
            raise CommandError(message, where=str(top), hint="see losetup --list; try pgbaton lab down again")
        await asyncio.sleep(POLL_SECONDS)


def devices() -> tuple[tuple[Path, Path], ...]:
    """Return the loop devices in use, each with its file."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            file = backing.read_text(encoding="utf-8").strip()
        except OSError:  # let go of meanwhile
            continue
        found.append((Path("/dev") / backing.parents[1].name, Path(file)))
    return tuple(found)
