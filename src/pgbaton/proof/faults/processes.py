"""Faults of PostgreSQL's and Patroni's processes: killed, and stopped as a hung one is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgbaton.components import patroni
from pgbaton.proof.faults.base import Fault, Service, Suite, predicted, primary, steady, unpromised, within
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.signals import (
    of_clients,
    signal_server,
    thaw,
    thaw_server,
    titled,
    to_server,
    to_unit,
)
from pgbaton.proof.faults.victims import confirming_standby, no_standby_waited_for, primary_and_confirming_standby
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Expectation, Strike

PAIR = ((Role.DATABASE, 2),)
#: Long enough for a lock of the usual ttl of 20 s to expire and another server to be promoted meanwhile: what a
#: stopped process does when it goes on is then seen too.
BEYOND_TTL_SECONDS = 35.0
#: What clients may notice of something that must not disturb them: one connection made anew.
BLIP_SECONDS = 1.0

kill_postmaster = to_server("KILL", "postmaster")

# Killed as a whole, the server with it; whoever stops the unit before it is started again keeps it down.
KILL_FOR_GOOD = f"systemctl kill --signal=SIGKILL {patroni.UNIT}; systemctl stop {patroni.UNIT}"


async def kill_for_good(strike: Strike) -> None:
    """Kill Patroni and PostgreSQL on all the hosts struck, and keep them down; etcd goes on."""
    await asyncio.gather(*(strike.on(host).run("sh", "-c", KILL_FOR_GOOD) for host in strike.hosts))


async def start_again(strike: Strike) -> None:
    """Start Patroni on all the hosts struck."""
    argv = ("systemctl", "--no-block", "start", patroni.UNIT)
    await asyncio.gather(*(strike.on(host).run(*argv) for host in strike.hosts))


async def kill_backend(strike: Strike) -> None:
    """Kill one backend that serves the application."""
    await signal_server(strike, "KILL", "oldest", of_clients(strike))


async def kill_walsender(strike: Strike) -> None:
    """Kill the oldest walsender."""
    await signal_server(strike, "KILL", "oldest", titled(strike, "walsender"))


async def kill_walreceiver(strike: Strike) -> None:
    """Kill a standby's walreceiver."""
    await signal_server(strike, "KILL", "oldest", titled(strike, "walreceiver"))


def steady_unless_agents_act(strike: Strike) -> Expectation:
    """Expect that nothing is noticed and the primary stays; with agents, that a failover takes no longer."""
    expects = within(BLIP_SECONDS)
    return expects(strike) if strike.topology.has_agents else steady(expects)(strike)


async def stop_postmaster_and_end_sessions(strike: Strike) -> None:
    """Stop the postmaster and end the application's backends in good order, so that every session must be made anew."""
    await signal_server(strike, "STOP", "postmaster")
    await signal_server(strike, "TERM", "all", of_clients(strike))


