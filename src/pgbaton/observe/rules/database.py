"""Rules about PostgreSQL, replication and Patroni."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.words import size, span
from pgbaton.topology.model import ReplicationMode, Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.observe.facts import Facts
    from pgbaton.observe.snapshot import SlotView

#: A standby's confirmed replay may be this old.
LAG_SECONDS = 10.0
#: An unused slot may keep this much WAL back; a used one this share of what any slot may.
UNUSED_SLOT_BYTES = 64 * 1024**2
SLOT_SHARE = 0.5
CONNECTION_SHARE = 0.9


def no_primary(facts: Facts) -> Iterator[Finding]:
    """Some server must take writes."""
    if facts.primaries:
        return
    asked = len(facts.topology.with_role(Role.DATABASE))
    seen = f"none of {asked} databases takes writes ({len(facts.servers)} answered)"
    ttl = facts.topology.timings.ttl
    advice = f"if no standby is promoted within {ttl} s: pgbaton logs, then pgbaton failover"
    if facts.topology.is_manual:
        advice = "nobody is promoted by itself: pgbaton failover --dry-run shows what can be, pgbaton failover does it"
    yield Finding(Level.CRITICAL, "no-primary", facts.topology.name, seen, "one primary", advice, outage=True)


def several_primaries(facts: Facts) -> Iterator[Finding]:
    """No two servers may take writes."""
    if len(facts.primaries) > 1:
        holder = ", ".join(facts.lock_holders) or "nobody"
        seen = f"{', '.join(facts.primaries)} all take writes; the leader lock is held by {holder}"
        advice = "stop patroni on the one that does not hold the lock, then pgbaton reinit it"
        if facts.topology.is_manual:
            lines = ", ".join(f"{name} on timeline {facts.servers[name].timeline}" for name in facts.primaries)
            seen = f"several servers take writes: {lines}; {led(facts)}"
            advice = "decide whose writes are kept; stop pgbaton-postgresql on the others, then pgbaton reinit them"
        yield Finding(Level.CRITICAL, "several-primaries", facts.topology.name, seen, "one primary", advice)


def led(facts: Facts) -> str:
    """Return in words where balancers open new connections for writes, where no lock says whom they are to lead to."""
    wanted = {up for up in facts.routes.values() if up}
    if not wanted:
        return "balancers open no new connection for writes"
    if len(wanted) == 1 and all(facts.routes.values()):
        return f"balancers lead to {wanted.pop()[0]}"
    return "; ".join(f"{name} leads to {up[0] if up else 'nobody'}" for name, up in facts.routes.items())


def lock_elsewhere(facts: Facts) -> Iterator[Finding]:
    """The primary must hold the leader lock."""
    if facts.primary and facts.lock_holders and facts.primary not in facts.lock_holders:
        seen = f"{facts.primary} takes writes, {', '.join(facts.lock_holders)} holds the leader lock"
        advice = "look again in a few seconds; pgbaton logs --unit patroni when it stays"
        yield Finding(Level.CRITICAL, "lock-elsewhere", facts.primary, seen, "the primary holds the lock", advice)


def server_silent(facts: Facts) -> Iterator[Finding]:
    """Every server must answer."""
    for spec, view in facts.reached(Role.DATABASE):
        unit = "pgbaton-postgresql" if facts.topology.is_manual else "patroni"
        if reason := facts.silence(view, "postgres"):
            state = f" (Patroni: {view.patroni.state})" if view.patroni else ""
            advice = f"pgbaton logs --host {spec.name} --unit {unit}"
            seen = f"PostgreSQL does not answer{state}: {reason}"
            yield Finding(Level.WARNING, "server-silent", spec.name, seen, "an answer", advice)


def patroni_silent(facts: Facts) -> Iterator[Finding]:
    """Every Patroni must answer: without it a server is unmanaged."""
    for spec, view in facts.reached(Role.DATABASE):
        if reason := facts.silence(view, "patroni"):
            advice = f"pgbaton logs --host {spec.name} --unit patroni"
            yield Finding(
                Level.WARNING, "patroni-silent", spec.name, f"Patroni does not answer: {reason}", "an answer", advice
            )


def standby_not_streaming(facts: Facts) -> Iterator[Finding]:
    """Every standby must stream."""
    for name, server in facts.servers.items():
        if server.role == "primary" or facts.primary is None:
            continue
        row = facts.followers.get(name)
        if row is not None and row.state == "streaming":
            continue
        above = "the primary" if name in facts.standbys else facts.topology.host(name).replicate_from
        seen = f"{row.state} from {above}" if row else f"not connected to the primary {facts.primary}"
        advice = f"pgbaton logs --host {name} --unit patroni; pgbaton reinit {name} clones it anew"
        if facts.topology.is_manual:
            advice = f"pgbaton reinit {name} rewinds or clones it, and has commits wait for it again"
        yield Finding(Level.WARNING, "standby-not-streaming", name, seen, "streaming", advice)


def replication_elsewhere(facts: Facts) -> Iterator[Finding]:
    """Every standby must receive over the network for replication, where there is one."""
    if not facts.topology.has_replication_network:
        return
    for name in facts.servers:
        row, wanted = facts.followers.get(name), str(facts.topology.replicates_at(facts.topology.host(name)))
        if row is not None and row.address not in {None, wanted}:
            advice = f"pgbaton restart --host {name}, once Patroni is not paused"
            if facts.topology.is_manual:
                advice = f"systemctl reload pgbaton-postgresql on {name}"
            yield Finding(Level.WARNING, "replication-elsewhere", name, f"comes from {row.address}", wanted, advice)


def standby_lagging(facts: Facts) -> Iterator[Finding]:
    """A standby must be close behind the primary."""
    limit = facts.topology.balancing.max_lag_mb * 1024**2
    for name, row in facts.standbys.items():
        behind, late = facts.lag_bytes(name) or 0, facts.lag_seconds(name) or 0.0
        if row.state == "streaming" and (behind > limit or late > LAG_SECONDS):
            advice = f"look for load on {name}, slow disks or network; reads leave it while it is over the limit"
            seen = f"{size(behind)} and {span(late)} behind"
            yield Finding(
                Level.WARNING, "standby-lagging", name, seen, f"{size(limit)} and {span(LAG_SECONDS)}", advice
            )


def timeline_differs(facts: Facts) -> Iterator[Finding]:
    """A standby must be on the primary's timeline."""
    primary = facts.primary_server
    for name, server in facts.servers.items():
        if primary and server.role == "standby" and server.timeline != primary.timeline:
            seen = f"timeline {server.timeline}"
            advice = f"wait for pg_rewind to end; pgbaton reinit {name} when it stays"
            if facts.topology.is_manual:
                advice = f"pgbaton reinit {name} when it stays"
            yield Finding(Level.WARNING, "timeline-differs", name, seen, f"timeline {primary.timeline}", advice)


