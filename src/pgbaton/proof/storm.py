"""Connections in numbers: a program that opens many sessions at once and counts what becomes of them.

Run as ``python -m pgbaton.proof.storm`` where the application would run. The first line of standard input is its
configuration as JSON, so that no password stands in argv or the environment. It ends after its time, one that holds
sessions with its standard input too, and prints its count as JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection, Error

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a session has open besides its socket, and what the program itself does.
SPARE_FILES = 64
#: A client that is turned away comes again after this long, as impatient ones do.
AGAIN_SECONDS = 0.2
LOGIN_SECONDS = 10


@dataclass(frozen=True)
class Storm:
    """How many sessions, for how long, and what each does again and again.

    With ``hold`` a session runs its statement once, in a transaction that it leaves open until the end. With ``once``
    it logs in, runs its statement, and leaves; nobody comes again, and all is over when the last one has left.
    """

    conninfo: Mapping[str, Any] = field(repr=False)
    sessions: int
    seconds: float
    statement: str
    hold: bool = False
    once: bool = False

    def dump(self) -> str:
        """Return the storm as the line that the program reads."""
        return json.dumps(asdict(self)) + "\n"


def bounded(sessions: int) -> int:
    """Return how many of the sessions the limit of open files allows."""
    return max(1, min(sessions, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES))


async def session(storm: Storm, seen: Counter[str]) -> None:
    """Log in and work, and come again when that fails, until cancelled."""
    while True:
        try:
            await work(storm, seen)
        except Error as error:
            seen[f"error {getattr(error, 'sqlstate', None) or type(error).__name__}"] += 1
            if storm.hold or storm.once:
                return
            await asyncio.sleep(AGAIN_SECONDS)
        if storm.once:
            return


async def work(storm: Storm, seen: Counter[str]) -> None:
    """Run the statement until something fails."""
    parameters = {"connect_timeout": LOGIN_SECONDS, "application_name": "pgbaton storm", **storm.conninfo}
    connection = await AsyncConnection.connect(autocommit=not storm.hold, **parameters)
    seen["logins"] += 1
    try:
        while True:
            await connection.execute(storm.statement.encode())
            seen["statements"] += 1
            if storm.once:
                return
            if storm.hold:
                await asyncio.Event().wait()
    finally:
        await connection.close()


async def rage(storm: Storm) -> Counter[str]:
    """Run all sessions for their time, and return what was seen."""
    seen = Counter[str]()
    tasks = [asyncio.create_task(session(storm, seen)) for _ in range(bounded(storm.sessions))]
    end = asyncio.to_thread(sys.stdin.read) if storm.hold else asyncio.sleep(storm.seconds)
    ends = tasks if storm.once else [asyncio.ensure_future(end)]
    await asyncio.wait(ends, timeout=storm.seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    seen["sessions"] = len(tasks)
    return seen


def main() -> None:
    """Read the configuration, run it, print what was seen."""
    storm = Storm(**json.loads(sys.stdin.readline()))
    print(json.dumps(asyncio.run(rage(storm))))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
