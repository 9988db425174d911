"""A lab machine, entered through its namespaces."""

from __future__ import annotations

from dataclasses import dataclass

from pgbaton.errors import UnreachableError
from pgbaton.hosts.base import Host


@dataclass(frozen=True)
class MachineHost(Host):
    """Run programs in a lab machine whose first process is ``leader_pid``; None means powered off."""

    leader_pid: int | None

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        """Return ``argv`` behind nsenter; raises UnreachableError when the machine is powered off."""
        del terminal
        if self.leader_pid is None:
            message = "the machine is powered off"
            raise UnreachableError(message, where=self.name, hint=f"pgbaton lab power-on {self.name}")
        enter = ("nsenter", "-t", str(self.leader_pid), "-m", "-u", "-i", "-n", "-p", "--wd=/", "--")
        return (*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=xterm-256color", *argv)
