"""The report: a snapshot and its findings, brought together as the screen and JSON both show them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgbaton.components.agent import may_fence
from pgbaton.observe import codec
from pgbaton.observe.facts import CONFIRMING, Facts
from pgbaton.observe.findings import Finding, Health, Level, health
from pgbaton.observe.judge import judge
from pgbaton.topology import placement, vips
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.observe.snapshot import HostView, PoolView, Snapshot
    from pgbaton.topology.model import HostSpec, Topology


@dataclass(frozen=True)
class HostRow:
    """One host in a line.

    ``state`` is what to say of the host as a whole; ``role`` is primary, standby or None; ``writes_from`` and
    ``reads_from`` name the balancers that send writes and reads to it. ``holds_vip`` tells of the VIP; ``more_vips``
    are the further ones that it holds, None where the cluster has none.
    """

    name: str
    address: str
    roles: tuple[str, ...]
    state: str
    role: str | None
    timeline: int | None
    lag_bytes: int | None
    lag_seconds: float | None
    sync_state: str | None
    holds_vip: bool
    writes_from: tuple[str, ...]
    reads_from: tuple[str, ...]
    more_vips: tuple[str, ...] | None = field(default=None, metadata=codec.OPTIONAL)

    @property
    def vips(self) -> int:
        """Return how many VIPs it holds."""
        return self.holds_vip + len(self.more_vips or ())


@dataclass(frozen=True)
class VipRow:
    """One of several VIPs: its address, the balancer that it goes back to, and who holds it."""

    address: str
    home: str
    holders: tuple[str, ...]

    def __str__(self) -> str:
        """Return where it is."""
        return f"{self.address} on {' and '.join(self.holders) or 'nobody'}"


@dataclass(frozen=True)
class PoolRow:
    """One PgBouncer process."""

    host: str
    pool: PoolView


@dataclass(frozen=True)
class EtcdRow:
    """All of etcd in a line: of ``members``, how many are ``healthy``, and who leads.

    Of a foreign etcd, the members are its endpoints, and healthy are those that answer all of ``seen_from``. What is in
    ``untold`` cannot be seen: its members do not tell the cluster's user. A size of None is not told either.
    """

    members: int
    healthy: int
    leader: str | None
    db_size_bytes: int | None
    alarms: tuple[str, ...]
    seen_from: tuple[str, ...] | None = field(default=None, metadata=codec.OPTIONAL)
    untold: tuple[str, ...] | None = field(default=None, metadata=codec.OPTIONAL)


@dataclass(frozen=True)
class AgentRow:
    """One agent: ``state`` is running, stalled, silent or unreachable; it is heard by ``heard_by`` of ``others``."""

    host: str
    state: str
    version: str | None
    heard_by: int
    others: int


@dataclass(frozen=True)
class FenceRow:
    """A fenced host, and on which hosts its fences stand, each with why."""

    host: str
    on: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """A cluster at one moment, judged.

    ``agents`` is None where the topology has no agents, ``fences`` where none of them may fence, ``etcd`` where there
    is none. ``routers`` are the hosts whose HAProxy leads to the servers. ``vip`` is the VIP's address, or the first
    one's; ``vips`` are all of them where there are several.
    """

    cluster: str
    taken_at: str
    health: Health
    primary: str | None
    timeline: int | None
    lock_holder: str | None
    vip: str | None
    vip_holders: tuple[str, ...]
    routers: tuple[str, ...]
    replication: str
    survives: str
    hosts: tuple[HostRow, ...]
    pools: tuple[PoolRow, ...]
    etcd: EtcdRow | None
    findings: tuple[Finding, ...]
    snapshot: Snapshot
    agents: tuple[AgentRow, ...] | None = field(default=None, metadata=codec.OPTIONAL)
    fences: tuple[FenceRow, ...] | None = field(default=None, metadata=codec.OPTIONAL)
    vips: tuple[VipRow, ...] | None = field(default=None, metadata=codec.OPTIONAL)

    @property
    def exit_status(self) -> int:
        """Return 4 when no host answered, 3 when something is critical, else 0: warnings do not fail a command."""
        if not any(host.reachable for host in self.snapshot.hosts):
            return 4
        return 3 if any(finding.level is Level.CRITICAL for finding in self.findings) else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can carry it."""
        data: dict[str, Any] = codec.encode(self)
        return {**data, "findings": [finding.to_dict() for finding in self.findings]}


