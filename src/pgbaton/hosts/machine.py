"""A lab machine, entered through its namespaces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pgbaton.errors import UnreachableError
from pgbaton.hosts.base import Host

#: On a terminal ^C reaches everything between it and the program. The program decides what it means; what waits for
#: the program survives it: this shell, which nsenter becomes instead of waiting itself.
SURVIVE = 'trap : INT QUIT; "$@"; exit $?'


@dataclass(frozen=True)
class MachineHost(Host):
    """Run programs in a lab machine whose first process is ``leader_pid``; None means powered off."""

    leader_pid: int | None

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        """Return ``argv`` behind nsenter; raises UnreachableError when the machine is powered off."""
        if self.leader_pid is None:
            message = "the machine is powered off"
            raise UnreachableError(message, where=self.name, hint=f"pgbaton lab power-on {self.name}")
        enter = ("nsenter", "-t", str(self.leader_pid), "-m", "-u", "-i", "-n", "-p", "-C")
        stay = ("--no-fork",) if terminal else ()
        shell = ("sh", "-c", SURVIVE, "sh") if terminal else ()
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = ("env", "-i", path, "HOME=/root", "LANG=C.UTF-8", "TERM=xterm-256color")
        return (*enter, *stay, "--", *environment, *shell, *argv)


def started(pid: int) -> str | None:
    """Return when a process started, in a form that no later process of the same id has; None when there is none.

    Ids are used again, and after a reboot they begin anew: a record of an id alone may name a stranger.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return None if state in "ZX" else f"{boot}/{fields[18]}"


def is_living(pid: int | None, since: str | None) -> bool:
    """Tell whether the process that had an id when it was recorded still runs."""
    return pid is not None and since is not None and started(pid) == since
