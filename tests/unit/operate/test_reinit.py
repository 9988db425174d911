from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from operate_views import DEAD, GONE, primary, record, standby, topology, view

from pgbaton.errors import RefusedError, UnreachableError, UsageError
from pgbaton.operate.members import known
from pgbaton.operate.reinit import consequences, consider

if TYPE_CHECKING:
    from pgbaton.operate.members import View


def test_a_standby_is_cloned_from_the_primary_even_when_it_is_broken() -> None:
    assert consider(view({"db3": DEAD}), "db3") == "db1"


@pytest.mark.parametrize(
    ("cluster", "host", "reason"),
    [
        (view(), "db1", "db1 as standby: the primary"),
        (view({"db1": DEAD}), "db3", "servers out of recovery: none"),
        (view({"db2": primary()}), "db3", "servers out of recovery: db1, db2"),
        (view(dcs=record(leader=None)), "db3", "leader lock: held by nobody"),
        (view(dcs=record(leader="db3")), "db3", "db3 as standby"),
        (view(dcs=record(members={})), "db3", "db3 in Patroni: unknown"),
        (view(answered=("db1",)), "db3", "etcd members that answer: 1 of 3"),
    ],
)
def test_a_reinit_that_would_harm_or_hang_is_refused(cluster: View, host: str, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        consider(cluster, host)


def test_when_no_host_was_reached_that_is_told_and_no_failover_advised() -> None:
    with pytest.raises(UnreachableError, match="reinit refused, nothing was changed: no database host") as caught:
        consider(view({"db1": GONE, "db2": GONE, "db3": GONE}, answered=()), "db3")
    assert "failover" not in f"{caught.value} {caught.value.hint}"


def test_the_consequences_name_who_is_left() -> None:
    assert "standbys meanwhile: db2" in consequences(view(), "db3")


def test_the_consequences_of_cloning_the_last_standby_are_told() -> None:
    alone = view({"db1": primary(streaming_to=frozenset({"db2"})), "db3": standby(receiving=False)})
    assert "only copy" in consequences(alone, "db2")
    strict = view(alone.servers, dcs=record(strict=True))
    assert "writes wait" in consequences(strict, "db2")


@pytest.mark.parametrize("host", ["db9", "lb1", ""])
def test_a_name_that_is_no_database_host_is_wrong_usage(host: str) -> None:
    with pytest.raises(UsageError) as caught:
        known(topology(), host)
    assert "db1, db2, db3" in (caught.value.hint or "")