def report(topology: Topology, snapshot: Snapshot) -> Report:
    """Judge a snapshot and return what is to be shown of it."""
    facts = Facts(topology, snapshot)
    findings = judge(topology, snapshot)
    return Report(
        cluster=topology.name,
        taken_at=snapshot.taken_at,
        health=health(findings),
        primary=facts.primary,
        timeline=facts.primary_server.timeline if facts.primary_server else None,
        lock_holder=next(iter(facts.lock_holders), None),
        vip=str(topology.network.vip) if topology.network.vip else None,
        vip_holders=facts.vip_holders,
        routers=tuple(spec.name for spec in placement.routers(facts.topology)),
        replication=topology.replication.mode.value,
        survives=facts.durability,
        hosts=tuple(host_row(facts, spec) for spec in topology.hosts),
        pools=tuple(PoolRow(spec.name, pool) for spec, view in facts.poolers for pool in view.pools),
        etcd=etcd_of(facts),
        findings=findings,
        snapshot=snapshot,
        agents=tuple(agent_row(facts, spec) for spec in topology.voters) if topology.has_agents else None,
        fences=tuple(FenceRow(host, on) for host, on in facts.fences.items()) if may_fence(topology) else None,
        vips=vip_rows(facts),
    )


def vip_rows(facts: Facts) -> tuple[VipRow, ...] | None:
    """Return a line for each VIP where there are several."""
    homes = vips.homes(facts.topology)
    return tuple(VipRow(address, home, facts.holders[address]) for address, home in homes.items()) or None


def host_row(facts: Facts, spec: HostSpec) -> HostRow:
    """Return one host's line."""
    view, name = facts.snapshot.host(spec.name), spec.name
    server, row = facts.servers.get(name), facts.followers.get(name)
    standby = server is not None and server.role == "standby"
    return HostRow(
        name=name,
        address=str(spec.address),
        roles=tuple(role.value for role in spec.roles),
        state=state(facts, spec, view),
        role=server.role if server else None,
        timeline=server.timeline if server else None,
        lag_bytes=facts.lag_bytes(name) if standby else None,
        lag_seconds=facts.lag_seconds(name) if standby else None,
        sync_state=row.sync_state if row and standby else None,
        holds_vip=view.holds_vip,
        writes_from=tuple(balancer for balancer, up in facts.routes.items() if name in up and spec.has(Role.DATABASE)),
        reads_from=tuple(
            balancer for balancer, up in facts.read_routes.items() if name in up and spec.has(Role.DATABASE)
        ),
        more_vips=view.more_vips,
    )


def state(facts: Facts, spec: HostSpec, view: HostView) -> str:
    """Return a host's state in a word or two: what is worst about it comes first."""
    if not view.reachable:
        return "unreachable"
    down = [unit.name for unit in view.units if unit.active != "active"]
    if down:
        return f"{down[0].removesuffix('.service')} {next(u.active for u in view.units if u.name == down[0])}"
    if spec.has(Role.DATABASE) and spec.name not in facts.servers:
        told = view.patroni.state if view.patroni else "running"
        return "PostgreSQL silent" if told == "running" else told
    row = facts.followers.get(spec.name)
    if row:
        return row.state
    silent = [problem.part for problem in view.problems]
    return f"{silent[0]} silent" if silent else "running"


def etcd_of(facts: Facts) -> EtcdRow | None:
    """Return etcd's line; None where there is no etcd."""
    if facts.topology.is_manual:
        return None
    return foreign_etcd_row(facts) if facts.topology.foreign_etcd else etcd_row(facts)


