"""The one limit of this machine that labs run into: inotify instances, of which every systemd needs some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton.lab import record

if TYPE_CHECKING:
    from collections.abc import Callable

#: All of root's programs share this limit, those in machines too; the kernel's default is 128 (inotify(7)).
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
#: A machine takes about ten; this is enough for hundreds of machines, and costs nothing until it is used.
ENOUGH = 8_192


def widen(report: Callable[[str], None]) -> None:
    """Raise the limit while there are labs, unless it is high enough; machines come up degraded without."""
    current = int(INSTANCES.read_text(encoding="ascii"))
    if current < ENOUGH:
        remembered().parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        remembered().write_text(f"{current}\n", encoding="ascii")
        INSTANCES.write_text(f"{ENOUGH}\n", encoding="ascii")
        report(f"fs.inotify.max_user_instances: {current} -> {ENOUGH}, until the last lab is down")


def restore() -> None:
    """Set the limit back to what it was, once no lab is left."""
    if remembered().exists() and not any(path.is_dir() for path in record.RUN.iterdir()):
        INSTANCES.write_text(remembered().read_text(encoding="ascii"), encoding="ascii")
        remembered().unlink()


def remembered() -> Path:
    """Return the file that keeps what the limit was."""
    return record.RUN / "max_user_instances"
