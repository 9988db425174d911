"""Progress on standard error: one line a step, behind the seconds since the beginning."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from pgbaton.cli.common import err, tell

if TYPE_CHECKING:
    from collections.abc import Callable


def reporter() -> Callable[[str], None]:
    """Return a function that shows one line of progress."""
    start = time.monotonic()
    console = err()

    def report(line: str) -> None:
        elapsed = Text(f"{time.monotonic() - start:7.1f} s  ", style="dim")
        tell(console, elapsed.append(Text(line, style="default")))

    return report


def teller() -> Callable[[str], None]:
    """Return a function that shows progress; further lines of one report are set under its first."""
    report, console = reporter(), err()

    def tell(text: str) -> None:
        first, *rest = text.split("\n")
        report(first)
        for line in rest:
            console.print(f"{'':11}{line}", markup=False)

    return tell
