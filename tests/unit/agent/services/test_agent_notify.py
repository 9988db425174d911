from __future__ import annotations

import os
import secrets
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.services.notify import Notifier, watchdog_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def systemd(address: str) -> Iterator[socket.socket]:
    """Receive as systemd does; reading waits for two seconds at most."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(2)
        yield receiver


def test_each_message_is_one_of_systemd_s(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with systemd(path) as receiver:
        notifier = Notifier({"NOTIFY_SOCKET": path})
        notifier.ready()
        notifier.watchdog()
        notifier.status("leads orders,\n 2 of 3 hosts heard")
        notifier.stopping()
        messages = [receiver.recv(200) for _ in range(4)]
    assert messages == [b"READY=1", b"WATCHDOG=1", b"STATUS=leads orders, 2 of 3 hosts heard", b"STOPPING=1"]


def test_an_abstract_socket_is_reached_too() -> None:
    name = f"pgbaton-test-{secrets.token_hex(8)}"
    with systemd(f"\0{name}") as receiver:
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert receiver.recv(200) == b"READY=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_socket_nothing_is_said(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    notifier.ready()
    notifier.watchdog()
    assert notifier._owed == {}


def test_what_could_not_be_said_goes_out_with_the_next_message(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": path})
    notifier.ready()
    notifier.status("starts")
    notifier.status("runs")
    with systemd(path) as receiver:
        notifier.watchdog()
        notifier.watchdog()
        assert receiver.recv(200) == b"READY=1\nSTATUS=runs\nWATCHDOG=1"
        assert receiver.recv(200) == b"WATCHDOG=1"


def test_a_sign_of_life_is_not_sent_late(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": path})
    notifier.watchdog()
    with systemd(path) as receiver:
        notifier.status("runs")
        assert receiver.recv(200) == b"STATUS=runs"


def test_a_systemd_that_does_not_read_stops_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with systemd(path) as receiver:
        notifier = Notifier({"NOTIFY_SOCKET": path})
        begin = time.monotonic()
        for _ in range(5000):
            notifier.watchdog()
        notifier.ready()
        assert notifier._owed == {"READY": "1"}
        assert time.monotonic() - begin < 2
        assert receiver.recv(200) == b"WATCHDOG=1"


def test_the_watchdog_s_time_is_read_from_the_environment() -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": "1500000"}) == 1.5
    assert watchdog_seconds({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}) == 1.5


@pytest.mark.parametrize("microseconds", ["", "0", "-1", "soon", "1.5"])
def test_no_time_means_no_watchdog(microseconds: str) -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": microseconds}) is None


def test_a_watchdog_for_another_process_is_none_of_ours() -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid() + 1)}) is None
    assert watchdog_seconds({}) is None
