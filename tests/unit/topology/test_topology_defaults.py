"""What is decided where a topology file says nothing: whether there are agents, and when etcd elects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from refusals import BASE, DB3, LB1_APPLICATION, LB2

from pgbaton.cli.demo import STOCK
from pgbaton.topology import load, presets
from pgbaton.topology.load import parse

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

AGENTS = "[orchestration]\nagent = true\n"
OLD = "[postgresql]\nversion = 15\n"


def smaller(topology: Topology, count: int) -> Topology:
    """Return a topology with so many of its hosts that are not only applications', and one of applications."""
    app = topology.hosts[0].model_copy(update={"name": "app", "roles": ("application",)})
    return topology.model_copy(update={"hosts": (*topology.hosts[:count], app)})


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_a_preset_has_an_agent_on_every_host(name: str) -> None:
    topology = load.loads(presets.text(name))
    assert topology.orchestration.agent is None
    assert topology.has_agents
    assert topology.voters == topology.hosts


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_there_are_no_agents_beside_an_old_postgresql(name: str) -> None:
    text = presets.text(name)
    topology, problems = parse(text.replace("[postgresql]\n", OLD), f"{name}.toml")
    assert topology is not None, problems
    assert topology.postgresql.version == 15
    assert not topology.has_agents
    assert topology.voters == ()
    assert not any("agent" in str(problem) for problem in problems), "nobody asked for them"


@pytest.mark.parametrize(("count", "expected"), [(2, False), (3, True)])
def test_there_are_agents_where_three_hosts_can_have_one(count: int, *, expected: bool) -> None:
    topology = smaller(load.loads(BASE), count)
    assert len(topology.parts) == count
    assert topology.has_agents is expected
    assert topology.voters == (topology.parts if expected else ())


def test_what_the_file_says_is_not_bent_to_what_is_possible() -> None:
    """It is refused instead, so that nobody believes in agents that are not there."""
    assert smaller(load.loads(f"{BASE}{AGENTS}"), 2).has_agents


def test_two_hosts_are_not_refused_for_agents_that_nobody_asked_for() -> None:
    few = BASE.replace('name = "lb1"\naddress = "10.77.0.11"\nroles = ["balancer"]', LB1_APPLICATION)
    few = few.replace(LB2, LB2.replace("balancer", "application"))
    few = few.replace(DB3, DB3.replace('"database", "dcs"', '"application"'))
    for more, objected in (("", False), (STOCK, False), (AGENTS, True)):
        _, problems = parse(few + more, "few.toml")
        assert any(problem.path == "orchestration.agent" for problem in problems) is objected


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
@pytest.mark.parametrize(("more", "expected"), [(STOCK, False), (AGENTS, True)])
def test_what_the_file_says_about_agents_counts(name: str, more: str, *, expected: bool) -> None:
    topology, problems = parse(f"{presets.text(name)}\n{more}", f"{name}.toml")
    assert topology is not None
    assert problems == ()
    assert topology.has_agents is expected
    assert topology.voters == (topology.hosts if expected else ())


def test_agents_that_are_asked_for_beside_an_old_postgresql_are_refused() -> None:
    topology, problems = parse(f"{BASE}{AGENTS}{OLD}", "old.toml")
    assert topology is None
    assert [(problem.level, problem.path) for problem in problems] == [("error", "orchestration.agent")]


def test_agents_that_are_not_wanted_beside_an_old_postgresql_are_nothing_to_object_to() -> None:
    topology, problems = parse(f"{BASE}{STOCK}{OLD}", "old.toml")
    assert topology is not None
    assert problems == ()


@pytest.mark.parametrize(
    ("timings", "agents", "seconds"),
    [
        ("", False, 1.0),
        ("", True, 1 / 3),
        ("etcd_election = 1", True, 1.0),
        ("etcd_election = 0.5", False, 0.5),
        ("etcd_election = 0.5", True, 0.5),
    ],
)
def test_etcd_elects_in_a_third_of_the_time_where_agents_wait_for_it_unless_that_is_set(
    timings: str, *, agents: bool, seconds: float
) -> None:
    for more in (AGENTS, "") if agents else (STOCK, OLD):
        topology = load.loads(f"{BASE}{more}[timings]\n{timings}\n")
        assert topology.etcd_election_seconds == pytest.approx(seconds)
