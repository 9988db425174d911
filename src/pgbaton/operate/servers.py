"""PostgreSQL on the database hosts, asked over each one's own Unix socket."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import CommandError, Error, UnreachableError

if TYPE_CHECKING:
    from pgbaton.hosts.base import Host
    from pgbaton.topology.model import Topology

SOCKET_DIRECTORY = "/var/run/postgresql"

# One JSON object. Positions are bytes since 0/0: what a standby has received, what the primary has flushed.
# A standby is on the timeline of the newest WAL that it was sent: its control file follows later, and its receiver may
# be gone.
FACTS = """
SELECT json_build_object(
  'in_recovery', pg_is_in_recovery(),
  'position', CASE WHEN pg_is_in_recovery()
    THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_flush_lsn() END - '0/0',
  'replayed', CASE WHEN pg_is_in_recovery()
    THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - '0/0',
  'replay_paused', CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END,
  'receiving', EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'),
  'receiving_from', (SELECT sender_host FROM pg_stat_wal_receiver WHERE status = 'streaming'),
  'timeline', CASE WHEN pg_is_in_recovery()
    THEN (SELECT greatest(control.timeline_id, recovery.min_recovery_end_timeline, receiver.received_tli,
        (SELECT max(('x' || left(name, 8))::bit(32)::int) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'))
      FROM pg_control_checkpoint() AS control, pg_control_recovery() AS recovery
        LEFT JOIN pg_stat_wal_receiver AS receiver ON true)
    ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
  'streaming_to', (SELECT coalesce(json_agg(application_name), '[]')
    FROM pg_stat_replication WHERE state = 'streaming'),
  'pending_restart', EXISTS (SELECT FROM pg_settings WHERE pending_restart),
  'started', extract(epoch FROM pg_postmaster_start_time()))
"""


@dataclass(frozen=True)
class Server:
    """One running PostgreSQL, as it describes itself; positions are in bytes.

    ``receiving_from`` is the address of the server that it streams from; ``timeline`` 0 when it is not known.
    """

    in_recovery: bool
    position: int = 0
    replayed: int = 0
    replay_paused: bool = False
    receiving: bool = False
    streaming_to: frozenset[str] = frozenset()
    pending_restart: bool = False
    started: float = 0.0
    receiving_from: str | None = None
    timeline: int = 0


@dataclass(frozen=True)
class Absence:
    """Why a server could not be asked; ``host_answers`` tells a dead server from a host that cannot be reached."""

    reason: str
    host_answers: bool


def parse(output: str) -> Server:
    """Read what the query of facts printed."""
    facts: dict[str, Any] = json.loads(output)
    return Server(
        in_recovery=facts["in_recovery"],
        position=int(facts["position"] or 0),
        replayed=int(facts["replayed"] or 0),
        replay_paused=facts["replay_paused"],
        receiving=facts["receiving"],
        streaming_to=frozenset(facts["streaming_to"]),
        pending_restart=facts["pending_restart"],
        started=float(facts["started"]),
        receiving_from=facts["receiving_from"],
        timeline=int(facts["timeline"] or 0),
    )


async def sql(topology: Topology, host: Host, statement: str, *, seconds: float = 6) -> str:
    """Run one statement as the superuser on a host's own server; return what psql printed, unaligned."""
    port = str(topology.postgresql.port)
    argv = (
        "runuser",
        "-u",
        "postgres",
        "--",
        "psql",
        "-XAtq",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        SOCKET_DIRECTORY,
        "-p",
        port,
    )
    result = await host.run(*argv, "-d", "postgres", "-f", "-", input=statement, timeout=seconds)
    return result.stdout.strip()


async def look(topology: Topology, host: Host) -> Server | Absence:
    """Ask a host's server for its facts."""
    try:
        return parse(await sql(topology, host, FACTS))
    except UnreachableError as error:
        # A server that hangs looks like a host that hangs, until the host is asked for something else.
        return Absence(error.message, await answers(host))
    except CommandError as error:
        return Absence(why(error), await answers(host))


def why(error: CommandError) -> str:
    """Return why psql could not ask the server, in the words of libpq or the server where they are among the output."""
    lines = error.message.strip().splitlines()
    said = next((line for line in lines if "error: " in line), lines[-1]).strip()
    return f"PostgreSQL does not answer: {said.rpartition('failed: ')[2]}"


async def answers(host: Host) -> bool:
    """Tell whether a host runs programs at all."""
    try:
        await host.run("true", timeout=5)
    except Error:
        return False
    return True
