"""Which standby may become primary, and why the others may not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.operate.checks import Check, failed, listing, size
from pgbaton.operate.dcs import MAXIMUM_LAG
from pgbaton.operate.fences import unfenced
from pgbaton.operate.members import database_names
from pgbaton.operate.servers import Absence, Server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.operate.dcs import Dcs
    from pgbaton.operate.members import View
    from pgbaton.topology.model import Topology


def choose(topology: Topology, view: View, to: str | None) -> tuple[tuple[Check, ...], str | None]:
    """Return the checks of the standby named, or of the fittest one, and its name when all of them passed.

    Without a name and without a fit standby, the checks say for each standby what keeps it.
    """
    if to is not None:
        checks = fitness(topology, view, to)
        return checks, None if failed(checks) else to
    fit = [name for name in standbys(topology, view) if not failed(fitness(topology, view, name))]
    if fit:
        best = min(fit, key=lambda name: backlog(view, name))
        return fitness(topology, view, best), best
    return tuple(check for name in standbys(topology, view) for check in failed(fitness(topology, view, name))) or (
        nobody(),
    ), None


def standbys(topology: Topology, view: View) -> tuple[str, ...]:
    """Return the database hosts that are not the primary, in the topology's order."""
    return tuple(name for name in database_names(topology) if name not in view.primaries)


def nobody() -> Check:
    """Return the check that fails when the cluster has no standby at all."""
    return Check("standbys", passed=False, seen="none", limit="one at least", fix="add a database host to the topology")


def backlog(view: View, host: str) -> int:
    """Return how many bytes of WAL a running standby has yet to replay before it could take writes."""
    server = view.running[host]
    return head(view.servers.values()) - server.replayed


def head(servers: Iterable[Server | Absence]) -> int:
    """Return the furthest WAL position that any running server has."""
    return max((server.position for server in servers if isinstance(server, Server)), default=0)


def fitness(topology: Topology, view: View, host: str) -> tuple[Check, ...]:
    """Return every check of one candidate for a planned change of primary."""
    server = view.servers[host]
    if isinstance(server, Absence):
        return (permission(topology, view, host), running(host, server))
    if not server.in_recovery:
        return (
            Check(
                f"{host} as candidate",
                passed=False,
                seen="already the primary",
                limit="a standby",
                fix="choose another host",
            ),
        )
    streams = host in view.streaming
    streaming = Check(
        f"{host} streams",
        streams,
        "yes" if streams else "no",
        "yes, from the primary",
        f"pgbaton logs {host}; pgbaton reinit {host} clones it anew",
    )
    checks = [permission(topology, view, host), running(host, server), streaming, *unfenced(view, host)]
    return (*checks, *standing(view, host), *distances(topology, view, host, server))


def running(host: str, server: Server | Absence) -> Check:
    """Check that the candidate's server answers."""
    absent = isinstance(server, Absence)
    return Check(
        f"{host} runs",
        not absent,
        server.reason if isinstance(server, Absence) else "yes",
        "yes",
        f"bring {host} back, or choose another host",
    )


def permission(topology: Topology, view: View, host: str) -> Check:
    """Check that the topology and Patroni allow the candidate to become primary."""
    record = view.dcs.members.get(host) if view.dcs else None
    excluded = not topology.host(host).failover or (record is not None and record.no_failover)
    seen = "excluded" if excluded else "allowed"
    return Check(
        f"{host} as primary", not excluded, seen, "allowed", f"choose another host, or set failover = true for {host}"
    )


def standing(view: View, host: str) -> tuple[Check, ...]:
    """Check that Patroni knows the candidate and, in synchronous mode, has recorded it as synchronous."""
    if view.dcs is None:
        return ()
    if not view.dcs.synchronous:
        return (membership(host, view.dcs),)
    seen, limit = f"synchronous: {listing(sorted(view.synchronous))}", f"{host} among them"
    fix = "choose a synchronous standby: no other is sure to have every acknowledged write"
    return (membership(host, view.dcs), Check(f"{host} as standby", host in view.synchronous, seen, limit, fix))


def membership(host: str, dcs: Dcs) -> Check:
    """Check that the candidate's Patroni lives: its record in etcd expires when it does not."""
    listed = host in dcs.members
    seen = "a member" if listed else "unknown"
    return Check(f"{host} in Patroni", listed, seen, "a member", f"start patroni.service on {host}")


def distances(topology: Topology, view: View, host: str, server: Server) -> tuple[Check, ...]:
    """Check how far behind the candidate is: WAL not received could be lost, WAL not replayed costs time."""
    front = head(view.servers.values())
    limit = topology.balancing.max_lag_mb * 2**20
    # Without Patroni there is no other word on how far is too far.
    otherwise = limit if topology.is_manual else MAXIMUM_LAG
    most = view.dcs.maximum_lag_bytes if view.dcs else otherwise
    behind, unplayed = front - server.position, front - server.replayed
    received = Check(
        f"{host} lag", behind <= most, size(behind), f"{size(most)} at most", "wait until it has caught up"
    )
    replayed = Check(
        f"{host} replay lag", unplayed <= limit, size(unplayed), f"{size(limit)} at most", "wait until it has replayed"
    )
    paused = Check(
        f"{host} replay",
        not server.replay_paused,
        "paused" if server.replay_paused else "running",
        "running",
        f"SELECT pg_wal_replay_resume() on {host}",
    )
    return (received, paused, replayed)