def synchronous_standby_missing(facts: Facts) -> Iterator[Finding]:
    """As many standbys must confirm commits as the topology promises."""
    replication = facts.topology.replication
    if replication.mode is ReplicationMode.ASYNCHRONOUS or not facts.primary or facts.copies >= replication.count:
        return
    seen = f"{facts.copies} of {replication.count}; an acknowledged write survives {facts.durability}"
    limit = f"{replication.count} confirming"
    advice = "bring a standby back: pgbaton status shows which is missing"
    if facts.waits_in_vain:
        seen = f"{facts.copies} of {replication.count} confirm, and nobody takes the others out: writes wait"
        advice = "bring a standby back: pgbaton reinit; or let commits go on without it: pgbaton standby detach"
        yield Finding(Level.CRITICAL, "synchronous-standby-missing", facts.primary, seen, limit, advice, outage=True)
    elif replication.mode is ReplicationMode.STRICT:
        seen = f"{facts.copies} of {replication.count} confirm: writes wait until there are more"
        yield Finding(Level.CRITICAL, "synchronous-standby-missing", facts.primary, seen, limit, advice, outage=True)
    else:
        yield Finding(Level.WARNING, "synchronous-standby-missing", facts.primary, seen, limit, advice)


def slot_retains_wal(facts: Facts) -> Iterator[Finding]:
    """No slot may fill the disk, or lose its standby's WAL."""
    most = facts.topology.postgresql.max_slot_wal_keep_size_mb * 1024**2
    for name, server in facts.servers.items():
        for slot in server.slots:
            limit = most * SLOT_SHARE if slot.active else min(UNUSED_SLOT_BYTES, most * SLOT_SHARE)
            if slot.wal_status in {"lost", "unreserved"} or (slot.retained_bytes or 0) > limit:
                seen = f"{described(slot)} keeps {size(slot.retained_bytes or 0)} of WAL back"
                advice = f"bring its standby back, or pgbaton reinit it; at {size(most)} the slot is given up"
                yield Finding(Level.WARNING, "slot-retains-wal", name, seen, size(limit), advice, part=slot.name)


