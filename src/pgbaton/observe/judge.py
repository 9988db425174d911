"""Judge a snapshot: run every rule over it and rank what they find. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.observe.facts import Facts
from pgbaton.observe.findings import Finding, ranked
from pgbaton.observe.rules import agents, database, dcs, foreign, hosts, routing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgbaton.observe.snapshot import Snapshot
    from pgbaton.topology.model import Topology

    Rule = Callable[[Facts], Iterable[Finding]]

#: Every rule, causes before their consequences: findings of one level are shown in this order.
RULES: tuple[Rule, ...] = (
    database.no_primary,
    database.several_primaries,
    database.lock_elsewhere,
    agents.superseded_primary,
    agents.isolated_primary,
    agents.fence_stands,
    routing.vip_missing,
    routing.vip_twice,
    dcs.quorum_lost,
    dcs.alarm_raised,
    foreign.endpoints_differ,
    foreign.etcd_out_of_reach,
    foreign.foreign_alarm_raised,
    hosts.unreachable,
    routing.haproxy_silent,
    routing.balancers_disagree,
    routing.balancer_misroutes,
    routing.pooler_held,
    routing.pooler_silent,
    database.server_silent,
    database.patroni_silent,
    database.synchronous_standby_missing,
    database.standby_not_streaming,
    database.timeline_differs,
    database.standby_lagging,
    database.replication_elsewhere,
    routing.standby_takes_no_reads,
    routing.pooler_out_of_rotation,
    routing.pooler_paused,
    routing.clients_waiting,
    database.patroni_paused,
    database.dcs_not_seen,
    agents.agent_not_running,
    agents.agent_stalled,
    agents.agents_do_not_hear_each_other,
    agents.path_broken,
    agents.vip_given_up,
    routing.vip_away,
    routing.twin_missing,
    dcs.member_unhealthy,
    dcs.leaders_differ,
    dcs.members_differ,
    dcs.quota_near,
    foreign.endpoint_unhealthy,
    foreign.foreign_quota_near,
    hosts.unit_not_running,
    hosts.unit_not_enabled,
    hosts.disk_full,
    hosts.certificate_expires,
    hosts.clock_off,
    database.slot_retains_wal,
    database.connections_used_up,
    database.pending_restart,
    database.switchover_scheduled,
    dcs.leader_beside_primary,
    hosts.part_silent,
    agents.agents_differ,
    hosts.versions_differ,
    hosts.version_below_floor,
)


def judge(topology: Topology, snapshot: Snapshot) -> tuple[Finding, ...]:
    """Return everything that is not as it should be, what to act on first in front."""
    facts = Facts(topology, snapshot)
    return ranked(finding for rule in RULES for finding in rule(facts))
