"""Whose right it is to take writes where a person promotes: the servers' own words decide, as at their start. Pure.

A promotion begins a timeline, so the highest one is what was decided last. Whoever takes writes on an older one was
left behind; that a standby is on a newer one shows it as well. Nobody can tell two primaries on one timeline apart, so
neither has the right then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Role: TypeAlias = Literal["primary", "standby", "none", "unknown"]


class Words(Protocol):
    """What a host says of its server."""

    @property
    def role(self) -> Role:
        """Return what its server is."""

    @property
    def timeline(self) -> int:
        """Return the timeline that it is on; 0 when that is not known."""


def rival(timeline: int, others: Mapping[str, Words | None]) -> str:
    """Return why a server that takes writes on a timeline has no right to; nothing when nobody speaks against it.

    ``others`` are the words of the other database hosts, None for one that is not heard: silence speaks against nobody.
    """
    for host, said in sorted(others.items()):
        if said is None:
            continue
        if said.timeline > timeline:
            return f"{host} is on timeline {said.timeline}, and this server on {timeline}: another one was promoted"
        if said.role == "primary" and said.timeline == timeline:
            return f"{host} takes writes on timeline {timeline} too: nobody can tell which of the two is to"
    return ""
