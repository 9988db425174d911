from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from operate_views import DEAD, GONE, primary, record, standby, topology, view

from pgbaton.errors import RefusedError, UnreachableError
from pgbaton.operate.dcs import Record
from pgbaton.operate.rolling import order, plan
from pgbaton.operate.servers import Absence

if TYPE_CHECKING:
    from pgbaton.operate.servers import Server


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [((), ("db2", "db3", "db1")), (("db1", "db3"), ("db3", "db1")), (("db1",), ("db1",)), (("db3",), ("db3",))],
)
def test_standbys_come_first_and_the_primary_last(wanted: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert order(topology(), view(), wanted, pending=False) == expected


def test_pending_keeps_the_hosts_that_either_side_says_wait() -> None:
    waiting = record(members={"db2": Record("running", pending_restart=True)})
    cluster = view({"db1": primary(pending_restart=True), "db3": DEAD}, dcs=waiting)
    assert order(topology(), cluster, (), pending=True) == ("db2", "db1")
    assert order(topology(), cluster, ("db1", "db3"), pending=True) == ("db1",)


def test_the_primary_hands_over_to_a_fit_standby() -> None:
    assert plan(topology(), view(), ("db2", "db1"), in_place=False) == "db2"


@pytest.mark.parametrize(("hosts", "in_place"), [(("db2",), False), (("db2", "db1"), True), ((), False)])
def test_no_hand_over_is_planned_where_none_is_needed(hosts: tuple[str, ...], *, in_place: bool) -> None:
    unfit = view({"db2": standby(replay_paused=True), "db3": DEAD})
    assert plan(topology(), unfit, hosts, in_place=in_place) is None


def test_the_primary_is_not_restarted_when_nobody_can_take_over() -> None:
    unfit = view({"db2": standby(replay_paused=True)})
    with pytest.raises(RefusedError, match="db2 replay: paused") as caught:
        plan(topology(), unfit, ("db1",), in_place=False)
    assert "--in-place" in (caught.value.hint or "")


def test_when_no_host_was_reached_that_is_told_and_no_failover_advised() -> None:
    silent = Absence("no end after 6 s: ssh -T -o BatchMode=yes -- 10.77.0.23 true", host_answers=False)
    with pytest.raises(UnreachableError, match="restart refused, nothing was changed: no database host") as caught:
        plan(topology(), view({"db1": GONE, "db2": GONE, "db3": silent}), ("db3",), in_place=False)
    assert "\n  db3: no end after 6 s" in f"{caught.value}"
    assert "ssh" not in f"{caught.value}"
    assert "db2: the machine is powered off" in str(caught.value)
    assert "failover" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("servers", [{"db1": DEAD}, {"db2": primary()}])
def test_nothing_is_restarted_without_exactly_one_primary(servers: dict[str, Server | Absence]) -> None:
    with pytest.raises(RefusedError, match="exactly one"):
        plan(topology(), view(servers), ("db3",), in_place=False)
