"""What must hold among a topology's values: a table of small pure functions, each of which says its own rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.topology.rules import (
    access,
    agents,
    directories,
    foreign,
    hand,
    hosts,
    inside,
    network,
    pooling,
    reads,
    replication_network,
    servers,
    sites,
    timings,
    traffic,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pgbaton.topology.model import Topology
    from pgbaton.topology.objections import Objection
    from pgbaton.topology.rules.base import Rule

RULES: tuple[Rule, ...] = (
    *hosts.RULES,
    *network.RULES,
    *replication_network.RULES,
    *sites.RULES,
    *servers.RULES,
    *directories.RULES,
    *traffic.RULES,
    *pooling.RULES,
    *inside.RULES,
    *reads.RULES,
    *timings.RULES,
    *agents.RULES,
    *foreign.RULES,
    *hand.RULES,
    *access.RULES,
)


def check(topology: Topology, *, sound: Collection[str]) -> Iterator[Objection]:
    """Yield what the rules have against a topology, leaving out those that read a table that is not sound."""
    for rule in RULES:
        if rule.reads <= set(sound):
            yield from rule.check(topology)
