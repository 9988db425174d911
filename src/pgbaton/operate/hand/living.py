"""Signs that an old primary lives, whatever it was said to be; and what ends its acknowledgements before another leads.

Who fails over says that a host is off. Balancers and standbys may know better: they hold connections to it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgbaton.errors import Error, RefusedError
from pgbaton.operate.checks import Check, listing
from pgbaton.operate.hand import control, promotion
from pgbaton.operate.hand.sight import Sight, look
from pgbaton.operate.servers import Absence, Server
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology

#: How long a balancer takes at most to find a server that is gone; standbys have a time of their own.
ROUTES_SECONDS = 10
INTERVAL_SECONDS = 0.5
#: A primary that is slow is alive. So long it may take to say so before it is stopped as one that hangs.
PATIENT_SECONDS = 30


def signs(topology: Topology, sight: Sight, suspects: Collection[str]) -> tuple[Check, ...]:
    """Check that nothing speaks for the life of hosts that are silent, or whose server does not answer. Pure."""
    return (no_routes(sight, suspects), no_receivers(topology, sight))


def no_routes(sight: Sight, suspects: Collection[str]) -> Check:
    """Check that no balancer holds one of them for a primary that works: it asks them once a second."""
    heard = {name: route for name, route in sight.view.routes.items() if isinstance(route, frozenset)}
    astray = {name: sorted(route & set(suspects)) for name, route in heard.items()}
    seen = "; ".join(f"{name} reaches {listing(found)}" for name, found in astray.items() if found)
    fix = "it takes writes: see what keeps this machine from reaching it; stop its PostgreSQL, or cut its power, first"
    return Check("balancers that reach an old primary", not seen, seen or "none", "none", fix)


def no_receivers(topology: Topology, sight: Sight) -> Check:
    """Check that no standby streams from a host that is silent: somebody there sends."""
    silent = {address: name for address, name in topology.names_by_address.items() if name in sight.silent}
    pairs = ((name, sight.standby(name)) for name in sight.controls)
    found = [
        f"{name} streams from {silent[server.receiving_from]}"
        for name, server in pairs
        if server and server.receiving and server.receiving_from in silent
    ]
    fix = "it is on: cut its power, or its network, first"
    return Check("standbys that stream from a silent host", not found, "; ".join(found) or "none", "none", fix)


async def settled(operation: Operation) -> Sight:
    """Look at the cluster, again while signs of an old primary remain that may be its last."""
    topology, start = operation.topology, time.monotonic()
    # A standby drops a sender after twice the time that a sender drops a standby after.
    limit = max(ROUTES_SECONDS, 2 * topology.timings.wal_sender_timeout + 1)
    told = False
    while True:
        sight = await look(operation)
        wrong = [check for check in signs(topology, sight, {*sight.silent, *sight.former}) if not check.passed]
        if not wrong or sight.view.primaries or time.monotonic() - start > limit:
            return sight
        if not told:
            operation.report(f"looking again for {limit:g} s at most: {'; '.join(check.seen for check in wrong)}")
            told = True
        await asyncio.sleep(INTERVAL_SECONDS)


async def refuse_alive(operation: Operation, sight: Sight, fenced: Collection[str]) -> None:
    """Raise RefusedError when a server that is about to be stopped answers after all: it was slow, and leads."""
    running = [host for host in fenced if (found := sight.controls[host]) and found.runs]
    answers = await asyncio.gather(*(leads(operation, host) for host in running))
    alive = [host for host, answer in zip(running, answers, strict=True) if answer]
    if alive:
        message = f"failover refused, nothing was changed: {listing(alive)} answers slowly, and takes writes"
        hint = f"pgbaton switchover moves a living primary; to end it: systemctl stop pgbaton-postgresql on {alive[0]}"
        raise RefusedError(message, hint=hint)


async def leads(operation: Operation, host: str) -> bool:
    """Tell whether a server says, given time, that it is out of recovery."""
    try:
        return await operation.sql(host, "SELECT pg_is_in_recovery()", seconds=PATIENT_SECONDS) == "f"
    except Error:
        return False


async def turn(operation: Operation, sight: Sight, target: str) -> None:
    """Have every standby that answers leave whomever it follows for the one that will lead.

    From then on none of them confirms what an old primary out of reach still takes. Raises RefusedError when one cannot
    be turned: nobody may be promoted then.
    """
    standbys = [name for name, found in sight.controls.items() if name != target and found and found.standby]
    results = await asyncio.gather(
        *(turn_one(operation, sight, name, target) for name in standbys), return_exceptions=True
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        if not isinstance(failure, Error):
            raise failure
        message = f"failover stopped, nobody was promoted: a standby that answers may still confirm: {failure}"
        raise RefusedError(message, hint="turn that machine off, and say so with --old-primary-is-off, or mend it")


async def turn_one(operation: Operation, sight: Sight, standby: str, target: str) -> None:
    """Have one standby leave whomever it follows; one whose server does not answer is stopped for it."""
    if sight.standby(standby) is None:
        found = sight.controls[standby]
        runs = found is not None and found.runs
        if runs:
            await control.stop_for_good(operation, standby)
        await control.tell(operation, standby, "follow", target)
        if runs:
            await control.start_soon(operation, standby)
        return
    await promotion.repoint(operation, standby, target)
    addresses = {str(each) for each in operation.topology.host(target).server_addresses}

    async def seen() -> str | None:
        server = await operation.server(standby)
        if isinstance(server, Absence):
            return server.reason
        return f"it streams from {server.receiving_from}" if elsewhere(server, addresses) else None

    await until(f"{standby} leaves its old primary for {target}", seen, seconds=operation.timeout_seconds)


def elsewhere(server: Server, addresses: Collection[str]) -> bool:
    """Tell whether a standby streams from another server than the one at some addresses. Pure."""
    return server.receiving and server.receiving_from not in addresses
