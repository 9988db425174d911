"""The look at a server: one fresh connection, one statement, within a deadline. PostgreSQL 15 to 17, role pg_monitor.

The connection is a fresh one on purpose: a postmaster that hangs goes on serving the sessions that it has. Only the
end of a recovery is waited for in a session, where the server itself looks: to be asked anew again and again, and to
start a process for each question, would take from it what it needs for its promotion.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.agent.protocols import wire
from pgbaton.agent.protocols.connections import RefusedError

if TYPE_CHECKING:
    from pgbaton.agent.protocols.connections import TcpAddress, UnixSocket

#: SQLSTATEs of a server that lives and takes no connection now (PostgreSQL docs, appendix A).
TOO_MANY_CONNECTIONS = "53300"
STARTING_OR_STOPPING = "57P03"

# One statement: a server in trouble answers it or not. CASE keeps the functions from being called that a standby
# refuses, and the control file from being read while a walreceiver knows the timeline. Whoever waits to write or flush
# WAL waits for the disk (IO) or for another who does (LWLock); PostgreSQL 17 has another case in these names than 15.
STATEMENT = """
with here as materialized (
  select pg_is_in_recovery() as in_recovery, pg_last_wal_replay_lsn() as replayed
),
activity as materialized (
  select
    count(*) filter (where backend_type = 'client backend') as connections,
    count(*) filter (where lower(wait_event) in ('walwrite', 'walsync', 'walinitwrite', 'walinitsync')) as flushing
  from pg_stat_activity
)
select
  here.in_recovery,
  case when not here.in_recovery then ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
    else coalesce(receiver.received_tli, (
      select greatest(stored.timeline_id, reached.min_recovery_end_timeline)
      from pg_control_checkpoint() stored, pg_control_recovery() reached))
    end as timeline,
  case when not here.in_recovery then pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')
    else pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), here.replayed), '0/0')
    end as position,
  case when here.in_recovery then pg_wal_lsn_diff(here.replayed, '0/0') end as replayed,
  not here.in_recovery and activity.flushing > 0 as flush_awaited,
  coalesce(receiver.status = 'streaming', false) as receiving,
  extract(epoch from clock_timestamp() - receiver.last_msg_receipt_time)::float8 as heard_seconds_ago,
  receiver.sender_host as from_host,
  activity.connections as connections,
  current_setting('max_connections') as max_connections
from here cross join activity left join pg_stat_wal_receiver receiver on true
"""

#: Between two of the server's own looks at whether it is out of recovery. On a saturated machine a look cost 0.4 ms of
#: a processor: every 2 ms, on each standby, they took a sixth of what a promotion had of two of them.
RECOVERY_LOOK_SECONDS = 0.008
# Counted, because the clock may be set.
AWAIT_END_OF_RECOVERY = """
do $$ begin
  for look in 1..{looks} loop
    exit when not pg_is_in_recovery();
    perform pg_sleep({every_seconds});
  end loop;
end $$
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a server says of itself.

    ``position`` is in bytes: how far a primary has flushed, how far a standby has WAL, be it received or (before its
    walreceiver has begun, or from an archive) replayed. ``replayed`` is the same as ``position`` on a primary.
    ``flush_awaited`` tells whether some process of a primary waits to write or flush WAL at this moment.
    ``heard_seconds_ago`` is when the walreceiver got its last message; an idle primary sends none for half of
    wal_sender_timeout, so only a short time says something. It is None without a walreceiver, as is ``from_host``.
    """

    in_recovery: bool
    timeline: int
    position: int
    replayed: int
    flush_awaited: bool
    receiving: bool
    heard_seconds_ago: float | None
    from_host: str | None
    connections: int
    max_connections: int


async def read(where: UnixSocket | TcpAddress, login: wire.Login, *, deadline_seconds: float) -> Reading:
    """Return what the server says; raises AbsentError (none there), SilentError (deadline), RefusedError (it says no).

    A refusal is a sign of life: of a server that starts, stops or recovers (:data:`STARTING_OR_STOPPING`), or that is
    full (:data:`TOO_MANY_CONNECTIONS`).
    """
    login = _bounded(login, deadline_seconds)
    async with wire.session(where, login, deadline_seconds=deadline_seconds) as session:
        return await _asked(session, where)


async def read_after_recovery(
    where: UnixSocket | TcpAddress, login: wire.Login, *, within_seconds: float, deadline_seconds: float
) -> Reading:
    """Return what the server says in the moment in which it is out of recovery, or after so long; raises as `read`."""
    most_seconds = within_seconds + deadline_seconds
    looks = max(1, round(within_seconds / RECOVERY_LOOK_SECONDS))
    wait = AWAIT_END_OF_RECOVERY.format(looks=looks, every_seconds=RECOVERY_LOOK_SECONDS)
    login = _bounded(login, most_seconds)
    async with wire.session(where, login, deadline_seconds=most_seconds) as session:
        await session.query(wait)
        return await _asked(session, where)


def _bounded(login: wire.Login, seconds: float) -> wire.Login:
    """Return a login whose session ends what nobody waits for any more, and looks into no schema of a user's."""
    milliseconds = max(1, round(seconds * 1000))
    settings = (("statement_timeout", str(milliseconds)), ("search_path", "pg_catalog"))
    return dataclasses.replace(login, settings=(*login.settings, *settings))


async def _asked(session: wire.Session, where: UnixSocket | TcpAddress) -> Reading:
    answer = await session.query(STATEMENT)
    try:
        (record,) = answer.records()
        return reading(record)
    except (KeyError, TypeError, ValueError) as error:
        message = f"{where}: it answers what no server does: {answer}: {error}"
        raise RefusedError(message, sqlstate=wire.PROTOCOL_VIOLATION) from None


def reading(record: dict[str, str | None]) -> Reading:
    """Return the reading in a row; raises KeyError or ValueError when that is none."""
    heard = record["heard_seconds_ago"]
    position = _whole(record["position"])
    return Reading(
        in_recovery=_truth(record["in_recovery"]),
        timeline=_whole(record["timeline"]),
        position=position,
        replayed=position if record["replayed"] is None else _whole(record["replayed"]),
        flush_awaited=_truth(record["flush_awaited"]),
        receiving=_truth(record["receiving"]),
        # The two times are of one clock, which may be set back between them.
        heard_seconds_ago=None if heard is None else max(0.0, float(heard)),
        from_host=record["from_host"] or None,
        connections=_whole(record["connections"]),
        max_connections=_whole(record["max_connections"]),
    )


def _whole(text: str | None) -> int:
    return int(text or "")


def _truth(text: str | None) -> bool:
    return {"t": True, "f": False}[text or ""]
