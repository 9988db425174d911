"""HAProxy's runtime socket: how its servers are, and hints about them. HAProxy 2.6 to 3.0 (management guide, 9.3).

One command per connection. Whatever shows something works at any level of the socket; what changes something needs
``level admin``.

``health up`` and ``health down`` set a server's state as a check would have, and fill or empty the check's counter; the
checks run on. So a hint holds until ``fall`` checks in a row fail, or ``rise`` of them pass: when the agent is wrong,
or dies after its hint, the polled checks have the last word. ``state maint`` would stop them. Like a failed check,
``health down`` ends all sessions of the server where the configuration says ``on-marked-down shutdown-sessions``.
"""

from __future__ import annotations

import asyncio
import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from pgbaton.agent.protocols.connections import RefusedError, connect, deadline

if TYPE_CHECKING:
    from pgbaton.agent.protocols.connections import UnixSocket

Health: TypeAlias = Literal["up", "down"]
Wanted: TypeAlias = Literal["ready", "drain", "maint"]

#: The only version of the table of servers that there is.
STATE_VERSION = "1"
#: Bits of srv_admin_state: forced, inherited, configured, by a name that does not resolve.
MAINTENANCE = 0x01 | 0x02 | 0x04 | 0x20
DRAINING = 0x08 | 0x10

NAME = re.compile(r"[A-Za-z0-9_.:-]+")


class HaproxyError(RefusedError):
    """HAProxy answered with an error, or with what cannot be understood."""


class Operational(enum.IntEnum):
    """What a server is found to be; only a stopped one gets no connection."""

    STOPPED = 0
    STARTING = 1
    RUNNING = 2
    STOPPING = 3


class CheckResult(enum.IntEnum):
    """What the last check of a server found."""

    UNKNOWN = 0
    NEUTRAL = 1
    FAILED = 2
    PASSED = 3
    CONDITIONAL = 4


@dataclass(frozen=True, slots=True)
class Server:
    """A server of a backend; ``check_health`` counts checks: from ``rise`` on, the server is up."""

    backend: str
    name: str
    address: str
    port: int
    operational: Operational
    administrative: int
    check: CheckResult
    check_health: int
    changed_seconds_ago: int

    @property
    def up(self) -> bool:
        """Return whether it gets connections, as far as checks and hints go."""
        return self.operational != Operational.STOPPED

    @property
    def in_service(self) -> bool:
        """Return whether nobody took it out of service by hand or by configuration."""
        return not self.administrative & (MAINTENANCE | DRAINING)


@dataclass(frozen=True, slots=True)
class Process:
    """The process that answers; after a reload it is another one, which knows nothing of earlier hints."""

    version: str
    pid: int
    uptime_seconds: int
    connections: int


async def servers(where: UnixSocket, *, deadline_seconds: float) -> tuple[Server, ...]:
    """Return every server of every backend."""
    return parse_servers(await _command(where, "show servers state", deadline_seconds))


async def process(where: UnixSocket, *, deadline_seconds: float) -> Process:
    """Return which process answers."""
    return parse_process(await _command(where, "show info", deadline_seconds))


async def set_health(where: UnixSocket, backend: str, server: str, health: Health, *, deadline_seconds: float) -> None:
    """Hint that a server is up or down, until its next checks say otherwise; does nothing to one in maintenance."""
    await _obeyed(where, f"set server {_path(backend, server)} health {health}", deadline_seconds)


async def set_state(where: UnixSocket, backend: str, server: str, state: Wanted, *, deadline_seconds: float) -> None:
    """Take a server out of service or put it back, until the next reload, whatever its checks say."""
    await _obeyed(where, f"set server {_path(backend, server)} state {state}", deadline_seconds)


async def shutdown_sessions(where: UnixSocket, backend: str, server: str, *, deadline_seconds: float) -> None:
    """End every session of a server, in this process; one that was reloaded away keeps its own."""
    await _obeyed(where, f"shutdown sessions server {_path(backend, server)}", deadline_seconds)


def parse_servers(text: str) -> tuple[Server, ...]:
    """Return the servers in the table of ``show servers state``; raises HaproxyError when it is none."""
    version, _, table = text.strip().partition("\n")
    head, *rows = table.splitlines() or [""]
    names = head.removeprefix("#").split()
    if version != STATE_VERSION or not head.startswith("#"):
        message = f"HAProxy's table of servers is not of version {STATE_VERSION}: {text[:200]!r}"
        raise HaproxyError(message)
    try:
        return tuple(_server(dict(zip(names, row.split(), strict=True))) for row in rows if not row.startswith("#"))
    except (KeyError, ValueError) as error:
        message = f"HAProxy's table of servers cannot be understood: {error!r} in {text[:2000]!r}"
        raise HaproxyError(message) from None


def parse_process(text: str) -> Process:
    """Return what ``show info`` tells; raises HaproxyError when it tells something else."""
    told = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    try:
        return Process(
            version=told["Version"],
            pid=int(told["Pid"]),
            uptime_seconds=int(told["Uptime_sec"]),
            connections=int(told["CurrConns"]),
        )
    except (KeyError, ValueError) as error:
        message = f"HAProxy's information cannot be understood: {error!r} in {text[:200]!r}"
        raise HaproxyError(message) from None


def _server(record: dict[str, str]) -> Server:
    return Server(
        backend=record["be_name"],
        name=record["srv_name"],
        address=record["srv_addr"],
        port=int(record["srv_port"]),
        operational=Operational(int(record["srv_op_state"])),
        administrative=int(record["srv_admin_state"]),
        check=CheckResult(int(record["srv_check_result"])),
        check_health=int(record["srv_check_health"]),
        changed_seconds_ago=int(record["srv_time_since_last_change"]),
    )


async def _obeyed(where: UnixSocket, command: str, deadline_seconds: float) -> None:
    """Return when a command was carried out, of which HAProxy says nothing; whatever it says is an error."""
    said = (await _command(where, command, deadline_seconds)).strip()
    if said:
        message = f"{where}: HAProxy does not do {command!r}: {said[:200]}"
        raise HaproxyError(message)


async def _command(where: UnixSocket, command: str, deadline_seconds: float) -> str:
    """Return what HAProxy says to a command; raises AbsentError, SilentError, or HaproxyError when it says nothing."""
    async with deadline(deadline_seconds, where):
        reader, writer = await asyncio.open_connection(sock=await connect(where))
        try:
            writer.write(f"{command}\n".encode())
            said = await reader.read()
        except ConnectionError:
            said = b""
        finally:
            writer.transport.abort()
    if not said:
        message = f"{where}: HAProxy closed the connection without an answer to {command!r}"
        raise HaproxyError(message)
    return said.decode(errors="replace")


def _path(backend: str, server: str) -> str:
    for name in (backend, server):
        if not NAME.fullmatch(name):
            message = f"{name!r} is no name of a backend or a server"
            raise ValueError(message)
    return f"{backend}/{server}"
