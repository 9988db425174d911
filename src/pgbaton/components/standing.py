"""What a server is, asked of itself: for HAProxy and for the other hosts, where no Patroni says so.

The answers are words that contain each other where one includes the other: whoever looks for :data:`FIT` finds
:data:`STREAMS` too.
"""

from __future__ import annotations

import struct

TAKES_WRITES = "takes-writes"
#: A standby that has replayed what it knows of, within the lag that is allowed; and one that also streams.
FIT = "standby-fit"
STREAMS = "standby-fit-streams"
LATE = "standby-late"
FUNCTION = "pgbaton.standing"
#: PostgreSQL's protocol, version 3.0: a server that is ready for a question, and the end of a session.
PROTOCOL = 196608
READY = "5a0000000549"
TERMINATE = "5800000004"
#: The protocol that is named within TLS where TLS comes first (PostgreSQL 17).
ALPN = "postgresql"


def functions(check_role: str, rewind_role: str) -> str:
    """Return the SQL that makes the questions: they see more than who asks them. May be run again.

    A standby knows by itself how far its primary is: every message that it streams says so. One that follows nobody has
    been prepared to be promoted.
    """
    return f"""
CREATE OR REPLACE FUNCTION {FUNCTION}(lag bigint) RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN NOT pg_catalog.pg_is_in_recovery() THEN '{TAKES_WRITES}'
    WHEN receiver.status = 'streaming' AND receiver.latest_end_lsn - pg_catalog.pg_last_wal_replay_lsn() <= lag
    THEN '{STREAMS}'
    WHEN receiver.status IS DISTINCT FROM 'streaming'
      AND pg_catalog.pg_last_wal_receive_lsn() - pg_catalog.pg_last_wal_replay_lsn() <= lag THEN '{FIT}'
    ELSE '{LATE}'
  END FROM (SELECT 1) AS always LEFT JOIN pg_catalog.pg_stat_wal_receiver AS receiver ON true
$$;
CREATE OR REPLACE FUNCTION pgbaton.server_state() RETURNS json
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_catalog.json_build_object(
    'in_recovery', pg_catalog.pg_is_in_recovery(),
    'prepared', pg_catalog.pg_is_in_recovery() AND pg_catalog.current_setting('primary_conninfo') = '',
    'timeline', CASE WHEN pg_catalog.pg_is_in_recovery()
      THEN (SELECT max(greatest(receiver.received_tli, recovery.min_recovery_end_timeline, control.timeline_id))
            FROM pg_catalog.pg_control_checkpoint() AS control, pg_catalog.pg_control_recovery() AS recovery
            LEFT JOIN pg_catalog.pg_stat_wal_receiver AS receiver ON true)
      ELSE ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END)
$$;
REVOKE ALL ON FUNCTION {FUNCTION}(bigint), pgbaton.server_state() FROM PUBLIC;
GRANT USAGE ON SCHEMA pgbaton TO {check_role}, {rewind_role};
GRANT EXECUTE ON FUNCTION {FUNCTION}(bigint) TO {check_role};
GRANT EXECUTE ON FUNCTION pgbaton.server_state() TO {rewind_role};
"""  # noqa: S608 - constants of this package


def question(lag_bytes: int) -> str:
    """Return the SQL that asks what a server is; a standby further behind than so many bytes is late."""
    return f"SELECT {FUNCTION}({lag_bytes})"


def startup(role: str, database: str) -> str:
    """Return the message that opens a session, in hexadecimal."""
    words = ("user", role, "database", database, "application_name", "haproxy", "")
    body = struct.pack(">I", PROTOCOL) + b"".join(word.encode() + b"\0" for word in words)
    return (struct.pack(">I", len(body) + 4) + body).hex()


def query(sql: str) -> str:
    """Return the message that asks something, in hexadecimal."""
    body = sql.encode() + b"\0"
    return (b"Q" + struct.pack(">I", len(body) + 4) + body).hex()
