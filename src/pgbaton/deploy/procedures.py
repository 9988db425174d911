"""What deploying asks of those who operate the cluster: deciding who is primary is not its business."""

from __future__ import annotations

from typing import Protocol


class Procedures(Protocol):
    """Changes of a running cluster, each with its own pre- and postconditions; failures raise Error."""

    async def primary(self) -> str | None:
        """Return the host that is primary; None when there is none."""

    async def switchover_away(self, host: str) -> None:
        """Make another host primary when ``host`` is."""

    async def restart_database(self, host: str, *, in_place: bool = False) -> None:
        """Restart PostgreSQL on a host; a primary hands over first, unless ``in_place``."""

    async def pending_restarts(self) -> tuple[str, ...]:
        """Return the hosts whose settings wait for a restart, standbys first."""
