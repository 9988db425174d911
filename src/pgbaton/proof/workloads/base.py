"""What a workload is: tables, clients, what each asks next, and what a look at the end shows.

What operations of the workloads look like in a history (``workload``, ``call``, ``value`` → ``result``):

========  ========  =======================================  ==============================================  =====
workload  call      value                                    result                                          kind
========  ========  =======================================  ==============================================  =====
set       add       None: (client, id) is the element        None                                            WRITE
set       newest    name of a writing client                 newest id of it that the server shows, or None  READ
register  write     [key, new]                               None                                            WRITE
register  cas       [key, old, new]                          True: changed; False: another value was there   WRITE, QUERY when False
register  read      [key]                                    the value, None when there is none yet          QUERY
bank      transfer  [from, to, amount]                       True: done; False: not enough there             WRITE, QUERY when False
bank      total     None                                     [[account, balance], …]                         QUERY or READ
append    txn       [["append", key, x], ["r", key, null] …]  the same, each "r" with the list it saw         WRITE, QUERY without append
========  ========  =======================================  ==============================================  =====

A result is known for outcome ok alone. Elements are unique for their key, keys and accounts are integers.
"""  # noqa: E501 - a table

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from random import Random

    from pgbaton.proof.history import Kind, Outcome

#: Where all tables are, in the application's database; made anew at every start.
SCHEMA = "pgbaton_proof"

#: The address of the server that answers. Over its Unix socket, where a pool is beside it, there is none of the
#: connection: it is the last one then that the server listens at, which is its host's.
SERVER = "coalesce(host(inet_server_addr()), btrim(split_part(current_setting('listen_addresses'), ',', -1), ' []'))"
#: Columns that tell who answers a write: its address, the file of WAL that it writes (the first eight digits of the
#: name are the timeline) and its position in bytes.
WRITTEN_BY = f"{SERVER}, pg_walfile_name(pg_current_wal_insert_lsn()), pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
#: The same for what may be answered by a standby: it writes no file, and its position is what it has replayed.
ANSWERED_BY = (
    f"{SERVER},"
    " CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_insert_lsn()) END,"
    " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0'::pg_lsn"
)
#: How many columns those are.
STAMP = 3
#: How many hexadecimal digits at the beginning of a WAL file's name are its timeline.
TIMELINE_DIGITS = 8


class Port(StrEnum):
    """The address for writes or the one for reads."""

    WRITE = "write"
    READ = "read"


@dataclass(frozen=True)
class ClientSpec:
    """One client: what it calls, where, how often at most, and whether it keeps its connection.

    ``phase_seconds`` is by how much its beats are behind those of a client without; ``must_be_served`` says whether
    the service counts as back only when this client has it.
    """

    name: str
    workload: str
    calls: tuple[str, ...]
    period_seconds: float
    port: Port = Port.WRITE
    held: bool = True
    phase_seconds: float = 0.0
    must_be_served: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """One operation before it is carried out.

    ``kind`` is what it is unless the answer shows that nothing was changed. A ``script`` is sent as one message of
    several statements, the last of which is COMMIT; it has no parameters.
    """

    call: str
    value: Any
    kind: Kind
    statement: str
    parameters: tuple[str, ...] = ()
    script: bool = False


Row = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said to one statement: its command tag, and rows of texts."""

    tag: str
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer means: the operation's result, and who gave it.

    ``timeline`` is None where a standby answered. ``changed`` is False when a write found that it had nothing to do.
    """

    server: str | None
    timeline: int | None
    lsn: int | None
    result: Any = None
    changed: bool = True


class Generator(Protocol):
    """What clients of one workload ask next: the same from the same seed and the same answers."""

    def next(self, client: ClientSpec, number: int) -> Request:
        """Return a client's request of that number; numbers begin at 1, and none comes twice."""

    def learn(self, request: Request, outcome: Outcome, result: Any) -> None:  # noqa: ANN401 - any workload's
        """Take note of what became of a request."""


@dataclass(frozen=True)
class Workload:
    """What some clients do, and how their answers are read.

    ``tables`` are statements that make its tables, ``final`` is the query for all that they hold at the end, and
    ``settle`` reads its answer, as CSV without header, into fields of FinalRead. A load has no clients with a history:
    it only keeps the cluster busy.
    """

    name: str
    does: str
    tables: tuple[str, ...] = ()
    clients: tuple[ClientSpec, ...] = ()
    generator: Callable[[Random, Sequence[ClientSpec]], Generator] | None = None
    read: Callable[[Request, Sequence[Reply]], Reading] | None = None
    final: str | None = None
    settle: Callable[[str], Mapping[str, Any]] | None = None

    @property
    def is_load(self) -> bool:
        """Tell whether nothing of it is recorded."""
        return not self.clients


def stamped(row: Row, result: Any = None, *, changed: bool = True) -> Reading:  # noqa: ANN401 - any workload's
    """Return a reading whose first columns are WRITTEN_BY or ANSWERED_BY."""
    server, file, position = row[:STAMP]
    return Reading(
        server=server,
        timeline=None if file is None else int(file[:TIMELINE_DIGITS], 16),
        lsn=None if position is None else int(position),
        result=result,
        changed=changed,
    )


def spread(specs: Sequence[ClientSpec]) -> tuple[ClientSpec, ...]:
    """Return clients of one pace with their beats spread evenly over it."""
    return tuple(
        replace(spec, phase_seconds=spec.period_seconds * number / len(specs)) for number, spec in enumerate(specs)
    )
