"""What is predicted, and told, where etcd is elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from foreign_topology import ENDPOINTS, foreign, text

from pgbaton.lab import definition
from pgbaton.topology import budget, load, presets
from pgbaton.topology.durations import RACE_WITH_SILENCE, Durations
from pgbaton.topology.model import ForeignEtcd

OWN = load.loads(presets.text("standard"))


def test_it_is_read_and_nothing_is_said_against_it() -> None:
    topology, problems = load.parse(text(), "foreign.toml")
    assert topology is not None
    assert problems == ()
    assert topology.foreign_etcd is topology.etcd
    assert topology.etcd.places == ("10.9.0.1:2379", "etcd2.example.org:2379", "10.9.0.3:12379")
    assert topology.etcd.hosts == ("10.9.0.1", "etcd2.example.org", "10.9.0.3")
    assert topology.dcs_prefix == "/pg/production/standard/"
    assert topology.has_agents


def test_members_of_ipv6_have_brackets_and_their_addresses_one_spelling() -> None:
    written = text().replace("10.9.0.1", "[FD00:9:0::1]").replace("10.9.0.3", "[fd00:9::3]")
    topology, problems = load.parse(written, "foreign.toml")
    assert topology is not None
    assert problems == ()
    assert topology.etcd.endpoints[0] == "https://[fd00:9::1]:2379"
    assert topology.etcd.places == ("[fd00:9::1]:2379", "etcd2.example.org:2379", "[fd00:9::3]:12379")
    assert topology.etcd.hosts == ("fd00:9::1", "etcd2.example.org", "fd00:9::3")


def test_an_etcd_of_its_own_is_where_it_always_was() -> None:
    assert OWN.etcd == ForeignEtcd()
    assert OWN.foreign_etcd is None
    assert OWN.dcs_prefix == "/service/standard/"


def test_a_lab_keeps_it_in_its_file() -> None:
    again = load.loads(definition.to_toml(definition.complete(foreign(), "trial")))
    assert again.etcd == foreign().etcd
    assert again.etcd.endpoints == ENDPOINTS


def test_nothing_is_predicted_of_what_is_not_known() -> None:
    names = {made.fault for made in budget.budget(foreign())}
    assert "primary-power-off-with-etcd-leader" not in names
    assert {made.fault for made in budget.budget(OWN)} - names == {"primary-power-off-with-etcd-leader"}
    lost = budget.prediction(foreign(), "etcd-member-lost").explanation
    assert "not known" in lost
    assert "network between the databases and that etcd" in budget.prediction(foreign(), "etcd-quorum-lost").explanation
    assert "not known" in budget.without_agents(foreign(), "primary-power-off").explanation


def test_no_member_of_it_is_lost_with_a_host() -> None:
    sizes = Durations(foreign())
    assert sizes.race_without_one == RACE_WITH_SILENCE
    assert sizes.lock_expiry_of_any == sizes.lock_expiry
