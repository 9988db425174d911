"""Load without a history: pgbench's TPC-B-like transactions beside the clients that measure. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.proof.workloads.base import SCHEMA, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

BRANCHES = 5
TELLERS = 10 * BRANCHES
ACCOUNTS = 10_000
#: How many connections, and how many transactions a second in all: load, not a test of strength.
CONNECTIONS = 4
RATE = 50
#: Longer than any trial.
SECONDS = 86_400

TABLES = (
    f"CREATE TABLE {SCHEMA}.pgbench_branches (bid int PRIMARY KEY, bbalance int) WITH (fillfactor = 50)",
    f"CREATE TABLE {SCHEMA}.pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int) WITH (fillfactor = 50)",
    f"CREATE TABLE {SCHEMA}.pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))",
    f"CREATE TABLE {SCHEMA}.pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp)",
    f"INSERT INTO {SCHEMA}.pgbench_branches SELECT n, 0 FROM generate_series(1, {BRANCHES}) AS n",  # noqa: S608 - our own names
    f"INSERT INTO {SCHEMA}.pgbench_tellers SELECT n, 1 + n % {BRANCHES}, 0 FROM generate_series(1, {TELLERS}) n",  # noqa: S608
    f"INSERT INTO {SCHEMA}.pgbench_accounts SELECT n, 1 + n % {BRANCHES}, 0, '' FROM generate_series(1, {ACCOUNTS}) n",  # noqa: S608
)
#: The transaction that pgbench has built in, on tables in a schema of ours.
SCRIPT = f"""\\set aid random(1, {ACCOUNTS})
\\set bid random(1, {BRANCHES})
\\set tid random(1, {TELLERS})
\\set delta random(-5000, 5000)
BEGIN;
UPDATE {SCHEMA}.pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM {SCHEMA}.pgbench_accounts WHERE aid = :aid;
UPDATE {SCHEMA}.pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE {SCHEMA}.pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO {SCHEMA}.pgbench_history VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
"""  # noqa: S608 - pgbench's own variables, integers


def argv(program: str, conninfo: str, script: str, *, seed: int) -> tuple[str, ...]:
    """Return the command line; ``conninfo`` names a password file, and holds no password."""
    return (
        program, "--no-vacuum", f"--file={script}", f"--client={CONNECTIONS}", f"--rate={RATE}", f"--time={SECONDS}",
        f"--random-seed={seed}", conninfo,
    )  # fmt: skip


def password_line(parameters: Mapping[str, str | int]) -> str:
    """Return the line of a password file for a connection (PostgreSQL docs, 32.16)."""
    names = ("host", "port", "dbname", "user", "password")
    return ":".join(str(parameters[name]).replace("\\", "\\\\").replace(":", "\\:") for name in names) + "\n"


PGBENCH = Workload(name="pgbench", does="keeps the cluster busy with pgbench, unrecorded", tables=TABLES)
