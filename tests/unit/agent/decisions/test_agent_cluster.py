"""What Patroni's keys say of a cluster, as Patroni 3.0 to 4.1 writes them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgbaton.agent.decisions.cluster import MAXIMUM_LAG_BYTES, Cluster, Failover, Member, parse
from pgbaton.agent.services.keys import KeyValue

PREFIX = "/service/orders/"
LEASE = 3437832039479394824

#: Keys as Patroni 4.0.7 leaves them: compact JSON, names sorted, ``quorum`` between the two others of /sync.
NEW = {
    "leader": "db1",
    "sync": '{"leader":"db1","quorum":1,"sync_standby":"db2,db3"}',
    "config": '{"ttl":20,"loop_wait":1,"maximum_lag_on_failover":33554432,"synchronous_mode":"quorum",'
    '"synchronous_mode_strict":true,"postgresql":{"use_pg_rewind":true}}',
    "status": '{"optime":83886368,"slots":{"db2":83886368,"db1":83886368},"retain_slots":["db1","db2"]}',
    "members/db1": '{"conn_url":"postgres://10.77.0.21:5432/postgres","api_url":"https://10.77.0.21:8008/patroni",'
    '"state":"running","role":"primary","version":"4.0.7","tags":{"nofailover":false},"xlog_location":83886368,'
    '"timeline":3}',
    "members/db2": '{"conn_url":"postgres://10.77.0.22:5432/postgres","state":"running","role":"replica",'
    '"version":"4.0.7","tags":{"nofailover":true,"nosync":true},"xlog_location":83886000,'
    '"replication_state":"streaming","timeline":3}',
    "failover": "{}",
    "initialize": "7575757575757575757",
    "history": '[[1,25165984,"no recovery target specified","2026-01-01T00:00:00+00:00","db2"],'
    '[2,50331808,"no recovery target specified","2026-01-02T00:00:00+00:00","db1"]]',
    "failsafe": '{"db1":"https://10.77.0.21:8008/patroni","db2":"https://10.77.0.22:8008/patroni"}',
    "pgbaton-verdict": "db2 3",
}
#: The same of Patroni 3.0.2: masters, no quorum, no state of replication.
OLD = NEW | {
    "sync": '{"leader":"db1","sync_standby":"db2"}',
    "config": '{"ttl":20,"synchronous_mode":true,"pause":false}',
    "status": '{"optime":83886368}',
    "members/db1": '{"state":"running","role":"master","version":"3.0.2","xlog_location":83886368,"timeline":3}',
    "members/db2": '{"state":"running","role":"replica","version":"3.0.2","xlog_location":83886000,"timeline":3}',
    "history": "[]",
}


def keys(values: dict[str, str]) -> dict[str, KeyValue]:
    """Return keys under the prefix; each was changed by a revision of its own, from 11 on."""
    return {
        PREFIX + name: KeyValue(PREFIX + name, value.encode(), 11 + number, LEASE if name == "leader" else 0)
        for number, (name, value) in enumerate(values.items())
    }


def read(**values: str) -> Cluster:
    """Read some keys alone."""
    return parse(PREFIX, keys(values), 99)


def test_what_patroni_4_writes_is_understood() -> None:
    assert parse(PREFIX, keys(NEW), 99) == Cluster(
        revision=99,
        leader="db1",
        leader_revision=11,
        leader_lease=LEASE,
        sync=("db2", "db3"),
        sync_leader="db1",
        sync_revision=12,
        sync_quorum=1,
        sync_value=NEW["sync"].encode(),
        mode="quorum",
        strict=True,
        paused=False,
        config_revision=13,
        verdict_revision=21,
        members={
            "db1": Member("primary", "running", 3, 83886368),
            "db2": Member("standby", "running", 3, 83886000, "streaming", nofailover=True),
        },
        failover=None,
        failsafe=False,
        failsafe_members=("db1", "db2"),
        standby_cluster=False,
        initialize="7575757575757575757",
        timeline=3,
        position=83886368,
        maximum_lag_bytes=33554432,
    )


def test_what_patroni_3_writes_is_understood() -> None:
    found = parse(PREFIX, keys(OLD), 99)
    assert (found.mode, found.sync, found.sync_quorum, found.strict) == ("on", ("db2",), 0, False)
    assert found.members == {
        "db1": Member("primary", "running", 3, 83886368),
        "db2": Member("standby", "running", 3, 83886000),
    }
    assert (found.timeline, found.maximum_lag_bytes) == (1, MAXIMUM_LAG_BYTES)


def test_an_empty_store_has_no_leader_and_no_revisions() -> None:
    assert parse(PREFIX, {}, 5) == Cluster(
        revision=5, leader=None, leader_revision=0, leader_lease=0, sync=(), sync_leader=None, sync_revision=0,
        sync_quorum=0, mode="off", strict=False, paused=False, verdict_revision=0,
    )  # fmt: skip


@pytest.mark.parametrize("leader", ["null", '""'])
def test_sync_without_a_leader_names_nobody(leader: str) -> None:
    found = read(sync=f'{{"leader":{leader},"quorum":2,"sync_standby":"db2"}}')
    assert (found.sync, found.sync_leader, found.sync_quorum, found.sync_revision) == ((), None, 0, 11)


@pytest.mark.parametrize(
    ("standbys", "names"),
    [
        ("null", ()),
        ('""', ()),
        ('"db2"', ("db2",)),
        ('" db2 ,,db3"', ("db2", "db3")),
        ('"db1,db2"', ("db2",)),
        ("7", ()),
    ],
)  # fmt: skip
def test_standbys_are_a_list_with_commas_without_the_leader(standbys: str, names: tuple[str, ...]) -> None:
    found = read(sync=f'{{"leader":"db1","quorum":0,"sync_standby":{standbys}}}')
    assert (found.sync, found.sync_leader) == (names, "db1")


@pytest.mark.parametrize(
    ("setting", "mode"),
    [
        ("true", "on"), ('"on"', "on"), ("1", "on"), ('"True"', "on"), ('"quorum"', "quorum"), ('"QUORUM"', "quorum"),
        ("false", "off"), ("null", "off"), ('"off"', "off"), ("0", "off"), ('"nonsense"', "off"), ("[]", "off"),
    ],
)  # fmt: skip
def test_the_mode_is_read_as_patroni_reads_it(setting: str, mode: str) -> None:
    assert read(config=f'{{"synchronous_mode":{setting}}}').mode == mode


def test_a_standby_cluster_replicates_to_nobody_synchronously() -> None:
    found = read(config='{"synchronous_mode":true,"standby_cluster":{"host":"10.0.0.1"}}')
    assert (found.mode, found.standby_cluster) == ("off", True)
    assert not read(config='{"standby_cluster":{}}').standby_cluster


def test_a_pause_and_failsafe_mode_are_seen() -> None:
    found = read(config='{"pause":true,"failsafe_mode":"on"}')
    assert (found.paused, found.failsafe) == (True, True)


@pytest.mark.parametrize(
    ("config", "fails_over"),
    [
        ('{"primary_start_timeout":0}', True), ('{"primary_start_timeout":"0"}', True),
        ('{"primary_start_timeout":300}', False), ('{"primary_start_timeout":null}', False), ("{}", False),
    ],
)  # fmt: skip
def test_a_cluster_fails_over_when_a_crashed_primary_has_no_time_to_start_again(
    config: str, *, fails_over: bool
) -> None:
    assert read(config=config).fails_over == fails_over


def test_a_request_for_another_leader_is_seen_until_it_is_done() -> None:
    assert read(failover='{"leader":"db1","member":"db2"}').failover == Failover("db1", "db2")
    assert read(failover='{"member":"db2"}').failover == Failover(None, "db2")
    assert read(failover='{"leader":"","member":""}').failover is None


@pytest.mark.parametrize(
    ("role", "told"),
    [("master", "primary"), ("primary", "primary"), ("replica", "standby"), ("standby_leader", "standby_leader"),
     ("promoted", "promoted"), ("demoted", "demoted")],
)  # fmt: skip
def test_roles_have_one_name_in_all_versions(role: str, told: str) -> None:
    assert read(**{"members/db1": json.dumps({"role": role})}).members["db1"].role == told


def test_a_leader_whose_member_key_is_gone_still_leads() -> None:
    found = read(leader="db1")
    assert (found.leader, found.members) == ("db1", {})


def test_the_position_may_be_in_a_key_of_its_own() -> None:
    assert read(**{"optime/leader": "83886368"}).position == 83886368
    assert read(status="83886368").position == 83886368


def test_keys_of_others_say_nothing() -> None:
    other = {"/service/orders2/leader": KeyValue("/service/orders2/leader", b"x", 1)}
    found = parse(PREFIX, other | keys({"0/leader": "worker", "members/a/b": "{}", "members/": "{}"}), 9)
    assert (found.leader, found.members) == (None, {})


NAMES = st.sampled_from([*NEW, "optime/leader", "members/x", "members/", ""])
FIELDS = st.sampled_from(
    (
        "leader", "sync_standby", "quorum", "synchronous_mode", "pause", "standby_cluster", "host", "optime", "tags",
        "role", "state", "timeline", "xlog_location", "nofailover", "member", "maximum_lag_on_failover",
    )
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("9" * 5_000)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=6,
)


@given(st.dictionaries(NAMES, JUNK.map(json.dumps) | st.binary(max_size=20) | st.just("[" * 9_000)))
def test_nonsense_says_nothing_and_breaks_nothing(values: dict[str, str | bytes]) -> None:
    raw = {
        PREFIX + name: KeyValue(PREFIX + name, value if isinstance(value, bytes) else value.encode(), 3)
        for name, value in values.items()
    }
    found = parse(PREFIX, raw, 9)
    assert found.leader_revision == (3 if "leader" in values else 0)
    assert found.mode in {"off", "on", "quorum"}
    assert all(isinstance(member.position, int) for member in found.members.values())
