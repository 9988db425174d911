"""The local Patroni's REST API: what its member does, and the few things that are asked of it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pgbaton.agent.protocols.http1 import MalformedError
from pgbaton.agent.protocols.https import BrokenError, Client, HttpError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from pgbaton.agent.protocols.http1 import Response

#: A setting that no Patroni knows. Taking it out of the configuration, where it never is, changes nothing, whatever
#: somebody else changes at the same time; putting a value that was read before could undo such a change.
NO_SETTING = "pgbaton_nudge"
#: Before 4.0 Patroni's primaries are masters.
ROLES = {"master": "primary", "replica": "standby"}


@dataclass(frozen=True, slots=True)
class State:
    """What a Patroni says of its member (GET /patroni).

    ``role`` is primary or standby by what the server itself said; unless ``state`` is running, what Patroni last knew.
    ``position`` is in bytes: written by a primary, received or replayed by a standby, 0 when not told. ``locked`` says
    that Patroni knows of a leader; ``dcs_seen_seconds`` when etcd last answered it, in seconds since 1970.
    """

    role: str
    state: str
    timeline: int = 0
    position: int = 0
    replication_state: str = ""
    synchronous: bool = False
    paused: bool = False
    locked: bool = True
    dcs_seen_seconds: int = 0


class Patroni:
    """A client of one Patroni, with its password, and a certificate where there is one; Patroni may want both."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        user: str,
        password: str,
        tls: ssl.SSLContext | None,
        deadline_seconds: float = 1.0,
    ) -> None:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._client = Client(address, port, tls=tls, headers={"authorization": f"Basic {token}"})
        self._deadline_seconds = deadline_seconds

    def use(self, tls: ssl.SSLContext | None) -> None:
        """Use other certificates from now on."""
        self._client.use(tls)

    def close(self) -> None:
        """End the connections that are kept."""
        self._client.close()

    async def state(self) -> State:
        """Return what the member does; hangs when the server does, for Patroni asks that. Raises HttpsError."""
        response = await self._ask("GET", "/patroni", HTTPStatus.OK)
        try:
            return state(response.json())
        except MalformedError as error:
            raise BrokenError(self._client.where, f"GET /patroni: {error}") from error

    async def is_alive(self, *, deadline_seconds: float | None = None) -> bool:
        """Tell whether Patroni's loop ran within the last ttl (a standby's: two); its server is not asked for it."""
        asked = await self._request("GET", "/liveness", deadline_seconds=deadline_seconds)
        return asked.status == HTTPStatus.OK

    async def says_yes(self, question: str, *, deadline_seconds: float | None = None) -> bool:
        """Tell whether the member is what a check asks for, such as ``/primary``. Raises HttpsError."""
        asked = await self._request("GET", question, deadline_seconds=deadline_seconds)
        return asked.status == HTTPStatus.OK

    async def nudge(self) -> None:
        """Have Patroni run its loop now, or at once again when it runs already. Changes nothing.

        Any ``PATCH /config`` does that, and writes to etcd only what it changes (``do_PATCH_config`` in Patroni's
        ``api.py`` calls ``Ha.wakeup``, alike in 3.0.2, 4.0.7 and 4.1). It needs the password, and the configuration in
        Patroni's own copy of etcd's keys; etcd itself need not answer. Raises HttpsError.
        """
        await self._ask("PATCH", "/config", HTTPStatus.OK, {NO_SETTING: None})

    async def reload(self) -> None:
        """Have Patroni read its files and certificates again; it does so soon after."""
        await self._ask("POST", "/reload", HTTPStatus.ACCEPTED)

    async def switchover(self, leader: str, candidate: str, *, deadline_seconds: float = 30.0) -> str:
        """Ask for a planned change of primary, and return what Patroni says when it has seen it happen.

        Raises HttpError when Patroni refuses, fails or gives up waiting, DeadlineError when it is not done in time;
        after each of them the request may still be under way.
        """
        wanted = {"leader": leader, "candidate": candidate}
        response = await self._ask("POST", "/switchover", HTTPStatus.OK, wanted, deadline_seconds=deadline_seconds)
        return response.text().strip()

    async def _ask(
        self,
        method: str,
        path: str,
        wanted: HTTPStatus,
        fields: Mapping[str, Any] | None = None,
        *,
        deadline_seconds: float | None = None,
    ) -> Response:
        response = await self._request(method, path, fields, deadline_seconds=deadline_seconds)
        if response.status != wanted:
            raise HttpError(self._client.where, f"{method} {path}", response)
        return response

    async def _request(
        self,
        method: str,
        path: str,
        fields: Mapping[str, Any] | None = None,
        *,
        deadline_seconds: float | None = None,
    ) -> Response:
        seconds = deadline_seconds or self._deadline_seconds
        body = b"" if fields is None else json.dumps(fields).encode()
        return await self._client.request(method, path, body, deadline_seconds=seconds, repeatable=method == "GET")


def state(told: Mapping[str, Any]) -> State:
    """Read what GET /patroni says, of Patroni 3.0 to 4.1."""
    wal = told.get("xlog")
    positions = wal if isinstance(wal, dict) else {}
    role = str(told.get("role") or "unknown")
    return State(
        role=ROLES.get(role, role),
        state=str(told.get("state") or "unknown"),
        timeline=_integer(told.get("timeline")),
        position=max(_integer(positions.get(key)) for key in ("location", "received_location", "replayed_location")),
        replication_state=str(told.get("replication_state") or ""),
        synchronous=bool(told.get("sync_standby") or told.get("quorum_standby")),
        paused=bool(told.get("pause")),
        locked=not told.get("cluster_unlocked"),
        dcs_seen_seconds=_integer(told.get("dcs_last_seen")),
    )


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0
