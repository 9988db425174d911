"""Who the agent is when it connects as somebody else, and how a connection ends."""

from __future__ import annotations

import errno
import os
import platform
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgbaton.agent.protocols import connections
from pgbaton.agent.protocols.connections import effective_user, end

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


def effective_uid(of: Path) -> int:
    """Return the effective uid of a thread, as the kernel has it."""
    (line,) = (line for line in (of / "status").read_text().splitlines() if line.startswith("Uid:"))
    return int(line.split()[2])


@pytest.fixture
def another_thread() -> Iterator[Path]:
    """Have a thread beside this one; return where the kernel tells of it."""
    found: list[Path] = []
    begun, over = threading.Event(), threading.Event()

    def wait() -> None:
        found.append(Path(f"/proc/self/task/{threading.get_native_id()}"))
        begun.set()
        over.wait(10)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait(10)
    yield found[0]
    over.set()
    thread.join(10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be somebody else")
def test_only_the_thread_that_connects_is_somebody_else_for_that_instant(another_thread: Path) -> None:
    here = Path(f"/proc/self/task/{threading.get_native_id()}")
    with effective_user(NOBODY):
        assert (effective_uid(here), effective_uid(another_thread)) == (NOBODY, 0)
    assert (effective_uid(here), effective_uid(another_thread)) == (0, 0)


def test_an_error_meanwhile_leaves_nobody_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[int] = []
    monkeypatch.setattr(connections, "_become", became.append)
    with pytest.raises(ConnectionError), effective_user(NOBODY):
        raise ConnectionError
    assert became == [NOBODY, os.geteuid()]


def test_one_who_cannot_be_himself_again_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(uid: int) -> None:
        if uid != NOBODY:
            raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(connections, "_become", become)
    with pytest.raises(SystemExit, match="cannot be it again"), effective_user(NOBODY):
        pass


def test_nothing_changes_where_nobody_else_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_become", lambda uid: pytest.fail(f"became {uid}"))
    with effective_user(None), effective_user(os.geteuid()):
        pass


def test_a_machine_whose_numbers_are_not_known_goes_through_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[int] = []
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    monkeypatch.setattr(os, "seteuid", became.append)
    with effective_user(NOBODY):
        pass
    assert became == [NOBODY, os.geteuid()]


@pytest.mark.parametrize("fault", [None, AttributeError("'NoneType' object has no attribute '_abort'")])
def test_a_connection_that_is_gone_already_can_be_ended(fault: Exception | None) -> None:
    class Transport:
        aborted = 0

        def abort(self) -> None:
            self.aborted += 1
            if fault:
                raise fault

    transport = Transport()
    end(transport)  # type: ignore[arg-type]
    assert transport.aborted == 1
