from __future__ import annotations

import pytest

from pgbaton.observe.words import size, span


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
