"""SQLAlchemy with psycopg 3 through the VIP.

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

from sqlalchemy import Engine, String, create_engine, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

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
#: A server that is being ended, or is no primary any more.
PASSING = {"57P01", "57P02", "57P03", "25006"}


class Base(DeclarativeBase):
    """What all tables have in common."""


class Order(Base):
    """An order; whoever places it chooses its id."""

    __tablename__ = "sqlalchemy_orders"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    item: Mapped[str]
    quantity: Mapped[int]


def engine_of(port: int) -> Engine:
    """Return an engine with a small pool, since the cluster has one too; it asks a connection before handing it out."""
    return create_engine(
        "postgresql+psycopg://",
        connect_args={**SETTINGS, "port": port},
        pool_size=5,
        max_overflow=0,
        pool_timeout=10,  # seconds to wait for a connection
        pool_pre_ping=True,
        pool_recycle=1800,  # seconds; after the VIP moved, connections spread again in time
    )


def passes(error: DBAPIError) -> bool:
    """Tell whether another attempt may succeed: class 08 is about the connection, 40 about conflicts.

    Without a code it is the driver's own: the connection broke, perhaps in the midst of an answer (InternalError).
    """
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError | InternalError)
    return state[:2] in {"08", "40"} or state in PASSING


def persist(work: Callable[[], None], *, seconds: float = 60) -> None:
    """Do something until it succeeds; it has to be harmless to do it twice."""
    deadline, pause = time.monotonic() + seconds, 0.05
    while True:
        try:
            return work()
        except DBAPIError as error:
            if not passes(error) or time.monotonic() > deadline:
                raise
            print(f"again, after: {error.orig}", file=sys.stderr)
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, 1.0)


def place(engine: Engine, order: str) -> None:
    """Place an order; the second time nothing happens, since its id is there already."""
    with Session(engine) as session, session.begin():  # commits at its end, rolls back after an error
        session.execute(insert(Order).values(id=order, item="tea", quantity=1).on_conflict_do_nothing())


def write(engine: Engine) -> None:
    """Place orders until the program is told to end."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    run, number = uuid.uuid4().hex[:8], 0
    while not stop.wait(0.02):
        number += 1
        order = f"{run}-{number}"  # chosen before the first attempt: all attempts are about the same order
        persist(lambda order=order: place(engine, order))
        print(order, flush=True)


def transact(engine: Engine) -> str:
    """Change two rows or none."""
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    with Session(engine) as session:
        try:
            with session.begin():
                session.add(Order(id=first, item="tea", quantity=1))
                session.flush()
                session.add(Order(id=second, item="no number", quantity="many"))
        except StatementError:
            pass
        assert session.get(Order, first) is None
    return "an error took both rows back"


def prepare(engine: Engine) -> str:
    """Run one statement often: psycopg prepares it at the fifth time, and PgBouncer sees that every server knows it."""
    with engine.connect() as connection:
        for number in range(20):
            answer = connection.execute(select(text("CAST(:number AS int) + 1")), {"number": number}).scalar_one()
            names = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
            connection.commit()  # from here on it may be another server connection
            assert answer == number + 1, answer
    assert names > 0, names
    return "20 transactions with one prepared statement"


def copy(engine: Engine) -> str:
    """Load many rows, and get them out again; COPY is the driver's own."""
    batch = uuid.uuid4().hex
    with engine.begin() as connection, connection.connection.cursor() as cursor:
        with cursor.copy("COPY sqlalchemy_orders (id, item, quantity) FROM STDIN") as rows:
            for number in range(1000):
                rows.write_row((f"{batch}-{number}", "coffee", number))
        query = "COPY (SELECT quantity FROM sqlalchemy_orders WHERE id LIKE %s) TO STDOUT"
        with cursor.copy(query, (f"{batch}-%",)) as rows:
            total = sum(int(quantity) for (quantity,) in rows.rows())
    assert total == sum(range(1000)), total
    return "1000 rows in and out"


def cancel(engine: Engine) -> str:
    """Lose patience with a query."""
    with engine.connect() as connection:
        done, driver = threading.Event(), connection.connection.driver_connection

        def lose_patience() -> None:
            while not done.wait(0.5):
                driver.cancel_safe(timeout=3)

        canceller = threading.Thread(target=lose_patience)
        canceller.start()
        try:
            connection.execute(text("SELECT pg_sleep(60)"))
        except OperationalError as error:
            assert error.orig.sqlstate == "57014", error
            return "a query of a minute ended early"
        finally:
            done.set()
            canceller.join()
    message = "nobody cancelled"
    raise AssertionError(message)


def read(engine: Engine) -> str:
    """Ask the port for reads, whose answer may be some moments old."""
    with engine.connect() as connection:
        question = select(func.pg_is_in_recovery(), select(func.count()).select_from(Order).scalar_subquery())
        standby, count = connection.execute(question).one()
    return f"{count} orders, says a {'standby' if standby else 'primary'}"


def listen(engine: Engine) -> str:
    """Hear of an order from another connection; each of the two keeps its server connection."""
    commits = engine.execution_options(isolation_level="AUTOCOMMIT")
    with commits.connect() as listener, commits.connect() as speaker:
        listener.execute(text("LISTEN orders"))
        speaker.execute(text("SELECT pg_notify('orders', 'an order of tea')"))
        notices = listener.connection.driver_connection.notifies(timeout=10, stop_after=1)
        heard = [notice.payload for notice in notices]
    assert heard == ["an order of tea"], heard
    return heard[0]


def tour(writes: Engine, reads: Engine) -> None:
    """Do each thing once."""
    for step in (transact, prepare, copy, cancel):
        print(f"{step.__name__}: {step(writes)}")
    print(f"read: {read(reads)}")


def main() -> None:
    """Do what the command line says."""
    command = sys.argv[1] if len(sys.argv) > 1 else "tour"
    writes, reads = engine_of(WRITE_PORT), engine_of(READ_PORT)
    if command == "listen":
        print(f"listen: {listen(writes)}")
        return
    persist(lambda: Base.metadata.create_all(writes))
    if command == "write":
        write(writes)
    else:
        tour(writes, reads)


if __name__ == "__main__":
    main()
