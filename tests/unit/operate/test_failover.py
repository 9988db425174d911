from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from operate_views import DEAD, GONE, POSITION, orphaned, primary, record, standby, topology, view

from pgbaton.errors import Error, RefusedError, UnhealthyError
from pgbaton.operate.dcs import Record
from pgbaton.operate.failover import accept, consider, still, verdict

if TYPE_CHECKING:
    from typing import Any

    from pgbaton.operate.servers import Absence, Server


def test_the_synchronous_standby_is_chosen_and_needs_no_acceptance() -> None:
    intent = consider(topology(), orphaned(), None)
    target = intent.require()
    assert (target.host, target.complete, target.gap_bytes) == ("db2", True, 0)
    assert not intent.needs_acceptance


def test_a_named_standby_that_may_lack_writes_needs_acceptance_and_shows_its_gap() -> None:
    intent = consider(topology(), orphaned(position=POSITION + 4711), "db3")
    assert intent.require().gap_bytes == 4711
    assert intent.needs_acceptance


def test_the_gap_is_measured_from_the_furthest_position_known() -> None:
    behind = orphaned(position=POSITION - 5000)
    servers = {**behind.servers, "db3": standby(position=POSITION - 300, receiving=False)}
    intent = consider(topology(), view(servers, dcs=behind.dcs), "db3")
    assert intent.require().gap_bytes == 300


def test_a_lock_held_out_of_reach_needs_acceptance_whoever_is_promoted() -> None:
    intent = consider(topology(), orphaned(leader="db1"), None)
    assert intent.require().complete
    assert intent.needs_acceptance
    assert "db1 holds the leader lock" in (intent.warning or "")


def test_a_lock_whose_holder_is_known_to_be_down_needs_no_acceptance() -> None:
    cluster = orphaned(leader="db1")
    intent = consider(topology(), view({**cluster.servers, "db1": DEAD}, dcs=cluster.dcs), None)
    assert intent.require().host == "db2"
    assert not intent.needs_acceptance


def test_a_standby_that_holds_the_lock_is_being_promoted_already() -> None:
    with pytest.raises(RefusedError, match="held by db2, which runs as a standby"):
        consider(topology(), orphaned(leader="db2"), "db3").require()


def test_no_single_standby_is_complete_where_a_quorum_acknowledges() -> None:
    intent = consider(topology(), orphaned(quorum=True, sync_standbys=frozenset({"db2", "db3"})), None)
    assert not intent.require().complete
    assert intent.needs_acceptance


def test_the_primary_that_wrote_the_record_is_complete() -> None:
    servers: dict[str, Server | Absence] = {"db1": standby(receiving=False), "db2": DEAD, "db3": DEAD}
    dcs = record(leader=None, sync_standbys=frozenset(), members={"db1": Record("running")})
    assert consider(topology(), view(servers, dcs=dcs), None).require().complete


def test_without_synchronous_mode_nobody_is_complete() -> None:
    dcs: dict[str, Any] = {"synchronous": False, "sync_leader": None, "sync_standbys": frozenset()}
    assert not consider(topology(), orphaned(**dcs), None).require().complete


def test_a_primary_that_takes_writes_is_never_failed_over() -> None:
    with pytest.raises(RefusedError, match="servers out of recovery: db1") as caught:
        consider(topology(), view(), None).require()
    assert "pgbaton switchover" in str(caught.value)


def test_a_primary_without_the_lock_still_blocks_a_failover() -> None:
    with pytest.raises(RefusedError, match="servers out of recovery: db1"):
        consider(topology(), view(dcs=record(leader=None)), None).require()


def test_without_a_majority_of_etcd_nothing_can_be_promoted() -> None:
    lonely = view({"db1": GONE, "db2": DEAD}, answered=())
    with pytest.raises(RefusedError, match="etcd members that answer: 0 of 3"):
        consider(topology(), lonely, None).require()


@pytest.mark.parametrize(
    ("changes", "hosts", "reason"),
    [
        ({}, {"db3": {"failover": False}}, "db3 as primary: excluded"),
        ({"members": {"db2": Record("running")}}, {}, "db3 in Patroni: unknown"),
    ],
)
def test_a_named_standby_that_cannot_be_promoted_is_refused(
    changes: dict[str, Any], hosts: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason):
        consider(topology(**hosts), orphaned(**changes), "db3").require()


def test_when_nobody_can_be_promoted_every_reason_is_told() -> None:
    dead = view({"db1": GONE, "db2": DEAD, "db3": DEAD}, dcs=record(leader=None))
    with pytest.raises(RefusedError) as caught:
        consider(topology(), dead, None).require()
    assert all(f"{host} runs" in str(caught.value) for host in ("db1", "db2", "db3"))


def test_only_a_loss_that_covers_the_gap_is_accepted() -> None:
    target = consider(topology(), orphaned(position=POSITION + 100), "db3").require()
    accept(target, 100)
    for accepted in (None, 0, 99):
        with pytest.raises(RefusedError, match="100 bytes"):
            accept(target, accepted)


def test_a_primary_that_came_back_stops_the_failover() -> None:
    accepted = consider(topology(), orphaned(), "db2")
    with pytest.raises(RefusedError, match="servers out of recovery: db1"):
        still(consider(topology(), view({"db1": primary()}), "db2"), accepted)


def test_a_gap_that_grew_since_it_was_accepted_stops_the_failover() -> None:
    accepted = consider(topology(), orphaned(position=POSITION + 100), "db3")
    grown = consider(topology(), orphaned(position=POSITION + 101), "db3")
    assert still(accepted, accepted).host == "db3"
    with pytest.raises(RefusedError, match="101 bytes"):
        still(grown, accepted)


def test_a_lock_taken_since_the_decision_stops_the_failover() -> None:
    accepted = consider(topology(), orphaned(), "db2")
    with pytest.raises(RefusedError, match="holds the leader lock"):
        still(consider(topology(), orphaned(leader="db1"), "db2"), accepted)


def test_a_failover_that_missed_says_what_stays_in_etcd() -> None:
    pending = orphaned(request='{"member":"db3"}')
    error = verdict(pending, "db3", "because")
    assert type(error) is UnhealthyError
    assert '{"member":"db3"}' in error.message


def test_a_failover_that_another_host_won_says_so() -> None:
    won = view({"db1": GONE, "db2": primary()})
    error = verdict(won, "db3", "because")
    assert type(error) is Error
    assert "db2 became the primary instead of db3" in error.message
