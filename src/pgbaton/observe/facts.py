"""What follows from a snapshot and its topology together; the rules and the screen both stand on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pgbaton.components import agent, etcd, haproxy, patroni, pgbouncer, postgres
from pgbaton.topology import placement
from pgbaton.topology.model import Placement, ReplicationMode, Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgbaton.observe.snapshot import (
        AgentView,
        EndpointView,
        FenceView,
        HostView,
        PoolView,
        PostgresView,
        Snapshot,
        StandbyView,
    )
    from pgbaton.topology.model import HostSpec, Topology

#: HAProxy's listeners in front of the servers.
PRIMARY_PROXY = "primary"
STANDBY_PROXY = "standbys"
#: Where reads go while there is no primary.
STRANDED_PROXY = "stranded"
#: The purpose of the pools that agents hold while there is no primary.
HELD_PURPOSE = "write"
#: The unit that each part of a host is run by, beside the server and the poolers; a part that is silent while its unit
#: is down needs no other reason.
UNIT_OF = {
    "patroni": patroni.UNIT,
    "etcd": etcd.UNIT,
    "haproxy": haproxy.UNIT,
    "agent": agent.UNIT,
}
POOLER_PART = "pooler "
#: How many confirmations commits wait for, as PostgreSQL's setting says it.
WANTED = re.compile(r"(?:FIRST|ANY) (\d+) ")
#: The states of ``pg_stat_replication.sync_state`` whose confirmation a commit may count on.
CONFIRMING = frozenset({"sync", "quorum"})


@dataclass(frozen=True)
class Facts:
    """A topology, a snapshot of it, and what they say together."""

    topology: Topology
    snapshot: Snapshot

    def reached(self, role: Role) -> Iterator[tuple[HostSpec, HostView]]:
        """Yield the reachable hosts that have a role."""
        for spec in self.topology.with_role(role):
            view = self.snapshot.host(spec.name)
            if view.reachable:
                yield spec, view

    @cached_property
    def poolers(self) -> tuple[tuple[HostSpec, HostView], ...]:
        """Return the reachable hosts that PgBouncer runs on."""
        component = pgbouncer.Pgbouncer()
        views = ((spec, self.snapshot.host(spec.name)) for spec in self.topology.hosts)
        return tuple((spec, view) for spec, view in views if view.reachable and component.runs_on(self.topology, spec))

    @cached_property
    def pooled_proxies(self) -> dict[str, str]:
        """Return HAProxy's backends in front of the poolers, by what PgBouncer's processes are for."""
        return {purpose: f"pooled_{purpose}" for purpose in pgbouncer.purposes(self.topology)}

    @cached_property
    def servers(self) -> dict[str, PostgresView]:
        """Return the servers that answered, by host."""
        return {spec.name: view.postgres for spec, view in self.reached(Role.DATABASE) if view.postgres}

    @cached_property
    def primaries(self) -> tuple[str, ...]:
        """Return the hosts whose server takes writes."""
        return tuple(name for name, server in self.servers.items() if server.role == "primary")

    @cached_property
    def lock_holders(self) -> tuple[str, ...]:
        """Return whom the Patronis name as holder of the leader lock; more than one while a change spreads."""
        named = (view.patroni.leader for _, view in self.reached(Role.DATABASE) if view.patroni)
        return tuple(dict.fromkeys(name for name in named if name))

    @cached_property
    def primary(self) -> str | None:
        """Return the primary's host: of several, the one that holds the leader lock, or was promoted last.

        Where a person promotes, nobody can tell which of two on one timeline is: then it is none.
        """
        if self.topology.is_manual:
            newest = max((self.servers[name].timeline or 0 for name in self.primaries), default=0)
            last = [name for name in self.primaries if (self.servers[name].timeline or 0) == newest]
            return last[0] if len(last) == 1 else None
        rightful = [name for name in self.primaries if name in self.lock_holders]
        return next(iter(rightful or self.primaries), None)

    @cached_property
    def primary_server(self) -> PostgresView | None:
        """Return the primary's server."""
        return self.servers[self.primary] if self.primary else None

    @cached_property
    def standbys(self) -> dict[str, StandbyView]:
        """Return what the primary knows of its standbys, by host; the best row where a standby has two."""
        rows = self.primary_server.standbys if self.primary_server else ()
        return {row.name: row for row in sorted(rows, key=lambda row: row.state == "streaming")}

    @cached_property
    def followers(self) -> dict[str, StandbyView]:
        """Return the same with the standbys that are put behind another, as that one knows them."""
        upstreams = {spec.name: spec.replicate_from for spec in self.topology.with_role(Role.DATABASE)}
        rows = (row for name, server in self.servers.items() if name != self.primary for row in server.standbys)
        # A row of the primary's own counts before any other's.
        behind = {row.name: row for row in rows if upstreams.get(row.name) is not None}
        return behind | self.standbys

    @cached_property
    def vip_holders(self) -> tuple[str, ...]:
        """Return the hosts that have the VIP on their interface."""
        return tuple(spec.name for spec, view in self.reached(Role.BALANCER) if view.holds_vip)

    @cached_property
    def holders(self) -> dict[str, tuple[str, ...]]:
        """Return the hosts that have each VIP on their interface, by address, the VIP first."""
        reached = tuple((spec.name, view.more_vips or ()) for spec, view in self.reached(Role.BALANCER))
        held = {
            address: tuple(name for name, more in reached if address in more)
            for address in map(str, self.topology.network.vips)
        }
        return held | ({str(self.topology.network.vip): self.vip_holders} if held else {})

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """Return the balancers that clients come through: the VIPs' holders, all of them where there is no VIP."""
        if self.topology.network.vip:
            return tuple(dict.fromkeys(name for names in self.holders.values() for name in names))
        return tuple(spec.name for spec in self.topology.with_role(Role.BALANCER))

    @cached_property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """Return the servers that each router sends writes to, by router, which balancers mostly are.

        Where a person promotes, a router that takes several for the primary opens no new connection to any.
        """
        routers = {spec.name for spec in placement.routers(self.topology)}
        found = {name: up.get(PRIMARY_PROXY, ()) for name, up in self._proxies.items() if name in routers}
        most = 1 if self.topology.is_manual else len(self.topology.hosts)
        return {name: up if len(up) <= most else () for name, up in found.items()}

    @cached_property
    def read_routes(self) -> dict[str, tuple[str, ...]]:
        """Return the standbys that each router sends reads to, by router: without a primary, those left behind."""
        return {
            name: up.get(STANDBY_PROXY) or (() if self.routes[name] else up.get(STRANDED_PROXY, ()))
            for name, up in self._proxies.items()
            if name in self.routes
        }

    @cached_property
    def carriers(self) -> frozenset[str]:
        """Return the routers that clients' writes go through now: the entries, or every pooler."""
        routers = frozenset(spec.name for spec in placement.routers(self.topology))
        return routers if self.topology.pooling.placement is Placement.POOLER else frozenset(self.entries)

    @cached_property
    def proxied(self) -> tuple[tuple[HostSpec, HostView], ...]:
        """Return the reachable hosts that HAProxy runs on."""
        views = ((spec, self.snapshot.host(spec.name)) for spec in placement.proxies(self.topology))
        return tuple((spec, view) for spec, view in views if view.reachable)

    @cached_property
    def _proxies(self) -> dict[str, dict[str, tuple[str, ...]]]:
        views = ((spec.name, view.haproxy) for spec, view in self.proxied)
        return {name: {proxy.name: proxy.up for proxy in view.proxies} for name, view in views if view}

    @cached_property
    def pool_fronts(self) -> tuple[str, ...]:
        """Return the balancers that answer and lead to pools."""
        leads = placement.leads_to_pools(self.topology)
        return tuple(spec.name for spec, view in self.reached(Role.BALANCER) if view.haproxy) if leads else ()

    @cached_property
    def voters(self) -> tuple[tuple[HostSpec, HostView], ...]:
        """Return the reachable hosts that have an agent; none where the topology has no agents."""
        views = ((spec, self.snapshot.host(spec.name)) for spec in self.topology.voters)
        return tuple((spec, view) for spec, view in views if view.reachable)

    @cached_property
    def agents(self) -> dict[str, AgentView]:
        """Return the agents that answered, by host."""
        return {spec.name: view.agent for spec, view in self.voters if view.agent}

    @cached_property
    def awake(self) -> dict[str, AgentView]:
        """Return the agents whose word on others counts: one that overslept can say nothing of anybody."""
        return {name: view for name, view in self.agents.items() if not view.stalled}

    @cached_property
    def deaf(self) -> dict[str, tuple[str, ...]]:
        """Return, by agent, which of the agents that are well it does not hear."""
        unheard = {name: self._unheard(name, view) for name, view in self.awake.items()}
        return {name: others for name, others in unheard.items() if others}

    def _unheard(self, name: str, view: AgentView) -> tuple[str, ...]:
        return tuple(other for other in self.awake if other != name and not view.hears(other))

    def heard_by(self, host: str) -> tuple[str, ...]:
        """Return the other hosts whose agents hear a host's."""
        return tuple(name for name, view in self.awake.items() if name != host and view.hears(host))

    @cached_property
    def fences(self) -> dict[str, dict[str, str]]:
        """Return the hosts that are fenced, and each one's fences: on which hosts they stand, and why."""
        found: dict[str, dict[str, str]] = {}
        for spec, view in self.voters:
            for host, reason in self._standing(view):
                found.setdefault(host, {})[spec.name] = reason
        return dict(sorted(found.items()))

    def _standing(self, view: HostView) -> Iterator[tuple[str, str]]:
        """Yield whom a host has fenced, and why: by its kernel, by its agent's word where that could not be asked."""
        if view.fences is not None:
            yield from ((fenced_name(self.topology, fence), fence.reason) for fence in view.fences.standing)
        elif view.agent is not None:
            yield from ((host, "by its agent's word") for host in view.agent.fenced)

    def processes(self, purpose: str) -> tuple[str, ...]:
        """Return the PgBouncer processes of a purpose that every pooler host has."""
        return pgbouncer.processes(self.topology, purpose)

    def is_held(self, pool: PoolView) -> bool:
        """Tell whether an agent must have forgotten a pool: clients of a pause wait for longer than any agent pauses.

        PgBouncer does not say since when it is paused.
        """
        may_be = self.topology.has_agents and pgbouncer.purpose_of(pool.instance) == HELD_PURPOSE
        return may_be and bool(pool.paused) and pool.wait_seconds > agent.PAUSE_SECONDS

    @cached_property
    def seen_endpoints(self) -> dict[str, tuple[EndpointView, ...]]:
        """Return how each reachable database sees a foreign etcd's endpoints; nothing where it could not even ask."""
        if self.topology.foreign_etcd is None:
            return {}
        return {spec.name: view.foreign_etcd or () for spec, view in self.reached(Role.DATABASE)}

    @cached_property
    def without_etcd(self) -> dict[str, str]:
        """Return why a database gets no answer from a foreign etcd, for those that get none."""
        found = {}
        for host, views in self.seen_endpoints.items():
            if not any(view.healthy for view in views):
                reasons = [f"{view.endpoint}: {view.reason}" for view in views]
                found[host] = "; ".join(reasons) or self.snapshot.host(host).problem("foreign_etcd") or "not asked"
        return found

    @cached_property
    def silent_endpoints(self) -> dict[str, dict[str, str]]:
        """Return by endpoint of a foreign etcd which databases it does not answer, and why."""
        found: dict[str, dict[str, str]] = {}
        for host, views in self.seen_endpoints.items():
            for view in views:
                if not view.healthy:
                    found.setdefault(view.endpoint, {})[host] = view.reason
        return found

    def unit_of(self, part: str) -> str | None:
        """Return the unit that runs a part of a host; None for what no unit runs."""
        if part.startswith(POOLER_PART):
            return pgbouncer.unit(part.removeprefix(POOLER_PART))
        return postgres.unit(self.topology) if part == "postgres" else UNIT_OF.get(part)

    def silence(self, view: HostView, part: str) -> str | None:
        """Return why a part does not answer: its unit is down, or what was met on asking; None when it does."""
        reason = view.problem(part)
        down = [unit for unit in view.units if unit.name == self.unit_of(part) and unit.active != "active"]
        return str(down[0]) if reason and down else reason

    @cached_property
    def confirming(self) -> tuple[str, ...]:
        """Return the standbys whose confirmation a commit waits for, or one of whose it waits for in quorum mode."""
        rows = self.standbys.values()
        return tuple(sorted(row.name for row in rows if row.state == "streaming" and row.sync_state in CONFIRMING))

    @cached_property
    def copies(self) -> int:
        """Return on how many standbys a commit is before it is acknowledged, right now."""
        if self.topology.replication.mode is ReplicationMode.ASYNCHRONOUS:
            return 0
        return min(self.topology.replication.count, len(self.confirming))

    @cached_property
    def waits_in_vain(self) -> bool:
        """Tell whether commits wait for more standbys than stream, where nobody takes a standby out by himself."""
        names = self.primary_server.synchronous_standby_names if self.primary_server else ""
        wanted = WANTED.match(names)
        return self.topology.is_manual and wanted is not None and len(self.confirming) < int(wanted[1])

    @property
    def durability(self) -> str:
        """Return in words what an acknowledged write survives right now."""
        if self.primary is None:
            return "nothing: without a primary no write is acknowledged"
        if self.copies == 0:
            return "a restart of the primary, not the loss of its host"
        which = " or ".join(self.confirming) if len(self.confirming) > self.copies else " and ".join(self.confirming)
        hosts = "any host" if self.copies == 1 else f"any {self.copies} hosts"
        return f"the loss of {hosts} (also on {which})"

    def lag_bytes(self, host: str) -> int | None:
        """Return how far a standby's replay is behind the primary: as the primary knows it, else by both positions."""
        row = self.standbys.get(host)
        if row is not None and row.replay_lag_bytes is not None:
            return max(0, row.replay_lag_bytes)
        own, primary = self.servers.get(host), self.primary_server
        if own is None or primary is None or own.lsn is None or primary.lsn is None:
            return None
        return max(0, primary.lsn - own.lsn)

    def lag_seconds(self, host: str) -> float | None:
        """Return how long ago the primary wrote what a standby confirmed last; 0 when nothing is behind."""
        row = self.standbys.get(host)
        if row is None:
            own = self.servers.get(host)
            return own.replay_age_seconds if own else None
        return row.replay_lag_seconds or 0.0


def fenced_name(topology: Topology, fence: FenceView) -> str:
    """Return the present name of a fenced host: it may have been called otherwise when it was fenced."""
    return topology.names_by_address.get(fence.address, fence.host)
