"""Every rule finds what it is there for, and nothing in a healthy cluster."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_interface
from typing import TYPE_CHECKING

import pytest
from observed import (
    DATABASES,
    MIB,
    TOPOLOGY,
    changed,
    etcd,
    gone,
    healthy,
    patroni,
    postgres,
    server,
    standby,
    topology,
    units,
)

from pgbaton.observe.findings import Finding, Health, Level, health, ranked
from pgbaton.observe.judge import RULES, judge
from pgbaton.observe.rules.hosts import floor_missed, upstream
from pgbaton.observe.snapshot import (
    CertificateView,
    DiskView,
    Problem,
    ProxyView,
    SlotView,
    Snapshot,
)
from pgbaton.topology.model import ReplicationMode

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology


def of(rule: str, snapshot: Snapshot, judged: Topology = TOPOLOGY) -> list[Finding]:
    """Return what one rule found."""
    return [finding for finding in judge(judged, snapshot) if finding.rule == rule]


def only(rule: str, snapshot: Snapshot, judged: Topology = TOPOLOGY) -> Finding:
    """Return the one finding of a rule."""
    (finding,) = of(rule, snapshot, judged)
    return finding


def apart(*, used: bool) -> Topology:
    """Return the topology with a network for replication, in use or not yet."""
    hosts = tuple(
        host.model_copy(update={"replication_address": IPv4Address(str(host.address).replace(".77.", ".78."))})
        if host.name in DATABASES
        else host
        for host in TOPOLOGY.hosts
    )
    changes = {"replication_subnet": IPv4Network("10.78.0.0/24"), "use_replication_subnet": used}
    return topology(network=changes).model_copy(update={"hosts": hosts})


def coming_from(**addresses: str) -> Snapshot:
    """Return a cluster whose primary sees standbys come from these addresses."""
    rows = tuple(replace(standby(name, "async"), address=address) for name, address in addresses.items())
    return changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=rows))


def test_replication_that_does_not_take_its_own_network_is_told() -> None:
    seen = coming_from(db2="10.78.0.22", db3="10.77.0.23")
    finding = only("replication-elsewhere", seen, apart(used=True))
    assert (finding.subject, finding.seen, finding.limit) == ("db3", "comes from 10.77.0.23", "10.78.0.23")
    assert of("replication-elsewhere", seen, apart(used=False)) == of("replication-elsewhere", seen) == []
    right = coming_from(db2="10.78.0.22", db3="10.78.0.23")
    assert of("replication-elsewhere", right, apart(used=True)) == []


def promoted(name: str) -> Snapshot:
    """Return a cluster in which another server takes writes too."""
    taking = replace(postgres(name), role="primary", standbys=())
    return changed(healthy(), name, postgres=taking)


def seen_by(name: str, proxy: str, up: tuple[str, ...]) -> Snapshot:
    """Return a cluster in which one balancer sends a proxy's connections to these servers."""
    haproxy = healthy().host(name).haproxy
    assert haproxy
    proxies = tuple(
        ProxyView(found.name, "UP", 1, tuple(server(it.name, up=it.name in up) for it in found.servers))
        if found.name == proxy
        else found
        for found in haproxy.proxies
    )
    return changed(healthy(), name, haproxy=replace(haproxy, proxies=proxies))


def pool(snapshot: Snapshot, name: str, **fields: object) -> Snapshot:
    """Return a cluster in which both of a host's pools are different."""
    pools = tuple(replace(found, **fields) for found in snapshot.host(name).pools)
    return changed(snapshot, name, pools=pools)


def test_a_healthy_cluster_has_no_findings() -> None:
    assert judge(TOPOLOGY, healthy()) == ()
    assert health(judge(TOPOLOGY, healthy())) is Health.HEALTHY


def test_every_rule_has_a_name_of_its_own() -> None:
    assert len({rule.__name__ for rule in RULES}) == len(RULES)


