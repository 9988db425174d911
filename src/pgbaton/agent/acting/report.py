"""What an agent tells of its host: over HTTPS to those who check and measure, in one line to systemd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.agent.clock import clock
from pgbaton.agent.decisions import health
from pgbaton.agent.decisions.health import Health
from pgbaton.agent.decisions.hung import Verdict
from pgbaton.agent.kernel.fence_rules import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgbaton.agent.acting.path import Path
    from pgbaton.agent.acting.server import Server
    from pgbaton.agent.peers.messages import Heartbeat
    from pgbaton.agent.protocols.http1 import Response
    from pgbaton.agent.protocols.serving import Request
    from pgbaton.agent.sight import Sight


class Report:
    """Tell of a host; ``mine`` is what it says of itself, ``verdicts`` what is held of its services.

    ``path`` is the clients' way through a balancer, where it is tried, ``server`` a database host's own.
    """

    def __init__(
        self,
        sight: Sight,
        mine: Callable[[float], Heartbeat],
        verdicts: Callable[[], Mapping[str, Verdict]],
        *,
        path: Path | None = None,
        server: Server | None = None,
    ) -> None:
        self._sight = sight
        self._mine = mine
        self._verdicts = verdicts
        self._path = path
        self._server = server

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        return health.answer(self.health(clock()), request.path, request.query)

    def health(self, now: float) -> Health:
        """Return what is told."""
        sight, mine = self._sight, self._mine(now)
        return Health(
            host=sight.settings.me,
            role=mine.role,
            writable=mine.writable,
            lock=mine.lock,
            following=mine.following,
            synchronous=sight.cluster is not None and sight.settings.me in sight.cluster.sync,
            isolated=sight.serving is not Serving.OPEN,
            stalled=sight.hearing.stalled(now),
            timeline=mine.timeline,
            lag_bytes=self._lag_bytes(mine, now),
            unreplayed_bytes=self._server.unreplayed_bytes if self._server is not None else None,
            rival=self._server.rival if self._server is not None else "",
            server=mine.state,
            fenced=sight.fenced,
            silent=mine.silent,
            path=self._path.reason if self._path is not None and self._path.is_tried else None,
            gauges=dict(self._gauges(now)),
        )

    def line(self, now: float) -> str:
        """Return how things are, for people who ask systemd."""
        hearing, others = self._sight.hearing, len(self._sight.settings.others)
        heard = others - len(hearing.silent(now)) - len(hearing.unknown)
        hears = "overslept, cannot tell who lives" if hearing.stalled(now) else f"hears {heard} of {others}"
        words = [f"{self._mine(now).role}, {hears}"]
        words += [f"fenced: {', '.join(sorted(self._sight.fenced))}"] if self._sight.fenced else []
        words += [f"clients {self._sight.serving}"] if self._sight.serving is not Serving.OPEN else []
        words += ["clients do not reach the primary"] if self._path is not None and self._path.is_broken else []
        words += [f"{name} {verdict}" for name, verdict in self._verdicts().items() if verdict is not Verdict.WELL]
        return "; ".join(words)

    def _lag_bytes(self, mine: Heartbeat, now: float) -> int | None:
        """Return how far a standby is behind what the leader last told in whichever way; None when that is nothing."""
        cluster, leader = self._sight.cluster, self._sight.leading(now)
        ahead = max(cluster.position if cluster else 0, leader.position if leader else 0)
        return max(0, ahead - mine.position) if mine.role == "standby" and ahead else None

    def _gauges(self, now: float) -> Mapping[str, float]:
        """Return figures that are of no use to those who only check."""
        gaps = self._sight.hearing.jitter(now).items()
        quorum = self._sight.quorum_seconds
        return {
            **{f'heartbeat_gap_seconds{{host="{host}"}}': gap for host, gap in gaps},
            **{f'hung{{service="{name}"}}': float(held is Verdict.HUNG) for name, held in self._verdicts().items()},
            **({} if quorum is None else {"etcd_quorum_age_seconds": now - quorum}),
            **self._path_gauges(),
        }

    def _path_gauges(self) -> Mapping[str, float]:
        """Return how long the last login through this balancer took, and how many have failed since."""
        if self._path is None or not self._path.is_tried:
            return {}
        seconds = self._path.seconds
        took = {} if seconds is None else {"path_seconds": seconds}
        return {"path_failures": float(self._path.failures), **took}
