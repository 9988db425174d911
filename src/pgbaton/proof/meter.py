"""The meter: clients that write and read without pause, and a log of what became of every operation.

Run as ``python -m pgbaton.proof.meter`` where the application would run. The first line of standard input is its
configuration as JSON, so that no password stands in argv or the environment; the end of standard input, SIGTERM or
SIGINT ends it. The log stays outside the cluster that is being measured.

A held client keeps its connection as long as the server answers, even with errors; a new-connection client makes one
per operation. Both reconnect at once when they lose it. No operation is ever repeated: what failed or stayed unknown is
left as it is, and the next one is a new one.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from psycopg.conninfo import make_conninfo

from pgbaton.proof import workloads
from pgbaton.proof.attempts import beginning_at
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
from pgbaton.proof.workloads.base import ClientSpec, Port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgbaton.proof.workloads.base import Generator, Reading, Reply, Request

    Read = Callable[[Request, Sequence[Reply]], Reading]

#: A loop that wakes up later than this was not scheduled: that time is reported as the meter's own.
STALL_SECONDS = 0.005
#: How long a client waits after a failure before it tries again: doubled from the first to the second value, so that
#: logins in vain do not take the processor from the cluster that is recovering; jittered, so that clients spread.
BACKOFF_SECONDS = (0.01, 0.08)
#: More of them change nothing, and thousands of failures in a row are more than a float can take.
DOUBLINGS = 10
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
class MeterConfig:
    """Everything a meter needs to know; ``write`` and ``read`` are libpq parameters and hold the password.

    ``clients`` are those of the workloads named in them. ``prepare`` are statements that are executed on the write side
    before the clients begin. What clients choose, they choose by ``seed``. ``spread``: the hosts named are as good as
    each other, and clients begin at different ones.
    """

    log: str
    write: Mapping[str, Any] = field(repr=False)
    read: Mapping[str, Any] = field(repr=False)
    clients: tuple[ClientSpec, ...]
    deadlines: Deadlines = field(default_factory=Deadlines)
    prepare: tuple[str, ...] = ()
    seed: int = 0
    spread: bool = False

    def dump(self) -> str:
        """Return the configuration as the line that the meter reads."""
        return json.dumps(asdict(self)) + "\n"


def load(line: str) -> MeterConfig:
    """Read the configuration line."""
    data = json.loads(line)
    clients = tuple(_client(client) for client in data.pop("clients"))
    deadlines, prepare = Deadlines(**data.pop("deadlines")), tuple(data.pop("prepare"))
    return MeterConfig(**data, clients=clients, deadlines=deadlines, prepare=prepare)


def _client(data: Mapping[str, Any]) -> ClientSpec:
    return ClientSpec(**{**data, "port": Port(data["port"]), "calls": tuple(data["calls"])})


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


@dataclass(frozen=True)
class Work:
    """What the clients of one workload have in common: what comes next, and what answers mean."""

    workload: str
    generator: Generator
    read: Read


class Client:
    """One client with at most one session; of several hosts, it begins at the one of its ``place``."""

    def __init__(self, spec: ClientSpec, work: Work, config: MeterConfig, log: Log, *, place: int = 0) -> None:
        self.spec = spec
        self._work = work
        self._log = log
        self._deadlines = config.deadlines
        parameters = config.write if spec.port is Port.WRITE else config.read
        self._conninfo = conninfo(beginning_at(parameters, place) if config.spread else parameters)
        self._session: Session | None = None
        self._failures = 0

    async def work(self, stop: asyncio.Event) -> None:
        """Operate at the client's pace until told to stop; the operation under way is finished first."""
        number = 0
        beat = time.monotonic() + self.spec.phase_seconds
        await asyncio.sleep(self.spec.phase_seconds)
        while not stop.is_set():
            number += 1
            operation = await self._operate(number)
            self._log.write(operation_line(operation))
            pause = self._back_off(operation)
            due = operation.end + pause if pause else next_beat(beat, self.spec.period_seconds, operation)
            await asyncio.sleep(due - time.monotonic())
        self._drop()

    def _back_off(self, ended: Operation) -> float:
        if ended.outcome is Outcome.OK:
            self._failures = 0
            return 0.0
        self._failures += 1
        return longest_pause(self._failures) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    async def _operate(self, number: int) -> Operation:
        start = time.monotonic()
        request = self._work.generator.next(self.spec, number)
        attempt = Operation(
            self.spec.name, request.kind, number, start, start, Outcome.OK,
            workload=self.spec.workload, call=request.call, value=request.value,
        )  # fmt: skip
        try:
            replies = await self._ask(request)
            ended = replace(attempt, end=time.monotonic(), **self._reading(request, replies))
        except (ConnectFailure, Rejected) as error:
            ended = replace(attempt, end=time.monotonic(), outcome=Outcome.FAIL, error=str(error))
        except Undecided as error:
            ended = replace(attempt, end=time.monotonic(), outcome=Outcome.UNKNOWN, error=str(error))
        self._work.generator.learn(request, ended.outcome, ended.result)
        await self._settle(ended)
        return ended

    async def _ask(self, request: Request) -> tuple[Reply, ...]:
        session = self._session or await Session.open(self._conninfo, self._deadlines)
        self._session = session
        parameters = tuple(parameter.encode() for parameter in request.parameters)
        timeout = self._deadlines.answer_seconds
        return await session.execute(request.statement.encode(), parameters, timeout=timeout, script=request.script)

    def _reading(self, request: Request, replies: tuple[Reply, ...]) -> dict[str, Any]:
        seen = self._work.read(request, replies)
        kind = request.kind if seen.changed else Kind.QUERY
        return {"kind": kind, "server": seen.server, "timeline": seen.timeline, "lsn": seen.lsn, "result": seen.result}

    async def _settle(self, ended: Operation) -> None:
        """Leave no half transaction behind, nor a session that is of no further use."""
        session = self._session
        if session is None:
            return
        if ended.outcome is Outcome.UNKNOWN or not self.spec.held:
            self._drop()
        elif not session.idle:
            try:
                await session.execute(b"ROLLBACK", timeout=self._deadlines.answer_seconds)
            except (Rejected, Undecided):
                self._drop()

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def next_beat(first: float, period: float, ended: Operation) -> float:
    """Return when a client's next operation is due: on the beats that began at ``first``, so that clients stay apart.

    One that took longer than a period misses beats. Pure.
    """
    return first + period * math.ceil((ended.end - first) / period)


