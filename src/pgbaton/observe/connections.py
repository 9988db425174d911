"""How applications connect: libpq URIs, and the same in the words of each language's driver. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from pgbaton.errors import UsageError
from pgbaton.topology import placement
from pgbaton.topology.addresses import at_port
from pgbaton.topology.model import Placement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgbaton.topology.model import Topology

#: Seconds until an attempt to connect is given up: a fail-over of the VIP takes less.
CONNECT_TIMEOUT = 3
#: A client that waits for an answer from a dead balancer learns of it by these, after 2 + 3 seconds.
KEEPALIVES_IDLE = 2
KEEPALIVES_INTERVAL = 1
KEEPALIVES_COUNT = 3
#: Milliseconds until data that nobody acknowledges ends a connection.
TCP_USER_TIMEOUT = 5_000
#: The libpq that can begin with any of several hosts, by ``load_balance_hosts``; an older one refuses the word.
LIBPQ_SPREADS_SINCE = 16


@dataclass(frozen=True)
class Endpoint:
    """One way in: for writes, or for reads; of several addresses, the first is taken that takes what comes.

    ``spread``: they are VIPs, each as good as the others, and clients should be spread over them; ``random`` tells that
    libpq, as old as the cluster's, knows how to.
    """

    purpose: str
    addresses: tuple[str, ...]
    port: int
    database: str
    user: str
    authority: str
    prepared: bool = True
    spread: bool = False
    random: bool = False

    def uri(self, password: str | None = None) -> str:
        """Return a libpq URI, complete when there is a password in it."""
        login = self.user if password is None else f"{self.user}:{quote(password, safe='')}"
        parameters = {
            "sslmode": "verify-full",
            "sslrootcert": self.authority,
            "connect_timeout": CONNECT_TIMEOUT,
            "keepalives_idle": KEEPALIVES_IDLE,
            "keepalives_interval": KEEPALIVES_INTERVAL,
            "keepalives_count": KEEPALIVES_COUNT,
            "tcp_user_timeout": TCP_USER_TIMEOUT,
            **({"target_session_attrs": self.wanted} if self.wanted else {}),
            **({"load_balance_hosts": "random"} if self.spread and self.random else {}),
        }
        return f"postgresql://{login}@{self.where}?{urlencode(parameters, safe='/', quote_via=quote)}"

    @property
    def address(self) -> str:
        """Return the addresses as libpq's ``host`` takes them."""
        return ",".join(self.addresses)

    @property
    def wanted(self) -> str | None:
        """Return which servers a client is to take, where it has several addresses to choose from."""
        is_choice = len(self.addresses) > 1 and not self.spread
        return "read-write" if is_choice and self.purpose == "write" else None

    @property
    def where(self) -> str:
        """Return addresses, port and database as URIs write them."""
        return f"{','.join(at_port(each, self.port) for each in self.addresses)}/{self.database}"


def endpoints(topology: Topology, *, authority: str, user: str | None, database: str | None) -> tuple[Endpoint, ...]:
    """Return the ways in for writes and for reads, by default for the first database and its owner.

    A third is for reads of synchronous standbys, where those have a port. Raises UsageError for a user or a database
    that the topology does not have.
    """
    database = chosen("database", database, [entry.name for entry in topology.databases])
    owner = next(entry.owner for entry in topology.databases if entry.name == database)
    user = chosen("user", user or owner, [entry.name for entry in topology.users])
    known = topology.pooling.prepared_statements > 0 and topology.postgresql.version >= 17  # noqa: PLR2004 - Debian 12's PgBouncer has none
    prepared = known or topology.pooling.placement is Placement.NONE
    entrance = placement.entrance(topology)
    twins = () if topology.pooling.placement is Placement.APPLICATION else topology.network.twin_vips
    addresses = (*entrance.addresses, *(str(twin.ip) for twin in twins))
    spread = placement.has_several_vips(topology)
    random = topology.postgresql.version >= LIBPQ_SPREADS_SINCE
    ports = {"write": entrance.write_port, "read": entrance.read_port, "synchronous": entrance.synchronous_port}
    return tuple(
        Endpoint(purpose, addresses, port, database, user, authority, prepared, spread, random)
        for purpose, port in ports.items()
        if port is not None
    )


def way(ways: Sequence[Endpoint], purpose: str) -> Endpoint:
    """Return the way in for a purpose; raises UsageError when there is none."""
    found = {each.purpose: each for each in ways}
    if purpose not in found:
        message = "synchronous standbys have no port of their own"
        raise UsageError(message, hint="set balancing.synchronous_port in the topology file, and apply")
    return found[purpose]


def chosen(kind: str, name: str | None, names: list[str]) -> str:
    """Return the name asked for, or the first; raises UsageError when there is no such name."""
    if name is None and names:
        return names[0]
    if name not in names:
        message = f"the topology has no {kind} {name}" if name else f"the topology has no {kind}"
        raise UsageError(message, hint=f"known: {', '.join(names) or 'none'}")
    return name


def psql(endpoint: Endpoint) -> str:
    """Return a command line; psql asks for the password."""
    return f"psql '{endpoint.uri()}'"


def psycopg(endpoint: Endpoint) -> str:
    """Return Python with psycopg 3."""
    lines = [
        "import os, psycopg",
        f'connection = psycopg.connect("{endpoint.uri()}", password=os.environ["PGPASSWORD"])',
    ]
    return "\n".join(lines if endpoint.prepared else [*lines, "connection.prepare_threshold = None"])


