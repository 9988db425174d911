"""Agents that ask each other over TLS: who may give an order, and what an answer means."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import small_cluster
from tls_files import Authority, authority

from pgbaton.agent.decisions.health import told
from pgbaton.agent.protocols.http1 import Response
from pgbaton.agent.protocols.https import (
    BrokenError,
    ConnectError,
    DeadlineError,
    HttpError,
    HttpsError,
    client_context,
    server_context,
)
from pgbaton.agent.protocols.serving import Request, Server
from pgbaton.agent.services import agents
from pgbaton.agent.services.agents import Agents, RefusedByAgentError, credentials, may_order
from pgbaton.agent.settings import Host, Secrets, Tls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgbaton.agent.settings import Settings

SECRETS = small_cluster.settings().secrets


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "ours")


class Other:
    """Another agent's end: it gives one answer, or none, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.response: Response | None = told(HTTPStatus.OK, {"seconds": {"held": 0.1}})
        self.port = 0

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        if self.response is None:
            await asyncio.Event().wait()
        assert self.response
        return self.response


@pytest.fixture
async def other(ours: Authority) -> AsyncIterator[Other]:
    made = Other()
    server = Server(made.answer, tls=server_context(ours.identity("server"), ssl.CERT_OPTIONAL))
    made.port = await server.start("127.0.0.1", 0)
    try:
        yield made
    finally:
        await server.close(grace_seconds=0)


def settings(port: int, *, tls: Tls | None = None) -> Settings:
    """Return the settings of db1, which is here and whose agent listens on a port."""
    found = small_cluster.settings("db1", hosts=(Host("db1", "127.0.0.1", ("database",)),))
    return replace(found, ports=replace(found.ports, health=port), tls=tls or found.tls)


@contextlib.contextmanager
def asking(port: int, tls: ssl.SSLContext) -> Iterator[Agents]:
    """Make the clients for as long as the block lasts."""
    made = Agents(settings(port), tls=tls)
    try:
        yield made
    finally:
        made.close()


async def order(other: Other, ours: Authority, *, deadline_seconds: float = 5) -> dict[str, Any]:
    """Have another agent hold its clients."""
    with asking(other.port, client_context(ours.identity("me"))) as clients:
        return await clients.ask("db1", "/hold", {"seconds": 2.0}, deadline_seconds=deadline_seconds)


def test_an_order_needs_a_certificate_and_the_password() -> None:
    assert may_order(SECRETS, certified=True, authorization=credentials(SECRETS))
    assert not may_order(SECRETS, certified=False, authorization=credentials(SECRETS))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic ",
        credentials(SECRETS).removeprefix("Basic "),
        credentials(SECRETS)[:-1],
        credentials(Secrets(SECRETS.heartbeat_key, "patroni", "other")),
        credentials(Secrets(SECRETS.heartbeat_key, "root", "one")),
        "Basic \N{SNOWMAN}",
    ],
)
def test_a_password_that_is_not_the_whole_one_is_none(authorization: str) -> None:
    assert not may_order(SECRETS, certified=True, authorization=authorization)


async def test_an_order_arrives_with_what_proves_who_gives_it(other: Other, ours: Authority) -> None:
    assert await order(other, ours) == {"seconds": {"held": 0.1}}
    (asked,) = other.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/hold", b'{"seconds": 2.0}')
    assert may_order(SECRETS, certified=asked.certified, authorization=asked.headers["authorization"])


async def test_certificates_can_change(other: Other, ours: Authority) -> None:
    bare = ssl.create_default_context(cafile=ours.identity("me").authority)
    with asking(other.port, bare) as clients:
        await clients.ask("db1", "/hold", {}, deadline_seconds=5)
        clients.close()
        clients.use(client_context(ours.identity("me")))
        await clients.ask("db1", "/hold", {}, deadline_seconds=5)
    assert [asked.certified for asked in other.asked] == [False, True]


async def test_a_no_is_told_with_the_agents_own_words(other: Other, ours: Authority) -> None:
    other.response = told(HTTPStatus.CONFLICT, {"error": "this host is no balancer"})
    with pytest.raises(RefusedByAgentError, match=r"^this host is no balancer$"):
        await order(other, ours)


@pytest.mark.parametrize("status", [400, 403, 500, 503])
async def test_every_other_status_is_an_error_that_names_it(other: Other, ours: Authority, status: int) -> None:
    other.response = told(HTTPStatus(status), {"error": "something"})
    with pytest.raises(HttpError, match=rf"POST /hold: status {status}: .*something"):
        await order(other, ours)


async def test_an_answer_that_is_no_json_is_no_answer(other: Other, ours: Authority) -> None:
    other.response = Response(200, b"fine")
    with pytest.raises(BrokenError, match="POST /hold: no JSON object"):
        await order(other, ours)


async def test_an_agent_that_does_not_answer_costs_no_more_than_the_deadline(other: Other, ours: Authority) -> None:
    other.response = None
    with pytest.raises(DeadlineError):
        await order(other, ours, deadline_seconds=0.3)


async def test_an_agent_without_certificates_yet_asks_nobody(other: Other) -> None:
    clients = Agents(settings(other.port))
    with pytest.raises(HttpsError):
        await clients.ask("db1", "/hold", {}, deadline_seconds=5)
    clients.close()
    assert other.asked == []


def identified(ours: Authority) -> Tls:
    """Return where a host's certificate is."""
    identity = ours.identity("db1")
    files = (Path(identity.authority), Path(identity.certificate), Path(identity.key))
    return Tls(*files, *files)


async def test_a_program_asks_the_agent_of_its_own_host_to_hand_over(other: Other, ours: Authority) -> None:
    found = settings(other.port, tls=identified(ours))
    said = await agents.switchover(found, "db2", hold_seconds=2.0, deadline_seconds=5)
    assert said == {"seconds": {"held": 0.1}}
    (asked,) = other.asked
    assert (asked.path, asked.body, asked.certified) == ("/switchover", b'{"to": "db2", "hold_seconds": 2.0}', True)


async def test_a_program_whose_agent_is_not_there_says_so(other: Other, ours: Authority) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectError):
        await agents.switchover(settings(port, tls=identified(ours)), "db2", hold_seconds=2.0, deadline_seconds=5)
    assert other.asked == []