def test_no_primary_is_an_outage() -> None:
    snapshot = changed(healthy(), "db1", postgres=None, problems=(Problem("postgres", "connection refused"),))
    finding = only("no-primary", snapshot)
    assert finding.level is Level.CRITICAL
    assert finding.outage
    assert "2 answered" in finding.seen
    assert judge(TOPOLOGY, snapshot)[0] is not None
    assert judge(TOPOLOGY, snapshot)[0].rule == "no-primary"
    assert health(judge(TOPOLOGY, snapshot)) is Health.DOWN


def test_two_primaries_are_named() -> None:
    finding = only("several-primaries", promoted("db3"))
    assert finding.level is Level.CRITICAL
    assert "db1, db3" in finding.seen


def test_a_primary_without_the_lock_is_found() -> None:
    snapshot = healthy()
    for name in DATABASES:
        snapshot = changed(snapshot, name, patroni=replace(patroni(name), leader="db2"))
    assert "db2 holds the leader lock" in only("lock-elsewhere", snapshot).seen


def test_a_server_that_does_not_answer_is_found() -> None:
    snapshot = changed(healthy(), "db3", postgres=None, problems=(Problem("postgres", "no answer within 3 s"),))
    finding = only("server-silent", snapshot)
    assert (finding.subject, finding.level) == ("db3", Level.WARNING)
    assert "no answer within 3 s" in finding.seen
    assert "Patroni: running" in finding.seen


def test_a_silent_patroni_is_found() -> None:
    snapshot = changed(healthy(), "db3", patroni=None, problems=(Problem("patroni", "refused"),))
    assert only("patroni-silent", snapshot).subject == "db3"


def test_a_standby_that_the_primary_does_not_know_is_found() -> None:
    snapshot = changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=(standby("db2", "sync"),)))
    finding = only("standby-not-streaming", snapshot)
    assert (finding.subject, finding.seen) == ("db3", "not connected to the primary db1")


def test_a_standby_that_catches_up_is_found() -> None:
    late = replace(standby("db3", "async"), state="catchup")
    snapshot = changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=(standby("db2", "sync"), late)))
    assert only("standby-not-streaming", snapshot).seen == "catchup from the primary"


def test_a_standby_behind_another_is_where_it_should_be() -> None:
    hosts = tuple(
        spec.model_copy(update={"replicate_from": "db2"}) if spec.name == "db3" else spec for spec in TOPOLOGY.hosts
    )
    behind = TOPOLOGY.model_copy(update={"hosts": hosts})
    snapshot = changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=(standby("db2", "sync"),)))
    upstream = replace(postgres("db2"), standbys=(standby("db3", "async"),))
    assert not of("standby-not-streaming", changed(snapshot, "db2", postgres=upstream), behind)
    late = replace(upstream, standbys=(replace(standby("db3", "async"), state="catchup"),))
    (finding,) = of("standby-not-streaming", changed(snapshot, "db2", postgres=late), behind)
    assert finding.seen == "catchup from db2"
    assert of("standby-not-streaming", changed(snapshot, "db2", postgres=upstream)), "it was put behind nobody"


@pytest.mark.parametrize("lag", [{"replay_lag_bytes": 17 * MIB}, {"replay_lag_bytes": 1, "replay_lag_seconds": 11.0}])
def test_lag_in_bytes_or_seconds_is_found(lag: dict[str, float]) -> None:
    late = replace(standby("db3", "async"), **lag)
    snapshot = changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=(standby("db2", "sync"), late)))
    finding = only("standby-lagging", snapshot)
    assert finding.subject == "db3"
    assert finding.limit == "16 MiB and 10 s"


def test_lag_within_the_limit_is_none() -> None:
    late = replace(standby("db3", "async"), replay_lag_bytes=15 * MIB, replay_lag_seconds=9.0)
    snapshot = changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=(standby("db2", "sync"), late)))
    assert of("standby-lagging", snapshot) == []