def works(config: MeterConfig) -> dict[str, Work]:
    """Return what the clients of each workload have in common; raises UsageError for a workload there is none of."""
    found = {}
    for workload in workloads.named(client.workload for client in config.clients):
        if workload.generator is None or workload.read is None:
            continue
        specs = tuple(client for client in config.clients if client.workload == workload.name)
        chance = random.Random(f"{config.seed} {workload.name}")  # noqa: S311 - a choice that can be repeated
        found[workload.name] = Work(workload.name, workload.generator(chance, specs), workload.read)
    return found


def longest_pause(failures: int) -> float:
    """Return how long at most a client waits, in seconds, after so many failures in a row. Pure."""
    first, longest = BACKOFF_SECONDS
    return min(first * 2.0 ** min(failures - 1, DOUBLINGS), longest)


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
            await session.execute(text.encode(), timeout=PREPARE_SECONDS)
        session.close()


async def measure(config: MeterConfig, stop: asyncio.Event) -> None:
    """Run all clients until ``stop`` is set, and write what they see into the log."""
    with Path(config.log).open("w", encoding="utf-8", buffering=1) as file:  # noqa: ASYNC230 - the log is local
        log = Log(file)
        work = works(config)
        clients = [
            Client(spec, work[spec.workload], config, log, place=place) for place, spec in enumerate(config.clients)
        ]
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
        sys.exit(f"the meter could not prepare its tables: {error}")
    finally:
        ended.cancel()
        transport.close()


async def _until_end(reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    await reader.read()
    stop.set()


if __name__ == "__main__":
    asyncio.run(main())
