"""The bank: money moves between accounts, and there is never more or less of it.

A transfer is a transaction of several statements; a look at all accounts is one statement, on either port.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from pgbaton.proof.history import Kind
from pgbaton.proof.workloads.base import (
    ANSWERED_BY,
    SCHEMA,
    STAMP,
    WRITTEN_BY,
    ClientSpec,
    Port,
    Reading,
    Request,
    Workload,
    spread,
    stamped,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from pgbaton.proof.history import Outcome
    from pgbaton.proof.workloads.base import Reply

TABLE = f"{SCHEMA}.accounts"
#: How many accounts there are, numbered from 0, and what each has at first.
ACCOUNTS = 10
INITIAL_BALANCE = 100
#: The largest transfer: large enough that some accounts do not have it.
LARGEST = 60
TABLES = (
    f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 50)",
    f"INSERT INTO {TABLE} SELECT id, {INITIAL_BALANCE} FROM generate_series(0, {ACCOUNTS - 1}) AS id",  # noqa: S608 - our own name
)
BALANCES = f"(SELECT json_agg(json_build_array(id, balance) ORDER BY id) FROM {TABLE})"  # noqa: S608 - our own name
#: Which replies of a transfer's script tell whether money moved, and who says so.
MOVED, WHO = 2, 3


class Transfers:
    """Moves money at random, and looks at all of it."""

    def __init__(self, random: Random, specs: Sequence[ClientSpec]) -> None:
        del specs
        self._random = random

    def next(self, client: ClientSpec, number: int) -> Request:
        """Return the next transfer or look."""
        del number
        if self._random.choice(client.calls) == "total":
            kind = Kind.READ if client.port is Port.READ else Kind.QUERY
            return Request("total", None, kind, f"SELECT {ANSWERED_BY}, {BALANCES}")
        source, target = self._random.sample(range(ACCOUNTS), 2)
        amount = self._random.randint(1, LARGEST)
        value = [source, target, amount]
        return Request("transfer", value, Kind.WRITE, transfer(source, target, amount), script=True)

    def learn(self, request: Request, outcome: Outcome, result: Any) -> None:  # noqa: ANN401 - any workload's
        """Go on all the same: what comes next depends on chance alone."""


def transfer(source: int, target: int, amount: int) -> str:
    """Return the script of a transfer; it locks accounts in the order of their numbers: no deadlocks."""
    return (
        f"BEGIN; SELECT FROM {TABLE} WHERE id IN ({source}, {target}) ORDER BY id FOR UPDATE;"  # noqa: S608 - integers
        f" WITH taken AS (UPDATE {TABLE} SET balance = balance - {amount}"
        f" WHERE id = {source} AND balance >= {amount} RETURNING id)"
        f" UPDATE {TABLE} SET balance = balance + {amount} WHERE id = {target} AND EXISTS (SELECT FROM taken);"
        f" SELECT {WRITTEN_BY}; COMMIT"
    )


def read(request: Request, replies: Sequence[Reply]) -> Reading:
    """Return what an answer means."""
    if request.call == "transfer":
        done = replies[MOVED].tag == "UPDATE 1"
        return stamped(replies[WHO].rows[0], done, changed=done)
    row = replies[0].rows[0]
    return stamped(row, json.loads(row[STAMP] or "[]"))


def settle(text: str) -> Mapping[str, Any]:
    """Return the balance of every account."""
    return {"accounts": {int(account): int(balance) for account, balance in csv.reader(io.StringIO(text))}}


BANK = Workload(
    name="bank",
    does="moves money between accounts, and adds it up on both ports",
    tables=TABLES,
    clients=(
        *spread([ClientSpec(f"bank-{number}", "bank", ("transfer",), 0.04) for number in range(1, 3)]),
        ClientSpec("bank-total", "bank", ("total",), 0.1),
        ClientSpec("bank-reader", "bank", ("total",), 0.05, Port.READ),
    ),
    generator=Transfers,
    read=read,
    final=f"SELECT id, balance FROM {TABLE}",  # noqa: S608 - our own name
    settle=settle,
)