def test_another_timeline_is_found() -> None:
    snapshot = changed(healthy(), "db2", postgres=replace(postgres("db2"), timeline=2))
    finding = only("timeline-differs", snapshot)
    assert (finding.subject, finding.seen, finding.limit) == ("db2", "timeline 2", "timeline 3")


def without_confirmation() -> Snapshot:
    rows = (standby("db2", "async"), standby("db3", "async"))
    return changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=rows))


def test_a_missing_synchronous_standby_says_what_a_write_survives() -> None:
    finding = only("synchronous-standby-missing", without_confirmation())
    assert finding.level is Level.WARNING
    assert "not the loss of its host" in finding.seen


def test_in_strict_mode_a_missing_synchronous_standby_is_an_outage() -> None:
    strict = topology(replication={"mode": ReplicationMode.STRICT})
    finding = only("synchronous-standby-missing", without_confirmation(), strict)
    assert finding.level is Level.CRITICAL
    assert finding.outage


def test_in_asynchronous_mode_no_synchronous_standby_is_missed() -> None:
    asynchronous = topology(replication={"mode": ReplicationMode.ASYNCHRONOUS})
    assert of("synchronous-standby-missing", without_confirmation(), asynchronous) == []


def test_a_synchronous_standby_that_does_not_stream_does_not_count() -> None:
    rows = (replace(standby("db2", "sync"), state="catchup"), standby("db3", "async"))
    snapshot = changed(healthy(), "db1", postgres=replace(postgres("db1"), standbys=rows))
    assert only("synchronous-standby-missing", snapshot).seen.startswith("0 of 1")


@pytest.mark.parametrize(
    ("slot", "found"),
    [
        (SlotView("db3", active=False, wal_status="reserved", retained_bytes=65 * MIB), True),
        (SlotView("db3", active=False, wal_status="reserved", retained_bytes=63 * MIB), False),
        (SlotView("db3", active=True, wal_status="extended", retained_bytes=5121 * MIB), True),
        (SlotView("db3", active=True, wal_status="reserved", retained_bytes=5119 * MIB), False),
        (SlotView("db3", active=False, wal_status="lost", retained_bytes=None), True),
    ],
)
def test_a_slot_that_keeps_wal_back_is_found(slot: SlotView, *, found: bool) -> None:
    snapshot = changed(healthy(), "db1", postgres=replace(postgres("db1"), slots=(slot,)))
    assert bool(of("slot-retains-wal", snapshot)) is found


def test_a_pending_restart_is_a_note() -> None:
    snapshot = changed(healthy(), "db2", postgres=replace(postgres("db2"), pending_restart=("shared_buffers",)))
    finding = only("pending-restart", snapshot)
    assert finding.level is Level.NOTE
    assert "shared_buffers" in finding.seen
    assert health(judge(TOPOLOGY, snapshot)) is Health.HEALTHY


def test_connections_that_are_used_up_are_found() -> None:
    snapshot = changed(healthy(), "db1", postgres=replace(postgres("db1"), connections=181))
    assert only("connections-used-up", snapshot).subject == "db1"


def test_a_paused_patroni_is_found_once() -> None:
    snapshot = healthy()
    for name in DATABASES:
        snapshot = changed(snapshot, name, patroni=replace(patroni(name), paused=True))
    assert only("patroni-paused", snapshot).level is Level.WARNING


def test_a_patroni_that_has_lost_etcd_is_found() -> None:
    snapshot = changed(healthy(), "db3", patroni=replace(patroni("db3"), dcs_seen_seconds=8.0))
    assert only("dcs-not-seen", snapshot).subject == "db3"


def test_a_scheduled_switchover_is_noted() -> None:
    snapshot = changed(healthy(), "db1", patroni=replace(patroni("db1"), scheduled_switchover="2026-02-01T03:00"))
    assert only("switchover-scheduled", snapshot).level is Level.NOTE


def test_a_vip_that_nobody_holds_is_an_outage() -> None:
    finding = only("vip-missing", changed(healthy(), "lb1", holds_vip=False))
    assert finding.level is Level.CRITICAL
    assert finding.outage


