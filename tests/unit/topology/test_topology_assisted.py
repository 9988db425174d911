"""Predictions where there are agents: they agree with what was measured, and change nothing without agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from refusals import BASE

from pgbaton.cli.demo import STOCK
from pgbaton.topology import assisted, load, presets
from pgbaton.topology.budget import budget, prediction
from pgbaton.topology.durations import Durations
from pgbaton.topology.prediction import NONE, Prediction, Range, total

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

AGENTS = "[orchestration]\nagent = true\n"
#: The stock parts with the election of etcd that they have where there are agents.
STOCK_AS_QUICK = f"{STOCK}[timings]\netcd_election = {1 / 3}\n"
#: Outages that clients saw in a lab of the standard preset's shape, with agents and this detection time, in seconds.
DETECTION = "[timings]\ndetection_time = 0.25\n"
MEASURED = {
    "postmaster-killed": 0.42,
    "primary-power-off": 0.56,
    "standby-power-off": 0.56,
    "haproxy-hung": 0.53,
    "switchover": 0.6,
}
SILENT_PRIMARY = {"primary-power-off", "primary-cut-off", "primary-power-off-with-etcd-leader"}


def preset(name: str = "standard", more: str = "") -> Topology:
    return load.loads(f"{presets.text(name)}\n{more}")


def topology(*, mode: str = "synchronous", more: str = "", timings: str = "", agents: bool = True) -> Topology:
    """Return three databases behind two balancers."""
    replication = f'[replication]\nmode = "{mode}"\n{more}'
    section = f"[timings]\n{timings}\n" if timings else ""
    return load.loads("\n".join((BASE, replication, section, AGENTS if agents else STOCK)))


def changed(chosen: Topology) -> set[str]:
    """Return the faults that agents make another figure of."""
    return set(assisted.predictions(Durations(chosen)))


def part(made: Prediction, name: str) -> float:
    """Return how long a part of an outage usually takes."""
    return {each.name: each.seconds for each in made.parts}[name].typical


@pytest.mark.parametrize(("fault", "seconds"), MEASURED.items())
def test_what_was_measured_with_agents_is_within_the_prediction(fault: str, seconds: float) -> None:
    writes = prediction(preset(more=DETECTION), fault).write_seconds
    assert writes.minimum <= seconds <= writes.maximum
    assert writes.typical == pytest.approx(seconds, rel=0.35)


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_every_prediction_with_agents_is_the_sum_of_its_parts(name: str) -> None:
    made = assisted.predictions(Durations(preset(name)))
    assert made
    for fault, each in made.items():
        assert each.fault == fault
        assert each.write_seconds == total(each.parts)
        assert each.explanation
        assert all(part.source for part in each.parts)
        for seconds in (each.write_seconds, each.read_seconds, *(part.seconds for part in each.parts)):
            assert 0 <= seconds.minimum <= seconds.typical <= seconds.maximum


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_agents_change_figures_and_neither_faults_nor_titles_nor_their_order(name: str) -> None:
    with_agents, without = budget(preset(name)), budget(preset(name, STOCK_AS_QUICK))
    assert [(each.fault, each.title) for each in with_agents] == [(each.fault, each.title) for each in without]
    other = {each.fault for each, before in zip(with_agents, without, strict=True) if each != before}
    assert other == changed(preset(name)) != set()


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_nothing_is_assisted_without_agents(name: str) -> None:
    assert changed(preset(name, STOCK)) == set()


@pytest.mark.parametrize("name", presets.WITH_PATRONI)
def test_a_dead_primary_usually_costs_less_with_agents(name: str) -> None:
    for fault in ("postmaster-killed", "primary-power-off", "primary-cut-off"):
        usual = prediction(preset(name), fault).write_seconds.typical
        assert usual < prediction(preset(name, STOCK), fault).write_seconds.typical / 2


def test_a_silent_host_is_found_by_the_detection_time_and_a_dead_process_is_not() -> None:
    beat = "heartbeat_interval = 0.05"
    quick, slow = (topology(timings=f"detection_time = {seconds}\n{beat}") for seconds in (0.25, 2.0))
    for fault in ("primary-power-off", "primary-cut-off", "standby-power-off"):
        gain = prediction(slow, fault).write_seconds.typical - prediction(quick, fault).write_seconds.typical
        assert gain == pytest.approx(1.75)
        least = prediction(slow, fault).write_seconds.minimum - prediction(quick, fault).write_seconds.minimum
        assert least == pytest.approx(1.75)
    for fault in ("postmaster-killed", "haproxy-hung", "switchover"):
        assert prediction(slow, fault) == prediction(quick, fault)


def test_the_life_of_the_lock_does_not_matter_where_agents_release_it() -> None:
    short, long = topology(timings="ttl = 20"), topology(timings="ttl = 60")
    assert prediction(short, "primary-power-off") == prediction(long, "primary-power-off")


def test_etcds_own_election_is_what_its_leader_on_the_primarys_host_costs_more() -> None:
    alone, both = (prediction(topology(), f"primary-power-off{which}") for which in ("", "-with-etcd-leader"))
    patience = topology().etcd_election_seconds
    more = assisted.ETCD_ELECTS + Range(0.0, patience, 2 * patience)
    assert both.write_seconds.as_dict() == (alone.write_seconds + more).as_dict()


def test_all_figures_are_those_of_agents_where_commits_wait_for_standbys() -> None:
    assert changed(topology()) == SILENT_PRIMARY | {
        "postmaster-killed",
        "standby-power-off",
        "switchover",
        "haproxy-hung",
    }
    assert changed(topology(mode="strict")) == changed(topology())


def test_in_asynchronous_mode_a_primary_is_replaced_as_without_agents_unless_loss_is_accepted() -> None:
    careful = topology(mode="asynchronous")
    assert changed(careful) == {"haproxy-hung"}
    for fault in ("postmaster-killed", "primary-power-off", "switchover"):
        stock = topology(mode="asynchronous", timings=f"etcd_election = {1 / 3}", agents=False)
        assert prediction(careful, fault) == prediction(stock, fault)
    reckless = topology(mode="asynchronous", more="accept_loss = true\n")
    assert changed(reckless) == SILENT_PRIMARY | {"haproxy-hung"}


def test_in_quorum_mode_patroni_itself_gives_up_a_crashed_servers_lock() -> None:
    quorum, synchronous = topology(mode="quorum"), topology()
    assert changed(quorum) == SILENT_PRIMARY | {"postmaster-killed", "haproxy-hung"}
    crash = prediction(quorum, "postmaster-killed")
    assert part(crash, "election") == assisted.WOKEN.typical
    assert part(prediction(synchronous, "postmaster-killed"), "election") == assisted.RACE.typical
    assert prediction(quorum, "standby-power-off").write_seconds == NONE
    stock = topology(mode="quorum", agents=False)
    assert prediction(quorum, "switchover") == prediction(stock, "switchover")


def test_a_primary_that_may_restart_in_place_is_predicted_as_without_agents() -> None:
    patient = "primary_start_timeout = 30"
    made = prediction(topology(timings=patient), "postmaster-killed")
    assert made == prediction(topology(timings=patient, agents=False), "postmaster-killed")
    assert "restart in place for 30 s" in made.explanation
    assert "postmaster-killed" not in changed(topology(timings=patient))
    assert changed(topology(timings=patient)) >= SILENT_PRIMARY


def test_with_two_synchronous_standbys_clients_are_not_held_for_a_switchover() -> None:
    two = topology(more="count = 2\n")
    assert "switchover" not in changed(two)
    assert prediction(two, "switchover") == prediction(topology(more="count = 2\n", agents=False), "switchover")


def test_a_standby_that_nobody_can_replace_costs_what_it_does_without_agents() -> None:
    two = topology(more="count = 2\n")
    assert "standby-power-off" not in changed(two)


def test_without_a_second_balancer_agents_save_no_hung_haproxy() -> None:
    chosen = load.loads(BASE.replace('vip = "10.77.0.100"\n', "") + AGENTS)
    assert "haproxy-hung" not in changed(chosen)
    assert not prediction(chosen, "haproxy-hung").write_seconds.ends


@pytest.mark.parametrize(
    ("timings", "agents", "seconds"),
    [
        ("", False, 0.2),
        ("", True, 1.0),
        ("check_interval = 0.3", False, 0.3),
        ("check_interval = 0.3", True, 0.3),
        ("check_interval = 0.2", True, 0.2),
    ],
)
def test_the_primary_is_asked_for_seldom_where_agents_tell_of_it_unless_that_is_set(
    timings: str, *, agents: bool, seconds: float
) -> None:
    assert topology(timings=timings, agents=agents).primary_check_seconds == pytest.approx(seconds)
