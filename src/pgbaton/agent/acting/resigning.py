"""When this host gives up its own leader lock, and who is kept from waiting for it then.

Whether the lock may go is for :mod:`pgbaton.agent.decisions.verdict`; here is whether that is wanted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pgbaton.agent.clock import clock
from pgbaton.agent.kernel.fences import FenceError

if TYPE_CHECKING:
    from pgbaton.agent.acting.server import Server
    from pgbaton.agent.kernel.fences import Fences
    from pgbaton.agent.sight import Sight

LOG = logging.getLogger(__name__)


class Resigning:
    """This host's part in giving up its lock; ``server`` is None where there is none."""

    def __init__(self, sight: Sight, fences: Fences, server: Server | None) -> None:
        self._sight = sight
        self._fences = fences
        self._server = server

    def is_wanted(self) -> bool:
        """Tell whether the server has crashed, in a cluster that then prefers another one to starting it again.

        Not while no server of those that may be promoted says that it is a standby: Patroni would start this one again.
        """
        cluster = self._sight.cluster
        if self._server is None or cluster is None or not self._server.crashed:
            return False
        return self._sight.has_successor(clock()) and (cluster.fails_over or self._server.handed_over)

    def begin(self) -> None:
        """Let nobody wait for this host's Patroni, whose server is not there."""
        try:
            self._fences.resign()
        except FenceError as error:
            LOG.warning("an election may have to wait for this host's Patroni: %s", error)
