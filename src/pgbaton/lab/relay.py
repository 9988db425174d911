"""Latency: a program that stands in a machine's link and passes each frame on after a while.

It moves whole Ethernet frames, so every protocol is slowed down alike and none notices anything else. Frames are
carried as the kernel keeps them, unfinished checksums and segments yet to be cut included, with the header that says
so (packet(7), PACKET_VNET_HDR). It runs until it is told to end, or until its note in the lab's run directory is gone.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pgbaton.errors import UnhealthyError
from pgbaton.hosts import process
from pgbaton.hosts.machine import is_living, started
from pgbaton.state import read_json, write_private

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbaton.lab.record import Lab

#: From linux/if_packet.h and linux/if_ether.h.
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 15, 23, 0x0003
#: More than the longest segment that the kernel leaves uncut, with its headers.
LONGEST_FRAME = 128 * 1024
#: A real link's buffers end somewhere, too.
LONGEST_QUEUE = 20_000
LOOK_SECONDS = 1.0
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 10.0


class Wired(Protocol):
    """What has a link to the fabric: the machine's name, and the link's end at the bridge."""

    @property
    def name(self) -> str:
        """Return the machine's name."""

    @property
    def port(self) -> str:
        """Return the name of the link's end at the bridge."""


def bridge_end(link: Wired) -> str:
    """Return the name of the link that a slow machine has at the bridge."""
    return f"slow-{link.port}"


def relay_end(link: Wired) -> str:
    """Return the name of that link's other end."""
    return f"tail-{link.port}"


def note(lab: Lab, link: Wired) -> Path:
    """Return the file that tells which process is a link's relay, and how slow it is."""
    return lab.run_directory / f"{link.port}.relay"


def running(lab: Lab, link: Wired) -> float | None:
    """Return how many milliseconds a link's relay takes, None when none is at work."""
    path = note(lab, link)
    if not path.exists():
        return None
    data = read_json(path)
    return float(data["milliseconds"]) if is_living(data["pid"], data["started"]) else None


async def start(lab: Lab, link: Wired, milliseconds: float, inside: tuple[str, ...]) -> None:
    """Start a link's relay and return when it is at work; raises UnhealthyError when it does not come up."""
    path = note(lab, link)
    log = path.with_suffix(".log")
    ends = (link.port, relay_end(link))
    argv = (*inside, sys.executable, "-m", "pgbaton.lab.relay", *ends, str(milliseconds), str(path))
    await process.run("sh", "-c", '"$@" >"$0" 2>&1 </dev/null &', str(log), *argv)
    if not await _comes(lambda: running(lab, link) == milliseconds):
        said = log.read_text(encoding="utf-8", errors="replace").strip()
        message = f"the relay for {link.name} did not start: {said[-process.TAIL :]}"
        raise UnhealthyError(message, where=str(log))


async def end(lab: Lab, link: Wired) -> None:
    """End a link's relay, if there is one, and return when it is gone."""
    path = note(lab, link)
    if running(lab, link) is not None:
        with suppress(ProcessLookupError):
            os.kill(read_json(path)["pid"], signal.SIGTERM)
        if not await _comes(lambda: running(lab, link) is None):
            message = f"the relay for {link.name} did not end"
            raise UnhealthyError(message, where=str(path))
    path.unlink(missing_ok=True)


async def _comes(state: Callable[[], bool]) -> bool:
    """Wait until something is so, or until the deadline; tell whether it is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        if (reached := state()) or time.monotonic() > deadline:
            return reached
        await asyncio.sleep(POLL_SECONDS)


class Direction:
    """One way through the relay: frames that came in, each with the time at which it goes out."""

    def __init__(self, source: socket.socket, target: socket.socket, delay_seconds: float) -> None:
        self._source, self._target, self._delay_seconds = source, target, delay_seconds
        self._queue: deque[tuple[float, bytes]] = deque()

    def take(self) -> None:
        """Take all frames that have come in; beyond LONGEST_QUEUE they are lost."""
        while True:
            try:
                frame = self._source.recv(LONGEST_FRAME)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                return  # switched off, to be switched on again
            if len(self._queue) < LONGEST_QUEUE:
                self._queue.append((time.monotonic() + self._delay_seconds, frame))

    def give(self) -> float | None:
        """Send the frames that are due; return in how many seconds the next one will be, None when there is none."""
        while self._queue and self._queue[0][0] <= time.monotonic():
            with suppress(OSError):  # the other side takes no more, and a link would lose it now
                self._target.send(self._queue.popleft()[1])
        return max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else None


def tap(link: str) -> socket.socket:
    """Return a socket that receives what comes in on a link and sends out on it."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
    raw.bind((link, ETH_P_ALL))
    raw.settimeout(0)
    return raw


def relay(one: socket.socket, other: socket.socket, delay_seconds: float, path: Path) -> None:
    """Pass frames on, both ways, for as long as the note is there."""
    ways = (Direction(one, other, delay_seconds), Direction(other, one, delay_seconds))
    with selectors.DefaultSelector() as selector:
        for source, way in zip((one, other), ways, strict=True):
            selector.register(source, selectors.EVENT_READ, way)
        look = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < look or path.exists():
            if time.monotonic() >= look:
                look = time.monotonic() + LOOK_SECONDS
            waits = [wait for way in ways if (wait := way.give()) is not None]
            for key, _ in selector.select(min(waits, default=LOOK_SECONDS)):
                key.data.take()


def main(one: str, other: str, milliseconds: str, path: str) -> None:
    """Join two links of this network namespace; note down who does it once it is done."""
    ends = tap(one), tap(other)
    pid = os.getpid()
    write_private(
        Path(path), json.dumps({"pid": pid, "started": started(pid), "milliseconds": float(milliseconds)}) + "\n"
    )
    relay(*ends, float(milliseconds) / 1000, Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
