"""Rules about an etcd that is on none of the hosts: what of it can be seen from the databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.rules.dcs import QUOTA_SHARE
from pgbaton.observe.words import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.observe.facts import Facts

ADVICE = "see that this host's network leads to it; on the host: python3 -IS /usr/lib/pgbaton/etcd.py health"


def etcd_out_of_reach(facts: Facts) -> Iterator[Finding]:
    """Every database must get an answer from etcd that a majority of its members stands behind."""
    for host, why in facts.without_etcd.items():
        matters = host == facts.primary or len(facts.without_etcd) == len(facts.seen_endpoints)
        level = Level.CRITICAL if matters else Level.WARNING
        seen = f"no endpoint of etcd answers it: {why}"
        yield Finding(level, "etcd-out-of-reach", host, seen, "an endpoint with a majority behind it", ADVICE)


def endpoint_unhealthy(facts: Facts) -> Iterator[Finding]:
    """Every endpoint must answer every database."""
    for endpoint, silent in facts.silent_endpoints.items():
        hosts = [host for host in silent if host not in facts.without_etcd]
        if hosts:
            seen = f"it does not answer {', '.join(hosts)}: {silent[hosts[0]]}"
            yield Finding(Level.WARNING, "endpoint-unhealthy", endpoint, seen, "an answer to every database", ADVICE)


def endpoints_differ(facts: Facts) -> Iterator[Finding]:
    """All endpoints must be members of one and the same etcd: two of them would mean two leader locks."""
    clusters: dict[str, list[str]] = {}
    for host, views in facts.seen_endpoints.items():
        for view in views:
            if view.cluster is not None:
                clusters.setdefault(view.cluster, []).append(f"{view.endpoint} from {host}")
    if len(clusters) > 1:
        seen = "; ".join(f"{cluster}: {', '.join(places)}" for cluster, places in sorted(clusters.items()))
        advice = "take those that are of another etcd out of etcd.endpoints at once, and apply"
        subject = facts.topology.name
        yield Finding(Level.CRITICAL, "endpoints-differ", subject, f"identities of etcd {seen}", "one etcd", advice)


def foreign_alarm_raised(facts: Facts) -> Iterator[Finding]:
    """No alarm may stand: with NOSPACE etcd takes no writes, so that no lock is kept or taken."""
    alarms = {alarm for views in facts.seen_endpoints.values() for view in views for alarm in view.alarms or ()}
    for alarm in sorted(alarms):
        advice = (
            "who runs that etcd has to see to it. NOSPACE: compact, defragment, disarm; CORRUPT: replace the member"
        )
        subject = facts.topology.name
        yield Finding(Level.CRITICAL, "alarm-raised", subject, f"etcd alarm {alarm}", "none", advice, part=alarm)


def foreign_quota_near(facts: Facts) -> Iterator[Finding]:
    """The database must stay below its quota, where that version of etcd tells it."""
    found: dict[str, tuple[int, int]] = {}
    for views in facts.seen_endpoints.values():
        for view in views:
            used, quota = view.db_size_bytes, view.quota_bytes
            if used and quota and used > QUOTA_SHARE * quota:
                found[view.endpoint] = (used, quota)
    for endpoint, (used, quota) in found.items():
        seen = f"etcd's database has {size(used)} of {size(quota)}"
        advice = "who runs that etcd has to compact and defragment it, one member at a time"
        yield Finding(Level.WARNING, "quota-near", endpoint, seen, f"{QUOTA_SHARE:.0%}", advice)
