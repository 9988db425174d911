"""Who is connected: HAProxy knows each client's own address, PgBouncer its user, database and server. Pure.

PgBouncer sees HAProxy's end of a connection, and HAProxy tells which client is behind that: one address and port on
both sides. PgBouncer has no PROXY protocol, so no address comes to it or to the server on the wire itself.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pgbaton.topology.addresses import at_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: A session as ``show sess all`` prints it begins with its address in HAProxy's memory.
BEGINS = re.compile(r"^(?=0x[0-9a-f]+: )", re.MULTILINE)
SOURCE = re.compile(r"^0x[0-9a-f]+: .*\bsource=(\S+):(\d+)\s*$", re.MULTILINE)
FRONTEND = re.compile(r"^\s*frontend=(\S+) \(", re.MULTILINE)
BACKEND = re.compile(r"^\s*backend=(\S+) \(.*\) addr=(\S+):(\d+)\s*$", re.MULTILINE)
SERVER = re.compile(r"^\s*server=(\S+) \(", re.MULTILINE)
#: The frontends that clients come to.
FRONTENDS = frozenset({"write", "read", "synchronous"})

Place = tuple[str, int]


@dataclass(frozen=True)
class Session:
    """A connection through HAProxy: the client's end, HAProxy's own end, and the host of the pooler behind that."""

    client: Place
    frontend: str
    source: Place
    pooler: str


@dataclass(frozen=True)
class PooledClient:
    """A client as PgBouncer has it; ``server_pid`` is the server's process that works for it now, if one does."""

    seen_as: Place
    instance: str
    user: str
    database: str
    application: str
    state: str
    server_pid: int | None


@dataclass(frozen=True)
class Told:
    """What one host told, and what it could not tell."""

    sessions: tuple[Session, ...] = ()
    pooled: tuple[PooledClient, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Client:
    """One client: where it is, how it came, who it is, and what the pooler does for it.

    ``address`` is None where no HAProxy told whose connection it is; ``user`` where no PgBouncer did.
    """

    balancer: str | None
    address: str | None
    port: int | None
    entry: str
    pooler: str
    seen_as: str
    instance: str | None = None
    user: str | None = None
    database: str | None = None
    application: str | None = None
    state: str | None = None
    server_pid: int | None = None


@dataclass(frozen=True)
class Connected:
    """All clients, and why there may be more."""

    clients: tuple[Client, ...]
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON can carry them."""
        return {
            "clients": [asdict(client) for client in self.clients],
            "problems": {host: list(reasons) for host, reasons in self.problems.items()},
        }


def read(parts: Mapping[str, Mapping[str, Any]]) -> Told:
    """Read the probe's answers."""
    problems = [f"{part}: {reply['error']}" for part, reply in parts.items() if "error" in reply]
    answers = {part: reply["answer"] for part, reply in parts.items() if "answer" in reply}
    pooled = (client for name, tables in answers.get("pooled", {}).items() for client in pooled_clients(name, tables))
    return Told(tuple(sessions(answers.get("sessions", ""))), tuple(pooled), tuple(problems))


def sessions(text: str) -> Iterator[Session]:
    """Read the clients' sessions in HAProxy's ``show sess all``; those that have no pooler yet are none."""
    for block in BEGINS.split(text):
        source, frontend = SOURCE.search(block), FRONTEND.search(block)
        backend, server = BACKEND.search(block), SERVER.search(block)
        if source and frontend and backend and server and frontend[1] in FRONTENDS:
            client, own = (source[1], int(source[2])), (backend[2], int(backend[3]))
            yield Session(client, frontend[1], own, server[1])


def pooled_clients(instance: str, tables: list[str]) -> Iterator[PooledClient]:
    """Read PgBouncer's SHOW CLIENTS and SHOW SERVERS; who is at its console is no client."""
    clients, servers = (list(csv.DictReader(io.StringIO(table))) for table in tables)
    pids = {row["ptr"]: int(row["remote_pid"] or 0) for row in servers}
    for row in clients:
        if row["database"] != "pgbouncer" and row["addr"] != "unix":
            yield PooledClient(
                seen_as=(row["addr"], int(row["port"])),
                instance=instance,
                user=row["user"],
                database=row["database"],
                application=row.get("application_name") or "",
                state=row["state"],
                server_pid=pids.get(row["link"]) or None,
            )


def join(told: Mapping[str, Told]) -> Connected:
    """Return every client with what HAProxy and PgBouncer know of it; what only one of them knows is there too."""
    pooled = {(host, each.seen_as): each for host, said in told.items() for each in said.pooled}
    found = [
        known(balancer, session, pooled.pop((session.pooler, session.source), None))
        for balancer, said in told.items()
        for session in said.sessions
    ]
    found += [unknown(host, client) for (host, _), client in pooled.items()]
    problems = {host: said.problems for host, said in told.items() if said.problems}
    return Connected(tuple(sorted(found, key=order)), problems)


def known(balancer: str, session: Session, pooled: PooledClient | None) -> Client:
    """Return a client whose address HAProxy told."""
    address, port = session.client
    return Client(balancer, address, port, session.frontend, session.pooler, place(session.source), **details(pooled))


def unknown(host: str, pooled: PooledClient) -> Client:
    """Return a client of a pooler that came past all HAProxies that answered."""
    entry = pooled.instance.partition("-")[0]
    return Client(None, None, None, entry, host, place(pooled.seen_as), **details(pooled))


def details(pooled: PooledClient | None) -> dict[str, Any]:
    """Return what PgBouncer knows of a client."""
    if pooled is None:
        return {}
    return {name: value for name, value in asdict(pooled).items() if name != "seen_as"}


def place(where: Place) -> str:
    """Return an address and a port as they are shown."""
    return at_port(*where)


def order(client: Client) -> tuple[str, str, int]:
    """Return what clients are sorted by: user, address, port."""
    return client.user or "", client.address or "", client.port or 0
