"""What a deployment asks of a running cluster while it changes it: who leads, hand over, restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.operate import rolling, switchover
from pgbaton.operate.members import known

if TYPE_CHECKING:
    from pgbaton.operate.operation import Operation


@dataclass(frozen=True)
class ClusterProcedures:
    """Procedures over a running cluster; each returns when its postconditions hold, and raises Error otherwise."""

    operation: Operation

    async def primary(self) -> str | None:
        """Return the primary; None when there is none, or more than one."""
        return (await self.operation.look()).primary

    async def switchover_away(self, host: str) -> None:
        """Make another host the primary when ``host`` is it; nothing otherwise."""
        if await self.primary() == known(self.operation.topology, host):
            await switchover.when_fit(self.operation)

    async def restart_database(self, host: str, *, in_place: bool = False) -> None:
        """Restart PostgreSQL on one host; a primary hands over first unless ``in_place``."""
        await rolling.restart(self.operation, (known(self.operation.topology, host),), in_place=in_place)

    async def pending_restarts(self) -> tuple[str, ...]:
        """Return the database hosts whose settings wait for a restart, standbys first."""
        view = await self.operation.look()
        return rolling.order(self.operation.topology, view, (), pending=True)
