"""A cluster's state as it changes: redrawn on a terminal, or told line by line."""

from __future__ import annotations

import asyncio
import json
import sys
import termios
import tty
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from rich.live import Live

from pgbaton.cli import common
from pgbaton.cli.screen import screen
from pgbaton.observe.report import changes, opening

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pgbaton.observe.report import Report

    Look = Callable[[], Awaitable[Report]]


async def on_screen(look: Look, *, interval_seconds: float) -> None:
    """Redraw the screen after every look, until q is pressed."""
    console = common.out()
    console.soft_wrap = False
    done = asyncio.Event()
    with keys(done), Live(console=console, screen=True, auto_refresh=False) as display:
        while not done.is_set():
            seen = await look()
            display.update(screen(seen, width=console.width), refresh=True)
            await pause(done, interval_seconds)


async def as_lines(look: Look, *, interval_seconds: float, as_json: bool) -> None:
    """Print how things are, then a line for every change, for ever."""
    before = await look()
    tell(before, opening(before), as_json=as_json)
    while True:
        await asyncio.sleep(interval_seconds)
        after = await look()
        tell(after, changes(before, after), as_json=as_json)
        before = after


def tell(seen: Report, sentences: tuple[str, ...], *, as_json: bool) -> None:
    """Print sentences, each behind the time of the look that showed it."""
    at = datetime.fromisoformat(seen.taken_at)
    for sentence in sentences:
        line = (
            json.dumps({"at": seen.taken_at, "change": sentence})
            if as_json
            else f"{at.astimezone():%H:%M:%S} {sentence}"
        )
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def pause(done: asyncio.Event, seconds: float) -> None:
    """Wait for the next look, or for the end."""
    try:
        await asyncio.wait_for(done.wait(), seconds)
    except TimeoutError:
        return


@contextmanager
def keys(done: asyncio.Event) -> Iterator[None]:
    """Set ``done`` when q is pressed; the terminal gives single keys meanwhile, and is put back afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed() -> None:
        if sys.stdin.read(1) in {"q", "Q"}:
            done.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
