from __future__ import annotations

import pytest

from pgbaton.errors import CommandError, UnreachableError
from pgbaton.observe.words import reason, size, span


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (16 * 1024**2, "16 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (1024**5, "1024 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.25, "250 ms"), (1.24, "1.2 s"), (45, "45 s"), (600, "10 min"), (7200, "2 h"), (2_592_000, "30 d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_reason_is_one_line_without_a_command_line() -> None:
    failed = CommandError("exit status 255 from: ssh -o This=That db1 python3\nssh: connect to host db1:\nrefused")
    assert reason(failed) == "exit status 255: ssh: connect to host db1: refused"
    assert reason(CommandError("exit status -9 from: nsenter -t 1")) == "exit status -9"
    assert reason(UnreachableError("the machine is powered off")) == "the machine is powered off"
