"""A cluster that a person fails over, as it can be seen now: its servers, and its hosts without them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.operate.hand import control
from pgbaton.operate.servers import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.operate.hand.control import Control
    from pgbaton.operate.members import View
    from pgbaton.operate.operation import Operation


@dataclass(frozen=True)
class Sight:
    """One look at the cluster: the servers, and what their hosts say without them; None for a host that is silent."""

    view: View
    controls: Mapping[str, Control | None]

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the database hosts that give no answer at all."""
        return tuple(name for name, found in self.controls.items() if found is None)

    @property
    def former(self) -> tuple[str, ...]:
        """Return the hosts that answer and have the data of a primary that does not run."""
        running = self.view.running
        return tuple(
            name for name, found in self.controls.items() if found and found.was_primary and name not in running
        )

    def standby(self, host: str) -> Server | None:
        """Return a host's server when it runs as a standby."""
        server = self.view.servers[host]
        return server if isinstance(server, Server) and server.in_recovery else None

    @property
    def best(self) -> int:
        """Return the furthest position that any running standby has."""
        servers = (self.standby(name) for name in self.controls)
        return max((server.position for server in servers if server), default=0)

    def timeline(self, host: str) -> int:
        """Return the timeline that a host's data are on; 0 when it is not known.

        A host may have been told of a newer one that it is not on: a running server knows better.
        """
        server, found = self.view.servers[host], self.controls[host]
        known = server.timeline if isinstance(server, Server) else 0
        return known or (found.timeline if found else 0)

    @property
    def newest(self) -> int:
        """Return the newest timeline that the data of any host which answers are on."""
        return max(map(self.timeline, self.controls), default=0)

    @property
    def heard(self) -> int:
        """Return the newest timeline that any host which answers knows of; its data may be on no such host."""
        found = [each for each in self.controls.values() if each]
        told = [each.superseded[1] for each in found if each.superseded]
        return max([self.newest, *(each.timeline for each in found), *told])

    @property
    def upstream(self) -> str | None:
        """Return whom all the standbys that answer were told to follow; None when they were told different things."""
        found = {each.upstream for each in self.controls.values() if each and each.standby and each.upstream}
        return found.pop() if len(found) == 1 else None


async def look(operation: Operation) -> Sight:
    """Look at the whole cluster."""
    view, controls = await asyncio.gather(operation.look(), control.look(operation.topology, operation.hosts))
    return Sight(view, controls)