def described(slot: SlotView) -> str:
    """Return a slot in words."""
    use = "in use" if slot.active else "unused"
    return f"slot {slot.name} ({use}, {slot.wal_status or 'unknown'})"


def pending_restart(facts: Facts) -> Iterator[Finding]:
    """Settings should be in force."""
    for name, server in facts.servers.items():
        if server.pending_restart:
            seen = f"{', '.join(server.pending_restart)} changed, not yet in force"
            advice = f"pgbaton restart --host {name}"
            yield Finding(Level.NOTE, "pending-restart", name, seen, "none pending", advice)


def connections_used_up(facts: Facts) -> Iterator[Finding]:
    """Connections must be left."""
    for name, server in facts.servers.items():
        if server.connections > CONNECTION_SHARE * server.max_connections:
            seen = f"{server.connections} of {server.max_connections} connections"
            advice = "find who connects past the poolers (pg_stat_activity), or raise postgresql.max_connections"
            yield Finding(Level.WARNING, "connections-used-up", name, seen, f"{CONNECTION_SHARE:.0%}", advice)


def patroni_paused(facts: Facts) -> Iterator[Finding]:
    """Patroni must not be paused: while it is, nothing fails over."""
    paused = [spec.name for spec, view in facts.reached(Role.DATABASE) if view.patroni and view.patroni.paused]
    if paused:
        advice = "patronictl -c /etc/patroni/config.yml resume, on a database host"
        seen = "Patroni is paused: no failover happens"
        yield Finding(Level.WARNING, "patroni-paused", facts.topology.name, seen, "not paused", advice)


def dcs_not_seen(facts: Facts) -> Iterator[Finding]:
    """Every Patroni must have spoken with etcd lately."""
    limit = facts.topology.timings.loop_wait + 2 * facts.topology.timings.retry_timeout
    for spec, view in facts.reached(Role.DATABASE):
        silence = view.patroni.dcs_seen_seconds if view.patroni else None
        if silence is not None and silence > limit:
            seen = f"Patroni last reached etcd {span(silence)} ago"
            advice = "look at etcd's members and at the network to them"
            yield Finding(Level.WARNING, "dcs-not-seen", spec.name, seen, span(limit), advice)


def switchover_scheduled(facts: Facts) -> Iterator[Finding]:
    """A switchover that is still to come is worth knowing of."""
    times = {view.patroni.scheduled_switchover for _, view in facts.reached(Role.DATABASE) if view.patroni}
    for at in sorted(time for time in times if time):
        advice = "nothing, if it is meant; patronictl flush takes it back"
        yield Finding(
            Level.NOTE, "switchover-scheduled", facts.topology.name, f"a switchover is due {at}", "none", advice
        )
