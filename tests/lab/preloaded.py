"""Commands of pgbaton that need not wait for Python to import them: each is a fork of a process that has, once.

A command is a process of its own, in a session of its own, with its arguments, its environment and its output, and it
ends as one does that was started by hand. What is spared is half a second of a processor for each of some hundreds.

As a program, it takes commands from the socket that the argument numbers, until the other end is closed.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from pgbaton.errors import UnreachableError
from pgbaton.hosts import process
from pgbaton.hosts.process import Result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

#: A command with its environment, in bytes.
LONGEST = 1 << 17
END_SECONDS = 30.0


@dataclass(frozen=True)
class Commands:
    """The process that has imported everything, and the way to it."""

    child: subprocess.Popen[bytes]
    way: socket.socket

    @classmethod
    def start(cls) -> Self:
        """Start it; commands that come before it is ready wait for that."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = (sys.executable, __file__, str(theirs.fileno()))
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True
            )
        return cls(child, ours)

    def end(self) -> None:
        """End it; commands that run go on."""
        self.way.close()
        assert self.child.wait(END_SECONDS) == 0

    async def run(self, *argv: str, environment: Mapping[str, str], timeout: float) -> Result:
        """Run a command to its end, as ``process.run`` does one that is started anew."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with theirs:
                asked = json.dumps({"argv": argv, "environment": dict(environment), "directory": os.getcwd()})  # noqa: PTH109 - text
                socket.send_fds(self.way, [asked.encode()], [each.fileno() for each in (theirs, out, err)])
            ours.setblocking(False)  # noqa: FBT003 - its name says what
            pid = await told(ours)
            try:
                status = await asyncio.wait_for(told(ours), timeout)
            except BaseException as error:
                process.end_group(pid)
                if isinstance(error, TimeoutError):
                    message = f"no end after {timeout:g} s: pgbaton {' '.join(argv)}"
                    raise UnreachableError(message) from None
                raise
            return Result(("pgbaton", *argv), status, content(out), content(err))


async def told(way: socket.socket) -> int:
    """Return the next number that is told of a command: its process id, then its exit status."""
    said = await asyncio.get_running_loop().sock_recv(way, 64)
    assert said, "the process that starts commands has died"
    return int(said)


def content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


# The process itself.


def next_command(way: socket.socket) -> None:
    """Return, in a process of its own, once for each command, with everything as the command is to find it."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(way, LONGEST, 3)
        if not message:
            sys.exit(0)
        if os.fork() == 0:
            way.close()
            return as_command(json.loads(message), *descriptors)
        for each in descriptors:
            os.close(each)


def as_command(asked: Mapping[str, object], way: int, out: int, err: int) -> None:
    """Become a command; the process between it and the one of all commands tells what becomes of it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=way) as teller:
        pid = os.fork()
        if pid:
            teller.send(str(pid).encode())
            _, status = os.waitpid(pid, 0)
            teller.send(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
    os.setsid()
    for given, standard in ((out, 1), (err, 2)):
        os.dup2(given, standard)
        os.close(given)
    os.chdir(str(asked["directory"]))
    os.environ.clear()
    os.environ.update(asked["environment"])  # type: ignore[call-overload]
    sys.argv = ["pgbaton", *asked["argv"]]  # type: ignore[misc]


if __name__ == "__main__":
    from pgbaton.cli import COMMANDS, main

    for place, _ in COMMANDS.values():
        importlib.import_module(place.partition(":")[0])
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that none of those between is left as a zombie
    next_command(socket.socket(fileno=int(sys.argv[1])))
    main()
