"""asyncpg through the VIP, with its pool.

    python app.py tour      # each thing once: a transaction, prepared statements, COPY, a cancel, a read
    python app.py listen    # LISTEN and NOTIFY; wants pooling.mode = "session"
    python app.py write     # orders until ^C, through failovers; each line is an order that was acknowledged

Where and who comes from PGHOST, PGDATABASE, PGUSER, PGSSLROOTCERT and PGPASSFILE.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
import ssl
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WRITE_PORT = int(os.environ.get("PGPORT", "5000"))
READ_PORT = int(os.environ.get("READ_PORT", "5001"))
TABLE = """
CREATE TABLE IF NOT EXISTS asyncpg_orders (
    id text PRIMARY KEY, item text NOT NULL, quantity integer NOT NULL, placed timestamptz NOT NULL DEFAULT now()
)"""
PLACE = "INSERT INTO asyncpg_orders (id, item, quantity) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING"
#: Seconds until an answer that does not come counts as lost: asyncpg sets no keepalive that would tell.
ANSWER = 10
#: A server that is being ended, or is no primary any more.
PASSING = {"57P01", "57P02", "57P03", "25006"}
#: What asyncpg says of connections that break or do not come about.
BROKEN = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def settings(port: int) -> dict[str, Any]:
    """Return how to connect; the certificate is checked against the cluster's authority, and so is the address."""
    return {
        "port": port,
        "ssl": ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"]),
        "timeout": 3,  # seconds; an attempt that got lost is soon repeated
        "command_timeout": ANSWER,
        "server_settings": {"application_name": "orders"},
    }


async def keep_state(_: asyncpg.Connection) -> None:
    """Leave a connection as it is: without transactions of its own there is nothing for the pool to reset."""


def pool_of(port: int) -> asyncpg.Pool:
    """Return a pool: small, since the cluster has one too."""
    return asyncpg.create_pool(
        **settings(port), min_size=1, max_size=5, max_inactive_connection_lifetime=60, reset=keep_state
    )


def passes(error: BaseException) -> bool:
    """Tell whether another attempt may succeed: class 08 is about the connection, 40 about conflicts.

    What is no error of the server's is the driver's own: the connection broke, perhaps between two statements.
    """
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in {"08", "40"} or state in PASSING
    return isinstance(error, BROKEN)


async def persist(work: Callable[[], Awaitable[None]], *, seconds: float = 60) -> None:
    """Do something until it succeeds; it has to be harmless to do it twice."""
    deadline, pause = time.monotonic() + seconds, 0.05
    while True:
        try:
            return await work()
        except (asyncpg.PostgresError, *BROKEN) as error:
            if not passes(error) or time.monotonic() > deadline:
                raise
            print(f"again, after: {error!r}", file=sys.stderr)
        await asyncio.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, 1.0)


async def make_table(pool: asyncpg.Pool) -> None:
    """Make the table, as a migration would."""
    await pool.execute(TABLE)


async def place(pool: asyncpg.Pool, order: str) -> None:
    """Place an order; the second time nothing happens, since its id is there already."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(PLACE, order, "tea", 1)


async def write(pool: asyncpg.Pool) -> None:
    """Place orders until the program is told to end."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    run, number = uuid.uuid4().hex[:8], 0
    while not stop.is_set():
        number += 1
        order = f"{run}-{number}"  # chosen before the first attempt: all attempts are about the same order
        await persist(lambda order=order: place(pool, order))
        print(order, flush=True)
        await asyncio.sleep(0.02)


async def transact(pool: asyncpg.Pool) -> str:
    """Change two rows or none."""
    first = uuid.uuid4().hex
    async with pool.acquire() as connection:
        try:
            async with connection.transaction():
                await connection.execute(PLACE, first, "tea", 1)
                await connection.execute("SELECT 1 / 0")
        except asyncpg.DivisionByZeroError:
            pass
        kept = await connection.fetchval("SELECT count(*) FROM asyncpg_orders WHERE id = $1", first)
    assert kept == 0, kept
    return "an error took both rows back"


async def prepare(pool: asyncpg.Pool) -> str:
    """Have the server plan a statement once; PgBouncer sees that every server connection knows it."""
    async with pool.acquire() as connection:
        statement = await connection.prepare("SELECT $1::int + 1")
        for number in range(20):  # each on its own may be on another server connection
            answer = await statement.fetchval(number)
            assert answer == number + 1, answer
    return "20 transactions with one prepared statement"


async def copy(pool: asyncpg.Pool) -> str:
    """Load many rows, and get them out again."""
    batch, out = uuid.uuid4().hex, io.BytesIO()
    rows = [(f"{batch}-{number}", "coffee", number) for number in range(1000)]
    async with pool.acquire() as connection:
        await connection.copy_records_to_table("asyncpg_orders", records=rows, columns=("id", "item", "quantity"))
        query = "SELECT quantity FROM asyncpg_orders WHERE id LIKE $1"
        await connection.copy_from_query(query, f"{batch}-%", output=out)
    total = sum(map(int, out.getvalue().split()))
    assert total == sum(range(1000)), total
    return "1000 rows in and out"


async def cancel(pool: asyncpg.Pool) -> str:
    """Lose patience with a query: asyncpg cancels what runs into its timeout."""
    async with pool.acquire() as connection:
        try:
            await connection.execute("SELECT pg_sleep(60)", timeout=0.5)
        except TimeoutError:
            answer = await connection.fetchval("SELECT 1")  # the connection is still good
            assert answer == 1, answer
            return "a query of a minute ended early"
    message = "nobody cancelled"
    raise AssertionError(message)


async def read(pool: asyncpg.Pool) -> str:
    """Ask the port for reads, whose answer may be some moments old."""
    async with pool.acquire() as connection:
        standby, count = await connection.fetchrow("SELECT pg_is_in_recovery(), count(*) FROM asyncpg_orders")
    return f"{count} orders, says a {'standby' if standby else 'primary'}"


async def listen() -> str:
    """Hear of an order from another connection; each of the two keeps its server connection."""
    listener, speaker = await asyncpg.connect(**settings(WRITE_PORT)), await asyncpg.connect(**settings(WRITE_PORT))
    heard: asyncio.Queue[str] = asyncio.Queue()
    try:
        await listener.add_listener("orders", lambda *event: heard.put_nowait(event[-1]))
        await speaker.execute("SELECT pg_notify('orders', 'an order of tea')")
        return await asyncio.wait_for(heard.get(), timeout=10)
    finally:
        await listener.close()
        await speaker.close()


async def tour(writes: asyncpg.Pool, reads: asyncpg.Pool) -> None:
    """Do each thing once."""
    for step in (transact, prepare, copy, cancel):
        print(f"{step.__name__}: {await step(writes)}")
    print(f"read: {await read(reads)}")


async def main() -> None:
    """Do what the command line says."""
    command = sys.argv[1] if len(sys.argv) > 1 else "tour"
    if command == "listen":
        print(f"listen: {await listen()}")
        return
    async with pool_of(WRITE_PORT) as writes, pool_of(READ_PORT) as reads:
        await persist(lambda: make_table(writes))
        if command == "write":
            await write(writes)
        else:
            await tour(writes, reads)


if __name__ == "__main__":
    asyncio.run(main())
