"""Patroni's record, where etcd is on none of the hosts."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from foreign_topology import foreign

from pgbaton.components import foreign as component
from pgbaton.errors import CommandError
from pgbaton.hosts.fake import FakeHost
from pgbaton.operate import dcs
from pgbaton.operate.members import View
from pgbaton.operate.switchover import etcd_check

TOPOLOGY = foreign()
ASKED = (*component.RUN, "keys")


def record(leader: str) -> str:
    key, value = (base64.b64encode(text.encode()).decode() for text in (f"{TOPOLOGY.dcs_prefix}leader", leader))
    return json.dumps({"kvs": [{"key": key, "value": value, "create_revision": 12}]})


def hosts(**answers: str | Exception) -> dict[str, FakeHost]:
    gone = CommandError("exit status 1 from: python3\nno endpoint answers: 10.9.0.1:2379: timed out")
    return {host.name: FakeHost(host.name, answers={ASKED: answers.get(host.name, gone)}) for host in TOPOLOGY.hosts}


async def test_one_database_that_is_told_is_enough_and_the_others_say_why_not() -> None:
    reading = await dcs.read(TOPOLOGY, hosts(db2=record("db1")))
    assert (reading.asked, reading.answered) == (("db1", "db2", "db3"), ("db2",))
    assert reading.dcs is not None
    assert (reading.dcs.leader, reading.dcs.leader_revision) == ("db1", 12)
    check = etcd_check(View({}, reading))
    assert check.passed
    assert "db1: no endpoint answers: 10.9.0.1:2379: timed out" in check.seen


async def test_nothing_is_done_where_nobody_is_told() -> None:
    reading = await dcs.read(TOPOLOGY, hosts())
    check = etcd_check(View({}, reading))
    assert not check.passed
    assert check.name == "databases that etcd answers"
    assert "etcd.service" not in check.fix
