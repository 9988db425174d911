"""The fault of the clients' way through a balancer: what it cuts, what undoes it, and what is expected."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.acting import balancer, keepalived
from pgbaton.cli.demo import STOCK
from pgbaton.components import agent
from pgbaton.hosts.fake import FakeHost
from pgbaton.lab import definition
from pgbaton.observe.host_probe import NFT
from pgbaton.proof.faults import named, paths
from pgbaton.proof.faults.base import Service, Strike
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import budget, load, presets

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.topology.model import Topology

TOPOLOGY = definition.complete(load.loads(presets.text("standard")), "trial")
WITHOUT = definition.complete(load.loads(presets.text("standard") + STOCK), "trial")
ROLES = Roles("db1", "lb2", ("db2", "db3"), synchronous=("db2",), balancers=("lb1", "lb2"))
(FAULT,) = named(["pooler-cut-off"])


def strike(directory: Path, topology: Topology = TOPOLOGY) -> Strike:
    random = Random(1)
    target = Target(topology, ClusterState("trial", directory / "trial"), print)
    return Strike(target, FAULT.victims(ROLES, random), ROLES, random)


async def test_the_holders_pooler_is_cut_off_and_let_through_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hosts = {name: FakeHost(name, answers={(NFT,): ""}) for name in ("lb1", "lb2", "db1", "db2", "db3")}
    monkeypatch.setattr(Target, "hosts", hosts)
    await FAULT.inject(strike(tmp_path))
    await FAULT.heal(strike(tmp_path))
    (cut, healed) = hosts["lb2"].calls
    assert cut == ((NFT, "-f", "-"), paths.rules(TOPOLOGY))
    assert healed[1].split() == [
        "table",
        "inet",
        "pgbaton_pooler_cut_off",
        "delete",
        "table",
        "inet",
        "pgbaton_pooler_cut_off",
    ]
    assert not [name for name, host in hosts.items() if name != "lb2" and host.calls]


def test_nothing_is_reset_but_the_way_from_the_pooler_to_the_primary() -> None:
    rules = [line.strip() for line in paths.rules(TOPOLOGY).splitlines() if "reject" in line or "drop" in line]
    assert rules == ["iif lo tcp dport 6000 reject with tcp reset"]
    assert TOPOLOGY.balancing.primary_port == 6000


def test_with_agents_the_vip_has_to_move_about_as_soon_as_they_can_know(tmp_path: Path) -> None:
    expected = FAULT.expects(strike(tmp_path))
    takeover = budget.prediction(TOPOLOGY, "haproxy-killed").write_seconds.maximum
    assert expected.limit_seconds == pytest.approx(takeover + 3 * 1.0 + 0.5 + 2.0 + 1.0)
    assert expected.keeps_primary
    assert FAULT.hold_seconds > (expected.limit_seconds or 0)
    assert FAULT.service is Service.RETURNS


def test_without_agents_nothing_is_promised(tmp_path: Path) -> None:
    expected = FAULT.expects(strike(tmp_path, WITHOUT))
    assert (expected.limit_seconds, expected.budget, expected.keeps_primary) == (None, None, True)


def test_the_limits_parts_are_those_that_agents_have() -> None:
    assert keepalived.APART_SECONDS == paths.APART_SECONDS
    assert balancer.USUAL_SECONDS == paths.TURN_SECONDS
    assert agent.settings(TOPOLOGY, TOPOLOGY.host("lb1"))["path"]["every_seconds"] == agent.PATH_SECONDS


def test_there_must_be_another_balancer() -> None:
    assert FAULT.needs == paths.PAIR
    assert FAULT.lab
