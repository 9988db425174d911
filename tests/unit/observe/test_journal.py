from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest

from pgbaton.hosts.local import LocalHost
from pgbaton.hosts.machine import MachineHost
from pgbaton.observe import journal
from pgbaton.observe.journal import Entry, Journals


def line(at: int, message: object, **fields: object) -> str:
    given = {"__REALTIME_TIMESTAMP": str(at), "MESSAGE": message, "_SYSTEMD_UNIT": "patroni.service", "PRIORITY": "6"}
    return json.dumps({**given, **fields})


@dataclass(frozen=True)
class Writing(LocalHost):
    """A host whose journal is this text, and which then ends, or stays."""

    text: str = ""
    stays: bool = False

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        """Return a command line that prints the journal."""
        del argv, terminal
        return ("sh", "-c", 'printf "%s" "$1"; exec ${2:-true}', "sh", self.text, "sleep 60" if self.stays else "")


UNITS = {"db1": ("patroni.service",), "db2": ("patroni.service",)}


async def test_journals_are_merged_by_time_and_a_host_that_is_off_is_told_of() -> None:
    first = Writing("db1", text=line(30, "third") + "\n" + line(10, "first") + "\n")
    second = Writing("db2", text=line(20, "second") + "\n")
    third = MachineHost("db3", None)
    journals = Journals({**UNITS, "db3": ("patroni.service",)}, since=0)
    entries, silent = await journal.read(journals, {"db1": first, "db2": second, "db3": third})
    assert [(entry.host, entry.message) for entry in entries] == [("db1", "first"), ("db2", "second"), ("db1", "third")]
    assert silent == {"db3": "the machine is powered off"}


def test_the_forms_of_a_message() -> None:
    assert journal.parse("db1", line(1, [104, 105])).message == "hi"
    assert journal.parse("db1", line(1, None)).message == "(a message that journalctl does not print)"


def test_what_systemd_says_of_a_unit_belongs_to_the_unit() -> None:
    said = line(1, "Started", UNIT="etcd.service", _SYSTEMD_UNIT="init.scope")
    assert journal.parse("db1", said).unit == "etcd.service"


def test_journalctl_is_asked_for_units_and_time_and_no_more_fields_than_needed() -> None:
    argv = Journals(UNITS, since=1_500_000).argv("db1", follow=True)
    assert "--since=@1.500000" in argv
    assert "--unit=patroni.service" in argv
    assert "--follow" in argv


def test_secrets_are_taken_out_of_every_message_and_nothing_else_moves() -> None:
    entries = [
        Entry(at, "db1", "patroni.service", "patroni", 6, message) for at, message in enumerate(["a hush b", "c", ""])
    ]
    redacted = journal.redacted(entries, lambda text: text.replace("hush", "<<secret:x>>"))
    assert [entry.message for entry in redacted] == ["a <<secret:x>> b", "c", ""]
    assert journal.redacted([], lambda text: text) == ()


async def test_following_goes_on_when_a_host_has_gone_and_says_so_once() -> None:
    staying = Writing("db1", text=line(10, "here") + "\n", stays=True)
    connections: list[int] = []
    told: list[Entry] = []
    silent: list[tuple[str, str]] = []

    def connect() -> dict[str, LocalHost | MachineHost]:
        connections.append(1)
        return {"db1": staying, "db2": MachineHost("db2", None)}

    follow = journal.follow(
        Journals(UNITS, since=0), connect, tell=told.extend, silent=lambda name, reason: silent.append((name, reason))
    )
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(follow, 1.8)
    assert [entry.message for entry in told] == ["here"]
    assert silent == [("db2", "the machine is powered off")]
    assert len(connections) >= 3
