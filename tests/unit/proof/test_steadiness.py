"""Whether a cluster is led as before, and what journals tell of what came and went again."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "observe"))
import observed

from pgbaton.errors import UnhealthyError, UnreachableError
from pgbaton.hosts.fake import FakeHost
from pgbaton.proof import steadiness
from pgbaton.proof.marks import Mark, Moment
from pgbaton.proof.steadiness import Lead
from pgbaton.proof.target import Target
from pgbaton.state import ClusterState

if TYPE_CHECKING:
    from pgbaton.observe.snapshot import Snapshot

TOPOLOGY = observed.AGENTS
BEFORE = Lead(timeline=1, leader="db1", revision=7, vip="lb1", more_vips=(("10.77.0.101", "lb2"),))
BEGAN = 1_795_000_000.0


def mark(moment: Moment, host: str = "db2", at: float = BEGAN) -> Mark:
    return Mark(moment, at, host, f"{host} says {moment}")


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (BEFORE, ()),
        (replace(BEFORE, timeline=2), ("the timeline is 2 and was 1",)),
        (replace(BEFORE, leader="db2", revision=9), ("the leader key is db2's and was db1's",)),
        (replace(BEFORE, leader=None), ("the leader key is nobody's and was db1's",)),
        (replace(BEFORE, revision=9), ("db1 has lost the leader key meanwhile, and taken it again",)),
        (replace(BEFORE, vip="lb2"), ("the VIP is on lb2 and was on lb1",)),
        (replace(BEFORE, vip=None), ("the VIP is on no balancer and was on lb1",)),
        (replace(BEFORE, more_vips=(("10.77.0.101", None),)), ("10.77.0.101 is on no balancer and was on lb2",)),
    ],
)
def test_whatever_is_another_one_than_before_is_told(after: Lead, told: tuple[str, ...]) -> None:
    assert steadiness.changes(BEFORE, after) == told


def test_signs_of_one_kind_on_one_host_are_told_once_with_the_first() -> None:
    found = (
        mark(Moment.FENCED),
        mark(Moment.CLAIMED, "lb2", BEGAN + 1),
        mark(Moment.FENCED, at=BEGAN + 2),
        mark(Moment.FENCED, "db3", BEGAN + 3),
    )
    assert steadiness.alarms(found) == (
        "db2: its agent raised a fence 2 times, first at 11:06:40 UTC (db2 says fenced)",
        "lb2: the VIP was claimed at 11:06:41 UTC (lb2 says claimed)",
        "db3: its agent raised a fence at 11:06:43 UTC (db3 says fenced)",
    )
    assert steadiness.alarms(()) == ()


@pytest.mark.parametrize("moment", [Moment.FENCED, Moment.RELEASED, Moment.ELECTED, Moment.CLAIMED])
def test_nothing_that_moves_is_called_for_where_nothing_is_broken(moment: Moment) -> None:
    assert steadiness.alarms([mark(moment)])


def entry(unit: str, message: str, at: float) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": str(round(at * 1e6)), "_SYSTEMD_UNIT": unit, "MESSAGE": message})


def target(hosts: dict[str, FakeHost], monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(Target, "hosts", hosts)
    return Target(TOPOLOGY, ClusterState("demo", Path("/nowhere")), lambda _: None)


async def test_the_journals_of_all_hosts_are_read_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "db1": entry("patroni.service", "LOG:  database system is ready to accept connections", BEGAN + 1),
        "db2": entry("pgbaton-agent.service", "WARNING: fenced db1; connections to it: 1 ended, 0 left ", BEGAN + 2),
        "lb2": entry("keepalived.service", "(vip) Entering MASTER STATE", BEGAN + 1),
    }
    hosts = {name: FakeHost(name, answers={("journalctl",): text}) for name, text in said.items()}
    found = await steadiness.signs(target(hosts, monkeypatch), since=BEGAN)
    assert [(mark.host, mark.moment) for mark in found] == [("lb2", Moment.CLAIMED), ("db2", Moment.FENCED)]
    assert all(f"--since=@{BEGAN:.6f}" in host.calls[0][0] for host in hosts.values())


async def test_a_journal_that_cannot_be_read_is_no_sign_that_nothing_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = {
        "db1": FakeHost("db1", answers={("journalctl",): ""}),
        "db2": FakeHost("db2", answers={("journalctl",): UnreachableError("no end after 60 s")}),
    }
    with pytest.raises(UnreachableError):
        await steadiness.signs(target(hosts, monkeypatch), since=BEGAN)


def etcd(*, revision: int = 7) -> str:
    key, value = (base64.b64encode(text.encode()).decode() for text in (f"{TOPOLOGY.dcs_prefix}leader", "db1"))
    return json.dumps({"kvs": [{"key": key, "value": value, "create_revision": revision, "mod_revision": 99}]})


def led(monkeypatch: pytest.MonkeyPatch, said: str | Exception) -> Target:
    """Return a cluster whose hosts tell what is wanted, and whose etcd says something."""

    async def snapshot(_: Target) -> Snapshot:
        return observed.with_agents()

    monkeypatch.setattr(Target, "snapshot", snapshot)
    return target({name: FakeHost(name, answers={("env",): said}) for name in observed.DATABASES}, monkeypatch)


async def test_who_leads_is_known_from_the_hosts_and_from_etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = await steadiness.lead(led(monkeypatch, etcd(revision=12)))
    assert seen == Lead(timeline=3, leader="db1", revision=12, vip="lb1")


async def test_without_etcd_nobody_knows_who_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnhealthyError, match="etcd does not say who leads"):
        await steadiness.lead(led(monkeypatch, UnreachableError("no answer")))
