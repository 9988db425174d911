"""The machine pgbaton itself runs on."""

from __future__ import annotations

from dataclasses import dataclass

from pgbaton.hosts.base import Host


@dataclass(frozen=True)
class LocalHost(Host):
    """Run programs here; ``sudo`` puts ``sudo -n`` before them for a user who is not root."""

    sudo: bool = False

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        """Return ``argv`` itself, behind sudo where asked for."""
        del terminal
        return ("sudo", "-n", "--", *argv) if self.sudo else argv
