"""Whether a cluster is led as before: by whom and since when, and what journals tell of what came and went again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pgbaton.errors import UnhealthyError
from pgbaton.observe.facts import Facts
from pgbaton.operate import dcs
from pgbaton.proof import marks
from pgbaton.proof.marks import Moment
from pgbaton.proof.target import roles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.proof.marks import Mark
    from pgbaton.proof.target import Target

#: What nobody calls for while nothing is broken, and whose journals tell of it.
SIGNS = {
    Moment.FENCED: "its agent raised a fence",
    Moment.RELEASED: "the leader lock was released",
    Moment.ELECTED: "the leader lock was taken",
    Moment.CLAIMED: "the VIP was claimed",
}
UNITS = ("patroni.service", "keepalived.service", "pgbaton-agent.service")
#: The journals of an hour are long.
JOURNAL_SECONDS = 60.0


@dataclass(frozen=True)
class Lead:
    """Who leads: the primary's timeline, the holder of the leader key and etcd's revision that made it, the VIP's.

    ``more_vips`` are further ones by address, each with its holder.
    """

    timeline: int | None
    leader: str | None
    revision: int
    vip: str | None
    more_vips: tuple[tuple[str, str | None], ...] = ()


async def lead(target: Target) -> Lead:
    """Return who leads now; raises UnhealthyError when that is not one, or nobody knows."""
    snapshot, reading = await asyncio.gather(target.snapshot(), dcs.read(target.topology, target.hosts))
    now, server = roles(target.topology, snapshot), Facts(target.topology, snapshot).primary_server
    if reading.dcs is None or server is None:
        message = "etcd does not say who leads"
        raise UnhealthyError(message, hint="pgbaton status shows etcd's members")
    return Lead(server.timeline, reading.dcs.leader, reading.dcs.leader_revision, now.vip, now.more_vips)


def changes(before: Lead, after: Lead) -> tuple[str, ...]:
    """Return as sentences what is another one than before. Pure."""
    found = []
    if after.timeline != before.timeline:
        found.append(f"the timeline is {after.timeline} and was {before.timeline}")
    if after.leader != before.leader:
        found.append(f"the leader key is {after.leader or 'nobody'}'s and was {before.leader or 'nobody'}'s")
    elif after.revision != before.revision:
        found.append(f"{after.leader or 'nobody'} has lost the leader key meanwhile, and taken it again")
    if after.vip != before.vip:
        found.append(f"the VIP is on {after.vip or 'no balancer'} and was on {before.vip or 'no balancer'}")
    for (address, was), (_, now) in zip(before.more_vips, after.more_vips, strict=True):
        if now != was:
            found.append(f"{address} is on {now or 'no balancer'} and was on {was or 'no balancer'}")
    return tuple(found)


async def signs(target: Target, *, since: float) -> tuple[Mark, ...]:
    """Return what journals tell of since a wall clock time that nobody called for.

    Raises Error when a host does not answer: what its journal has is not known then.
    """
    read = (marks.journal(host, since=since, units=UNITS, timeout=JOURNAL_SECONDS) for host in target.hosts.values())
    return tuple(mark for mark in marks.in_order(await asyncio.gather(*read)) if mark.moment in SIGNS)


def alarms(found: Iterable[Mark]) -> tuple[str, ...]:
    """Return signs as sentences, one for those of a kind on a host, with the first of them. Pure."""
    alike: defaultdict[tuple[str, Moment], list[Mark]] = defaultdict(list)
    for mark in found:
        alike[mark.host, mark.moment].append(mark)
    return tuple(alarm(host, SIGNS[moment], of_kind) for (host, moment), of_kind in alike.items())


def alarm(host: str, sign: str, of_kind: list[Mark]) -> str:
    """Return signs of one kind on one host as a sentence. Pure."""
    first, times = of_kind[0], f" {len(of_kind)} times, first" if len(of_kind) > 1 else ""
    return f"{host}: {sign}{times} at {datetime.fromtimestamp(first.time, UTC):%H:%M:%S} UTC ({first.text})"
