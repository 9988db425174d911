"""What a pooler takes away, case by case, and what it does not: as a program, it tries them all and says what it saw.

The first line of standard input is libpq's parameters as JSON, so that no password stands in argv. In argv are the
cases that are wanted, by their functions' names; without any it is all. The answer is a line of JSON: what each came
to. The table in docs/reference/transaction-pooling.md is this one.
"""

from __future__ import annotations

import json
import sys
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pooled_session import SECONDS, Client, refusal_of
from psycopg import errors

if TYPE_CHECKING:
    from collections.abc import Callable

WORKS, LOST, REFUSED = "works", "lost", "refused"


@dataclass(frozen=True)
class Case:
    """What clients do; what comes of it, pooled by transaction and by session; what happens, and what to do instead."""

    what: str
    transaction: str
    session: str
    meaning: str
    attempt: Callable[[Client], str]


def outcome(works: object) -> str:
    """Return the word for what was seen."""
    return WORKS if works else LOST


def setting(client: Client) -> str:
    client.do("SET statement_timeout = '123s'")
    return outcome(client.value("SHOW statement_timeout") == "123s")


def search_path(client: Client) -> str:
    client.do("SET search_path = pg_catalog")
    return outcome(client.value("SHOW search_path") == "pg_catalog")


def own_variable(client: Client) -> str:
    client.do("SELECT set_config('shop.tenant', 'tea', false)")
    return outcome(client.value("SELECT current_setting('shop.tenant', true)") == "tea")


def others_setting(client: Client) -> str:
    client.do("SET statement_timeout = '123s'")
    return outcome(client.value("SHOW statement_timeout", connection=client.other) != "123s")


def tracked(client: Client) -> str:
    client.do("SET TimeZone = 'Asia/Tokyo'", "SET DateStyle = 'German'", "SET application_name = 'orders'")
    seen = {client.value(f"SHOW {name}") for name in ("TimeZone", "DateStyle", "application_name")}
    return outcome(seen == {"Asia/Tokyo", "German, DMY", "orders"})


def tracked_at_login(client: Client) -> str:
    named = client.connect(application_name="orders", client_encoding="LATIN1")
    client.connection = named
    client.do("SELECT 1")
    return outcome(
        (client.value("SHOW application_name"), client.value("SHOW client_encoding")) == ("orders", "LATIN1")
    )


def reset_to_login(client: Client) -> str:
    named = client.connect(client_encoding="LATIN1")
    named.execute("SET client_encoding = 'LATIN2'")
    named.execute("RESET client_encoding")
    return outcome(client.value("SHOW client_encoding", connection=named) == "LATIN1")


def options_at_login(client: Client) -> str:
    optioned = client.connect(options="-c statement_timeout=123s")
    return outcome(client.value("SHOW statement_timeout", connection=optioned) == "123s")


def unknown_at_login(client: Client) -> str:
    refusal = refusal_of(client.where, search_path="pg_catalog")
    return REFUSED if "unsupported startup parameter: search_path" in refusal else WORKS


def local_setting(client: Client) -> str:
    with client.connection.transaction():
        client.connection.execute("SET LOCAL statement_timeout = '123s'")
        client.value("SELECT set_config('shop.tenant', 'tea', true)")
        seen = (client.value("SHOW statement_timeout"), client.value("SELECT current_setting('shop.tenant')"))
    return outcome(seen == ("123s", "tea"))


