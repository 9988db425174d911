"""What a cluster's own journals say about a failover: the moments that part an outage into its causes.

The wording is that of the programs themselves (Patroni 3 and 4, PostgreSQL, HAProxy 2 and 3, Keepalived 2.2, and our
agent); a mark that is not found stays unknown.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pgbaton.errors import Error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.hosts.base import Host

UNITS = (
    "patroni.service",
    "pgbaton-postgresql.service",
    "haproxy.service",
    "keepalived.service",
    "pgbaton-agent.service",
)


class Moment(StrEnum):
    """A moment of a failover that leaves a line in a journal."""

    DETECTED = "detected"
    FENCED = "fenced"
    RELEASED = "released"
    ELECTED = "elected"
    WRITABLE = "writable"
    ROUTED = "routed"
    CLAIMED = "claimed"


#: Which line of which unit stands for a moment.
PATTERNS: tuple[tuple[str, Moment, re.Pattern[str]], ...] = (
    (
        "patroni.service",
        Moment.DETECTED,
        re.compile(
            r"Primary crashed\. Failing over|Demoting self|[Rr]eceived switchover request|switchover: demoting"
            r"|Request failed to \S+: GET|Got response from \S+ "
        ),
    ),
    ("patroni.service", Moment.RELEASED, re.compile(r"Leader key released")),
    ("patroni.service", Moment.ELECTED, re.compile(r"acquired session lock|promoted self to leader")),
    ("patroni.service", Moment.WRITABLE, re.compile(r"database system is ready to accept connections")),
    (
        "pgbaton-postgresql.service",
        Moment.WRITABLE,
        re.compile(r"database system is ready to accept connections"),
    ),
    ("haproxy.service", Moment.ROUTED, re.compile(r"Server primary/\S+ is UP")),
    ("keepalived.service", Moment.CLAIMED, re.compile(r"Entering MASTER STATE")),
    # Against another host, or against this one's own clients.
    (
        "pgbaton-agent.service",
        Moment.FENCED,
        re.compile(r"fenced \S+; connections to it|clients of this host: (?:held|refused)"),
    ),
)


@dataclass(frozen=True)
class Mark:
    """A moment as a host's journal tells it; ``time`` is wall clock time in seconds."""

    moment: Moment
    time: float
    host: str
    text: str


def read(host: str, lines: Iterable[str]) -> tuple[Mark, ...]:
    """Return the marks in a journal (``journalctl -o json``). Pure."""
    marks = (_mark(host, json.loads(line)) for line in lines if line.startswith("{"))
    return tuple(mark for mark in marks if mark is not None)


def _mark(host: str, entry: Mapping[str, object]) -> Mark | None:
    message, unit = entry.get("MESSAGE"), entry.get("_SYSTEMD_UNIT")
    if not isinstance(message, str):  # journald gives bytes that are no UTF-8 as a list of numbers
        return None
    for of_unit, moment, pattern in PATTERNS:
        if unit == of_unit and pattern.search(message):
            return Mark(moment, int(str(entry["__REALTIME_TIMESTAMP"])) / 1e6, host, message.strip()[:200])
    return None


async def collect(hosts: Mapping[str, Host], *, since: float) -> tuple[Mark, ...]:
    """Return the marks of all hosts since a wall clock time, in order; hosts that do not answer have none."""
    found = await asyncio.gather(*(_if_it_answers(host, since) for host in hosts.values()))
    return in_order(found)


async def _if_it_answers(host: Host, since: float) -> tuple[Mark, ...]:
    try:
        return await journal(host, since=since)
    except Error:
        return ()


async def journal(host: Host, *, since: float, units: Iterable[str] = UNITS, timeout: float = 30.0) -> tuple[Mark, ...]:
    """Return the marks of some units on a host since a wall clock time; raises Error when it does not answer."""
    of_units = [argument for unit in units for argument in ("-u", unit)]
    options = ("-q", "--no-pager", "-o", "json", f"--since=@{since:.6f}")
    result = await host.run("journalctl", *options, *of_units, timeout=timeout)
    return read(host.name, result.stdout.splitlines())


def in_order(found: Iterable[Iterable[Mark]]) -> tuple[Mark, ...]:
    """Return the marks of several hosts by their time. Pure."""
    return tuple(sorted((mark for marks in found for mark in marks), key=lambda mark: mark.time))
