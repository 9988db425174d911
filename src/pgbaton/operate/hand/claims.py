"""One at a time: a claim on the database hosts, for those who change who leads from different machines.

The lock beside a cluster's state keeps commands on one machine apart. This one is on the hosts, for a minute, renewed
for as long as the work goes on: whoever dies with it keeps others waiting no longer than that.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pgbaton.components.manual_program import UNDER_WAY
from pgbaton.deploy.gate import unbroken
from pgbaton.errors import Error, RefusedError
from pgbaton.operate.hand import control
from pgbaton.operate.members import database_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pgbaton.operate.operation import Operation

    Refusals = Mapping[str, str]

LASTS_SECONDS = 60
RENEW_SECONDS = 15
#: How long a host may take to note a claim: one that is off is passed over.
ASK_SECONDS = 6
#: Whether this work, or what it is a part of, has a claim already.
HELD: ContextVar[bool] = ContextVar("claimed", default=False)


@asynccontextmanager
async def claimed(operation: Operation, what: str) -> AsyncIterator[None]:
    """Keep others from changing who leads meanwhile; raises RefusedError when somebody else does.

    Hosts that do not answer are passed over: two who reach no host in common are not kept apart.
    """
    if HELD.get():
        yield
        return
    token, words = secrets.token_hex(8), f"{what} from {socket.gethostname()}"
    claim = ("claim", token, str(LASTS_SECONDS), words)
    mark, renewing = HELD.set(True), None
    taken: tuple[str, ...] = ()
    try:
        taken, refusals = await everywhere(operation, database_names(operation.topology), *claim)
        refuse(refusals)
        renewing = asyncio.create_task(renew(operation, taken, *claim))
        yield
    finally:
        HELD.reset(mark)
        if renewing is not None:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        await unbroken(everywhere(operation, taken, "release", token))


def refuse(refusals: Mapping[str, str]) -> None:
    """Raise RefusedError when a host said that another's claim is on it. Pure."""
    for host, why in refusals.items():
        message = f"refused, nothing was changed: {why}"
        hint = f"wait for its end; when whoever did that is gone, for {LASTS_SECONDS} s"
        raise RefusedError(message, where=host, hint=hint)


async def renew(operation: Operation, hosts: tuple[str, ...], *claim: str) -> None:
    """Renew a claim for as long as the work goes on."""
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        await everywhere(operation, hosts, *claim)


async def everywhere(operation: Operation, hosts: tuple[str, ...], *words: str) -> tuple[tuple[str, ...], Refusals]:
    """Tell hosts at once; return those that did it, and what was said by those that have another's claim."""
    done, refusals = set[str](), dict[str, str]()

    async def tell(host: str) -> None:
        try:
            await control.tell(operation, host, *words, seconds=ASK_SECONDS)
            done.add(host)
        except Error as error:
            said = error.message.strip().splitlines()[-1]
            if UNDER_WAY in said:
                refusals[host] = said

    await asyncio.gather(*map(tell, hosts))
    return tuple(host for host in hosts if host in done), {host: refusals[host] for host in hosts if host in refusals}
