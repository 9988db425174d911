"""A client, and others that want its server connection: what a pooler takes away is seen at once, not by chance.

PgBouncer gives a connection that became idle to whoever asks next. So others begin transactions until one of them has
the server connection that the client used last; whatever the client asks after that is answered on another one.
"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from psycopg import Connection

#: How many others ask for a server connection before it counts as the client's own.
OTHERS = 3
#: What a server connection is made clean with that a client leaves things on.
CLEAN = ("RESET ROLE", "RESET ALL", "UNLISTEN *", "SELECT pg_advisory_unlock_all()", "CLOSE ALL", "DISCARD TEMP")
SECONDS = 10
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
PROTOCOL_3 = 196608


class Client:
    """A client of a pooler, and the others around it; ``where`` are libpq parameters."""

    def __init__(self, where: Mapping[str, Any]) -> None:
        self.where = where
        self._open = ExitStack()
        self._others: list[Connection[Any]] = []
        self.connection = self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()
        self._open.close()

    def connect(self, **more: str) -> Connection[Any]:
        """Return another connection, each of whose statements is a transaction."""
        connection = psycopg.connect(
            make_conninfo(**{"connect_timeout": SECONDS, **self.where, **more}), autocommit=True
        )
        self._open.callback(connection.close)
        return connection

    def value(self, statement: str, *, connection: Connection[Any] | None = None) -> Any:  # noqa: ANN401 - a column has no static type
        """Return the first value that a statement gives."""
        row = (connection or self.connection).execute(statement).fetchone()
        return row[0] if row else None

    def do(self, *statements: str) -> None:
        """Execute statements in one transaction, then let others take the server connection that it was on."""
        with self.connection.transaction():
            for statement in statements:
                self.connection.execute(statement)
            used = self.value("SELECT pg_backend_pid()")
        self.lend(used)

    def lend(self, used: int) -> None:
        """Have others begin transactions until one of them is on a server connection, or until nobody gets it."""
        for _ in range(OTHERS):
            other = self.connect()
            self._others.append(other)
            other.execute("BEGIN")
            if self.value("SELECT pg_backend_pid()", connection=other) == used:
                return

    @property
    def other(self) -> Connection[Any]:
        """Return the client that asked last: the one that has got what it wanted, if any has."""
        return self._others[-1]

    def let_go(self) -> None:
        """End the others' transactions, and take from their server connections what was left on them."""
        for other in self._others:
            if not other.closed:
                other.execute("ROLLBACK")
                other.execute("; ".join(CLEAN))
        self._others.clear()


def refusal_of(where: Mapping[str, Any], **parameters: str) -> str:
    """Return what the pooler says of a login with further parameters, "" when it goes on to ask for the password."""
    context = ssl.create_default_context(cafile=str(where["sslrootcert"]))
    words = {"user": where["user"], "database": where["dbname"], **parameters}
    body = b"".join(f"{key}\0{value}\0".encode() for key, value in words.items()) + b"\0"
    with socket.create_connection((str(where["host"]), int(where["port"])), SECONDS) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname=str(where["host"])) as secure:
            secure.sendall(struct.pack("!ii", len(body) + 8, PROTOCOL_3) + body)
            answer = secure.recv(4096)
    return answer.decode(errors="replace") if answer.startswith(b"E") else ""