def asyncpg(endpoint: Endpoint) -> str:
    """Return Python with asyncpg, which would send libpq's settings in a URI on to the pooler, to be refused."""
    quoted = ", ".join(f'"{each}"' for each in endpoint.addresses)
    hosts = f"[{quoted}]" if len(endpoint.addresses) > 1 else quoted
    place = f'host={hosts}, port={endpoint.port}, database="{endpoint.database}", user="{endpoint.user}"'
    wanted = f', target_session_attrs="{endpoint.wanted}"' if endpoint.wanted else ""
    cache = "" if endpoint.prepared else ", statement_cache_size=0"
    return "\n".join(
        (
            "import asyncpg, os, ssl",
            f"connection = await asyncpg.connect({place},",
            f'  password=os.environ["PGPASSWORD"], ssl=ssl.create_default_context(cafile="{endpoint.authority}"),',
            f"  timeout={CONNECT_TIMEOUT}{cache}{wanted})",
        )
    )


def jdbc(endpoint: Endpoint) -> str:
    """Return a JDBC URL for pgJDBC; its timeouts are in seconds."""
    parameters: dict[str, str | int] = {
        "user": endpoint.user,
        "sslmode": "verify-full",
        "sslrootcert": endpoint.authority,
        "connectTimeout": CONNECT_TIMEOUT,
        "tcpKeepAlive": "true",
    }
    if endpoint.wanted:
        parameters["targetServerType"] = "primary"
    if endpoint.spread:
        parameters["loadBalanceHosts"] = "true"
    if not endpoint.prepared:
        parameters["prepareThreshold"] = 0
    return f"jdbc:postgresql://{endpoint.where}?{urlencode(parameters, safe='/', quote_via=quote)}"


def pgx(endpoint: Endpoint) -> str:
    """Return Go with pgx 5, which would send libpq's keepalive settings on to the server: they are left out."""
    parameters: dict[str, str | int] = {
        "sslmode": "verify-full",
        "sslrootcert": endpoint.authority,
        "connect_timeout": CONNECT_TIMEOUT,
    }
    if endpoint.wanted:
        parameters["target_session_attrs"] = endpoint.wanted
    if not endpoint.prepared:
        parameters["default_query_exec_mode"] = "exec"
    uri = f"postgres://{endpoint.user}@{endpoint.where}?{urlencode(parameters, safe='/', quote_via=quote)}"
    return f'connection, err := pgx.Connect(ctx, "{uri}") // the password comes from PGPASSWORD or PGPASSFILE'


def node(endpoint: Endpoint) -> str:
    """Return JavaScript with pg, which knows of one host only; its timeouts are in milliseconds."""
    first, *others = endpoint.addresses
    place = f'host: "{first}", port: {endpoint.port}, database: "{endpoint.database}", user: "{endpoint.user}"'
    return "\n".join(
        (
            *([f"// pg takes one host: {others_for_node(endpoint, first, others)}"] if others else []),
            f"const pool = new pg.Pool({{ {place},",
            "  password: process.env.PGPASSWORD,",
            f'  ssl: {{ ca: fs.readFileSync("{endpoint.authority}", "utf8") }},',
            f"  connectionTimeoutMillis: {CONNECT_TIMEOUT * 1000}, keepAlive: true }});",
        )
    )


def others_for_node(endpoint: Endpoint, first: str, others: Sequence[str]) -> str:
    """Return what a program that can name one host only should know of the others."""
    if endpoint.spread:
        return f"let others have {' or '.join(others)}, or give all of them one name in the DNS"
    return f"when {first} is silent, connect to {' or '.join(others)}"


def npgsql(endpoint: Endpoint) -> str:
    """Return a connection string for Npgsql; times are seconds, but milliseconds for TCP keepalive."""
    parts = {
        "Host": endpoint.address,
        "Port": endpoint.port,
        "Database": endpoint.database,
        "Username": endpoint.user,
        "SSL Mode": "VerifyFull",
        "Root Certificate": endpoint.authority,
        "Timeout": CONNECT_TIMEOUT,
        "Tcp Keepalive": "true",
        "Tcp Keepalive Time": KEEPALIVES_IDLE * 1000,
        "Tcp Keepalive Interval": KEEPALIVES_INTERVAL * 1000,
        **({"Target Session Attributes": endpoint.wanted} if endpoint.wanted else {}),
        **({"Load Balance Hosts": "true"} if endpoint.spread else {}),
    }
    # Npgsql resets pooled connections with statements that a transaction pooler gives to any server.
    return ";".join(f"{key}={value}" for key, value in (parts | {"No Reset On Close": "true"}).items())


#: Every driver's words, by the name that is shown.
DRIVERS: Mapping[str, Callable[[Endpoint], str]] = {
    "psql": psql,
    "Python (psycopg)": psycopg,
    "Python (asyncpg)": asyncpg,
    "Java (JDBC)": jdbc,
    "Go (pgx)": pgx,
    "Node (pg)": node,
    ".NET (Npgsql)": npgsql,
}


def passfile(endpoint: Endpoint, password: str) -> str:
    """Return a libpq password file for one user at these addresses, whatever the port and the database."""
    return "".join(f"{escaped(each)}:*:*:{endpoint.user}:{escaped(password)}\n" for each in endpoint.addresses)


def escaped(value: str) -> str:
    """Return a value as a password file takes it: an address of IPv6 is as full of colons as a password may be."""
    return value.replace("\\", "\\\\").replace(":", "\\:")