def characteristics(client: Client) -> str:
    client.do("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    return outcome(client.value("SHOW transaction_isolation") == "serializable")


def isolation(client: Client) -> str:
    with client.connection.transaction():
        client.connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        return outcome(client.value("SHOW transaction_isolation") == "serializable")


def role(client: Client) -> str:
    client.do("SET ROLE pg_database_owner")
    return outcome(client.value("SELECT current_user") == "pg_database_owner")


def listen(client: Client) -> str:
    client.do("LISTEN orders")
    with client.connect() as speaker:
        speaker.execute("NOTIFY orders, 'tea'")
    client.connection.execute("SELECT 1")  # with its answer comes what was to be told
    return outcome([note.payload for note in client.connection.notifies(timeout=0.5, stop_after=1)] == ["tea"])


def notify(client: Client) -> str:
    """Somebody hears it: whoever the pooler put on the connection that listens."""
    client.do("LISTEN orders")
    with client.connect() as speaker:
        speaker.execute("NOTIFY orders, 'tea'")
    client.other.execute("COMMIT")
    heard = [
        note.payload
        for listener in (client.connection, client.other)
        for note in listener.notifies(timeout=0.5, stop_after=1)
    ]
    return outcome(heard == ["tea"])


def session_lock(client: Client) -> str:
    client.do("SELECT pg_advisory_lock(4711)")
    return outcome(client.value("SELECT pg_advisory_unlock(4711)"))


def transaction_lock(client: Client) -> str:
    rival, attempt = client.connect(), "SELECT pg_try_advisory_xact_lock(4712)"
    with client.connection.transaction():
        client.connection.execute("SELECT pg_advisory_xact_lock(4712)")
        meanwhile = client.value(attempt, connection=rival)
    return outcome(not meanwhile and client.value(attempt, connection=rival))


def temporary_table(client: Client) -> str:
    client.do("CREATE TEMPORARY TABLE basket AS SELECT 1 AS item")
    try:
        return outcome(client.value("SELECT item FROM basket") == 1)
    except errors.UndefinedTable:
        return LOST


def table_for_a_transaction(client: Client) -> str:
    with client.connection.transaction():
        client.connection.execute("CREATE TEMPORARY TABLE carton ON COMMIT DROP AS SELECT 1 AS item")
        return outcome(client.value("SELECT item FROM carton") == 1)


def held_cursor(client: Client) -> str:
    client.do("DECLARE kept CURSOR WITH HOLD FOR SELECT 1")
    try:
        return outcome(client.value("FETCH kept") == 1)
    except errors.InvalidCursorName:
        return LOST


def cursor(client: Client) -> str:
    with client.connection.transaction():
        client.connection.execute("DECLARE rows CURSOR FOR SELECT generate_series(1, 2)")
        return outcome([client.value("FETCH rows") for _ in range(2)] == [1, 2])


def sql_prepare(client: Client) -> str:
    client.do("PREPARE next AS SELECT $1::int + 1")
    try:
        return outcome(client.value("EXECUTE next(1)") == 2)
    except errors.InvalidSqlStatementName:
        return LOST


def protocol_prepare(client: Client) -> str:
    query, used = "SELECT $1::int + 1, pg_backend_pid()", None
    raw = client.connection.pgconn
    raw.prepare(b"next", query.encode())
    for number in range(2):
        answer = raw.exec_prepared(b"next", [str(number).encode()])
        if answer.get_value(0, 0) != str(number + 1).encode():
            return LOST
        used = used or int(answer.get_value(0, 1) or 0)
        client.lend(used)
    return WORKS


def current_value(client: Client) -> str:
    with client.connection.transaction():
        client.connection.execute("DROP SEQUENCE IF EXISTS pooling_numbers; CREATE SEQUENCE pooling_numbers")
    client.do("SELECT nextval('pooling_numbers')")
    try:
        return outcome(client.value("SELECT currval('pooling_numbers')") == 1)
    except errors.ObjectNotInPrerequisiteState:
        return LOST


def returned_value(client: Client) -> str:
    with client.connection.transaction():
        client.connection.execute("DROP TABLE IF EXISTS pooling_rows; CREATE TABLE pooling_rows (id serial, item text)")
    return outcome(client.value("INSERT INTO pooling_rows (item) VALUES ('tea') RETURNING id") == 1)


def own_process(client: Client) -> str:
    used = client.value("SELECT pg_backend_pid()")
    client.lend(used)
    return outcome(client.value("SELECT pg_backend_pid()") == used)


def cancel(client: Client) -> str:
    """One cancel, sent when the query is under way: it has to find the process that runs it."""
    watcher, mark, done = client.connect(), uuid.uuid4().hex, threading.Event()
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND right(query, 32) = "

    def lose_patience() -> None:
        while not client.value(f"{running} '{mark}' /* is that */", connection=watcher):
            if done.wait(0.01):
                return
        client.connection.cancel_safe(timeout=SECONDS)

    canceller = threading.Thread(target=lose_patience)
    canceller.start()
    try:
        client.connection.execute(f"SELECT pg_sleep({SECONDS}) -- {mark}")
    except errors.QueryCanceled:
        return outcome(client.value("SELECT 1") == 1)
    finally:
        done.set()
        canceller.join()
    return LOST


def copy(client: Client) -> str:
    with client.connection.transaction(), client.connection.cursor() as hand:
        client.connection.execute("CREATE TEMPORARY TABLE crate (item int) ON COMMIT DROP")
        with hand.copy("COPY crate FROM STDIN") as rows:
            for item in range(100):
                rows.write_row((item,))
        with hand.copy("COPY crate TO STDOUT") as rows:
            return outcome(len(list(rows.rows())) == 100)


def savepoint(client: Client) -> str:
    with client.connection.transaction():
        client.connection.execute("SAVEPOINT before")
        try:
            client.connection.execute("SELECT 1 / 0")
        except errors.DivisionByZero:
            client.connection.execute("ROLLBACK TO before")
        return outcome(client.value("SELECT 1") == 1)


def pipeline(client: Client) -> str:
    with client.connection.pipeline(), client.connection.cursor() as first, client.connection.cursor() as second:
        first.execute("SELECT 1")
        second.execute("SELECT 2")
        return outcome((first.fetchone(), second.fetchone()) == ((1,), (2,)))


def load(client: Client) -> str:
    try:
        client.connection.execute("LOAD 'auto_explain'")
    except errors.InsufficientPrivilege:
        return REFUSED
    return WORKS


CASES = (
    Case(
        "`SET` (`statement_timeout`, `work_mem` …)", LOST, WORKS,
        "It stays on the server connection, for whoever gets that next. `SET LOCAL`, or `ALTER ROLE … SET` for all.",
        setting,
    ),
    Case(
        "`SET search_path`", LOST, WORKS,
        "As above: another tenant's tables are what may be read next. Write schemas into statements, or `SET LOCAL`.",
        search_path,
    ),
    Case(
        "variables of your own, `set_config(…, false)`", LOST, WORKS,
        "As above, which matters where row security asks for them. `set_config(…, true)` in each transaction.",
        own_variable,
    ),
    Case(
        "being spared what others `SET`", LOST, WORKS,
        "One client that sets something changes it for all. Take care that none does.",
        others_setting,
    ),
    Case(
        "`SET` of `TimeZone`, `DateStyle`, `application_name` …", WORKS, WORKS,
        "What the server reports to clients, PgBouncer remembers for each, and sets again.",
        tracked,
    ),
    Case(
        "the same in the login, `client_encoding` too", WORKS, WORKS,
        "",
        tracked_at_login,
    ),
    Case(
        "`RESET` to what the login said", LOST, LOST,
        "It comes back to what role, database and server are set to.",
        reset_to_login,
    ),
    Case(
        "`options=-c …` in the login, `PGOPTIONS`", LOST, LOST,
        "PgBouncer is told to ignore it, since some drivers always send it. `ALTER ROLE … SET`.",
        options_at_login,
    ),
    Case(
        "any other parameter in the login", REFUSED, REFUSED,
        "`unsupported startup parameter`: `currentSchema` of JDBC, most `server_settings` of asyncpg.",
        unknown_at_login,
    ),
    Case(
        "`SET LOCAL`, `set_config(…, true)`", WORKS, WORKS,
        "Until the transaction ends.",
        local_setting,
    ),
    Case(
        "`SET SESSION CHARACTERISTICS`", LOST, WORKS,
        "As `SET`. Say it of each transaction.",
        characteristics,
    ),
    Case(
        "`BEGIN` or `SET TRANSACTION` with an isolation level", WORKS, WORKS,
        "",
        isolation,
    ),
    Case(
        "`SET ROLE`", LOST, WORKS,
        "The next client of this user has the role. `SET LOCAL ROLE`, or a login for each role.",
        role,
    ),
    Case(
        "`LISTEN`", LOST, WORKS,
        'Another client hears it, or nobody. A user or database with `pool_mode = "session"`.',
        listen,
    ),
    Case(
        "`NOTIFY`", WORKS, WORKS,
        "Whoever listens on a session hears it.",
        notify,
    ),
    Case(
        "advisory locks of the session", LOST, WORKS,
        "The lock stays on the server connection, and cannot be given back. `pg_advisory_xact_lock`.",
        session_lock,
    ),
    Case(
        "advisory locks of the transaction, row and table locks", WORKS, WORKS,
        "",
        transaction_lock,
    ),
    Case(
        "temporary tables", LOST, WORKS,
        "It is elsewhere, and there for somebody else. Within one transaction, with `ON COMMIT DROP`.",
        temporary_table,
    ),
    Case(
        "temporary tables with `ON COMMIT DROP`", WORKS, WORKS,
        "In the transaction that makes them.",
        table_for_a_transaction,
    ),
    Case(
        "cursors `WITH HOLD`", LOST, WORKS,
        "Django's `iterator()` outside of a transaction is one. Fetch within a transaction.",
        held_cursor,
    ),
    Case(
        "cursors within a transaction", WORKS, WORKS,
        "",
        cursor,
    ),
    Case(
        "`PREPARE` and `EXECUTE` as SQL", LOST, WORKS,
        "Let the driver prepare in the protocol.",
        sql_prepare,
    ),
    Case(
        "statements that the driver prepares", WORKS, WORKS,
        "PgBouncer prepares them wherever they are needed, up to `pooling.prepared_statements`. Not on Debian 12.",
        protocol_prepare,
    ),
    Case(
        "`currval()`, `lastval()`", LOST, WORKS,
        "An error, or another client's number. `INSERT … RETURNING`.",
        current_value,
    ),
    Case(
        "`INSERT … RETURNING`", WORKS, WORKS,
        "",
        returned_value,
    ),
    Case(
        "`pg_backend_pid()`, to be cancelled by", LOST, WORKS,
        "The next transaction may be in another process. The driver's own cancel.",
        own_process,
    ),
    Case(
        "cancelling a query by the driver", WORKS, WORKS,
        "PgBouncer finds the server connection that runs it.",
        cancel,
    ),
    Case(
        "`COPY`, both ways", WORKS, WORKS,
        "",
        copy,
    ),
    Case(
        "savepoints", WORKS, WORKS,
        "",
        savepoint,
    ),
    Case(
        "the protocol's pipeline mode", WORKS, WORKS,
        "",
        pipeline,
    ),
    Case(
        "`LOAD`", REFUSED, REFUSED,
        "A superuser's, and superusers do not come in through a pooler. `session_preload_libraries` in the topology.",
        load,
    ),
)  # fmt: skip

HEAD = ("| what | by transaction | by session | what happens, and what to do |", "|---|---|---|---|")


def table() -> str:
    """Return the cases as a table in Markdown."""
    rows = (
        f"| {case.what} | {case.transaction} | {case.session} | {case.meaning} |".replace("|  |", "| |")
        for case in CASES
    )
    return "\n".join((*HEAD, *rows)) + "\n"


def attempt(case: Case, where: dict[str, Any]) -> str:
    """Return what a case comes to; an error that it does not expect is its outcome."""
    try:
        with Client(where) as client:
            return case.attempt(client)
    except (errors.Error, OSError) as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Try what is wanted, as often as it is named, and print what was seen."""
    where, named = json.loads(sys.stdin.readline()), {case.attempt.__name__: case for case in CASES}
    wanted = [named[name] for name in sys.argv[1:]] or CASES
    sys.stdout.write(json.dumps([[case.what, attempt(case, where)] for case in wanted]) + "\n")


if __name__ == "__main__":
    main()
