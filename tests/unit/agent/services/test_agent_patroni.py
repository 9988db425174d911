"""The client of Patroni's REST API, against answers as Patroni 3.0.2 and 4.0.7 give them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from canned_server import Canned, canned
from tls_files import authority

from pgbaton.agent.protocols.https import BrokenError, DeadlineError, HttpError, client_context, server_context
from pgbaton.agent.services.patroni import Patroni, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PRIMARY = (
    b'{"state": "running", "postmaster_start_time": "2026-01-01 00:00:00.000000+00:00", "role": "primary",'
    b' "server_version": 170004, "xlog": {"location": 83886368}, "timeline": 3, "replication": [{"usename":'
    b' "replicator", "application_name": "db2", "state": "streaming", "sync_state": "sync", "sync_priority": 1}],'
    b' "dcs_last_seen": 1767225600, "tags": {"nofailover": false}, "database_system_identifier": "7575",'
    b' "patroni": {"version": "4.0.7", "scope": "orders", "name": "db1"}}'
)
STANDBY = (
    b'{"state": "running", "role": "replica", "server_version": 170004, "xlog": {"received_location": 83886000,'
    b' "replayed_location": 83886368, "replayed_timestamp": null, "paused": false}, "sync_standby": true,'
    b' "timeline": 3, "replication_state": "streaming", "pause": true, "cluster_unlocked": true,'
    b' "dcs_last_seen": 1767225600, "patroni": {"version": "4.0.7", "scope": "orders", "name": "db2"}}'
)
MASTER = (
    b'{"state": "running", "role": "master", "server_version": 150002, "xlog": {"location": 83886368},'
    b' "timeline": 1, "dcs_last_seen": 1767225600, "patroni": {"version": "3.0.2", "scope": "orders"}}'
)
STOPPED = b'{"state": "stopped", "role": "demoted", "cluster_unlocked": true, "dcs_last_seen": 0}'


def answer(body: bytes, status: str = "200 OK") -> bytes:
    """Return an answer as Python's http.server frames it: HTTP/1.0, no length, and the connection ends."""
    head = f"HTTP/1.0 {status}\r\nServer: BaseHTTP/0.6 Python/3.13.5\r\nContent-Type: application/json\r\n\r\n"
    return head.encode() + body


@pytest.fixture
async def server() -> AsyncIterator[Canned]:
    async with canned(hangs_up=True) as running:
        yield running


@pytest.fixture
def patroni(server: Canned) -> Patroni:
    return Patroni(server.address, server.port, user="patroni", password="geheim", tls=None, deadline_seconds=5)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (PRIMARY, State("primary", "running", 3, 83886368, dcs_seen_seconds=1767225600)),
        (
            STANDBY,
            State(
                "standby", "running", 3, 83886368, "streaming",
                synchronous=True, paused=True, locked=False, dcs_seen_seconds=1767225600,
            ),
        ),
        (MASTER, State("primary", "running", 1, 83886368, dcs_seen_seconds=1767225600)),
        (STOPPED, State("demoted", "stopped", locked=False)),
        (b'{"role": null}', State("unknown", "unknown")),
        (b'{"xlog": 7, "timeline": null, "quorum_standby": true}', State("unknown", "unknown", synchronous=True)),
    ],
    ids=["primary", "standby", "master", "stopped", "nothing", "nonsense"],
)  # fmt: skip
async def test_a_members_state_is_read(server: Canned, patroni: Patroni, body: bytes, told: State) -> None:
    server.says("/patroni", answer(body))
    assert await patroni.state() == told


async def test_a_nudge_takes_away_what_is_not_there_and_so_can_undo_nothing(server: Canned, patroni: Patroni) -> None:
    server.says("/config", answer(b'{"ttl": 20}'))
    await patroni.nudge()
    (asked,) = server.asked
    assert (asked.method, asked.json()) == ("PATCH", {"pgbaton_nudge": None})
    assert asked.headers["authorization"] == "Basic cGF0cm9uaTpnZWhlaW0="
    assert asked.headers["content-length"] == str(len(asked.body))


@pytest.mark.parametrize("status", ["401 Unauthorized", "409 Conflict", "503 Service Unavailable"])
async def test_a_nudge_that_is_refused_says_so(server: Canned, patroni: Patroni, status: str) -> None:
    server.says("/config", answer(b"no auth header received", status))
    with pytest.raises(HttpError, match=r"PATCH /config: status \d+: no auth header received") as caught:
        await patroni.nudge()
    assert str(caught.value.status) in status


async def test_a_password_is_in_no_error(server: Canned, patroni: Patroni) -> None:
    server.says("/config", b"")
    with pytest.raises(BrokenError) as caught:
        await patroni.nudge()
    assert "geheim" not in repr(caught.value)
    assert "cGF0" not in repr(caught.value)


async def test_a_switchover_names_both_and_returns_what_patroni_saw(server: Canned, patroni: Patroni) -> None:
    server.says("/switchover", answer(b'Successfully switched over to "db2"'))
    assert await patroni.switchover("db1", "db2") == 'Successfully switched over to "db2"'
    assert server.asked[0].json() == {"leader": "db1", "candidate": "db2"}
    assert server.asked[0].method == "POST"


@pytest.mark.parametrize("status", ["202 Accepted", "412 Precondition Failed", "503 Service Unavailable"])
async def test_a_switchover_that_is_not_seen_to_happen_is_an_error(
    server: Canned, patroni: Patroni, status: str
) -> None:
    server.says("/switchover", answer(b"Switchover failed", status))
    with pytest.raises(HttpError, match="Switchover failed"):
        await patroni.switchover("db1", "db2")


async def test_a_switchover_has_a_deadline_of_its_own() -> None:
    async with canned() as server:
        patroni = Patroni(server.address, server.port, user="u", password="p", tls=None, deadline_seconds=60)
        with pytest.raises(DeadlineError):
            await patroni.switchover("db1", "db2", deadline_seconds=0.15)


async def test_a_reload_is_accepted_not_done(server: Canned, patroni: Patroni) -> None:
    server.says("/reload", answer(b"reload scheduled", "202 Accepted"), answer(b"", "200 OK"))
    await patroni.reload()
    with pytest.raises(HttpError):
        await patroni.reload()


@pytest.mark.parametrize(("status", "alive"), [("200 OK", True), ("503 Service Unavailable", False)])
async def test_whether_its_loop_runs_is_a_question_of_status(
    server: Canned, patroni: Patroni, status: str, *, alive: bool
) -> None:
    server.says("/liveness", f"HTTP/1.0 {status}\r\n\r\n".encode())
    assert await patroni.is_alive() is alive


async def test_an_answer_that_is_no_state_is_an_error(server: Canned, patroni: Patroni) -> None:
    server.says("/patroni", answer(b"[]"), answer(PRIMARY[:50]), answer(b"", "500 Internal Server Error"))
    for wanted in (BrokenError, BrokenError, HttpError):
        with pytest.raises(wanted, match="GET /patroni"):
            await patroni.state()


async def test_both_show_certificates(tmp_path: Path) -> None:
    ours = authority(tmp_path / "ours")
    async with canned(server_context(ours.identity("patroni"), ssl.CERT_REQUIRED), hangs_up=True) as server:
        server.says("/patroni", answer(MASTER))
        tls = client_context(ours.identity("agent"))
        patroni = Patroni(server.address, server.port, user="u", password="p", tls=tls, deadline_seconds=5)
        assert (await patroni.state()).role == "primary"
