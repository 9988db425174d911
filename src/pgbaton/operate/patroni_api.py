"""Requests to a member's own Patroni, over its REST API with the host's own credentials."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import CommandError, UnhealthyError

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import Topology

# Runs on the database host. Arguments: method, address, port, path, seconds; the body comes over standard input.
# The password of unsafe requests stays on the host: it is read from Patroni's own configuration.
PROGRAM = """
import base64, http.client, json, ssl, sys, yaml
method, address, port, path, seconds = sys.argv[1:]
tls = "/etc/pgbaton/tls/"
context = ssl.create_default_context(cafile=tls + "ca.crt")
context.load_cert_chain(tls + "patroni.crt", tls + "patroni.key")
connection = http.client.HTTPSConnection(address, int(port), timeout=float(seconds), context=context)
with open("/etc/patroni/config.yml", encoding="utf-8") as file:
    login = yaml.safe_load(file)["restapi"].get("authentication", {})
token = base64.b64encode(f"{login.get('username')}:{login.get('password')}".encode()).decode()
headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
connection.request(method, path, sys.stdin.read() or None, headers)
reply = connection.getresponse()
print(json.dumps({"status": reply.status, "text": reply.read().decode(errors="replace")}))
"""


@dataclass(frozen=True)
class Reply:
    """What Patroni answered: the HTTP status and the text, which for actions is a sentence."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        """Tell whether Patroni did what it was asked."""
        return self.status == 200  # noqa: PLR2004 - HTTP's OK


@dataclass(frozen=True)
class Patroni:
    """The Patroni of one database host."""

    host: Host
    address: str
    port: int

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None, *, seconds: float) -> Reply:
        """Ask Patroni something; raises UnhealthyError when it does not answer."""
        argv = ("python3", "-c", PROGRAM, method, self.address, str(self.port), path, str(seconds))
        try:
            result = await self.host.run(*argv, input=json.dumps(body or {}), timeout=seconds + 5)
        except CommandError as error:
            reason = error.message.strip().splitlines()[-1]
            message = f"Patroni does not answer {method} {path}: {reason}"
            raise UnhealthyError(message, where=self.host.name, hint=f"pgbaton logs {self.host.name}") from None
        return Reply(**json.loads(result.stdout))

    async def switchover(self, leader: str, candidate: str) -> Reply:
        """Ask for a planned change of primary; returns when Patroni has seen it happen, or fail."""
        return await self.request("POST", "/switchover", {"leader": leader, "candidate": candidate}, seconds=30)

    async def failover(self, candidate: str) -> Reply:
        """Ask for a promotion without a leader; returns when Patroni has seen it happen, or fail."""
        return await self.request("POST", "/failover", {"candidate": candidate}, seconds=30)

    async def restart(self, *, seconds: int) -> Reply:
        """Restart PostgreSQL in place; returns when it is up again.

        The deadline is always given: without one Patroni takes primary_start_timeout, which may be 0.
        """
        return await self.request("POST", "/restart", {"timeout": seconds}, seconds=seconds + 15)

    async def reinitialize(self) -> Reply:
        """Throw the standby's data away and clone it anew; returns as soon as that has begun."""
        return await self.request("POST", "/reinitialize", {"force": False}, seconds=15)


def of(topology: Topology, host: Host) -> Patroni:
    """Return the Patroni of a database host."""
    return Patroni(host, str(topology.host(host.name).address), topology.orchestration.rest_port)