def test_without_a_vip_none_is_missed() -> None:
    assert of("vip-missing", changed(healthy(), "lb1", holds_vip=False), topology(network={"vip": None})) == []


def several() -> tuple[Snapshot, Topology]:
    """Return a cluster with two VIPs, each on its own balancer."""
    second = IPv4Address("10.77.0.101")
    seen = changed(changed(healthy(), "lb1", more_vips=()), "lb2", more_vips=("10.77.0.101",))
    return seen, topology(network={"more_vips": (second,)})


def test_several_vips_that_are_at_home_are_well() -> None:
    seen, judged = several()
    assert judge(judged, seen) == ()


def test_one_of_several_vips_that_nobody_holds_is_critical_and_no_outage() -> None:
    seen, judged = several()
    finding = only("vip-missing", changed(seen, "lb2", more_vips=()), judged)
    assert (finding.level, finding.outage, finding.part) == (Level.CRITICAL, False, "10.77.0.101")
    nobody = changed(changed(seen, "lb2", more_vips=()), "lb1", holds_vip=False)
    found = of("vip-missing", nobody, judged)
    assert [each.outage for each in found] == [True, True]
    assert len({each.identity for each in found}) == 2


def test_each_of_several_vips_that_two_hold_is_found() -> None:
    seen, judged = several()
    finding = only("vip-twice", changed(seen, "lb1", more_vips=("10.77.0.101",)), judged)
    assert finding.seen == "lb1 and lb2 both hold 10.77.0.101"
    twice = changed(changed(seen, "lb1", more_vips=("10.77.0.101",)), "lb2", holds_vip=True)
    assert [each.part for each in of("vip-twice", twice, judged)] == ["10.77.0.100", "10.77.0.101"]


def test_a_vip_away_from_its_own_balancer_is_a_warning_and_a_single_one_is_nowhere_away() -> None:
    seen, judged = several()
    both = changed(changed(seen, "lb1", more_vips=("10.77.0.101",)), "lb2", more_vips=())
    finding = only("vip-away", both, judged)
    assert (finding.level, finding.part, finding.limit) == (Level.WARNING, "10.77.0.101", "lb2")
    assert "30 s" in finding.advice
    moved = changed(changed(healthy(), "lb1", holds_vip=False), "lb2", holds_vip=True)
    assert of("vip-away", moved) == []


def test_a_twin_that_is_not_where_its_vip_is_cuts_clients_of_its_family_off() -> None:
    judged = topology(network={"twin_vips": (ip_interface("fd00:77::100/64"),)})
    seen = changed(changed(healthy(), "lb1", twin_vips=("fd00:77::100",)), "lb2", twin_vips=())
    assert judge(judged, seen) == ()
    gone = only("vip-twin-missing", changed(seen, "lb1", twin_vips=()), judged)
    assert (gone.level, gone.part, gone.limit) == (Level.CRITICAL, "fd00:77::100", "lb1")
    assert gone.seen == "fd00:77::100 is on no balancer, and 10.77.0.100 on lb1"
    both = only("vip-twin-missing", changed(seen, "lb2", twin_vips=("fd00:77::100",)), judged)
    assert "on lb1 and lb2" in both.seen
    # Where the VIP itself is with nobody, that is what is wrong.
    assert of("vip-twin-missing", changed(seen, "lb1", holds_vip=False, twin_vips=()), judged) == []


def test_with_several_vips_one_dead_haproxy_is_no_outage() -> None:
    seen, judged = several()
    dead = changed(seen, "lb2", haproxy=None, problems=(Problem("haproxy", "connection refused"),))
    finding = only("haproxy-silent", dead, judged)
    assert (finding.level, finding.outage) == (Level.CRITICAL, False)


def test_a_vip_held_twice_is_found() -> None:
    assert "lb1 and lb2" in only("vip-twice", changed(healthy(), "lb2", holds_vip=True)).seen


