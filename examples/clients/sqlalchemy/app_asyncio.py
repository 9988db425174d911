"""SQLAlchemy with asyncpg through the VIP.

    python app_asyncio.py tour      # each thing once: a transaction, prepared statements, COPY, a cancel, a read
    python app_asyncio.py listen    # LISTEN and NOTIFY; wants pooling.mode = "session"
    python app_asyncio.py write     # orders until ^C, through failovers; each line is an order that was acknowledged

Where and who comes from PGHOST, PGDATABASE, PGUSER, PGSSLROOTCERT and PGPASSFILE.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import ssl
import sys
import time
import uuid
from typing import TYPE_CHECKING

from asyncpg import InternalClientError
from sqlalchemy import String, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WRITE_PORT = int(os.environ.get("PGPORT", "5000"))
READ_PORT = int(os.environ.get("READ_PORT", "5001"))
#: A server that is being ended, or is no primary any more.
PASSING = {"57P01", "57P02", "57P03", "25006"}
#: What comes from asyncpg as it is when connections break or do not come about.
BROKEN = (OSError, TimeoutError, InternalClientError)


class Base(DeclarativeBase):
    """What all tables have in common."""


class Order(Base):
    """An order; whoever places it chooses its id."""

    __tablename__ = "sqlalchemy_asyncio_orders"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    item: Mapped[str]
    quantity: Mapped[int]


def engine_of(port: int) -> AsyncEngine:
    """Return an engine with a small pool, since the cluster has one too; it asks a connection before handing it out.

    The certificate is checked against the cluster's authority, and so is the address.
    """
    return create_async_engine(
        "postgresql+asyncpg://",
        connect_args={
            "port": port,
            "ssl": ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"]),
            "timeout": 3,  # seconds; an attempt that got lost is soon repeated
            "command_timeout": 10,  # seconds until an answer counts as lost: asyncpg sets no keepalive that would tell
            "server_settings": {"application_name": "orders"},
        },
        pool_size=5,
        max_overflow=0,
        pool_timeout=10,  # seconds to wait for a connection
        pool_pre_ping=True,
        pool_recycle=1800,  # seconds; after the VIP moved, connections spread again in time
    )


def passes(error: BaseException) -> bool:
    """Tell whether another attempt may succeed: class 08 is about the connection, 40 about conflicts.

    What is no error of the server's is the driver's own: the connection broke, perhaps between two statements.
    """
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        return error.connection_invalidated if state is None else state[:2] in {"08", "40"} or state in PASSING
    return isinstance(error, BROKEN)


async def persist(work: Callable[[], Awaitable[None]], *, seconds: float = 60) -> None:
    """Do something until it succeeds; it has to be harmless to do it twice."""
    deadline, pause = time.monotonic() + seconds, 0.05
    while True:
        try:
            return await work()
        except (DBAPIError, *BROKEN) as error:
            if not passes(error) or time.monotonic() > deadline:
                raise
            print(f"again, after: {error!r}", file=sys.stderr)
        await asyncio.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, 1.0)


async def make_table(engine: AsyncEngine) -> None:
    """Make the table, as a migration would."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def place(engine: AsyncEngine, order: str) -> None:
    """Place an order; the second time nothing happens, since its id is there already."""
    async with AsyncSession(engine) as session, session.begin():  # commits at its end, rolls back after an error
        await session.execute(insert(Order).values(id=order, item="tea", quantity=1).on_conflict_do_nothing())


async def write(engine: AsyncEngine) -> None:
    """Place orders until the program is told to end."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    run, number = uuid.uuid4().hex[:8], 0
    while not stop.is_set():
        number += 1
        order = f"{run}-{number}"  # chosen before the first attempt: all attempts are about the same order
        await persist(lambda order=order: place(engine, order))
        print(order, flush=True)
        await asyncio.sleep(0.02)


async def transact(engine: AsyncEngine) -> str:
    """Change two rows or none."""
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    async with AsyncSession(engine) as session:
        try:
            async with session.begin():
                session.add(Order(id=first, item="tea", quantity=1))
                await session.flush()
                session.add(Order(id=second, item="no number", quantity="many"))
        except DBAPIError:
            pass
        assert await session.get(Order, first) is None
    return "an error took both rows back"


async def prepare(engine: AsyncEngine) -> str:
    """Run one statement often: asyncpg prepares every one, and PgBouncer sees that every server connection knows it."""
    async with engine.connect() as connection:
        for number in range(20):
            answer = await connection.scalar(select(text("CAST(:number AS int) + 1")), {"number": number})
            await connection.commit()  # from here on it may be another server connection
            assert answer == number + 1, answer
    return "20 transactions with one prepared statement"


async def copy(engine: AsyncEngine) -> str:
    """Load many rows, and count them; COPY is the driver's own."""
    batch = uuid.uuid4().hex
    rows = [(f"{batch}-{number}", "coffee", number) for number in range(1000)]
    out = bytearray()

    async def keep(chunk: bytes) -> None:
        out.extend(chunk)

    async with engine.begin() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        columns = ("id", "item", "quantity")
        await driver.copy_records_to_table("sqlalchemy_asyncio_orders", records=rows, columns=columns)
        query = "SELECT quantity FROM sqlalchemy_asyncio_orders WHERE id LIKE $1"
        await driver.copy_from_query(query, f"{batch}-%", output=keep)
    total = sum(map(int, bytes(out).split()))
    assert total == sum(range(1000)), total
    return "1000 rows in and out"


async def cancel(engine: AsyncEngine) -> str:
    """Lose patience with a query: asyncpg cancels what runs into its timeout."""
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        try:
            await driver.execute("SELECT pg_sleep(60)", timeout=0.5)
        except TimeoutError:
            answer = await driver.fetchval("SELECT 1")  # the connection is still good
            assert answer == 1, answer
            return "a query of a minute ended early"
    message = "nobody cancelled"
    raise AssertionError(message)


async def read(engine: AsyncEngine) -> str:
    """Ask the port for reads, whose answer may be some moments old."""
    async with engine.connect() as connection:
        question = select(func.pg_is_in_recovery(), select(func.count()).select_from(Order).scalar_subquery())
        standby, count = (await connection.execute(question)).one()
    return f"{count} orders, says a {'standby' if standby else 'primary'}"


async def listen(engine: AsyncEngine) -> str:
    """Hear of an order from another connection; each of the two keeps its server connection."""
    commits = engine.execution_options(isolation_level="AUTOCOMMIT")
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with commits.connect() as listener, commits.connect() as speaker:
        driver = (await listener.get_raw_connection()).driver_connection
        await driver.add_listener("orders", lambda *event: heard.put_nowait(event[-1]))
        await speaker.execute(text("SELECT pg_notify('orders', 'an order of tea')"))
        return await asyncio.wait_for(heard.get(), timeout=10)


async def tour(writes: AsyncEngine, reads: AsyncEngine) -> None:
    """Do each thing once."""
    for step in (transact, prepare, copy, cancel):
        print(f"{step.__name__}: {await step(writes)}")
    print(f"read: {await read(reads)}")


async def main() -> None:
    """Do what the command line says."""
    command = sys.argv[1] if len(sys.argv) > 1 else "tour"
    writes, reads = engine_of(WRITE_PORT), engine_of(READ_PORT)
    if command == "listen":
        print(f"listen: {await listen(writes)}")
        return
    await persist(lambda: make_table(writes))
    if command == "write":
        await write(writes)
    else:
        await tour(writes, reads)
    await writes.dispose()
    await reads.dispose()


if __name__ == "__main__":
    asyncio.run(main())
