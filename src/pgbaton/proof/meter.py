"""The meter: clients that write and read without pause, and a log of what became of every operation.

Run as ``python -m pgbaton.proof.meter`` where the application would run. The first line of standard input is its
configuration as JSON, so that no password stands in argv or the environment; the end of standard input, SIGTERM or
SIGINT ends it. The log stays outside the cluster that is being measured.

A held client keeps its connection as long as the server answers, even with errors; a new-connection client makes one
per operation. Both reconnect at once when they lose it. Every write is a row of its own with an id that is never used
again, so that what was acknowledged can be compared with what is there.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from psycopg.conninfo import make_conninfo

from pgbaton.proof.history import (
    Kind,
    Operation,
    Outcome,
    Stall,
    closing_line,
    opening_line,
    operation_line,
    stall_line,
)
from pgbaton.proof.session import ConnectFailure, Deadlines, Rejected, Session, Undecided

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A loop that wakes up later than this was not scheduled: that time is reported as the meter's own.
STALL_SECONDS = 0.005
#: How long a client waits after a failure before it tries again: doubled from the first to the second value, so that
#: logins in vain do not take the processor from the cluster that is recovering; jittered, so that clients spread.
BACKOFF_SECONDS = (0.01, 0.08)
#: Deadline of each preparing statement.
PREPARE_SECONDS = 15.0
#: libpq settings that bound what the kernel would otherwise wait for on a dead peer, for minutes.
PATIENCE = {
    "keepalives": 1,
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": 2000,
    "application_name": "pgbaton meter",
}


@dataclass(frozen=True)
class ClientSpec:
    """One client: what it does, how often at most, and whether it keeps its connection."""

    name: str
    kind: Kind
    period_seconds: float
    held: bool = True


@dataclass(frozen=True)
class MeterConfig:
    """Everything a meter needs to know; ``write`` and ``read`` are libpq parameters and hold the password.

    ``prepare`` are statements that are executed on the write side before the clients begin.
    """

    log: str
    table: str
    write: Mapping[str, Any] = field(repr=False)
    read: Mapping[str, Any] = field(repr=False)
    clients: tuple[ClientSpec, ...]
    deadlines: Deadlines = field(default_factory=Deadlines)
    prepare: tuple[str, ...] = ()

    def dump(self) -> str:
        """Return the configuration as the line that the meter reads."""
        return json.dumps(asdict(self)) + "\n"


def load(line: str) -> MeterConfig:
    """Read the configuration line."""
    data = json.loads(line)
    clients = tuple(ClientSpec(**{**client, "kind": Kind(client["kind"])}) for client in data.pop("clients"))
    deadlines, prepare = Deadlines(**data.pop("deadlines")), tuple(data.pop("prepare"))
    return MeterConfig(**data, clients=clients, deadlines=deadlines, prepare=prepare)


def standard_clients(*, held_writers: int = 4, new_writers: int = 2, held_readers: int = 2) -> tuple[ClientSpec, ...]:
    """Return the usual set: together about 400 writes a second, so that gaps are known to a few milliseconds."""
    writers = [ClientSpec(f"writer-{number}", Kind.WRITE, 0.01) for number in range(1, held_writers + 1)]
    connecting = [
        ClientSpec(f"connector-{number}", Kind.WRITE, 0.2, held=False) for number in range(1, new_writers + 1)
    ]
    readers = [ClientSpec(f"reader-{number}", Kind.READ, 0.01) for number in range(1, held_readers + 1)]
    return (*writers, *connecting, *readers, ClientSpec("read-connector-1", Kind.READ, 0.2, held=False))


def statement(kind: Kind, table: str) -> bytes:
    """Return what a client of a kind executes; both return the address of the server that answered."""
    if kind is Kind.WRITE:
        text = f"INSERT INTO {table} (client, id) VALUES ($1, $2::bigint) RETURNING host(inet_server_addr())"  # noqa: S608 - our own name
    else:
        newest = f"SELECT max(id) FROM {table} WHERE client = $1 AND id <= $2::bigint"  # noqa: S608 - our own name
        text = f"SELECT host(inet_server_addr()), ({newest})"
    return text.encode()


def conninfo(parameters: Mapping[str, Any]) -> bytes:
    """Return libpq parameters as a connection string, with bounds on the kernel's patience."""
    return make_conninfo(**{**PATIENCE, **parameters}).encode()


