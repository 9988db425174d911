"""A client for each way in: it writes at a steady pace on one session, and connects again when that breaks.

The first line of standard input is JSON: libpq's parameters by the name of the way. Every acknowledged write is a line
of standard output: the way, the write's number, and when it was acknowledged on the monotonic clock. It ends with its
input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from pgbaton.proof.meter import conninfo
from pgbaton.proof.session import ConnectFailure, Deadlines, Rejected, Session, Undecided

PACE_SECONDS = 0.05
INSERT = b"INSERT INTO kept (way, number) VALUES ($1, $2)"


async def write(way: str, parameters: dict[str, Any]) -> None:
    """Write for ever."""
    session: Session | None = None
    number = 0
    while True:
        number += 1
        try:
            session = session or await Session.open(conninfo(parameters), Deadlines())
            await session.execute(INSERT, (way.encode(), str(number).encode()), timeout=5.0)
            sys.stdout.write(f"{way} {number} {time.monotonic()}\n")
            sys.stdout.flush()
        except (ConnectFailure, Rejected, Undecided):
            if session is not None:
                session.close()
                session = None
        await asyncio.sleep(PACE_SECONDS)


async def main() -> None:
    """Write by every way until standard input ends."""
    ways: dict[str, dict[str, Any]] = json.loads(sys.stdin.readline())
    clients = [asyncio.create_task(write(way, parameters)) for way, parameters in ways.items()]
    await asyncio.to_thread(sys.stdin.read)
    for client in clients:
        client.cancel()


if __name__ == "__main__":
    asyncio.run(main())
