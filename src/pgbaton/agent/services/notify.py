"""What systemd is told over its notify socket: that the agent is ready, alive, what it does, that it stops.

The protocol is the one of sd_notify(3) and sd_watchdog_enabled(3). Nothing here ever waits: PID 1 may be slow on a
machine in trouble, and an agent must not be. What could not be said goes out with the next message.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER = logging.getLogger(__name__)


class Notifier:
    """Tell systemd about this service; says nothing where NOTIFY_SOCKET is not set."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._owed: dict[str, str] = {}

    def ready(self) -> None:
        """Say that the start has come to its end."""
        self._say("READY", "1")

    def watchdog(self) -> None:
        """Say that the agent is alive; at least twice in each :func:`watchdog_seconds`."""
        self._say("WATCHDOG", "1")

    def status(self, text: str) -> None:
        """Say in a line for people what the agent does."""
        self._say("STATUS", " ".join(text.split()))

    def stopping(self) -> None:
        """Say that the agent was told to stop."""
        self._say("STOPPING", "1")

    def _say(self, name: str, value: str) -> None:
        if self._address is None:
            return
        self._owed[name] = value
        lines = "\n".join(f"{name}={value}" for name, value in self._owed.items())
        try:
            _send(self._address, lines.encode(errors="replace"))
        except OSError as error:
            # A watchdog's sign that comes late would vouch for a time in which nobody knew.
            self._owed.pop("WATCHDOG", None)
            LOGGER.debug("systemd's notify socket %r takes nothing now: %s", self._address, error)
        else:
            self._owed.clear()


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return after how many seconds of silence systemd kills this process; None when it watches over no such one."""
    for_process = environment.get("WATCHDOG_PID", "")
    if for_process and for_process != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1_000_000


def _address(text: str) -> str | None:
    """Return the socket's address as the kernel wants it; None for none, and for families other than Unix sockets."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _send(address: str, content: bytes) -> None:
    # A socket of its own for each message: systemd may have made its one anew.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0)
        sender.sendto(content, address)
