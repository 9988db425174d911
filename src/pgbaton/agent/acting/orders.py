"""What an agent does when it is asked over HTTPS: tell of its host, hold clients, hand over."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pgbaton.agent.acting.balancer import NotHeldError
from pgbaton.agent.acting.handover import NotHandedOverError, UnfinishedError
from pgbaton.agent.decisions.health import told
from pgbaton.agent.protocols.http1 import MalformedError, json_object
from pgbaton.agent.services import agents

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.agent.acting.balancer import Balancer
    from pgbaton.agent.acting.handover import Handover
    from pgbaton.agent.acting.report import Report
    from pgbaton.agent.protocols.http1 import Response
    from pgbaton.agent.protocols.serving import Request
    from pgbaton.agent.settings import Secrets


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
            return told(HTTPStatus.OK, await self._carried_out(request.path, json_object(request.body)))
        except (MalformedError, KeyError, OverflowError, TypeError, ValueError) as error:
            return told(HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"})
        except (NotHeldError, NotHandedOverError) as error:
            return told(HTTPStatus.CONFLICT, {"error": str(error)})
        except UnfinishedError as error:
            return told(HTTPStatus.GATEWAY_TIMEOUT, {"error": str(error)})

    async def _carried_out(self, path: str, fields: dict[str, Any]) -> dict[str, object]:
        """Carry out an order; raises NotHeldError or NotHandedOverError when it is not, ValueError when it is none."""
        if path == "/switchover":
            if self._handover is None:
                message = "this host has no server"
                raise NotHandedOverError(message)
            return {"seconds": await self._handover.run(str(fields["to"]), seconds(fields["hold_seconds"]))}
        if path not in {"/hold", "/let-go"}:
            message = f"no order: {path}; wanted /hold, /let-go or /switchover"
            raise ValueError(message)
        if self._balancer is None:
            message = "this host is no balancer"
            raise NotHeldError(message)
        if path == "/let-go":
            self._balancer.let_go()
            return {}
        await self._balancer.hold(seconds(fields["seconds"]))
        return {}


def seconds(told_value: object) -> float:
    """Return a duration that was sent; raises ValueError when it is none."""
    if isinstance(told_value, bool) or not isinstance(told_value, int | float):
        message = f"seconds: seen {told_value!r}, wanted a number"
        raise TypeError(message)
    if not math.isfinite(told_value) or told_value < 0:
        message = f"seconds: seen {told_value!r}, wanted 0 or more"
        raise ValueError(message)
    return float(told_value)
