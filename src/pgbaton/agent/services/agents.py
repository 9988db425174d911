"""Other hosts' agents, asked over HTTPS for what takes longer than a datagram: to hold clients, or to hand over.

Such a question needs a certificate of the cluster's and the password of Patroni's unsafe calls: who may ask Patroni for
a switchover may ask an agent for one. Where there is no Patroni nobody may.
"""

from __future__ import annotations

import base64
import hmac
import json
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pgbaton.agent.protocols import https
from pgbaton.agent.protocols.http1 import MalformedError
from pgbaton.agent.protocols.https import BrokenError, Client, HttpError, Identity
from pgbaton.agent.protocols.trust import nobody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.agent.settings import Secrets, Settings


class RefusedByAgentError(Exception):
    """An agent says no, and why; nothing was changed."""


class Agents:
    """Clients of all agents, this host's own among them."""

    def __init__(self, settings: Settings, *, tls: ssl.SSLContext | None = None) -> None:
        tls = tls or nobody(ssl.PROTOCOL_TLS_CLIENT)
        headers = {"authorization": credentials(settings.secrets)}
        port = settings.ports.health
        self._clients = {host.name: Client(host.address, port, tls=tls, headers=headers) for host in settings.hosts}

    def prove_with(self, secrets: Secrets) -> None:
        """Give orders with this password from now on."""
        for each in self._clients.values():
            each.say("authorization", credentials(secrets))

    def use(self, tls: ssl.SSLContext) -> None:
        """Use other certificates from now on."""
        for each in self._clients.values():
            each.use(tls)

    def close(self) -> None:
        """End the connections that are kept."""
        for each in self._clients.values():
            each.close()

    async def ask(self, host: str, path: str, fields: Mapping[str, Any], *, deadline_seconds: float) -> dict[str, Any]:
        """Return what an agent answers to an order; raises RefusedByAgentError when it says no, HttpsError else."""
        client, body = self._clients[host], json.dumps(dict(fields)).encode()
        response = await client.request("POST", path, body, deadline_seconds=deadline_seconds, repeatable=False)
        try:
            said = response.json()
        except MalformedError as error:
            raise BrokenError(client.where, f"POST {path}: {error}") from error
        if response.status == HTTPStatus.CONFLICT:
            raise RefusedByAgentError(str(said.get("error")))
        if response.status != HTTPStatus.OK:
            raise HttpError(client.where, f"POST {path}", response)
        return said


def credentials(secrets: Secrets) -> str:
    """Return what proves who asks."""
    token = base64.b64encode(f"{secrets.rest_user}:{secrets.rest_password}".encode()).decode()
    return f"Basic {token}"


def may_order(secrets: Secrets, *, certified: bool, authorization: str) -> bool:
    """Tell whether whoever asks may give orders."""
    if secrets.rest_password is None:
        return False
    return certified and hmac.compare_digest(authorization.encode(), credentials(secrets).encode())


async def switchover(settings: Settings, to: str, *, hold_seconds: float, deadline_seconds: float) -> dict[str, Any]:
    """Ask this host's own agent to hand over, as one program that ends; raises what :meth:`Agents.ask` raises."""
    tls = settings.tls
    context = https.client_context(Identity(str(tls.authority), str(tls.certificate), str(tls.key)))
    agents = Agents(settings, tls=context)
    try:
        wanted = {"to": to, "hold_seconds": hold_seconds}
        return await agents.ask(settings.me, "/switchover", wanted, deadline_seconds=deadline_seconds)
    finally:
        agents.close()
