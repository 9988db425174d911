"""Psycopg 3 through the VIP, with its pool.

    python app.py tour      # each thing once: a transaction, prepared statements, COPY, a cancel, a read
    python app.py listen    # LISTEN and NOTIFY; wants pooling.mode = "session"
    python app.py write     # orders until ^C, through failovers; each line is an order that was acknowledged

Where and who comes from PGHOST, PGDATABASE, PGUSER, PGSSLROOTCERT and PGPASSFILE, as libpq reads them.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING

import psycopg
from psycopg.errors import QueryCanceled
from psycopg_pool import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable

WRITE_PORT = int(os.environ.get("PGPORT", "5000"))
READ_PORT = int(os.environ.get("READ_PORT", "5001"))
SETTINGS = {
    "sslmode": "verify-full",  # PGSSLROOTCERT is the cluster's authority
    "connect_timeout": 3,  # seconds; an attempt that got lost is soon repeated
    "keepalives_idle": 2,  # a balancer that lost its power is noticed after 2 + 3 x 1 seconds
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,  # milliseconds; the same for what was sent and nobody confirms
    "application_name": "orders",
}
TABLE = """
CREATE TABLE IF NOT EXISTS psycopg_orders (
    id text PRIMARY KEY, item text NOT NULL, quantity integer NOT NULL, placed timestamptz NOT NULL DEFAULT now()
)"""
PLACE = "INSERT INTO psycopg_orders (id, item, quantity) VALUES (%s, %s, %s) ON CONFLICT (id) DO NOTHING"
#: A server that is being ended, or is no primary any more.
PASSING = {"57P01", "57P02", "57P03", "25006"}


def pool_of(port: int) -> ConnectionPool:
    """Return a pool: small, since the cluster has one too; a connection that broke meanwhile is not handed out."""
    return ConnectionPool(
        kwargs={**SETTINGS, "port": port},
        min_size=1,
        max_size=5,
        timeout=10,  # seconds to wait for a connection
        reconnect_timeout=60,  # seconds it goes on trying by itself
        check=ConnectionPool.check_connection,
    )


def passes(error: psycopg.Error) -> bool:
    """Tell whether another attempt may succeed: class 08 is about the connection, 40 about conflicts.

    Without a code it is the driver's own: the connection broke, perhaps in the midst of an answer (InternalError).
    """
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InternalError)
    return state[:2] in {"08", "40"} or state in PASSING


def persist(work: Callable[[], None], *, seconds: float = 60) -> None:
    """Do something until it succeeds; it has to be harmless to do it twice."""
    deadline, pause = time.monotonic() + seconds, 0.05
    while True:
        try:
            return work()
        except psycopg.Error as error:
            if not passes(error) or time.monotonic() > deadline:
                raise
            print(f"again, after: {error}", file=sys.stderr)
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, 1.0)


def make_table(pool: ConnectionPool) -> None:
    """Make the table, as a migration would."""
    with pool.connection() as connection:
        connection.execute(TABLE)


def place(pool: ConnectionPool, order: str) -> None:
    """Place an order; the second time nothing happens, since its id is there already."""
    with pool.connection() as connection:  # commits at its end, rolls back after an error
        connection.execute(PLACE, (order, "tea", 1))


def write(pool: ConnectionPool) -> None:
    """Place orders until the program is told to end."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    run, number = uuid.uuid4().hex[:8], 0
    while not stop.wait(0.02):
        number += 1
        order = f"{run}-{number}"  # chosen before the first attempt: all attempts are about the same order
        persist(lambda order=order: place(pool, order))
        print(order, flush=True)


def transact(pool: ConnectionPool) -> str:
    """Change two rows or none."""
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    with pool.connection() as connection:
        try:
            with connection.transaction():
                connection.execute(PLACE, (first, "tea", 1))
                connection.execute(PLACE, (second, "no number", "many"))
        except psycopg.DataError:
            pass
        kept = connection.execute("SELECT count(*) FROM psycopg_orders WHERE id = %s", (first,)).fetchone()
    assert kept == (0,), kept
    return "an error took both rows back"


def prepare(pool: ConnectionPool) -> str:
    """Have the server plan a statement once; PgBouncer sees that every server connection knows it."""
    with pool.connection() as connection:
        for number in range(20):
            row = connection.execute("SELECT %s::int + 1", (number,), prepare=True).fetchone()
            connection.commit()  # from here on it may be another server connection
            assert row == (number + 1,), row
    return "20 transactions with one prepared statement"


def copy(pool: ConnectionPool) -> str:
    """Load many rows, and get them out again."""
    batch = uuid.uuid4().hex
    with pool.connection() as connection, connection.cursor() as cursor:
        with cursor.copy("COPY psycopg_orders (id, item, quantity) FROM STDIN") as rows:
            for number in range(1000):
                rows.write_row((f"{batch}-{number}", "coffee", number))
        connection.commit()
        query = "COPY (SELECT quantity FROM psycopg_orders WHERE id LIKE %s) TO STDOUT"
        with cursor.copy(query, (f"{batch}-%",)) as rows:
            total = sum(int(quantity) for (quantity,) in rows.rows())
    assert total == sum(range(1000)), total
    return "1000 rows in and out"


def cancel(pool: ConnectionPool) -> str:
    """Lose patience with a query."""
    with pool.connection() as connection:
        done = threading.Event()

        def lose_patience() -> None:
            while not done.wait(0.5):
                connection.cancel_safe(timeout=3)

        canceller = threading.Thread(target=lose_patience)
        canceller.start()
        try:
            connection.execute("SELECT pg_sleep(60)")
        except QueryCanceled:
            return "a query of a minute ended early"
        finally:
            done.set()
            canceller.join()
    message = "nobody cancelled"
    raise AssertionError(message)


def read(pool: ConnectionPool) -> str:
    """Ask the port for reads, whose answer may be some moments old."""
    with pool.connection() as connection:
        row = connection.execute("SELECT pg_is_in_recovery(), count(*) FROM psycopg_orders").fetchone()
    assert row is not None
    return f"{row[1]} orders, says a {'standby' if row[0] else 'primary'}"


def listen() -> str:
    """Hear of an order from another connection; each of the two keeps its server connection."""
    where = {**SETTINGS, "port": WRITE_PORT, "autocommit": True}
    with psycopg.connect(**where) as listener, psycopg.connect(**where) as speaker:
        listener.execute("LISTEN orders")
        speaker.execute("SELECT pg_notify('orders', 'an order of tea')")
        heard = [notice.payload for notice in listener.notifies(timeout=10, stop_after=1)]
    assert heard == ["an order of tea"], heard
    return heard[0]


def tour(writes: ConnectionPool, reads: ConnectionPool) -> None:
    """Do each thing once."""
    for step in (transact, prepare, copy, cancel):
        print(f"{step.__name__}: {step(writes)}")
    print(f"read: {read(reads)}")


def main() -> None:
    """Do what the command line says."""
    command = sys.argv[1] if len(sys.argv) > 1 else "tour"
    if command == "listen":
        print(f"listen: {listen()}")
        return
    with pool_of(WRITE_PORT) as writes, pool_of(READ_PORT) as reads:
        persist(lambda: make_table(writes))
        if command == "write":
            write(writes)
        else:
            tour(writes, reads)


if __name__ == "__main__":
    main()
