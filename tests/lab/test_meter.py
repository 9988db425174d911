"""The meter: one server that is stopped, frozen and killed underneath it, and all its workloads on a whole cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.errors import CommandError
from pgbaton.hosts import process
from pgbaton.operate import waiting
from pgbaton.proof import final
from pgbaton.proof.history import Kind, Outcome, parse
from pgbaton.proof.meter import MeterConfig
from pgbaton.proof.outage import Span, acknowledgements, measure
from pgbaton.proof.running import PREPARE, RunningMeter
from pgbaton.proof.target import Target
from pgbaton.proof.workloads import WORKLOADS
from pgbaton.proof.workloads.bank import ACCOUNTS, INITIAL_BALANCE
from pgbaton.proof.workloads.base import SCHEMA
from pgbaton.proof.workloads.sets import SET, TABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pgbaton.proof.audit import FinalRead
    from pgbaton.proof.history import History, Operation

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become the user postgres"),
    pytest.mark.skipif(BINARIES is None, reason="needs PostgreSQL's server programs on this machine"),
]
PASSWORD = "not-in-argv"


@dataclass(frozen=True)
class Server:
    """A throw-away server on a loopback port."""

    directory: Path
    port: int

    @property
    def pid(self) -> int:
        return int((self.directory / "postmaster.pid").read_text().split()[0])

    async def tool(self, name: str, *arguments: str, stdin: str | None = None) -> str:
        program = str(BINARIES.with_name(name)) if BINARIES else name
        return (await process.run("runuser", "-u", "postgres", "--", program, *arguments, input=stdin)).stdout

    async def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.directory}"
        await self.tool(
            "pg_ctl", "-D", str(self.directory), "-w", "-l", f"{self.directory}/log", "-o", options, "start"
        )

    async def stop(self) -> None:
        with contextlib.suppress(CommandError):
            await self.tool("pg_ctl", "-D", str(self.directory), "-w", "-m", "immediate", "stop")

    async def sql(self, text: str) -> str:
        return await self.tool("psql", "-XAtq", "-h", str(self.directory), "-p", str(self.port), "-c", text, "postgres")

    @property
    def processes(self) -> tuple[int, ...]:
        """The postmaster and all its children."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return (self.pid, *map(int, children))

    async def rows(self) -> set[tuple[str, int]]:
        lines = await self.sql(f"TABLE {TABLE}")
        return {(client, int(number)) for client, number in (line.split("|") for line in lines.splitlines())}

    def signal_all(self, number: int) -> None:
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def process_file(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - processes of others have no event to wait for
            await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(f"/tmp/pgbaton-meter-{os.getpid()}")  # noqa: S108 - the user postgres cannot reach pytest's directory
    path.mkdir()
    os.chown(path, pwd.getpwnam("postgres").pw_uid, pwd.getpwnam("postgres").pw_gid)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def server(directory: Path) -> AsyncIterator[Server]:
    server = Server(directory / "data", free_port())
    await server.tool("initdb", "-D", str(server.directory), "-A", "scram-sha-256", "--auth-local=peer", "-N")
    await server.start()
    try:
        await server.sql(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        await server.sql("GRANT CREATE ON DATABASE postgres TO app")
        yield server
    finally:
        await server.stop()


@dataclass
class Running:
    """A meter at work."""

    process: asyncio.subprocess.Process
    log: Path

    def history(self) -> History:
        with self.log.open() as lines:
            return parse(lines)

    async def acknowledged(self, count: int, *, after: float = 0.0, deadline: float = 20.0) -> None:
        """Wait until so many writes that began after a moment were acknowledged."""
        async with asyncio.timeout(deadline):
            while True:
                writes = self.history().of(Kind.WRITE) if self.log.exists() else ()
                if sum(write.outcome is Outcome.OK and write.start > after for write in writes) >= count:
                    return
                await asyncio.sleep(0.1)


@pytest.fixture
async def meter(server: Server, tmp_path: Path) -> AsyncIterator[Running]:
    conninfo = {"host": "127.0.0.1", "port": server.port, "user": "app", "password": PASSWORD, "dbname": "postgres"}
    config = MeterConfig(str(tmp_path / "log"), conninfo, conninfo, SET.clients, prepare=(*PREPARE, *SET.tables))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pgbaton.proof.meter", stdin=asyncio.subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(config.dump().encode())
    running = Running(child, tmp_path / "log")
    await running.acknowledged(200)
    yield running
    child.stdin.close()
    await asyncio.wait_for(child.wait(), 10)


async def finish(meter: Running) -> History:
    assert meter.process.stdin is not None
    meter.process.stdin.close()
    assert await asyncio.wait_for(meter.process.wait(), 10) == 0
    return meter.history()


async def test_a_server_frozen_for_half_a_second_measures_half_a_second(server: Server, meter: Running) -> None:
    frozen_at = time.monotonic()
    server.signal_all(signal.SIGSTOP)
    await asyncio.sleep(0.5)  # this is the fault itself, not a wait for something
    server.signal_all(signal.SIGCONT)
    frozen = time.monotonic() - frozen_at
    await meter.acknowledged(50, after=frozen_at + frozen)
    history = await finish(meter)
    for kind in (Kind.WRITE, Kind.READ):
        seen = measure(history, kind, Span(frozen_at - 0.2, frozen_at + frozen + 0.2))
        assert seen.seconds == pytest.approx(frozen, abs=0.06 + seen.meter_stalled_seconds)
        assert (seen.failed, seen.unknown) == (0, 0)


async def test_acknowledged_writes_are_there_and_unknown_ones_may_be_after_a_kill(
    server: Server, meter: Running
) -> None:
    killed_at = time.monotonic()
    processes = server.processes
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not any(is_running(pid) for pid in processes))
    await server.start()
    back_at = time.monotonic()
    await meter.acknowledged(50, after=back_at)
    history = await finish(meter)
    seen = measure(history, Kind.WRITE, Span(killed_at - 0.2, back_at + 0.5))
    assert seen.longest.end <= back_at + 0.5
    assert seen.errors
    present = await server.rows()
    outcome = {
        outcome: {(write.client, write.id) for write in history.of(Kind.WRITE) if write.outcome is outcome}
        for outcome in Outcome
    }
    assert outcome[Outcome.OK] <= present
    assert not outcome[Outcome.FAIL] & present


async def test_a_commit_whose_wait_for_a_standby_was_cancelled_is_unknown(server: Server, meter: Running) -> None:
    await server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; ")
    await server.sql("SELECT pg_reload_conf()")
    cancelled = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    async with asyncio.timeout(10):
        while not int(await server.sql(cancelled)):  # noqa: ASYNC110 - nor has the server
            await asyncio.sleep(0.02)
    await server.sql("ALTER SYSTEM RESET synchronous_standby_names")
    await server.sql("SELECT pg_reload_conf()")
    await meter.acknowledged(50, after=time.monotonic())
    history = await finish(meter)
    warned = [write for write in history.of(Kind.WRITE) if (write.error or "").startswith("warning 01000")]
    assert warned
    assert {write.outcome for write in warned} == {Outcome.UNKNOWN}


async def test_the_password_stands_in_no_command_line_and_no_log(server: Server, meter: Running) -> None:
    assert server.port
    assert PASSWORD.encode() not in process_file(meter.process.pid, "cmdline")
    assert PASSWORD.encode() not in process_file(meter.process.pid, "environ")
    await finish(meter)
    assert PASSWORD not in meter.log.read_text()


async def test_a_meter_whose_parent_died_ends_and_its_log_says_so(meter: Running) -> None:
    history = await finish(meter)
    assert history.finished
    assert len(acknowledgements(history.of(Kind.WRITE))) >= 200


#: Every kind of operation that there is: workload, call, and what it is when it goes well.
EVERYTHING = {
    ("set", "add", Kind.WRITE),
    ("set", "newest", Kind.READ),
    ("register", "write", Kind.WRITE),
    ("register", "cas", Kind.WRITE),
    ("register", "cas", Kind.QUERY),
    ("register", "read", Kind.QUERY),
    ("bank", "transfer", Kind.WRITE),
    ("bank", "transfer", Kind.QUERY),
    ("bank", "total", Kind.QUERY),
    ("bank", "total", Kind.READ),
    ("append", "txn", Kind.WRITE),
    ("append", "txn", Kind.QUERY),
}


@pytest.fixture(scope="module")
def seen(stock_lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Seen:  # noqa: ANN401 - the fixture's own type is the conftest's
    """What all workloads did to a cluster at rest until each had done all that it can, and what they left."""
    target = Target(stock_lab.topology, stock_lab.state, lambda _: None)
    return asyncio.run(observe(target, tmp_path_factory.mktemp("all")))


async def observe(target: Target, directory: Path) -> Seen:
    await target.until_whole(seconds=120)
    meter = await RunningMeter.start(target, workloads=tuple(WORKLOADS), directory=directory, seed=3)

    primary = (await target.roles()).primary

    async def transactions() -> int:
        return int(await final.sql(target, primary, f"SELECT count(*) FROM {SCHEMA}.pgbench_history"))  # noqa: S608 - our own name

    async def idle() -> str | None:
        return None if await transactions() else "no transaction yet"

    async def look() -> str | None:
        done = {(each.workload, each.call, each.kind) for each in well(meter.history())}
        return str(EVERYTHING - done) if EVERYTHING - done else None

    try:
        await waiting.until("every kind of operation has been done", look, seconds=90, interval_seconds=0.5)
        await waiting.until("pgbench has done something", idle, seconds=60, interval_seconds=0.5)
    finally:
        history = await meter.stop()
    finals = await final.read_all(target, tuple(WORKLOADS))
    loaded = await transactions()
    await final.sql(target, primary, f"DROP SCHEMA {SCHEMA} CASCADE")
    return Seen(history, finals, loaded, directory)


@dataclass(frozen=True)
class Seen:
    """A history of all workloads, the final reads, how much the load has done, and the folder of the meter's files."""

    history: History
    finals: tuple[FinalRead, ...]
    loaded: int
    directory: Path


def well(history: History) -> tuple[Operation, ...]:
    return tuple(operation for operation in history.operations if operation.outcome is Outcome.OK)


async def test_every_answer_names_who_gave_it_and_only_standbys_have_no_timeline(seen: Seen) -> None:
    primaries = {each.server for each in well(seen.history) if each.kind is not Kind.READ}
    assert len(primaries) == 1
    timelines = {each.timeline for each in well(seen.history) if each.kind is not Kind.READ}
    assert len(timelines) == 1
    assert None not in timelines
    for each in (each for each in well(seen.history) if each.kind is Kind.READ):
        assert (each.timeline is None) == (each.server not in primaries)
    assert all(each.lsn for each in well(seen.history))


async def test_money_is_never_more_or_less_on_either_port(seen: Seen) -> None:
    totals = [each for each in well(seen.history) if each.call == "total"]
    assert {each.kind for each in totals} == {Kind.READ, Kind.QUERY}
    assert {sum(balance for _, balance in each.result) for each in totals} == {ACCOUNTS * INITIAL_BALANCE}


async def test_final_reads_hold_what_was_acknowledged_on_every_host(seen: Seen) -> None:
    assert [read.problem for read in seen.finals] == [None] * 3
    primary, *standbys = sorted(seen.finals, key=lambda read: not read.primary)
    for standby in standbys:
        assert set(standby.rows) == set(primary.rows)
        for name in ("registers", "accounts", "lists"):
            assert getattr(standby, name) == getattr(primary, name)
    done = [each for each in well(seen.history) if each.kind is Kind.WRITE]
    assert {(each.client, each.id) for each in done if each.call == "add"} <= set(primary.rows)
    writes = [each for each in seen.history.of(Kind.WRITE) if each.workload == "register"]
    written = {(each.value[0], each.value[-1]) for each in writes if each.outcome is not Outcome.FAIL}
    assert set((primary.registers or {}).items()) <= written
    assert sum((primary.accounts or {}).values()) == ACCOUNTS * INITIAL_BALANCE
    appended = [step[1:] for each in done if each.call == "txn" for step in each.result if step[0] == "append"]
    assert primary.lists
    assert all(primary.lists[key].count(element) == 1 for key, element in appended)


async def test_load_keeps_the_cluster_busy_and_its_password_file_is_gone(seen: Seen) -> None:
    assert seen.loaded > 0
    assert {path.name for path in seen.directory.iterdir()} == {"history.jsonl", "meter.log", "load.log"}
    assert (seen.directory / "load.log").read_text() == ""
