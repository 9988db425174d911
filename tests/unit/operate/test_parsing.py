from __future__ import annotations

import base64
import json

import pytest

from pgbaton.errors import CommandError
from pgbaton.operate import dcs, routing, servers

PREFIX = "/service/test/"


def etcd(**pairs: str) -> str:
    coded = {PREFIX + key.replace("__", "/"): value for key, value in pairs.items()}
    kvs = [
        {"key": base64.b64encode(k.encode()).decode(), "value": base64.b64encode(v.encode()).decode()}
        for k, v in coded.items()
    ]
    return json.dumps({"header": {}, "kvs": kvs, "count": len(kvs)})


def test_the_record_of_patroni_is_read_from_its_keys() -> None:
    found = dcs.parse(
        etcd(
            leader="db1",
            sync='{"leader":"db1","sync_standby":"db2,db3","quorum":0}',
            status='{"optime":83886080,"slots":{}}',
            config='{"synchronous_mode":true,"synchronous_mode_strict":true,"maximum_lag_on_failover":33554432}',
            members__db1='{"state":"running","timeline":3,"pending_restart":true}',
            members__db2='{"state":"running","tags":{"nofailover":true}}',
        ),
        PREFIX,
    )
    assert (found.leader, found.sync_leader, found.sync_standbys) == ("db1", "db1", frozenset({"db2", "db3"}))
    assert (found.synchronous, found.strict, found.quorum, found.paused) == (True, True, False, False)
    assert (found.position, found.maximum_lag_bytes, found.request) == (83886080, 33554432, None)
    assert found.members["db1"] == dcs.Record("running", timeline=3, pending_restart=True)
    assert found.members["db2"].no_failover


def test_quorum_pause_and_a_request_under_way_are_seen() -> None:
    found = dcs.parse(etcd(config='{"synchronous_mode":"quorum","pause":true}', failover='{"member":"db2"}'), PREFIX)
    assert (found.quorum, found.paused, found.request) == (True, True, '{"member":"db2"}')


@pytest.mark.parametrize("output", ["{}", etcd(), etcd(sync="{}", status="null", config="", failover="{}", leader="")])
def test_missing_and_empty_keys_are_no_record(output: str) -> None:
    found = dcs.parse(output, PREFIX)
    assert not found.leader
    assert found.request is None
    assert (found.sync_standbys, found.position, dict(found.members)) == (frozenset(), 0, {})


def test_when_the_leader_key_was_made_is_told_from_when_it_was_changed() -> None:
    said = json.loads(etcd(leader="db1", sync="{}"))
    said["kvs"][0] |= {"create_revision": 12, "mod_revision": 99}
    assert dcs.parse(json.dumps(said), PREFIX).leader_revision == 12
    assert dcs.parse(etcd(sync="{}"), PREFIX).leader_revision == 0


def test_a_majority_is_more_than_half_of_those_asked() -> None:
    assert [dcs.Reading((), ("a",) * count, None).needed for count in (1, 3, 5)] == [1, 2, 3]


def test_a_foreign_etcd_has_answered_when_one_database_was_told() -> None:
    assert [dcs.Reading((), ("a",) * count, None, foreign=True).needed for count in (1, 2, 3)] == [1, 1, 1]


def test_the_facts_of_a_server_are_read() -> None:
    facts = {
        "in_recovery": True,
        "position": 50331648,
        "replayed": None,
        "replay_paused": True,
        "receiving": True,
        "streaming_to": ["db3"],
        "pending_restart": False,
        "started": 1763845000.25,
        "receiving_from": "10.77.0.21",
        "timeline": 3,
    }
    found = servers.parse(json.dumps(facts))
    assert found == servers.Server(
        in_recovery=True,
        position=50331648,
        replay_paused=True,
        receiving=True,
        streaming_to=frozenset({"db3"}),
        started=1763845000.25,
        receiving_from="10.77.0.21",
        timeline=3,
    )


SOCKET = 'psql: error: connection to server on socket "/var/run/postgresql/.s.PGSQL.5432" failed: '


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f"{SOCKET}No such file or directory\n\tIs the server running locally?", "No such file or directory"),
        (f"{SOCKET}FATAL:  the database system is starting up", "FATAL:  the database system is starting up"),
        ("nsenter: cannot open /proc/1/ns/mnt: No such file", "nsenter: cannot open /proc/1/ns/mnt: No such file"),
    ],
)
def test_why_a_server_does_not_answer_is_told_in_its_own_words(said: str, reason: str) -> None:
    error = CommandError(f"exit status 2 from: psql\n{said}")
    assert servers.why(error) == f"PostgreSQL does not answer: {reason}"


STATISTICS = """# pxname,svname,qcur,status,weight,
primary,FRONTEND,0,OPEN,,
write,FRONTEND,0,OPEN,,
pooled_write,lb1,0,UP,1,
primary,db1,0,UP 1/2,1,
primary,db2,0,DOWN,1,
primary,db3,0,MAINT,1,
primary,BACKEND,0,UP,1,
standbys,db2,0,UP,1,
"""


def test_the_route_of_writes_is_read_from_haproxys_statistics() -> None:
    assert routing.parse(STATISTICS) == frozenset({"db1"})


def test_no_server_up_is_an_empty_route() -> None:
    assert routing.parse(STATISTICS.replace("UP 1/2", "DOWN")) == frozenset()
