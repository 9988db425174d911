"""The hosts' journals as one timeline: each host asked for its own units, the entries merged by their time."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error
from pgbaton.hosts import process
from pgbaton.observe.words import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pgbaton.hosts.base import Host

#: Journal fields that are asked for; the time comes with every entry.
FIELDS = "MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT,SYSLOG_IDENTIFIER"
#: While journals are followed, entries wait this long for earlier ones from other hosts.
SETTLE_SECONDS = 0.3
RETRY_SECONDS = 1.0
#: Between the messages of entries whose secrets are taken out together; no message holds it.
SEPARATOR = "\x1e"


@dataclass(frozen=True)
class Entry:
    """One line of a journal; ``microseconds`` since 1970, ``priority`` as syslog counts (3: error, 6: information)."""

    microseconds: int
    host: str
    unit: str
    program: str
    priority: int
    message: str

    @property
    def at(self) -> datetime:
        """Return when it was written, in UTC."""
        return datetime.fromtimestamp(self.microseconds / 1e6, UTC)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON can carry it."""
        at = self.at.isoformat(timespec="microseconds")
        return {"at": at, "host": self.host, "unit": self.unit, "program": self.program} | {
            "priority": self.priority,
            "message": self.message,
        }


@dataclass(frozen=True)
class Journals:
    """Which journals to read, and from when; ``units`` by host, ``since`` in microseconds since 1970."""

    units: Mapping[str, tuple[str, ...]]
    since: int

    def argv(self, host: str, *, follow: bool = False) -> tuple[str, ...]:
        """Return journalctl's command line on a host."""
        units = tuple(f"--unit={unit}" for unit in self.units[host])
        since = f"--since=@{self.since / 1e6:.6f}"
        ending = ("--follow", "--no-tail") if follow else ()
        return (
            "journalctl",
            "--output=json",
            f"--output-fields={FIELDS}",
            "--no-pager",
            "--quiet",
            since,
            *units,
            *ending,
        )


async def read(journals: Journals, hosts: Mapping[str, Host]) -> tuple[tuple[Entry, ...], dict[str, str]]:
    """Return all entries by time, and by host why its journal could not be read."""
    answers = await asyncio.gather(*(read_host(journals, hosts[name]) for name in journals.units))
    found = dict(zip(journals.units, answers, strict=True))
    silent = {name: answer for name, answer in found.items() if isinstance(answer, str)}
    entries = [entry for answer in found.values() if not isinstance(answer, str) for entry in answer]
    return tuple(sorted(entries, key=lambda entry: entry.microseconds)), silent


async def read_host(journals: Journals, host: Host) -> tuple[Entry, ...] | str:
    """Return one host's entries, or the reason why there are none."""
    try:
        result = await host.run(*journals.argv(host.name), timeout=60)
    except Error as error:
        return reason(error)
    return tuple(parse(host.name, line) for line in result.stdout.splitlines())


def parse(host: str, line: str) -> Entry:
    """Read a line of journalctl's JSON."""
    fields = json.loads(line)
    return Entry(
        microseconds=int(fields["__REALTIME_TIMESTAMP"]),
        host=host,
        # What systemd itself says of a unit carries the unit's name in UNIT.
        unit=fields.get("UNIT") or fields.get("_SYSTEMD_UNIT", ""),
        program=fields.get("SYSLOG_IDENTIFIER", ""),
        priority=int(fields.get("PRIORITY", 6)),
        message=text(fields.get("MESSAGE")),
    )


def text(message: Any) -> str:  # noqa: ANN401 - the journal's JSON has several forms
    """Return a message: journalctl gives one that is not UTF-8 as numbers, and none at all for one that is too long."""
    if isinstance(message, list):
        return bytes(message).decode(errors="replace")
    return message if isinstance(message, str) else "(a message that journalctl does not print)"


async def follow(
    journals: Journals,
    connect: Callable[[], Mapping[str, Host]],
    *,
    tell: Callable[[tuple[Entry, ...]], None],
    silent: Callable[[str, str], None],
) -> None:
    """Give new entries to ``tell`` for ever, in the order of their time if they arrive within :data:`SETTLE_SECONDS`.

    A host whose journal ends (it was powered off, say) is reported to ``silent`` with the reason and tried again.
    """
    queue: asyncio.Queue[Entry] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        for name in journals.units:
            group.create_task(feed(journals, name, connect, silent, queue))
        while True:
            first = await queue.get()
            await asyncio.sleep(SETTLE_SECONDS)
            batch = [first, *(queue.get_nowait() for _ in range(queue.qsize()))]
            tell(tuple(sorted(batch, key=lambda entry: entry.microseconds)))


async def feed(
    journals: Journals,
    name: str,
    connect: Callable[[], Mapping[str, Host]],
    silent: Callable[[str, str], None],
    queue: asyncio.Queue[Entry],
) -> None:
    """Put one host's entries into the queue, and begin again after the last one whenever its journal ends."""
    told = ""
    while True:
        why = "its journal ended"
        try:
            argv = connect()[name].local_argv(journals.argv(name, follow=True))
            async with aclosing(process.lines(*argv, where=name)) as lines:
                async for line in lines:
                    entry, told = parse(name, line), ""
                    journals = replace(journals, since=max(journals.since, entry.microseconds + 1))
                    queue.put_nowait(entry)
        except Error as error:
            why = reason(error)
        if why != told:
            silent(name, why)
        told = why
        await asyncio.sleep(RETRY_SECONDS)


def redacted(entries: Iterable[Entry], redact: Callable[[str], str]) -> tuple[Entry, ...]:
    """Return entries with every secret in their messages replaced by its reference, all in one pass."""
    listed = tuple(entries)
    messages = redact(SEPARATOR.join(entry.message.replace(SEPARATOR, " ") for entry in listed)).split(SEPARATOR)
    return tuple(replace(entry, message=message) for entry, message in zip(listed, messages, strict=False))
