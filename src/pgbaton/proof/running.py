"""A meter at work beside this process: start it, follow its log, wait for calm, stop it."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pgbaton.errors import Error, UnhealthyError
from pgbaton.hosts import process
from pgbaton.operate.waiting import until
from pgbaton.proof import load
from pgbaton.proof.history import Outcome, parse
from pgbaton.proof.meter import MeterConfig
from pgbaton.proof.outage import Span, longest_gap
from pgbaton.proof.workloads import named
from pgbaton.proof.workloads.base import SCHEMA
from pgbaton.topology import placement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pgbaton.hosts.process import Child
    from pgbaton.proof.history import History, Operation
    from pgbaton.proof.target import Target
    from pgbaton.proof.workloads.base import Workload

__all__ = ["CALM_SECONDS", "SCHEMA", "RunningMeter", "unserved"]

#: What makes room for the tables of the workloads.
PREPARE = (f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE", f"CREATE SCHEMA {SCHEMA}")
#: The service counts as back when no client waited longer than this for CALM_SECONDS.
CALM_GAP_SECONDS = 0.5
CALM_SECONDS = 1.0
RECENT_SECONDS = 3.0
#: More than all clients log in that time: what is older is passed over, since nobody may have looked for hours.
RECENT_BYTES = 8 * 1024 * 1024
POLL_SECONDS = 0.1
#: Clients finish what they are at before they end: longer than their deadline for an answer.
STOP_SECONDS = 15.0
#: How long the meter may take to make its tables.
START_SECONDS = 60.0


@dataclass
class RunningMeter:
    """A meter's process, what its log has said lately, and the clients that must be ``served`` before all is calm."""

    child: Child
    log: Path
    served: tuple[str, ...]
    load: Child | None = None
    _offset: int = 0
    _recent: tuple[Operation, ...] = ()

    @classmethod
    async def start(
        cls,
        target: Target,
        *,
        workloads: Sequence[str] = ("set",),
        directory: Path | None = None,
        seed: int = 0,
    ) -> RunningMeter:
        """Start the clients of some workloads against a cluster; their log is ``history.jsonl`` in a directory.

        Raises UsageError for a workload there is none of.
        """
        directory = directory or target.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = directory / "history.jsonl"
        log.unlink(missing_ok=True)
        chosen = named(workloads)
        loaded = any(workload.is_load for workload in chosen)
        if loaded:
            load.require()
        config = configuration(target, chosen, log, seed=seed)
        argv = target.client_argv("pgbaton.proof.meter")
        child = await process.start(*argv, input=config.dump(), log=directory / "meter.log")
        meter = cls(child, log, tuple(client.name for client in config.clients if client.must_be_served))
        if loaded:
            await meter._add_load(target, directory, seed=seed)
        return meter

    async def _add_load(self, target: Target, directory: Path, *, seed: int) -> None:
        """Start the load once its tables are there; the meter ends when that fails."""

        async def look() -> str | None:
            if (status := self.child.exit_status) is not None:
                raise self._failure(status)
            return None if self.log.exists() else "no log yet"

        config = load.LoadConfig(str(directory), target.conninfo(), seed)
        argv = target.client_argv("pgbaton.proof.load")
        try:
            await until("the meter has made its tables", look, seconds=START_SECONDS)
            self.load = await process.start(*argv, input=config.dump(), log=directory / "load.log")
        except BaseException:
            await self.child.end(timeout=STOP_SECONDS)
            raise

    def recent(self) -> tuple[Operation, ...]:
        """Return the operations that ended within the last RECENT_SECONDS; only what is new is read."""
        if self.log.exists():
            with self.log.open("rb") as file:
                self._offset = max(self._offset, late_line(file, RECENT_BYTES))
                file.seek(self._offset)
                fresh = file.read()
            whole = fresh[: fresh.rfind(b"\n") + 1]
            self._offset += len(whole)
            since = time.monotonic() - RECENT_SECONDS
            seen = (*self._recent, *parse(whole.decode().splitlines(keepends=True)).operations)
            self._recent = tuple(operation for operation in seen if operation.end >= since)
        return self._recent

    async def until_calm(self, *, since: float, seconds: float) -> float:
        """Wait until every client has been served without a break for CALM_SECONDS; return when that was.

        ``since`` is the earliest moment at which the calm may begin. Raises UnhealthyError at the deadline, Error
        when the meter itself has ended.
        """
        deadline = time.monotonic() + seconds
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if (status := self.child.exit_status) is not None:
                raise self._failure(status)
            now = time.monotonic()
            waiting = unserved(self.recent(), self.served, now)
            if now - CALM_SECONDS >= since and not waiting:
                return now
            if now > deadline:
                message = f"after {seconds:g} s these clients are still not served: {', '.join(waiting)}"
                raise UnhealthyError(message, hint="pgbaton status shows the cluster, pgbaton logs its journals")

    def _failure(self, status: int) -> Error:
        said = self.child.log.read_text(encoding="utf-8", errors="replace").strip()[-process.TAIL :]
        return Error(f"the meter ended early, with exit status {status}: {said}", where=str(self.child.log))

    async def stop(self) -> History:
        """End the clients and return the whole history; raises Error when they did not end in good order."""
        if self.load is not None:
            await self.load.end(timeout=STOP_SECONDS)
        status = await self.child.end(timeout=STOP_SECONDS)
        history = self.history()
        if status or not history.finished:
            raise self._failure(status)
        return history

    def history(self) -> History:
        """Return everything that has been logged so far."""
        if not self.log.exists():
            return parse(())
        with self.log.open(encoding="utf-8") as lines:
            return parse(lines)


def late_line(file: BinaryIO, size: int) -> int:
    """Return where the first line begins of those that are in the last so many bytes of a file."""
    begin = file.seek(0, os.SEEK_END) - size
    if begin <= 0:
        return 0
    file.seek(begin)
    file.readline()
    return file.tell()


def configuration(target: Target, chosen: Iterable[Workload], log: Path, *, seed: int) -> MeterConfig:
    """Return what the meter is told."""
    chosen = tuple(chosen)
    return MeterConfig(
        log=str(log),
        write=target.conninfo(),
        read=target.conninfo(reads=True),
        clients=tuple(client for workload in chosen for client in workload.clients),
        prepare=(*PREPARE, *(statement for workload in chosen for statement in workload.tables)),
        seed=seed,
        spread=placement.has_several_vips(target.topology),
    )


def unserved(recent: Iterable[Operation], clients: Iterable[str], now: float) -> tuple[str, ...]:
    """Return the clients that waited too long within the last CALM_SECONDS. Pure."""
    window = Span(now - CALM_SECONDS, now)
    served: dict[str, list[float]] = {client: [] for client in clients}
    for operation in recent:
        if operation.outcome is Outcome.OK and operation.client in served:
            served[operation.client].append(operation.end)
    return tuple(client for client, times in served.items() if longest_gap(times, window).seconds > CALM_GAP_SECONDS)