@pytest.mark.parametrize(("name", "level"), [("lb1", Level.CRITICAL), ("lb2", Level.WARNING)])
def test_a_dead_haproxy_matters_most_where_the_vip_is(name: str, level: Level) -> None:
    snapshot = changed(healthy(), name, haproxy=None, problems=(Problem("haproxy", "connection refused"),))
    finding = only("haproxy-silent", snapshot)
    assert (finding.subject, finding.level, finding.outage) == (name, level, level is Level.CRITICAL)


def test_balancers_that_disagree_are_found() -> None:
    finding = only("balancers-disagree", seen_by("lb2", "primary", ("db2",)))
    assert finding.seen == "lb1 sends writes to db1; lb2 sends writes to db2"


def test_a_balancer_that_sends_writes_to_nobody_is_an_outage_where_the_vip_is() -> None:
    assert only("balancer-misroutes", seen_by("lb1", "primary", ())).outage
    finding = only("balancer-misroutes", seen_by("lb2", "primary", ()))
    assert finding.level is Level.CRITICAL
    assert not finding.outage


def test_a_balancer_that_sends_writes_to_two_servers_is_found() -> None:
    assert (
        only("balancer-misroutes", seen_by("lb2", "primary", ("db1", "db3"))).seen == "it sends writes to db1 and db3"
    )


def test_a_streaming_standby_out_of_the_read_pool_is_found() -> None:
    finding = only("standby-takes-no-reads", seen_by("lb2", "standbys", ("db2",)))
    assert finding.subject == "db3"
    assert "DOWN on lb2 (L7STS)" in finding.seen


def test_a_dead_pooler_is_a_warning_and_the_last_one_an_outage() -> None:
    problem = (Problem("pooler write", "no such file"),)
    one = changed(healthy(), "lb1", pools=healthy().host("lb1").pools[1:], problems=problem)
    assert only("pooler-silent", one).level is Level.WARNING
    both = changed(one, "lb2", pools=healthy().host("lb2").pools[1:], problems=problem)
    findings = of("pooler-silent", both)
    assert [(finding.subject, finding.outage) for finding in findings] == [("lb1", True), ("lb2", True)]


def test_a_pooler_out_of_rotation_is_found() -> None:
    finding = only("pooler-out-of-rotation", seen_by("lb2", "pooled_write", ("lb2",)))
    assert (finding.subject, finding.seen) == ("lb1", "write: DOWN on lb2 (L7STS)")


def test_a_paused_pool_is_found() -> None:
    findings = of("pooler-paused", pool(healthy(), "lb1", paused=("app",)))
    assert [finding.seen for finding in findings] == [
        "PgBouncer (write) is paused for app: clients wait",
        "PgBouncer (read) is paused for app: clients wait",
    ]


def test_clients_that_wait_long_are_found() -> None:
    assert of("clients-waiting", pool(healthy(), "lb1", clients_waiting=4, wait_seconds=0.9)) == []
    findings = of("clients-waiting", pool(healthy(), "lb1", clients_waiting=4, wait_seconds=2.5))
    assert findings[0].seen == "PgBouncer (write): 4 clients wait, 2.5 s at most"


def test_a_lost_quorum_is_critical() -> None:
    finding = only("quorum-lost", gone(gone(healthy(), "db2"), "db3"))
    assert finding.level is Level.CRITICAL
    assert finding.seen == "1 of 3 members are healthy (db1)"
    assert of("quorum-lost", gone(healthy(), "db3")) == []


def test_an_unhealthy_member_is_found() -> None:
    snapshot = changed(healthy(), "db3", etcd=replace(etcd("db3"), healthy=False, reason="RAFT NO LEADER"))
    assert "RAFT NO LEADER" in only("member-unhealthy", snapshot).seen


def test_members_that_follow_different_leaders_are_found() -> None:
    snapshot = changed(healthy(), "db3", etcd=replace(etcd("db3"), leader="db3"))
    assert "db3 follows db3" in only("leaders-differ", snapshot).seen


