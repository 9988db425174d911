"""Django through the VIP, in one file: settings, a model, and what its views would do.

    python app.py tour      # each thing once: a transaction, prepared statements, COPY, a cancel, a read
    python app.py listen    # LISTEN and NOTIFY; wants pooling.mode = "session"
    python app.py write     # orders until ^C, through failovers; each line is an order that was acknowledged

Where and who comes from PGHOST, PGDATABASE, PGUSER, PGSSLROOTCERT and PGPASSFILE.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = {
    "sslmode": "verify-full",  # PGSSLROOTCERT is the cluster's authority
    "connect_timeout": 3,  # seconds; an attempt that got lost is soon repeated
    "keepalives_idle": 2,  # a balancer that lost its power is noticed after 2 + 3 x 1 seconds
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,  # milliseconds; the same for what was sent and nobody confirms
    "application_name": "orders",
    "server_side_binding": True,  # by default Django writes values into its statements, and each is another one
    "prepare_threshold": 5,  # and prepares nothing; so what runs for the fifth time is prepared
}


def database(port: int) -> dict[str, Any]:
    """Return the settings of one way in."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": port,
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "OPTIONS": OPTIONS,
        "CONN_MAX_AGE": 300,  # seconds; the pooler makes new connections cheap, TLS does not
        "CONN_HEALTH_CHECKS": True,  # a connection that broke meanwhile is replaced when the next request comes
        "DISABLE_SERVER_SIDE_CURSORS": True,  # those of iterator() live longer than a transaction
    }


settings.configure(
    DATABASES={
        "default": database(int(os.environ.get("PGPORT", "5000"))),
        "reads": database(int(os.environ.get("READ_PORT", "5001"))),
    },
    USE_TZ=True,
)
django.setup()

from django.db import (
    DatabaseError,
    InterfaceError,
    InternalError,
    OperationalError,
    close_old_connections,
    connection,
    connections,
    models,
    transaction,
)

#: A server that is being ended, or is no primary any more.
PASSING = {"57P01", "57P02", "57P03", "25006"}


class Order(models.Model):
    """An order; whoever places it chooses its id."""

    id = models.TextField(primary_key=True)
    item = models.TextField()
    quantity = models.IntegerField()

    class Meta:
        """Where it is kept."""

        app_label = "shop"
        db_table = "django_orders"

    def __str__(self) -> str:
        """Return the order in words."""
        return f"{self.quantity} x {self.item}"


def make_table() -> None:
    """Make the table, as a migration would."""
    if "django_orders" not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Order)


def passes(error: Exception) -> bool:
    """Tell whether another attempt may succeed: class 08 is about the connection, 40 about conflicts.

    Without a code it is the driver's own: the connection broke, perhaps in the midst of an answer (InternalError).
    """
    state = getattr(error.__cause__, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError | InternalError)
    return state[:2] in {"08", "40"} or state in PASSING


def persist(work: Callable[[], None], *, seconds: float = 60) -> None:
    """Do something until it succeeds; it has to be harmless to do it twice."""
    deadline, pause = time.monotonic() + seconds, 0.05
    while True:
        try:
            return work()
        except (DatabaseError, InterfaceError) as error:
            if not passes(error) or time.monotonic() > deadline:
                raise
            print(f"again, after: {error}", file=sys.stderr)
        close_old_connections()  # Django does this before and after each request, and so must a program of its own
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, 1.0)


def place(order: str) -> None:
    """Place an order; the second time nothing happens, since its id is there already."""
    with transaction.atomic():  # commits at its end, rolls back after an error
        Order.objects.bulk_create([Order(id=order, item="tea", quantity=1)], ignore_conflicts=True)


def write() -> None:
    """Place orders until the program is told to end."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    run, number = uuid.uuid4().hex[:8], 0
    while not stop.wait(0.02):
        number += 1
        order = f"{run}-{number}"  # chosen before the first attempt: all attempts are about the same order
        persist(lambda order=order: place(order))
        print(order, flush=True)


def transact() -> str:
    """Change two rows or none."""
    first = uuid.uuid4().hex
    try:
        with transaction.atomic():
            Order.objects.create(id=first, item="tea", quantity=1)
            Order.objects.create(id=first, item="the same once more", quantity=1)
    except DatabaseError:
        pass
    assert not Order.objects.filter(id=first).exists()
    return "an error took both rows back"


def prepare() -> str:
    """Run one statement often: psycopg prepares it at the fifth time, and PgBouncer sees that every server knows it."""
    with connection.cursor() as cursor:
        for number in range(20):
            with transaction.atomic():  # each may be on another server connection
                cursor.execute("SELECT %s::int + 1", [number])
                assert cursor.fetchone() == (number + 1,), number
                cursor.execute("SELECT count(*) FROM pg_prepared_statements")
                (names,) = cursor.fetchone()
        assert names > 0, names
    return "20 transactions with one prepared statement"


def copy() -> str:
    """Load many rows, and get them out again; COPY is the driver's own."""
    batch = uuid.uuid4().hex
    with transaction.atomic(), connection.cursor() as cursor:
        with cursor.copy("COPY django_orders (id, item, quantity) FROM STDIN") as rows:
            for number in range(1000):
                rows.write_row((f"{batch}-{number}", "coffee", number))
        query = "COPY (SELECT quantity FROM django_orders WHERE id LIKE %s) TO STDOUT"
        with cursor.copy(query, (f"{batch}-%",)) as rows:
            total = sum(int(quantity) for (quantity,) in rows.rows())
    assert total == sum(range(1000)), total
    return "1000 rows in and out"


def cancel() -> str:
    """Lose patience with a query."""
    connection.ensure_connection()
    done, driver = threading.Event(), connection.connection

    def lose_patience() -> None:
        while not done.wait(0.5):
            driver.cancel_safe(timeout=3)

    canceller = threading.Thread(target=lose_patience)
    canceller.start()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")
    except OperationalError as error:
        assert error.__cause__.sqlstate == "57014", error
        return "a query of a minute ended early"
    finally:
        done.set()
        canceller.join()
    message = "nobody cancelled"
    raise AssertionError(message)


def read() -> str:
    """Ask the port for reads, whose answer may be some moments old."""
    count = Order.objects.using("reads").count()
    with connections["reads"].cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        (standby,) = cursor.fetchone()
    return f"{count} orders, says a {'standby' if standby else 'primary'}"


def listen() -> str:
    """Hear of an order from another connection; each of the two keeps its server connection."""
    speaker = connection.copy()
    with connection.cursor() as listener, speaker.cursor() as mouth:
        listener.execute("LISTEN orders")
        mouth.execute("SELECT pg_notify('orders', 'an order of tea')")
        heard = [notice.payload for notice in connection.connection.notifies(timeout=10, stop_after=1)]
    assert heard == ["an order of tea"], heard
    return heard[0]


def tour() -> None:
    """Do each thing once."""
    for step in (transact, prepare, copy, cancel, read):
        print(f"{step.__name__}: {step()}")


def main() -> None:
    """Do what the command line says."""
    command = sys.argv[1] if len(sys.argv) > 1 else "tour"
    if command == "listen":
        print(f"listen: {listen()}")
        return
    persist(make_table)
    if command == "write":
        write()
    else:
        tour()


if __name__ == "__main__":
    main()
