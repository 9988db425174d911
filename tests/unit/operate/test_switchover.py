from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from operate_views import DEAD, GONE, POSITION, primary, record, standby, topology, view

from pgbaton.errors import Error, RefusedError, UnhealthyError
from pgbaton.operate.checks import failed
from pgbaton.operate.dcs import Record
from pgbaton.operate.switchover import consider, verdict

if TYPE_CHECKING:
    from typing import Any

    from pgbaton.operate.members import View

MIB = 2**20
BEHIND = POSITION - 40 * MIB


def test_a_healthy_cluster_hands_over_to_its_synchronous_standby() -> None:
    intent = consider(topology(), view(), None)
    assert failed(intent.checks) == ()
    assert intent.require() == ("db1", "db2")


def test_of_several_fit_standbys_the_one_with_the_least_to_replay_is_chosen() -> None:
    both = record(sync_standbys=frozenset({"db2", "db3"}))
    slower = view({"db2": standby(replayed=POSITION - 100)}, dcs=both)
    assert consider(topology(), slower, None).target == "db3"


def test_without_synchronous_mode_any_streaming_standby_may_be_named() -> None:
    dcs = record(synchronous=False, sync_leader=None, sync_standbys=frozenset())
    assert consider(topology(), view(dcs=dcs), "db3").require() == ("db1", "db3")


def test_a_silent_balancer_is_told_and_does_not_block() -> None:
    intent = consider(topology(), view(routes={"lb1": frozenset({"db1"}), "lb2": "powered off"}), None)
    assert intent.target == "db2"
    assert any("lb2 does not answer" in check.seen for check in intent.checks)


CLUSTER = [
    ("servers out of recovery", "none", view({"db1": DEAD})),
    ("servers out of recovery", "db1, db3", view({"db3": primary()})),
    ("leader lock", "held by nobody", view(dcs=record(leader=None))),
    ("leader lock", "held by db2", view(dcs=record(leader="db2"))),
    ("Patroni", "paused", view(dcs=record(paused=True))),
    ("requests under way", '{"leader":"db1"}', view(dcs=record(request='{"leader":"db1"}'))),
    ("etcd members that answer", "1 of 3", view(answered=("db1",))),
    ("etcd members that answer", "0 of 3", view(answered=())),
    (
        "balancers",
        "lb1 sends writes to db1; lb2 sends writes to db3",
        view(routes={"lb1": frozenset({"db1"}), "lb2": frozenset({"db3"})}),
    ),
    ("balancers", "lb1 sends writes to none", view(routes={"lb1": frozenset()})),
    ("balancers", "lb1 does not answer", view(routes={"lb1": "timeout"})),
]


@pytest.mark.parametrize(("name", "seen", "cluster"), CLUSTER)
def test_a_cluster_that_is_not_whole_is_refused_with_what_was_seen(name: str, seen: str, cluster: View) -> None:
    intent = consider(topology(), cluster, "db2")
    assert (name, seen) in {(check.name, check.seen) for check in failed(intent.checks)}
    with pytest.raises(RefusedError) as caught:
        intent.require()
    assert seen in str(caught.value)
    assert "nothing was changed" in str(caught.value)


CANDIDATE = [
    ("db2 runs", "connection refused", view({"db2": DEAD}), {}),
    ("db2 runs", "the machine is powered off", view({"db2": GONE}), {}),
    ("db2 streams", "no", view({"db2": standby(receiving=False)}), {}),
    ("db2 streams", "no", view({"db1": primary(streaming_to=frozenset({"db3"}))}), {}),
    ("db2 as primary", "excluded", view(), {"db2": {"failover": False}}),
    ("db2 as primary", "excluded", view(dcs=record(members={"db2": Record("running", no_failover=True)})), {}),
    ("db2 in Patroni", "unknown", view(dcs=record(members={})), {}),
    ("db2 as standby", "synchronous: db3", view(dcs=record(sync_standbys=frozenset({"db3"}))), {}),
    ("db2 as standby", "synchronous: none", view(dcs=record(sync_standbys=frozenset())), {}),
    ("db2 lag", f"{40 * MIB} bytes (40.0 MiB)", view({"db2": standby(position=BEHIND, replayed=BEHIND)}), {}),
    ("db2 replay lag", f"{40 * MIB} bytes (40.0 MiB)", view({"db2": standby(replayed=BEHIND)}), {}),
    ("db2 replay", "paused", view({"db2": standby(replay_paused=True)}), {}),
]


@pytest.mark.parametrize(("name", "seen", "cluster", "hosts"), CANDIDATE)
def test_a_candidate_that_is_not_fit_is_refused_with_what_was_seen(
    name: str, seen: str, cluster: View, hosts: dict[str, Any]
) -> None:
    intent = consider(topology(**hosts), cluster, "db2")
    wrong = {check.name: check for check in failed(intent.checks)}
    assert intent.target is None
    assert wrong[name].seen == seen
    assert wrong[name].fix
    with pytest.raises(RefusedError):
        intent.require()


@pytest.mark.parametrize(("name", "seen", "cluster", "hosts"), CANDIDATE)
def test_a_candidate_that_is_not_fit_is_never_chosen(
    name: str, seen: str, cluster: View, hosts: dict[str, Any]
) -> None:
    del name, seen
    assert consider(topology(**hosts), cluster, None).target != "db2"


def test_the_primary_itself_is_no_candidate() -> None:
    intent = consider(topology(), view(), "db1")
    assert intent.target is None
    assert [check.seen for check in failed(intent.checks)] == ["already the primary"]


def test_without_any_fit_standby_each_one_is_told_with_its_reason() -> None:
    with pytest.raises(RefusedError) as caught:
        consider(topology(), view({"db2": DEAD, "db3": GONE}), None).require()
    assert "db2 runs: connection refused" in str(caught.value)
    assert "db3 runs: the machine is powered off" in str(caught.value)


def test_checks_that_were_shown_are_counted_and_not_told_again() -> None:
    intent = consider(topology(), view({"db2": DEAD, "db3": GONE}), None)
    with pytest.raises(RefusedError) as caught:
        intent.require(told=True)
    assert str(caught.value) == "switchover would be refused: 2 checks did not pass; nothing was changed"


def test_a_member_of_etcd_that_is_silent_may_be_out_of_reach() -> None:
    (etcd,) = failed(consider(topology(), view(answered=("db1",)), None).checks)
    assert etcd.fix == "see that db2, db3 can be reached, and that etcd.service runs there"


VERDICTS = [
    (view(), Error, "no switchover: db1 is still the primary and takes writes; db2 did not take over. because"),
    (view({"db1": standby(), "db2": primary()}), UnhealthyError, "db2 is the primary, but later than waited for"),
    (view({"db1": standby(), "db3": primary()}), Error, "db3 became the primary instead of db2"),
    (view({"db1": DEAD}), UnhealthyError, "no single primary now (out of recovery: none)"),
    (view({"db2": primary()}), UnhealthyError, "no single primary now (out of recovery: db1, db2)"),
]


@pytest.mark.parametrize(("cluster", "kind", "text"), VERDICTS)
def test_a_switchover_that_missed_says_who_is_primary_now(cluster: View, kind: type[Error], text: str) -> None:
    error = verdict(cluster, "db1", "db2", "because")
    assert type(error) is kind
    assert text in error.message
    assert error.message.endswith("because")
