"""Rules about etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import etcd
from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.words import size
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.observe.facts import Facts

#: This share of the quota is the time to compact and defragment, before etcd refuses writes.
QUOTA_SHARE = 0.8


def quorum_lost(facts: Facts) -> Iterator[Finding]:
    """A majority of the members must be healthy."""
    asked = [spec.name for spec in facts.topology.with_role(Role.DCS)]
    if not asked:
        return
    healthy = [spec.name for spec, view in facts.reached(Role.DCS) if view.etcd and view.etcd.healthy]
    needed = len(asked) // 2 + 1
    if len(healthy) < needed:
        seen = f"{len(healthy)} of {len(asked)} members are healthy ({', '.join(healthy) or 'none'})"
        advice = "bring members back: without a quorum the primary steps down and nobody is promoted"
        yield Finding(Level.CRITICAL, "quorum-lost", facts.topology.name, seen, f"{needed} healthy members", advice)


def member_unhealthy(facts: Facts) -> Iterator[Finding]:
    """Every member must be healthy."""
    for spec, view in facts.reached(Role.DCS):
        reason = facts.silence(view, "etcd")
        if view.etcd and not view.etcd.healthy:
            reason = view.etcd.reason or "unhealthy"
        if reason:
            advice = f"pgbaton logs --host {spec.name} --unit etcd"
            yield Finding(Level.WARNING, "member-unhealthy", spec.name, f"its etcd member: {reason}", "healthy", advice)


def leaders_differ(facts: Facts) -> Iterator[Finding]:
    """All members must follow the same leader."""
    views = {spec.name: view.etcd.leader for spec, view in facts.reached(Role.DCS) if view.etcd}
    if len({leader for leader in views.values() if leader}) > 1:
        seen = "; ".join(f"{name} follows {leader or 'nobody'}" for name, leader in views.items())
        advice = "look again in a few seconds: an election is under way, or the members are cut apart"
        yield Finding(Level.WARNING, "leaders-differ", facts.topology.name, seen, "one leader", advice)


def members_differ(facts: Facts) -> Iterator[Finding]:
    """The members must be those of the topology."""
    wanted = tuple(sorted(spec.name for spec in facts.topology.with_role(Role.DCS)))
    seen = {view.etcd.members for _, view in facts.reached(Role.DCS) if view.etcd and view.etcd.members}
    for members in sorted(seen - {wanted}):
        advice = "etcdctl member list on a dcs host; add or remove the odd one by hand"
        yield Finding(
            Level.WARNING, "members-differ", facts.topology.name, ", ".join(members), ", ".join(wanted), advice
        )


def alarm_raised(facts: Facts) -> Iterator[Finding]:
    """No member may have an alarm: with NOSPACE etcd takes no writes, so that no lock is kept or taken."""
    for spec, view in facts.reached(Role.DCS):
        for alarm in view.etcd.alarms if view.etcd else ():
            advice = "NOSPACE: compact, defragment, then etcdctl alarm disarm; CORRUPT: replace the member"
            yield Finding(Level.CRITICAL, "alarm-raised", spec.name, f"etcd alarm {alarm}", "none", advice, part=alarm)


def quota_near(facts: Facts) -> Iterator[Finding]:
    """The database must stay below its quota."""
    for spec, view in facts.reached(Role.DCS):
        quota = int(etcd.settings(facts.topology, spec)["ETCD_QUOTA_BACKEND_BYTES"])
        if view.etcd and view.etcd.db_size_bytes > QUOTA_SHARE * quota:
            seen = f"etcd's database has {size(view.etcd.db_size_bytes)} of {size(quota)}"
            advice = f"on {spec.name}: etcdctl defrag, one member at a time, the leader last"
            yield Finding(Level.WARNING, "quota-near", spec.name, seen, f"{QUOTA_SHARE:.0%}", advice)


def leader_beside_primary(facts: Facts) -> Iterator[Finding]:
    """The leader of etcd is better on another host than the primary's: losing both at once makes a failover longer."""
    view = facts.snapshot.host(facts.primary) if facts.primary else None
    if view and view.etcd and view.etcd.is_leader and len(facts.topology.with_role(Role.DCS)) > 1:
        seen = "etcd's leader is on the primary's host: losing that host costs an election of each"
        advice = "harmless; if that host loses its power, the failover takes a few seconds longer"
        yield Finding(Level.NOTE, "leader-beside-primary", view.name, seen, "another host", advice)
