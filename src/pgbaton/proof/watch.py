"""Watch who holds the VIPs: every balancer's own kernel tells when the address comes and goes.

The times are those at which word arrives here, on this machine's clock, some milliseconds after the fact.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgbaton.errors import Error
from pgbaton.hosts import process
from pgbaton.proof.checkers.base import Holding
from pgbaton.proof.outage import Span
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.proof.target import Target
    from pgbaton.topology.model import Topology

#: How soon a host that could not be watched, because it is off or out of reach, is tried again.
RETRY_SECONDS = 0.2
#: First what the host has, then what changes; the listener is there before the list is made, so nothing is missed.
#: The last command keeps the shell, and so the listener, for as long as somebody reads.
LISTEN = 'ip -o monitor address & sleep 0.1; ip -o address show; wait "$!"'


@dataclass(frozen=True)
class Sighting:
    """At a moment, a host had a VIP, or had it no more; ``vip`` is its address where the cluster has several."""

    time: float
    host: str
    held: bool
    vip: str = ""


@dataclass
class VipWatch:
    """Watchers of all balancers of a cluster; None is watched where there is no VIP."""

    target: Target
    sightings: list[Sighting] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def labels(self) -> dict[str, str]:
        """Return what each VIP is called, by address: a single one needs no name."""
        return names(self.target.topology)

    def start(self) -> None:
        """Begin to watch."""
        if self.target.topology.network.vip is not None:
            names = [spec.name for spec in self.target.topology.with_role(Role.BALANCER)]
            self._tasks.extend(asyncio.create_task(self._follow(name)) for name in names)

    async def stop(self) -> tuple[Holding, ...]:
        """End watching and return who had which VIP and when."""
        end = time.monotonic()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return holdings(self.sightings, end)

    async def _follow(self, name: str) -> None:
        """Watch a host for as long as it is there, and again when it is back."""
        while True:
            with suppress(Error):
                await self._listen(name)
            for label in self.labels.values():
                self._note(name, label, held=False)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, name: str) -> None:
        argv = self.target.hosts[name].local_argv(("sh", "-c", LISTEN))
        labels = self.labels
        async with aclosing(process.lines(*argv, where=name)) as lines:
            async for line in lines:
                for address, label in labels.items():
                    if f" {address}/" in line:
                        self._note(name, label, held=not line.startswith("Deleted"))

    def _note(self, name: str, label: str, *, held: bool) -> None:
        self.sightings.append(Sighting(time.monotonic(), name, held, label))


def names(topology: Topology) -> dict[str, str]:
    """Return what each VIP is called in sightings and holdings, by address: its address, where there are several."""
    addresses = tuple(map(str, topology.network.vips))
    return {address: address if len(addresses) > 1 else "" for address in addresses}


def holdings(sightings: Iterable[Sighting], end: float) -> tuple[Holding, ...]:
    """Return the stretches in which hosts had VIPs, in the order in which they began. Pure."""
    since: dict[tuple[str, str], float] = {}
    found: list[Holding] = []
    for sighting in sightings:
        which = sighting.host, sighting.vip
        if sighting.held:
            since.setdefault(which, sighting.time)
        elif which in since:
            found.append(Holding(sighting.host, Span(since.pop(which), sighting.time), sighting.vip))
    found.extend(Holding(host, Span(begin, end), vip) for (host, vip), begin in since.items())
    return tuple(sorted(found, key=lambda holding: holding.span.begin))
