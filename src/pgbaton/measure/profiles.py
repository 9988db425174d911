"""What pgbench does: its tables in a schema of ours, and scripts on them. Pure.

PgBouncer passes no search path on, so every table is named with its schema, which pgbench's own scripts do not do.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = "pgbaton_bench"
#: What tells our schema from somebody else's of the same name.
MARK = "made by pgbaton bench, which drops it"
#: Rows for each unit of scale, as pgbench has them. A unit takes about 15 MB on every database host.
ACCOUNTS, TELLERS = 100_000, 10
SCALE_MB = 15


@dataclass(frozen=True)
class Profile:
    """A script of pgbench's; ``$…`` in it are counts of rows. ``writes`` tells whether it changes any."""

    name: str
    does: str
    text: str
    writes: bool

    def script(self, scale: int) -> str:
        """Return the script for tables of a scale."""
        counts = {"$accounts": ACCOUNTS * scale, "$tellers": TELLERS * scale, "$branches": scale}
        text = self.text
        for name, number in counts.items():
            text = text.replace(name, str(number))
        return text


_ACCOUNT = r"\set aid random(1, $accounts)"
_SELECT = f"SELECT abalance FROM {SCHEMA}.pgbench_accounts WHERE aid = :aid;"  # noqa: S608 - pgbench's own variables
_CHOOSE = rf"""{_ACCOUNT}
\set bid random(1, $branches)
\set tid random(1, $tellers)
\set delta random(-5000, 5000)"""
_UPDATE = f"UPDATE {SCHEMA}.pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;"  # noqa: S608
_NOTE = f"INSERT INTO {SCHEMA}.pgbench_history VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);"  # noqa: S608
_TELLER = f"UPDATE {SCHEMA}.pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;"  # noqa: S608
_BRANCH = f"UPDATE {SCHEMA}.pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;"  # noqa: S608

PROFILES = (
    Profile("select-only", "reads one row by its key", f"{_ACCOUNT}\n{_SELECT}\n", writes=False),
    Profile(
        "simple-update",
        "changes one row, reads it, adds another",
        f"{_CHOOSE}\nBEGIN;\n{_UPDATE}\n{_SELECT}\n{_NOTE}\nEND;\n",
        writes=True,
    ),
    Profile(
        "tpcb",
        "pgbench's own transaction: three updates, a read and an insert",
        f"{_CHOOSE}\nBEGIN;\n{_UPDATE}\n{_SELECT}\n{_TELLER}\n{_BRANCH}\n{_NOTE}\nEND;\n",
        writes=True,
    ),
)
NAMES = tuple(profile.name for profile in PROFILES)
PROTOCOLS = ("simple", "extended", "prepared")

#: Other tables of pgbench's, which may be somebody's own measurement; and the remark on a schema of our name, if any.
FOREIGN = (
    r"SELECT schemaname || '.' || tablename FROM pg_catalog.pg_tables WHERE tablename LIKE 'pgbench\_%' "  # noqa: S608
    f"AND schemaname <> '{SCHEMA}' ORDER BY 1"
)
REMARK = (
    "SELECT coalesce(pg_catalog.obj_description(oid, 'pg_namespace'), '-') "  # noqa: S608 - a constant of this module
    f"FROM pg_catalog.pg_namespace WHERE nspname = '{SCHEMA}'"
)
DROP = f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"
#: What pgbench does before its own scripts: the small tables would grow from one run to the next.
TIDY = f"TRUNCATE {SCHEMA}.pgbench_history; VACUUM {SCHEMA}.pgbench_branches, {SCHEMA}.pgbench_tellers"


def named(name: str) -> Profile:
    """Return a profile by its name."""
    return next(profile for profile in PROFILES if profile.name == name)


def tables(owner: str, scale: int) -> str:
    """Return the SQL, a superuser's, that makes the schema and its tables as ``owner`` and fills them."""
    return f"""
CREATE SCHEMA {SCHEMA} AUTHORIZATION {quoted(owner)};
COMMENT ON SCHEMA {SCHEMA} IS '{MARK}';
SET ROLE {quoted(owner)};
SET search_path = {SCHEMA};
CREATE TABLE pgbench_branches (bid int NOT NULL, bbalance int, filler char(88));
CREATE TABLE pgbench_tellers (tid int NOT NULL, bid int, tbalance int, filler char(84));
CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84));
CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
INSERT INTO pgbench_branches SELECT n, 0 FROM generate_series(1, {scale}) AS n;
INSERT INTO pgbench_tellers SELECT n, (n - 1) / {TELLERS} + 1, 0 FROM generate_series(1, {TELLERS * scale}) AS n;
INSERT INTO pgbench_accounts
  SELECT n, (n - 1) / {ACCOUNTS} + 1, 0, '' FROM generate_series(1, {ACCOUNTS * scale}) AS n;
ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid);
ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid);
ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid);
VACUUM ANALYZE pgbench_branches, pgbench_tellers, pgbench_accounts;
"""  # noqa: S608 - numbers, and a name that is quoted


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
