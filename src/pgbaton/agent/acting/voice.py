"""What this host says of itself to the other agents: each heartbeat, and at once when there is news."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.agent.peers.messages import Heartbeat

if TYPE_CHECKING:
    from pgbaton.agent.acting.balancer import Balancer
    from pgbaton.agent.acting.release import Sender
    from pgbaton.agent.acting.server import Server
    from pgbaton.agent.sight import Sight

#: What a host without a server says of one.
NO_SERVER = Heartbeat("none", False, 0, 0, False, False, False, "well")  # noqa: FBT003 - a table's row


class Voice:
    """Tell the others of this host."""

    def __init__(self, sight: Sight, post: Sender, *, server: Server | None, balancer: Balancer | None) -> None:
        self._sight = sight
        self._post = post
        self._server = server
        self._balancer = balancer
        self._least_seconds = sight.settings.timings.heartbeat_seconds / 2
        self._sent_seconds = float("-inf")

    def mine(self, now: float) -> Heartbeat:
        """Return what this host says of itself now."""
        leads = self._balancer is not None and self._balancer.leads
        said, silent = NO_SERVER if self._server is None else self._server.heartbeat(), self._sight.silent(now)
        return said if not (leads or silent) else replace(said, poolers=leads, silent=silent)

    def tell(self, now: float, *, at_once: bool = False) -> None:
        """Send a heartbeat, when it is time for one or when there is news."""
        before, mine = self._sight.mine, self.mine(now)
        self._sight.mine = mine
        is_news = before is None or is_other(before, mine)
        if at_once or is_news or now - self._sent_seconds >= self._least_seconds:
            self._sent_seconds = now
            self._post.tell_all(mine)


def is_other(before: Heartbeat, after: Heartbeat) -> bool:
    """Tell whether a heartbeat says something that others should know before the next one is due.

    That is all but how far the server has come, which on a busy one is other each time.
    """
    return before != after and (before.position == after.position or replace(before, position=after.position) != after)
