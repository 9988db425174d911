"""Load beside a meter: pgbench, started again whenever a fault has ended it.

Run as ``python -m pgbaton.proof.load`` where the application would run. The first line of standard input is its
configuration as JSON, so that no password stands in argv or the environment; the end of standard input ends it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo

from pgbaton.errors import UsageError
from pgbaton.hosts import process
from pgbaton.proof.workloads import pgbench

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "pgbench"
#: How long to leave the cluster alone after pgbench has ended.
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class LoadConfig:
    """What the load needs to know; ``write`` are libpq parameters and hold the password.

    ``directory`` is where pgbench's script and password file are, as long as it runs.
    """

    directory: str
    write: Mapping[str, Any] = field(repr=False)
    seed: int = 0

    def dump(self) -> str:
        """Return the configuration as the line that the load reads."""
        return json.dumps(asdict(self)) + "\n"


def require() -> str:
    """Return where pgbench is on this machine; raises UsageError when it is not there."""
    program = shutil.which(PROGRAM)
    if program is None:
        message = "the workload pgbench needs the program pgbench on this machine, and it is not in PATH"
        raise UsageError(message, hint="apt-get install postgresql-contrib, or leave that workload out")
    return program


async def keep_busy(config: LoadConfig) -> None:
    """Run pgbench again and again, until cancelled."""
    directory = Path(config.directory)
    script, passwords = directory / "pgbench.sql", directory / "pgbench.pass"
    script.write_text(pgbench.SCRIPT, encoding="utf-8")
    passwords.touch(mode=0o600)
    passwords.write_text(pgbench.password_line(config.write), encoding="utf-8")
    public = {name: value for name, value in config.write.items() if name != "password"}
    conninfo = make_conninfo(**{**public, "passfile": str(passwords), "application_name": "pgbaton load"})
    argv = pgbench.argv(require(), conninfo, str(script), seed=config.seed)
    try:
        while True:
            ended = await process.run(*argv, check=False, timeout=None)
            sys.stderr.write(f"pgbench ended with exit status {ended.exit_status}: {ended.stderr[-process.TAIL :]}\n")
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        script.unlink(missing_ok=True)
        passwords.unlink(missing_ok=True)


async def main() -> None:
    """Read the configuration and keep the cluster busy until standard input ends."""
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    config = LoadConfig(**json.loads(await reader.readline()))
    busy = asyncio.create_task(keep_busy(config))
    ended = asyncio.create_task(reader.read())
    await asyncio.wait((busy, ended), return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    transport.close()
    if not busy.cancel():
        busy.result()
    await asyncio.wait((busy, ended))


if __name__ == "__main__":
    asyncio.run(main())
