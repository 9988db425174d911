"""Where the services are that the agent asks, how a connection is made, and why there may be none."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import platform
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

#: A Unix socket whose backlog is full has no way to wait for room; it is tried again after so long.
BACKLOG_SECONDS = 0.01
#: setresuid(2) as the kernel numbers it (its syscall tables), and the uid that it leaves as it is.
SETRESUID = {"x86_64": 117, "aarch64": 147, "riscv64": 147, "ppc64le": 164, "s390x": 208}
UNCHANGED = -1


class ServiceError(Exception):
    """A service gave no answer that could be used."""


class AbsentError(ServiceError):
    """Nobody is there: no socket, nobody who listens, no route."""


class SilentError(ServiceError):
    """The deadline passed without an answer: the service hangs, or the network does."""


class RefusedError(ServiceError):
    """Somebody is there and says no, or nothing that can be understood; ``sqlstate`` says why where there is one."""

    def __init__(self, message: str, *, sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A service's Unix socket; ``as_uid`` is whom its peer authentication is to see, None for this process's user."""

    path: Path
    as_uid: int | None = None

    def __str__(self) -> str:
        """Return the path, for messages."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A service's IP address; with ``tls``, it must show a certificate for ``tls_name``, or else for ``host``."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    tls_name: str = ""

    def __str__(self) -> str:
        """Return address and port, for messages."""
        return f"{self.host}:{self.port}"


@contextlib.asynccontextmanager
async def deadline(seconds: float, where: UnixSocket | TcpAddress) -> AsyncIterator[None]:
    """Give up after ``seconds``: raises SilentError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        message = f"{where}: no answer within {seconds:g} s; the service hangs, or the way to it does"
        raise SilentError(message) from None


async def connect(where: UnixSocket | TcpAddress) -> socket.socket:
    """Return a connected socket that does not block; raises AbsentError or RefusedError."""
    connection = socket.socket(_family(where), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _explained(where):
            if isinstance(where, UnixSocket):
                await _connect_unix(connection, where)
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.get_running_loop().sock_connect(connection, (where.host, where.port))
    except BaseException:
        connection.close()
        raise
    return connection


def end(transport: asyncio.WriteTransport) -> None:
    """End a connection at once, whatever state it is in.

    Python 3.11.2, Debian 12's, raises AttributeError for one over TLS that was closed twice already: it is gone.
    """
    with contextlib.suppress(AttributeError):
        transport.abort()


@contextlib.contextmanager
def effective_user(uid: int | None) -> Iterator[None]:
    """Be another user for an instant, in this thread alone; needs CAP_SETUID. Nothing may be awaited meanwhile.

    The kernel notes who connects to a Unix socket at the moment of connect(2) (unix(7), SO_PEERCRED), so nothing longer
    is needed for peer authentication. Only the effective uid changes, so that the way back stays open.
    """
    before = os.geteuid()
    if uid is None or uid == before:
        yield
        return
    _become(uid)
    try:
        yield
    finally:
        _return_to(before)


def _become(uid: int) -> None:
    """Change the effective uid of this thread.

    The kernel keeps credentials for each thread. The C library's calls change those of all of them (nptl(7)), and with
    the effective uid 0 go the capabilities: a fence that another thread puts up in that instant would be refused.
    """
    number = SETRESUID.get(platform.machine())
    if number is None:
        os.seteuid(uid)
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(ctypes.c_long(number), ctypes.c_long(UNCHANGED), ctypes.c_long(uid), ctypes.c_long(UNCHANGED)):
        error = ctypes.get_errno()
        raise PermissionError(error, f"cannot be uid {uid} for an instant: {os.strerror(error)}; fix: CAP_SETUID")


def _return_to(uid: int) -> None:
    try:
        _become(uid)
    except OSError as error:
        # Nothing more may be done as somebody else; systemd starts the agent anew.
        message = f"the agent was uid {uid} and cannot be it again: {error}"
        raise SystemExit(message) from error


async def _connect_unix(connection: socket.socket, where: UnixSocket) -> None:
    while True:
        try:
            with effective_user(where.as_uid):
                connection.connect(str(where.path))
        except BlockingIOError:
            # Nobody takes connections off the backlog: a server that hangs, or is flooded. The deadline tells.
            await asyncio.sleep(BACKLOG_SECONDS)
        else:
            return


def _family(where: UnixSocket | TcpAddress) -> socket.AddressFamily:
    if isinstance(where, UnixSocket):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in where.host else socket.AF_INET


@contextlib.contextmanager
def _explained(where: UnixSocket | TcpAddress) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except PermissionError as error:
        message = f"{where}: this process may not connect to it: {error}"
        raise RefusedError(message) from None
    except OSError as error:
        message = f"{where}: nobody is there: {error}"
        raise AbsentError(message) from None