class Log:
    """The events, one JSON object a line, each handed to the kernel as soon as it is known."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.write(opening_line(monotonic=time.monotonic(), wall=time.time()))

    def write(self, line: str) -> None:
        """Append one event."""
        self._file.write(line + "\n")


class Client:
    """One client with at most one session."""

    def __init__(self, spec: ClientSpec, config: MeterConfig, log: Log) -> None:
        self.spec = spec
        self._log = log
        self._deadlines = config.deadlines
        parameters = config.write if spec.kind is Kind.WRITE else config.read
        self._conninfo = conninfo(parameters)
        self._statement = statement(spec.kind, config.table)
        self._session: Session | None = None
        self._failures = 0

    async def work(self, stop: asyncio.Event) -> None:
        """Operate at the client's pace until told to stop; the operation under way is finished first."""
        number = 0
        due = time.monotonic()
        while not stop.is_set():
            number += 1
            operation = await self._operate(number)
            self._log.write(operation_line(operation))
            due = max(due + self._pause(operation), operation.end)
            await asyncio.sleep(due - time.monotonic())
        self._drop()

    def _pause(self, ended: Operation) -> float:
        if ended.outcome is Outcome.OK:
            self._failures = 0
            return self.spec.period_seconds
        first, longest = BACKOFF_SECONDS
        self._failures += 1
        return min(first * 2.0 ** (self._failures - 1), longest) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    async def _operate(self, number: int) -> Operation:
        start = time.monotonic()
        attempt = Operation(self.spec.name, self.spec.kind, number, start, start, Outcome.OK)
        try:
            session = self._session or await Session.open(self._conninfo, self._deadlines)
            self._session = session
            parameters = (self.spec.name.encode(), str(number).encode())
            server = await session.execute(self._statement, parameters, timeout=self._deadlines.answer_seconds)
            ended = replace(attempt, server=server)
        except (ConnectFailure, Rejected) as error:
            ended = replace(attempt, outcome=Outcome.FAIL, error=str(error))
        except Undecided as error:
            ended = replace(attempt, outcome=Outcome.UNKNOWN, error=str(error))
        end = time.monotonic()
        if ended.outcome is Outcome.UNKNOWN or not self.spec.held:
            self._drop()
        return replace(ended, end=end)

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


async def watch_scheduling(log: Log, stop: asyncio.Event) -> None:
    """Record every time in which this process was late by more than STALL_SECONDS."""
    while not stop.is_set():
        before = time.monotonic()
        await asyncio.sleep(STALL_SECONDS)
        late = time.monotonic() - before - STALL_SECONDS
        if late > STALL_SECONDS:
            log.write(stall_line(Stall(before, late)))


async def prepare(config: MeterConfig) -> None:
    """Execute the preparing statements; raises what Session raises."""
    if config.prepare:
        session = await Session.open(conninfo(config.write), config.deadlines)
        for text in config.prepare:
            await session.execute(text.encode(), (), timeout=PREPARE_SECONDS)
        session.close()


async def measure(config: MeterConfig, stop: asyncio.Event) -> None:
    """Run all clients until ``stop`` is set, and write what they see into the log."""
    with Path(config.log).open("w", encoding="utf-8", buffering=1) as file:  # noqa: ASYNC230 - the log is local
        log = Log(file)
        clients = [Client(spec, config, log) for spec in config.clients]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch_scheduling(log, stop))
            for client in clients:
                tasks.create_task(client.work(stop))
        log.write(closing_line(monotonic=time.monotonic()))


async def main() -> None:
    """Read the configuration and measure until standard input ends or a signal says so."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reader = asyncio.StreamReader(limit=1 << 20)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    config = load((await reader.readline()).decode())
    ended = asyncio.create_task(_until_end(reader, stop))
    try:
        await prepare(config)
        await measure(config, stop)
    except (ConnectFailure, Rejected, Undecided) as error:
        sys.exit(f"the meter could not prepare its table: {error}")
    finally:
        ended.cancel()
        transport.close()


async def _until_end(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    await reader.read()
    stop.set()


if __name__ == "__main__":
    asyncio.run(main())
