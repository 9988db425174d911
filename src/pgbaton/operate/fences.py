"""Who is fenced by the agents of other hosts: read from their kernels, where a fence is a fact."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from pgbaton.components import agent
from pgbaton.errors import Error
from pgbaton.observe import host_probe, readings
from pgbaton.observe.facts import fenced_name
from pgbaton.operate.checks import Check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.hosts.base import Host
    from pgbaton.observe.snapshot import FenceView
    from pgbaton.operate.members import View
    from pgbaton.topology.model import Topology

#: By fenced host, where its fences stand; None where nobody may fence.
Fences = dict[str, tuple[str, ...]] | None


async def look(topology: Topology, hosts: Mapping[str, Host]) -> Fences:
    """Ask every host with an agent at once; one that does not answer, or has no such table, has fenced nobody."""
    if not agent.may_fence(topology):
        return None
    names = [host.name for host in topology.voters]
    answers = await asyncio.gather(*(ask(hosts[name]) for name in names))
    found: dict[str, tuple[str, ...]] = {}
    for name, standing in zip(names, answers, strict=True):
        # One for each address of a host is still one fence.
        for host in dict.fromkeys(fenced_name(topology, fence) for fence in standing):
            found[host] = (*found.get(host, ()), name)
    return found


async def ask(host: Host) -> tuple[FenceView, ...]:
    """Return the fences that stand on one host."""
    try:
        result = await host.run(host_probe.NFT, "-j", "list", "table", *host_probe.FENCES, check=False, timeout=6)
        return readings.fences(json.loads(result.stdout or "{}")).standing
    except (Error, *readings.UNREADABLE):
        return ()


def unfenced(view: View, host: str) -> tuple[Check, ...]:
    """Check that nobody has fenced a host: it would lead, and could not be reached. Nothing where nobody may fence."""
    if view.fences is None:
        return ()
    on = view.fences.get(host, ())
    fix = "wait: they fall when it follows the primary, or holds the lock and is heard; pgbaton status"
    seen = f"on {', '.join(on)}" if on else "none"
    return (Check(f"fences against {host}", not on, seen, "none", fix),)


def fence_of(view: View, host: str) -> str | None:
    """Return in words that a host is fenced; None when it is not."""
    on = (view.fences or {}).get(host, ())
    return f"{host} is fenced on {', '.join(on)}, and is of use to nobody there until it follows" if on else None