def test_a_member_that_the_topology_does_not_know_is_found() -> None:
    snapshot = changed(healthy(), "db1", etcd=replace(etcd("db1"), members=(*DATABASES, "old")))
    assert "old" in only("members-differ", snapshot).seen


def test_an_alarm_is_critical() -> None:
    snapshot = changed(healthy(), "db1", etcd=replace(etcd("db1"), alarms=("NOSPACE",)))
    assert only("alarm-raised", snapshot).level is Level.CRITICAL


def test_a_quota_that_is_near_is_found() -> None:
    snapshot = changed(healthy(), "db1", etcd=replace(etcd("db1"), db_size_bytes=1700 * MIB))
    assert "of 2.0 GiB" in only("quota-near", snapshot).seen


def test_an_etcd_leader_beside_the_primary_is_noted() -> None:
    snapshot = changed(healthy(), "db1", etcd=replace(etcd("db1"), is_leader=True))
    assert only("leader-beside-primary", snapshot).level is Level.NOTE


def test_an_unreachable_host_is_a_warning() -> None:
    finding = only("unreachable", gone(healthy(), "db3"))
    assert (finding.subject, finding.level) == ("db3", Level.WARNING)
    assert health(judge(TOPOLOGY, gone(healthy(), "db3"))) is Health.DEGRADED


def test_a_unit_that_does_not_run_is_found() -> None:
    broken = tuple(
        replace(unit, active="failed", sub="failed") if unit.name == "keepalived.service" else unit
        for unit in units("lb2")
    )
    finding = only("unit-not-running", changed(healthy(), "lb2", units=broken))
    assert finding.seen == "keepalived.service is failed (failed)"


def test_units_that_would_not_start_after_a_boot_are_found() -> None:
    disabled = tuple(replace(unit, enabled="disabled") for unit in units("db1"))
    assert "patroni.service" in only("unit-not-enabled", changed(healthy(), "db1", units=disabled)).seen


@pytest.mark.parametrize(
    ("expires_at", "level"),
    [
        ("2026-03-03T12:00:00+00:00", None),
        ("2026-03-01T12:00:00+00:00", Level.WARNING),
        ("2026-01-31T11:00:00+00:00", Level.CRITICAL),
    ],
)
def test_a_certificate_that_ends_soon_is_found(expires_at: str, level: Level | None) -> None:
    certificate = CertificateView("/etc/pgbaton/tls/etcd.crt", expires_at)
    findings = of("certificate-expires", changed(healthy(), "db1", certificates=(certificate,)))
    assert [finding.level for finding in findings] == ([] if level is None else [level])


def test_a_short_lived_certificate_is_not_called_old_while_it_is_young() -> None:
    certificate = CertificateView("/etc/pgbaton/tls/etcd.crt", "2026-02-20T12:00:00+00:00")
    snapshot = changed(healthy(), "db1", certificates=(certificate,))
    assert of("certificate-expires", snapshot, topology(security={"certificate_days": 30})) == []


@pytest.mark.parametrize(("free", "level"), [(16, None), (14, Level.WARNING), (4, Level.CRITICAL)])
def test_a_full_disk_is_found(free: int, level: Level | None) -> None:
    findings = of("disk-full", changed(healthy(), "db1", disk=DiskView("/data", 100 * MIB, free * MIB)))
    assert [finding.level for finding in findings] == ([] if level is None else [level])


@pytest.mark.parametrize(("offset", "words"), [(0.4, None), (0.6, "ahead"), (-0.6, "behind")])
def test_a_clock_that_is_off_is_found(offset: float, words: str | None) -> None:
    findings = of("clock-off", changed(healthy(), "db1", clock_offset_seconds=offset))
    assert [words in finding.seen for finding in findings] == ([] if words is None else [True])


def test_a_part_that_could_not_be_asked_is_noted() -> None:
    snapshot = changed(healthy(), "db1", problems=(Problem("disk", "no answer within 3 s"),))
    assert only("part-silent", snapshot).seen == "disk could not be asked: no answer within 3 s"


