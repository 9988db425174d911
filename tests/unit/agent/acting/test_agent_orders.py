"""What an agent does when it is asked: for whom, on which hosts, and with which words it refuses."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import pytest
from small_cluster import settings

from pgbaton.agent.acting.balancer import NotHeldError
from pgbaton.agent.acting.handover import NotHandedOverError
from pgbaton.agent.acting.orders import Orders
from pgbaton.agent.decisions.health import told
from pgbaton.agent.protocols.serving import Request
from pgbaton.agent.services import agents
from pgbaton.agent.settings import Secrets

SECRETS = settings().secrets


class Host:
    """A host whose report, balancer and hand-over are made up; what they are told is noted in order."""

    def __init__(self, *, balancer: bool = True, server: bool = True) -> None:
        self.told: list[object] = []
        self.failure: Exception | None = None
        self.secrets = SECRETS
        self.orders = Orders(
            self,  # type: ignore[arg-type]
            lambda: self.secrets,
            balancer=self if balancer else None,  # type: ignore[arg-type]
            handover=self if server else None,  # type: ignore[arg-type]
        )

    async def answer(self, request: Request) -> Any:  # noqa: ANN401 - the report's
        self.told.append(f"reported {request.path}")
        return told(HTTPStatus.OK, {})

    async def hold(self, seconds: float) -> None:
        self.told.append(("held", seconds))
        if self.failure:
            raise self.failure

    def let_go(self) -> None:
        self.told.append("let go")

    async def run(self, target: str, hold_seconds: float) -> dict[str, float]:
        self.told.append(("handed over", target, hold_seconds))
        if self.failure:
            raise self.failure
        return {"held": 0.1}

    async def post(
        self, path: str, body: bytes | dict[str, Any], *, certified: bool = True, by: Secrets = SECRETS
    ) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"authorization": agents.credentials(by)}
        response = await self.orders.answer(Request("POST", path, headers=headers, body=raw, certified=certified))
        return response.status, response.json()


#: An order of each kind that is carried out.
SOUND: tuple[tuple[str, dict[str, Any], object, dict[str, Any]], ...] = (
    ("/hold", {"seconds": 2}, ("held", 2.0), {}),
    ("/let-go", {}, "let go", {}),
    ("/switchover", {"to": "db2", "hold_seconds": 1.5}, ("handed over", "db2", 1.5), {"seconds": {"held": 0.1}}),
)
OTHER = Secrets("5a" * 32, "patroni", "another")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_whoever_only_asks_gets_the_report(method: str) -> None:
    host = Host()
    response = await host.orders.answer(Request(method, "/hold"))
    assert response.status == 200
    assert host.told == ["reported /hold"]


@pytest.mark.parametrize(("path", "body", "done", "answer"), SOUND)
async def test_an_order_is_carried_out(path: str, body: dict[str, Any], done: object, answer: dict[str, Any]) -> None:
    host = Host()
    assert await host.post(path, body) == (200, answer)
    assert host.told == [done]


@pytest.mark.parametrize(("path", "body", "done", "answer"), SOUND)
async def test_nothing_happens_for_who_may_not_give_orders(
    path: str, body: dict[str, Any], done: object, answer: dict[str, Any]
) -> None:
    del done, answer
    host = Host()
    for certified, by in ((False, SECRETS), (True, OTHER), (False, OTHER)):
        status, said = await host.post(path, body, certified=certified, by=by)
        assert status == 403
        assert "an order needs a certificate of the cluster's" in said["error"]
    response = await host.orders.answer(Request("POST", path, body=json.dumps(body).encode(), certified=True))
    assert response.status == 403
    assert host.told == []


async def test_a_password_that_has_changed_counts_at_once() -> None:
    host = Host()
    host.secrets = OTHER
    assert (await host.post("/let-go", {}))[0] == 403
    assert (await host.post("/let-go", {}, by=OTHER))[0] == 200
    assert host.told == ["let go"]


@pytest.mark.parametrize("path", ["/", "/restart", "/hold/", "/switchover/db2"])
async def test_an_order_that_is_none_is_refused_with_those_that_are(path: str) -> None:
    host = Host()
    status, said = await host.post(path, {"seconds": 1})
    assert status == 400
    assert "wanted /hold, /let-go or /switchover" in said["error"]
    assert host.told == []


@pytest.mark.parametrize(
    "seconds", ["-1", "-0.001", "NaN", "Infinity", "-Infinity", '"1"', "true", "false", "null", "[1]", "{}"]
)
@pytest.mark.parametrize(("path", "key"), [("/hold", "seconds"), ("/switchover", "hold_seconds")])
async def test_a_duration_that_is_none_is_refused(path: str, key: str, seconds: str) -> None:
    host = Host()
    status, said = await host.post(path, f'{{"to": "db2", "{key}": {seconds}}}'.encode())
    assert status == 400
    assert "seconds: seen" in said["error"]
    assert host.told == []


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/hold", b"{}", "KeyError: 'seconds'"),
        ("/switchover", b'{"hold_seconds": 1}', "KeyError: 'to'"),
        ("/switchover", b'{"to": "db2"}', "KeyError: 'hold_seconds'"),
        ("/hold", b"", "no JSON object"),
        ("/hold", b"[1]", "no JSON object"),
        ("/let-go", b"{", "no JSON object"),
    ],
)
async def test_an_order_that_lacks_something_is_refused_with_what_it_lacks(path: str, body: bytes, why: str) -> None:
    host = Host()
    status, said = await host.post(path, body)
    assert status == 400
    assert why in said["error"]
    assert host.told == []


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/hold", {"seconds": 1}, "this host is no balancer"),
        ("/let-go", {}, "this host is no balancer"),
        ("/switchover", {"to": "db2", "hold_seconds": 1}, "this host has no server"),
    ],
)
async def test_a_host_that_cannot_do_it_says_so(path: str, body: dict[str, Any], why: str) -> None:
    host = Host(balancer=False, server=False)
    assert await host.post(path, body) == (409, {"error": why})
    assert host.told == []


@pytest.mark.parametrize(
    ("path", "body", "failure"),
    [
        ("/hold", {"seconds": 1}, NotHeldError("3 transactions are under way")),
        ("/switchover", {"to": "db2", "hold_seconds": 1}, NotHandedOverError("Patroni is paused")),
    ],
)
async def test_an_order_that_was_not_carried_out_is_answered_with_the_reason(
    path: str, body: dict[str, Any], failure: Exception
) -> None:
    host = Host()
    host.failure = failure
    assert await host.post(path, body) == (409, {"error": str(failure)})
    assert len(host.told) == 1
