"""Standbys that are put behind another standby."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from operate_views import DEAD, GONE, primary, standby, topology, view

from pgbaton.hosts.fake import FakeHost
from pgbaton.operate import reinit
from pgbaton.operate.operation import Operation, not_streaming

if TYPE_CHECKING:
    from pgbaton.operate.servers import Absence, Server

DIRECT = frozenset({"db2"})


def test_a_standby_behind_another_receives_from_the_primary_too() -> None:
    servers = {"db1": primary(streaming_to=DIRECT), "db2": standby(streaming_to=frozenset({"db3"}))}
    assert view(servers).streaming == {"db2", "db3"}


def test_the_way_to_the_primary_may_not_be_broken() -> None:
    lonely = standby(receiving=False, streaming_to=frozenset({"db3"}))
    assert view({"db1": primary(streaming_to=frozenset()), "db2": lonely}).streaming == frozenset()


def test_two_standbys_that_receive_from_each_other_receive_nothing() -> None:
    servers = {
        "db1": primary(streaming_to=frozenset()),
        "db2": standby(streaming_to=frozenset({"db3"})),
        "db3": standby(streaming_to=DIRECT),
    }
    assert view(servers).streaming == frozenset()


@pytest.mark.parametrize(
    ("own", "served", "expected"),
    [
        (standby(), (primary(streaming_to=DIRECT), standby(streaming_to=frozenset({"db3"}))), None),
        (standby(), (primary(), GONE), None),
        (standby(), (primary(streaming_to=DIRECT), standby()), "in recovery, not streaming"),
        (standby(), (GONE, DEAD), GONE.reason),
        (DEAD, (primary(), standby()), DEAD.reason),
        (primary(), (primary(), standby()), "out of recovery"),
    ],
)
def test_its_upstream_may_be_either(
    own: Server | Absence, served: tuple[Server | Absence, ...], expected: str | None
) -> None:
    assert not_streaming("db3", own, *served) == expected


async def test_a_copys_size_is_that_of_all_its_directories() -> None:
    apart = topology().model_copy(
        update={"postgresql": topology().postgresql.model_copy(update={"wal_directory": "/srv/wal/main"})}
    )
    host = FakeHost("db3", answers={("du",): "100\t/var/lib/postgresql/17/test\n23\t/srv/wal/main\n"})
    operation = Operation(apart, {"db3": host}, lambda _: None)
    assert await reinit.copied_bytes(operation, "db3") == 123
    assert host.called("du") == [("du", "-sb", "/var/lib/postgresql/17/test", "/srv/wal/main")]