FAULTS = (
    Fault(
        name="postmaster-killed",
        title="Postmaster killed",
        does="SIGKILL to PostgreSQL's first process on the primary",
        right="a synchronous standby takes over; the old primary rejoins",
        victims=primary,
        inject=kill_postmaster,
        expects=predicted("postmaster-killed", PRIMARY_PARTS),
        needs=PAIR,
        suite=Suite.SMOKE,
    ),
    Fault(
        name="postmaster-stopped",
        title="Postmaster stopped, sessions go on",
        does="SIGSTOP to PostgreSQL's first process on the primary; its backends go on",
        right="the sessions that exist, and all clients that are pooled over them, go on undisturbed; with agents, "
        "which end a server that takes no connection, a standby takes over at once",
        victims=primary,
        inject=to_server("STOP", "postmaster"),
        heal=thaw_server,
        expects=steady_unless_agents_act,
        needs=PAIR,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="postmaster-stopped-sessions-ended",
        title="Postmaster stopped, sessions ended",
        does="SIGSTOP to PostgreSQL's first process on the primary, SIGTERM to the application's backends",
        right="it is noticed that no session can be made, the server is fenced, and a standby takes over",
        victims=primary,
        inject=stop_postmaster_and_end_sessions,
        heal=thaw_server,
        expects=no_longer_than("primary-power-off", PRIMARY_PARTS),
        needs=PAIR,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="server-stopped",
        title="Primary server stopped",
        does="SIGSTOP to all processes of PostgreSQL on the primary",
        right="a standby takes over; the old primary acknowledges nothing when it goes on, and rejoins",
        victims=primary,
        inject=to_server("STOP", "everything"),
        heal=thaw_server,
        expects=no_longer_than("primary-power-off", PRIMARY_PARTS),
        needs=PAIR,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="backend-killed",
        title="Backend killed",
        does="SIGKILL to one backend of the application on the primary, as when memory runs out",
        right="the server may not trust its memory any more and ends; a standby takes over, the old primary rejoins",
        victims=primary,
        inject=kill_backend,
        expects=predicted("postmaster-killed", PRIMARY_PARTS),
        needs=PAIR,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="walsender-killed",
        title="Walsender killed",
        does="SIGKILL to one walsender on the primary",
        right="as for any backend: a standby takes over, the old primary rejoins",
        victims=primary,
        inject=kill_walsender,
        expects=predicted("postmaster-killed", PRIMARY_PARTS),
        needs=PAIR,
    ),
    Fault(
        name="standby-postmaster-killed",
        title="Standby's postmaster killed",
        does="SIGKILL to PostgreSQL's first process on a synchronous standby",
        right="commits wait until another standby is synchronous, and no longer; the standby is started again",
        victims=confirming_standby,
        inject=kill_postmaster,
        expects=steady(predicted("standby-power-off")),
        needs=PAIR,
    ),
    Fault(
        name="standby-server-stopped",
        title="Standby server stopped",
        does="SIGSTOP to all processes of PostgreSQL on a synchronous standby",
        right="commits wait until another standby is synchronous; reads leave it; it catches up when it goes on",
        victims=confirming_standby,
        inject=to_server("STOP", "everything"),
        heal=thaw_server,
        expects=steady(predicted("standby-power-off")),
        needs=PAIR,
        hold_seconds=10.0,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="walreceiver-killed",
        title="Walreceiver killed",
        does="SIGKILL to the walreceiver of a synchronous standby",
        right="the standby ends as after any crash, another one is synchronous meanwhile, and it is started again",
        victims=confirming_standby,
        inject=kill_walreceiver,
        expects=steady(predicted("standby-power-off")),
        needs=PAIR,
    ),
    Fault(
        name="primary-and-standby-killed",
        title="Primary and synchronous standby killed",
        does="SIGKILL to Patroni and PostgreSQL on both, which stay down; etcd has its majority",
        right="no standby that may lack acknowledged writes is promoted: no writes until one of the two is back",
        victims=primary_and_confirming_standby,
        inject=kill_for_good,
        heal=start_again,
        expects=unpromised,
        needs=((Role.DATABASE, 3),),
        obstacle=no_standby_waited_for,
        service=Service.AFTER_HEALING,
        hold_seconds=BEYOND_TTL_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="patroni-killed",
        title="Patroni killed",
        does="SIGKILL to Patroni on the primary; PostgreSQL goes on",
        right="Patroni is started again and takes up the running primary; clients notice nothing",
        victims=primary,
        inject=to_unit(patroni.UNIT, "KILL", whom="main"),
        expects=steady(within(BLIP_SECONDS)),
        needs=PAIR,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="patroni-stopped",
        title="Patroni stopped",
        does="SIGSTOP to Patroni on the primary, for longer than the leader lock lives; PostgreSQL goes on",
        right="the old primary can acknowledge nothing before another one is promoted, and rejoins",
        victims=primary,
        inject=to_unit(patroni.UNIT, "STOP", whom="main"),
        heal=thaw(patroni.UNIT),
        expects=no_longer_than("primary-power-off", PRIMARY_PARTS),
        needs=PAIR,
        hold_seconds=BEYOND_TTL_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="standby-patroni-killed",
        title="Standby's Patroni killed",
        does="SIGKILL to Patroni on a synchronous standby; PostgreSQL goes on",
        right="Patroni is started again and takes up the running standby; clients notice nothing",
        victims=confirming_standby,
        inject=to_unit(patroni.UNIT, "KILL", whom="main"),
        expects=steady(within(BLIP_SECONDS)),
        needs=PAIR,
        obstacle=no_standby_waited_for,
    ),
)