def foreign_etcd_row(facts: Facts) -> EtcdRow:
    """Return the line of an etcd that is on none of the hosts: what the databases see of it."""
    views = [view for each in facts.seen_endpoints.values() for view in each if view.healthy]
    told = {
        "leader": any(view.leader for view in views),
        "size": any(view.db_size_bytes is not None for view in views),
        "alarms": any(view.alarms is not None for view in views),
        "quota": any(view.quota_bytes is not None for view in views),
    }
    sizes = [view.db_size_bytes for view in views if view.db_size_bytes is not None]
    places = facts.topology.etcd.places
    answers = {view.endpoint for view in views} - facts.silent_endpoints.keys()
    return EtcdRow(
        members=len(places),
        healthy=len(answers.intersection(places)),
        leader=next((view.leader for view in views if view.leader), None),
        db_size_bytes=max(sizes, default=None),
        alarms=tuple(sorted({alarm for view in views for alarm in view.alarms or ()})),
        seen_from=tuple(facts.seen_endpoints),
        untold=tuple(name for name, is_told in told.items() if not is_told),
    )


def etcd_row(facts: Facts) -> EtcdRow:
    """Return etcd's line."""
    views = [view.etcd for _, view in facts.reached(Role.DCS) if view.etcd]
    return EtcdRow(
        members=len(facts.topology.with_role(Role.DCS)),
        healthy=sum(view.healthy for view in views),
        leader=next((view.leader for view in views if view.leader), None),
        db_size_bytes=max((view.db_size_bytes for view in views), default=0),
        alarms=tuple(sorted({alarm for view in views for alarm in view.alarms})),
    )


def agent_row(facts: Facts, spec: HostSpec) -> AgentRow:
    """Return one agent's line; who is heard is counted over all others that are configured, as votes are."""
    view, agent = facts.snapshot.host(spec.name), facts.agents.get(spec.name)
    if agent is None:
        state = "silent" if view.reachable else "unreachable"
    else:
        state = "stalled" if agent.stalled else "running"
    return AgentRow(
        host=spec.name,
        state=state,
        version=agent.version if agent else None,
        heard_by=len(facts.heard_by(spec.name)),
        others=len(facts.topology.voters) - 1,
    )


def changes(before: Report, after: Report) -> tuple[str, ...]:
    """Return in sentences what is different between two reports.

    Lags and sessions, which always move, and notes, on which nothing presses, are left out.
    """
    heads = zip(SUBJECTS, headline(before), headline(after), strict=True)
    rows = zip(before.hosts, after.hosts, strict=True)
    old, new = serious(before.findings), serious(after.findings)
    return (
        *(f"{subject}: {was} → {now}" for subject, was, now in heads if was != now),
        *(f"{now.name}: {summary(was)} → {summary(now)}" for was, now in rows if summary(was) != summary(now)),
        *(f"{finding.level.name.lower()}: {told(finding)}" for key, finding in new.items() if key not in old),
        *(f"over: {told(finding)}" for key, finding in old.items() if key not in new),
    )


def opening(report: Report) -> tuple[str, ...]:
    """Return in sentences how things are, to begin a list of changes with."""
    return (
        *(f"{subject}: {now}" for subject, now in zip(SUBJECTS, headline(report), strict=True)),
        *(f"{row.name}: {summary(row)}" for row in report.hosts),
        *(f"{finding.level.name.lower()}: {told(finding)}" for finding in report.findings),
    )


def serious(findings: tuple[Finding, ...]) -> dict[tuple[str, str, str], Finding]:
    """Return findings that are more than notes by their identity."""
    return {finding.identity: finding for finding in findings if finding.level < Level.NOTE}


SUBJECTS = ("health", "primary", "timeline", "VIP holder", "survives")


def headline(report: Report) -> tuple[str, ...]:
    """Return the facts whose change is always told."""
    holders = ", ".join(map(str, report.vips or ())) or " and ".join(report.vip_holders) or "nobody"
    timeline = "unknown" if report.timeline is None else str(report.timeline)
    return report.health.value, report.primary or "nobody", timeline, holders, report.survives


def summary(row: HostRow) -> str:
    """Return a host's line without what always moves."""
    sync = f" ({row.sync_state})" if row.sync_state in CONFIRMING else ""
    return f"{row.state}{f', {row.role}' if row.role else ''}{sync}"


def told(finding: Finding) -> str:
    """Return a finding in one sentence."""
    return f"{finding.subject}: {finding.seen}"
