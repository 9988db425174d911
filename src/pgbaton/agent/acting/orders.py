"""What an agent does when it is asked over HTTPS: tell of its host, hold clients, hand over."""

from __future__ import annotations

import functools
import math
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pgbaton.agent.acting.handover import BusyError, NotHandedOverError, UnfinishedError
from pgbaton.agent.acting.pool import NotHeldError
from pgbaton.agent.decisions.health import told
from pgbaton.agent.protocols.http1 import MalformedError, json_object
from pgbaton.agent.services import agents

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pgbaton.agent.acting.balancer import Balancer
    from pgbaton.agent.acting.handover import Handover
    from pgbaton.agent.acting.report import Report
    from pgbaton.agent.protocols.http1 import Response
    from pgbaton.agent.protocols.serving import Request
    from pgbaton.agent.settings import Secrets


#: What is answered when an order is not carried out to its end.
STATUSES: Mapping[type[Exception], HTTPStatus] = MappingProxyType(
    {
        NotHeldError: HTTPStatus.CONFLICT,
        NotHandedOverError: HTTPStatus.CONFLICT,
        BusyError: HTTPStatus.LOCKED,
        UnfinishedError: HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class Orders:
    """Answer whoever asks; orders only from those who may give them."""

    def __init__(
        self,
        report: Report,
        secrets: Callable[[], Secrets],
        *,
        balancer: Balancer | None,
        handover: Handover | None,
    ) -> None:
        self._report = report
        self._secrets = secrets
        self._balancer = balancer
        self._handover = handover

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        if request.method != "POST":
            return await self._report.answer(request)
        given = request.headers.get("authorization", "")
        if not agents.may_order(self._secrets(), certified=request.certified, authorization=given):
            error = "an order needs a certificate of the cluster's and the password of Patroni's unsafe calls"
            return told(HTTPStatus.FORBIDDEN, {"error": error})
        try:
            order = self._order(request.path, json_object(request.body))
        except (MalformedError, KeyError, OverflowError, TypeError, ValueError) as error:
            return told(HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"})
        try:
            return told(HTTPStatus.OK, await order())
        except tuple(STATUSES) as error:
            return told(STATUSES[type(error)], {"error": str(error)})

    def _order(self, path: str, fields: dict[str, Any]) -> Callable[[], Awaitable[dict[str, object]]]:
        """Return what is to be done; raises KeyError, TypeError, ValueError or OverflowError when it is no order."""
        match path:
            case "/switchover":
                return functools.partial(self._hand_over, str(fields["to"]), seconds(fields["hold_seconds"]))
            case "/hold":
                return functools.partial(self._hold, seconds(fields["seconds"]))
            case "/let-go":
                return self._let_go
        message = f"no order: {path}; wanted /hold, /let-go or /switchover"
        raise ValueError(message)

    async def _hand_over(self, to: str, hold_seconds: float) -> dict[str, object]:
        if self._handover is None:
            message = "this host has no server"
            raise NotHandedOverError(message)
        return {"seconds": await self._handover.run(to, hold_seconds)}

    async def _hold(self, hold_seconds: float) -> dict[str, object]:
        await self._holder().hold(hold_seconds)
        return {}

    async def _let_go(self) -> dict[str, object]:
        self._holder().let_go()
        return {}

    def _holder(self) -> Balancer:
        if self._balancer is None:
            message = "this host is no balancer"
            raise NotHeldError(message)
        return self._balancer


def seconds(told_value: object) -> float:
    """Return a duration that was sent; raises ValueError when it is none."""
    if isinstance(told_value, bool) or not isinstance(told_value, int | float):
        message = f"seconds: seen {told_value!r}, wanted a number"
        raise TypeError(message)
    if not math.isfinite(told_value) or told_value < 0:
        message = f"seconds: seen {told_value!r}, wanted 0 or more"
        raise ValueError(message)
    return float(told_value)
