"""The forms in which programs answer, old and new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.agent.kernel import fence_rules
from pgbaton.observe import host_probe, readings
from pgbaton.observe.snapshot import FencesView, FenceView

if TYPE_CHECKING:
    from pgbaton.observe.snapshot import HostView

HAPROXY = """Name: HAProxy
Version: 3.0.11-1+deb13u2
Uptime_sec: 75
Maxconn: 8400
CurrConns: 3

# pxname,svname,qcur,qmax,scur,smax,status,lastchg,check_status,last_chk,
write,FRONTEND,,,2,3,OPEN,,,,
pooled_write,lb1,0,0,2,3,UP,75,L7OK,(tcp-check),
pooled_write,BACKEND,0,0,2,3,UP,75,,,
primary,FRONTEND,,,1,3,OPEN,,,,
primary,db1,0,0,1,3,UP,74,L7OK,"HTTP status check returned code <200>, fine",
primary,db2,0,0,0,0,DOWN,70,L7STS,,
primary,BACKEND,0,0,1,3,UP,74,,,

"""

POOLS = [
    "version\nPgBouncer 1.24.1\n",
    "key,value\nactive,yes\npaused,no\n",
    (
        "database,user,cl_active,cl_waiting,sv_active,sv_idle,sv_used,sv_tested,maxwait,maxwait_us\n"
        "app,app,3,1,2,4,1,0,1,500000\n"
        "app,other,1,0,0,1,0,0,0,0\n"
        "pgbouncer,pgbouncer,1,0,0,0,0,0,0,0\n"
    ),
    "name,host,paused,disabled\napp,127.0.0.1,1,0\npgbouncer,,0,0\n",
]

OWN = {
    "state": "running",
    "role": "master",
    "timeline": 2,
    "patroni": {"version": "3.0.2", "scope": "standard"},
    "dcs_last_seen": 1000,
    "pending_restart": True,
}
CLUSTER = {
    "members": [
        {"name": "db1", "role": "leader", "state": "running", "timeline": 2},
        {"name": "db2", "role": "sync_standby", "state": "running", "timeline": 2, "lag": 0},
        {"name": "db3", "role": "replica", "state": "creating replica", "lag": "unknown"},
    ],
    "pause": True,
}

STATUS = {
    "header": {"member_id": "11"},
    "version": "3.5.16",
    "dbSize": "20480",
    "leader": "12",
    "raftTerm": "4",
    "raftIndex": "99",
}
MEMBERS = {"members": [{"ID": "11", "name": "db1"}, {"ID": "12", "name": "db2"}, {"ID": "13"}]}


#: As nft 1.0.6 lists the agent's table, without its rules.
TABLE = {
    "nftables": [
        {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "pgbaton_fence", "handle": 2}},
        {
            "set": {
                "family": "inet",
                "name": "fenced4",
                "table": "pgbaton_fence",
                "type": "ipv4_addr",
                "handle": 3,
                "elem": ["10.9.9.9", {"elem": {"val": "10.77.0.21", "comment": "db1 silent, lock of revision 1234"}}],
            }
        },
        {
            "set": {
                "family": "inet",
                "name": "fenced6",
                "table": "pgbaton_fence",
                "type": "ipv6_addr",
                "handle": 4,
                "elem": [{"elem": {"val": "fd00::1", "comment": "db9"}}],
            }
        },
        {
            "set": {
                "family": "inet",
                "name": "held",
                "table": "pgbaton_fence",
                "type": "inet_service",
                "handle": 5,
                "elem": [5432, 6432, 6433],
            }
        },
        {"set": {"family": "inet", "name": "refused", "table": "pgbaton_fence", "type": "inet_service", "handle": 6}},
        {"chain": {"family": "inet", "table": "pgbaton_fence", "name": "input", "handle": 1}},
    ]
}

SAYS = {
    "host": "db2",
    "role": "standby",
    "writable": False,
    "lock": False,
    "isolated": False,
    "stalled": True,
    "server": "well",
    "fenced": ["db1"],
    "silent": ["db1"],
}
FIGURES = """# TYPE pgbaton_heartbeat_gap_seconds gauge
pgbaton_heartbeat_gap_seconds{host="db1"} 0.051
pgbaton_heartbeat_gap_seconds{host="lb1"} 0.06
# TYPE pgbaton_silent_hosts gauge
pgbaton_silent_hosts 1
"""


def etcd(**parts: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "health": {"health": "true"},
        "status": {"answer": STATUS},
        "alarms": {"answer": {}},
        "members": {"answer": MEMBERS},
        **parts,
    }


def host(parts: dict[str, dict[str, Any]]) -> HostView:
    return readings.host_view("lb1", {"parts": parts}, vip="10.77.0.100", clock_offset_seconds=0.0)


def test_haproxys_tables() -> None:
    view = readings.haproxy(HAPROXY)
    assert (view.version, view.uptime_seconds, view.sessions, view.max_connections) == ("3.0.11-1+deb13u2", 75, 3, 8400)
    primary = view.proxy("primary")
    assert primary
    assert (primary.status, primary.up, primary.sessions) == ("UP", ("db1",), 1)
    assert primary.servers[0].check == "L7OK HTTP status check returned code <200>, fine"
    assert primary.servers[1].changed_seconds == 70
    write = view.proxy("write")
    assert write
    assert (write.status, write.sessions, write.servers) == ("OPEN", 2, ())


def test_pgbouncers_pools_are_added_up_without_its_own() -> None:
    pool = readings.pool("write", POOLS)
    assert (pool.version, pool.clients_active, pool.clients_waiting) == ("1.24.1", 4, 1)
    assert (pool.servers_active, pool.servers_idle, pool.wait_seconds) == (2, 6, 1.5)
    assert pool.paused == ("app",)


def test_a_pause_of_everything_pauses_every_database_and_an_old_pgbouncer_has_no_state() -> None:
    version, _, pools, databases = POOLS
    free = databases.replace(",1,0", ",0,0")
    assert readings.pool("write", [version, "key,value\nactive,no\npaused,yes\n", pools, free]).paused == ("app",)
    assert readings.pool("write", [version, "", pools, free]).paused == ()
    assert readings.pool("write", [version, "", pools, databases]).paused == ("app",)


def test_patroni_of_both_generations() -> None:
    view = readings.patroni({"own": OWN, "cluster": CLUSTER, "now": 1000.5})
    assert (view.role, view.version, view.leader, view.synchronous) == ("primary", "3.0.2", "db1", ("db2",))
    assert (view.paused, view.pending_restart, view.unlocked, view.dcs_seen_seconds) == (True, True, False, 0.5)
    assert view.members[2].lag_bytes is None
    newer = readings.patroni({"own": {**OWN, "role": "primary"}, "cluster": CLUSTER, "now": 1000.5})
    assert newer.role == "primary"
    assert readings.patroni({"own": {**OWN, "role": "replica"}, "cluster": CLUSTER, "now": 1}).role == "standby"


def test_etcd_with_a_leader() -> None:
    view = readings.etcd(etcd())
    assert (view.name, view.leader, view.is_leader, view.healthy) == ("db1", "db2", False, True)
    assert view.members == ("(not started)", "db1", "db2")
    assert (view.db_size_bytes, view.alarms) == (20480, ())


def test_etcd_without_a_quorum_still_tells_of_itself() -> None:
    late = {"error": "no answer within 2 s"}
    health = {"health": "false", "reason": "RAFT NO LEADER"}
    status = {"answer": {key: value for key, value in STATUS.items() if key != "leader"}}
    view = readings.etcd(etcd(health=health, status=status, alarms=late, members=late))
    assert (view.healthy, view.reason, view.leader, view.is_leader) == (False, "RAFT NO LEADER", None, False)


def test_etcds_alarms_are_those_of_the_member_itself() -> None:
    raised = [{"memberID": "11", "alarm": "NOSPACE"}, {"memberID": "12", "alarm": "CORRUPT"}]
    assert readings.etcd(etcd(alarms={"answer": {"alarms": raised}})).alarms == ("NOSPACE",)


def test_units() -> None:
    text = (
        "Id=patroni.service\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNRestarts=2\n\n"
        "Id=pgbaton-firewall.service\nActiveState=failed\nSubState=failed\nUnitFileState=disabled\n"
    )
    first, second = readings.units(text)
    assert (first.name, first.active, first.enabled, first.restarts) == ("patroni.service", "active", "enabled", 2)
    assert (second.active, second.enabled, second.restarts) == ("failed", "disabled", 0)


@pytest.mark.parametrize(("address", "holds"), [("10.77.0.100", True), ("10.77.0.11", False)])
def test_the_vip_is_held_by_whom_has_it_on_the_interface(address: str, *, holds: bool) -> None:
    links = [{"ifname": "eth0", "addr_info": [{"local": "10.77.0.10"}, {"local": address}]}]
    assert host({"addresses": {"answer": links}}).holds_vip is holds


def test_further_vips_are_told_apart_from_the_first() -> None:
    links = [{"ifname": "eth0", "addr_info": [{"local": "10.77.0.12"}, {"local": "10.77.0.101"}]}]
    answer = {"parts": {"addresses": {"answer": links}}}
    more = ("10.77.0.101", "10.77.0.102")
    view = readings.host_view("lb2", answer, vip="10.77.0.100", more_vips=more, clock_offset_seconds=0.0)
    assert (view.holds_vip, view.more_vips) == (False, ("10.77.0.101",))
    alone = readings.host_view("lb2", answer, vip="10.77.0.100", clock_offset_seconds=0.0)
    assert alone.more_vips is None


def test_a_balancer_without_a_vip_to_hold_is_read_all_the_same() -> None:
    links = [{"ifname": "eth0", "addr_info": [{"local": "10.77.0.11"}]}]
    answer = {"parts": {"addresses": {"answer": links}}}
    assert readings.host_view("lb1", answer, vip=None, clock_offset_seconds=0.0).holds_vip is False


def test_packages_that_are_not_installed_have_no_version() -> None:
    assert readings.packages("haproxy 3.0.11-1\nkeepalived \n") == {"haproxy": "3.0.11-1"}


def test_an_answer_in_an_unknown_form_is_a_problem_and_spoils_nothing_else() -> None:
    view = host({"haproxy": {"answer": "what?"}, "packages": {"answer": "haproxy 3\n"}, "disk": {"error": "late"}})
    assert view.haproxy is None
    assert "could not be read" in (view.problem("haproxy") or "")
    assert view.problem("disk") == "late"
    assert view.packages == {"haproxy": "3"}


def test_a_pooler_that_answers_and_one_that_does_not() -> None:
    view = host({"pooler write": {"answer": POOLS}, "pooler read": {"error": "refused"}})
    assert view.pool("write")
    assert view.pool("read") is None
    assert view.problem("pooler read") == "refused"


def test_psqls_errors_are_told_without_its_questions() -> None:
    error = 'psql: error: connection to server on socket "/x" failed: No such file Is the server running locally?'
    view = host({"postgres": {"error": error}})
    assert view.problem("postgres") == 'connection to server on socket "/x" failed: No such file'


def test_fences_and_their_reasons_are_read_from_the_kernels_table() -> None:
    view = host({"fences": {"answer": TABLE}}).fences
    assert view
    assert view.clients == "held"
    assert view.standing == (
        FenceView("10.9.9.9", "10.9.9.9", ""),
        FenceView("db1", "10.77.0.21", "silent, lock of revision 1234"),
        FenceView("db9", "fd00::1", ""),
    )


def test_without_the_agents_table_nobody_is_fenced_and_clients_are_served() -> None:
    assert host({"fences": {"answer": {}}}).fences == FencesView((), "served")


def test_the_names_in_the_kernel_are_those_that_agents_use() -> None:
    assert host_probe.FENCES[1] == fence_rules.TABLE
    assert set(readings.FENCED) == set(fence_rules.FENCED.values())
    names = {each["set"]["name"] for each in TABLE["nftables"] if "set" in each}
    assert names == {*fence_rules.FENCED.values(), fence_rules.HELD, fence_rules.REFUSED}


def test_an_agents_word_and_whom_it_hears() -> None:
    program = {"version": "0.1.0", "build": "ab"}
    view = host({"agent": {"answer": {"health": SAYS, "metrics": FIGURES, "program": program}}}).agent
    assert view
    assert (view.version, view.build, view.role, view.stalled, view.fenced) == (
        "0.1.0",
        "ab",
        "standby",
        True,
        ("db1",),
    )
    assert view.heard == ("db1", "lb1")
    assert view.path is None
    assert [view.hears(name) for name in ("db1", "lb1", "db3")] == [False, True, False]


@pytest.mark.parametrize("path", [None, "", "refused"])
def test_why_clients_do_not_reach_the_primary_is_the_agents_word(path: str | None) -> None:
    said = {"health": {**SAYS, "path": path}, "metrics": "", "program": {"version": "0.1.0", "build": "ab"}}
    assert readings.agent(said).path == path


def test_the_longest_gaps_are_read_from_an_agents_figures_and_nothing_else() -> None:
    figures = """# TYPE pgbaton_heartbeat_gap_seconds gauge
pgbaton_heartbeat_gap_seconds{host="db1"} 0.0512
pgbaton_heartbeat_gap_seconds{host="lb1"} 1e-05
pgbaton_hung{service="Patroni"} 0
"""
    assert readings.heartbeat_gaps(figures) == {"db1": 0.0512, "lb1": 1e-05}


def test_an_agent_that_says_which_version_runs_is_believed_more_than_the_program_on_its_disk() -> None:
    said = {"health": {**SAYS, "version": "0.2.0"}, "metrics": "", "program": {"version": "0.3.0", "build": "ab"}}
    assert readings.agent(said).version == "0.2.0"


def test_an_agent_that_answers_with_an_error_is_a_problem() -> None:
    said = {"health": {"error": "ask one of /primary"}, "metrics": "", "program": {"version": None, "build": None}}
    view = host({"agent": {"answer": said}, "tracked": {"answer": -254}})
    assert (view.agent, view.tracked) == (None, -254)
    assert "could not be read" in (view.problem("agent") or "")
