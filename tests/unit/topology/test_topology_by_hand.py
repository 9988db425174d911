"""What a cluster that a person fails over promises and costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from pgbaton.topology import budget, load, presets
from pgbaton.topology.durability import durability
from pgbaton.topology.prediction import total

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

TRIO = '[[hosts]]\nname = "db3"\naddress = "10.77.0.23"\nroles = ["database"]\n\n[postgresql]\n'


def manual(mode: str = "synchronous", *, databases: int = 2) -> Topology:
    text = presets.text("manual").replace('mode = "synchronous"', f'mode = "{mode}"')
    return load.loads(text.replace("[postgresql]\n", TRIO, 1) if databases > 2 else text)


def test_nothing_is_promised_that_nobody_does() -> None:
    for fault in ("primary-power-off", "primary-cut-off", "standby-power-off"):
        assert math.isinf(budget.prediction(manual(), fault).write_seconds.maximum)


def test_there_is_nothing_of_etcd_in_it() -> None:
    names = {made.fault for made in budget.budget(manual())}
    assert not {name for name in names if "etcd" in name}
    assert {"postmaster-killed", "switchover", "haproxy-killed", "balancer-power-off"} <= names
    assert all("Patroni" not in made.explanation for made in budget.budget(manual()))


def test_every_prediction_is_the_sum_of_its_parts() -> None:
    for made in budget.budget(manual()):
        assert made.write_seconds == total(made.parts)


@pytest.mark.parametrize(
    ("mode", "databases", "longest"),
    [("synchronous", 3, 2.2), ("quorum", 3, 0.0), ("asynchronous", 2, 0.0), ("synchronous", 2, math.inf)],
)
def test_commits_wait_for_a_lost_standby_as_long_as_there_is_no_other(
    mode: str, databases: int, longest: float
) -> None:
    made = budget.prediction(manual(mode, databases=databases), "standby-power-off")
    assert made.write_seconds.maximum == pytest.approx(longest)


def test_what_happens_without_a_standby_is_a_persons_to_say() -> None:
    assert "detaches" in durability(manual()).alone
    assert durability(manual("strict")).alone == "writes wait until one is back"


def test_two_hosts_are_enough() -> None:
    text = presets.text("manual").replace('["database"]', '["balancer", "database"]')
    start, end = text.index('[[hosts]]\nname = "lb1"'), text.index('[[hosts]]\nname = "db1"')
    topology, problems = load.parse(text[:start] + text[end:], "pair.toml")
    assert topology is not None
    assert problems == ()
    assert [host.name for host in topology.hosts] == ["db1", "db2"]