def test_versions_that_differ_are_noted() -> None:
    packages = {**(healthy().host("db3").packages or {}), "patroni": "4.1.0-1"}
    finding = only("versions-differ", changed(healthy(), "db3", packages=packages))
    assert finding.seen == "patroni 4.0.7-1 on db1, db2; 4.1.0-1 on db3"


def test_a_version_below_its_floor_is_noted_once_for_all_its_hosts() -> None:
    snapshot = healthy()
    for name in DATABASES:
        snapshot = changed(snapshot, name, packages={"etcd-server": "3.5.16-4+b1"})
    finding = only("version-below-floor", snapshot)
    assert (finding.level, finding.subject) == (Level.NOTE, "db1, db2, db3")
    assert (finding.seen, finding.limit) == ("etcd-server 3.5.16", "3.5.33")


@pytest.mark.parametrize(
    ("package", "version", "floor"),
    [
        ("etcd-server", "3.4.23+dfsg-4", "3.5.33"),
        ("etcd-server", "3.5.33-1", None),
        ("etcd-server", "3.6.13-1", "3.6.14"),
        ("etcd-server", "3.6.14-1", None),
        ("etcd-server", "3.7.0-1", None),
        ("pgbouncer", "1.18.0-1+b1", "1.25.2"),
        ("pgbouncer", "1.25.2-1", None),
        ("haproxy", "2.6.12-1", None),
    ],
)
def test_the_floor_is_that_of_the_series(package: str, version: str, floor: str | None) -> None:
    assert floor_missed(package, version) == floor


def test_epoch_and_revision_are_no_part_of_the_upstream_version() -> None:
    assert upstream("1:2.3.3-1+b2") == "2.3.3"


def test_a_cluster_of_which_nothing_answers_gives_findings_and_no_exception() -> None:
    nothing = Snapshot("standard", healthy().taken_at, ())
    rules = {finding.rule for finding in judge(TOPOLOGY, nothing)}
    assert {"no-primary", "vip-missing", "quorum-lost", "unreachable"} <= rules


def test_findings_are_ranked_outage_first_then_by_level() -> None:
    def finding(level: Level, name: str, *, outage: bool = False) -> Finding:
        return Finding(level, name, "db1", "seen", "limit", "advice", outage)

    mixed = [
        finding(Level.NOTE, "d"),
        finding(Level.WARNING, "c"),
        finding(Level.CRITICAL, "b"),
        finding(Level.CRITICAL, "a", outage=True),
    ]
    assert [found.rule for found in ranked(mixed)] == ["a", "b", "c", "d"]


def test_findings_about_parts_of_one_host_are_told_apart() -> None:
    broken = tuple(replace(unit, active="failed", sub="failed") for unit in units("lb1"))
    problems = (Problem("pooler write", "no such file"), Problem("pooler read", "no such file"))
    snapshot = changed(pool(healthy(), "lb2", paused=("app",)), "lb1", units=broken, pools=(), problems=problems)
    identities = [finding.identity for finding in judge(TOPOLOGY, snapshot)]
    assert len(identities) == len(set(identities))
    assert len(of("unit-not-running", snapshot)) == len(broken) - 2


def test_a_part_is_silent_because_its_unit_is_down_and_that_is_told_once() -> None:
    down = tuple(replace(unit, active="inactive", sub="dead") for unit in units("db3"))
    problems = (Problem("postgres", "no socket"), Problem("patroni", "refused"), Problem("etcd", "refused"))
    snapshot = changed(healthy(), "db3", units=down, postgres=None, patroni=None, etcd=None, problems=problems)
    assert only("server-silent", snapshot).seen == "PostgreSQL does not answer: patroni.service is inactive (dead)"
    assert only("member-unhealthy", snapshot).seen == "its etcd member: etcd.service is inactive (dead)"
    told_alone = {finding.part for finding in of("unit-not-running", snapshot)}
    assert not told_alone & {"patroni.service", "etcd.service"}
