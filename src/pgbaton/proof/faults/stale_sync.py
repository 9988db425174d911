"""A fault of its own: a primary that was replaced changes ``/sync`` too late, and etcd has to refuse it.

It is struck where there are agents, because only there a primary is replaced while its Patroni still believes to lead.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.components import agent, etcd, patroni
from pgbaton.errors import CommandError, Error
from pgbaton.operate.waiting import until
from pgbaton.proof import final
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults.agents import BEYOND_TTL_SECONDS, MAJORITY, any_of, no_agents
from pgbaton.proof.faults.base import Expectation, Fault, Seen
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.links import DELAYS, delaying, unless_refused
from pgbaton.proof.faults.partitions import around, between, mending, parting, same_host
from pgbaton.proof.faults.services import control
from pgbaton.proof.faults.signals import signal_server, thaw, titled
from pgbaton.proof.faults.victims import no_standby_waited_for, primary_and_confirming_standby
from pgbaton.proof.parts import PRIMARY_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.lab.record import Cut
    from pgbaton.proof.faults.base import Strike

STALE = "stale-sync-change"
#: How much longer each frame of the primary's host takes meanwhile: etcd's other members see what its Patroni wrote
#: this long before Patroni has the answer and goes on. So long there is to stop it. Well below what an election of
#: etcd's takes to begin, and below the time after which agents take a host for silent.
LATE_MILLISECONDS = 150.0
#: Patroni looks at its standbys, refreshes the lock (there and back) and writes where it is (there): what is seen
#: sooner than this after a standby is gone belongs to a look from before.
LOOKED_SECONDS = 3 * LATE_MILLISECONDS / 1000
#: One of Patroni's loops over such a link, its own pause left aside.
SLOW_LOOP_SECONDS = 5.0
REFRESHED_SECONDS = 20.0
PROMOTED_SECONDS = 60.0
ANSWERS_SECONDS = 15.0
MARK = "/run/pgbaton-stale-sync"
#: How often the moment is tried to be met, and how long the cluster may take to be whole in between.
ATTEMPTS = 4
WHOLE_SECONDS = 60.0

# Ends when a key changes. Arguments: etcdctl's command line, and the key.
WATCH = """
import subprocess, sys
watch = subprocess.Popen([*sys.argv[1:-1], "watch", sys.argv[-1]], stdout=subprocess.PIPE)
seen = watch.stdout.readline()
watch.kill()
sys.exit(0 if seen else "etcdctl ended, and had seen nothing")
"""
STAND_STILL = f"""
set -eu
systemctl kill --kill-whom=main --signal=SIGSTOP {patroni.UNIT}
date +@%s.%6N >{MARK}
"""
SAID_SINCE = f'exec journalctl -q --no-pager -o cat -u {patroni.UNIT} --since="$(cat {MARK})"'
#: What Patroni says (4.0) when etcd has refused its change of ``/sync``, and what when it goes on after it.
REFUSED = re.compile(r"Synchronous replication key updated by someone else|Updating sync state failed")
ACCEPTED = re.compile(r"Assigning synchronous standby status to")


def replication(strike: Strike) -> tuple[Cut, ...]:
    """Part the servers of the hosts struck from each other."""
    return between(strike.host, strike.hosts[1:], (strike.topology.postgresql.port,))


async def change_sync_late(strike: Strike) -> None:
    """Stop Patroni right after it refreshed its lock, before it takes the standby out of ``/sync``; go on too late.

    Its place in its loop cannot be forced from outside, only met. The lock is followed by a write of the position, and
    with its link slowed down others see that write before Patroni has the answer, and goes on to its standbys. Where it
    was quicker, all is taken back, and it is tried once more with the standby that is synchronous then.
    """
    at = strike
    for _ in range(ATTEMPTS):
        if await stopped_in_time(at):
            await promoted_then_late(at)
            return
        strike.target.report(f"Patroni had taken {at.hosts[1]} out of /sync already: once more")
        await connect_and_go_on(at)
        await strike.target.until_whole(seconds=WHOLE_SECONDS)
        now = await strike.target.roles()
        if now.primary != strike.host or not now.synchronous:
            break
        at = replace(at, hosts=(now.primary, now.synchronous[0]), before=now)
    strike.target.report("the moment was not met")


async def stopped_in_time(strike: Strike) -> bool:
    """Stop Patroni when it has refreshed its lock and misses the standby; tell whether ``/sync`` still names that.

    The agent of its host would end a Patroni that is stopped, so that one is stopped first.
    """
    primary, standby = strike.hosts
    await control("stop", agent.UNIT)(strike)
    await delaying(STALE, LATE_MILLISECONDS)(strike)
    await lock_refreshed(strike)
    await parting(STALE, replication)(strike)
    try:
        await signal_server(strike, "TERM", "all", walsender_for(strike, standby))
    except CommandError as error:
        # It may have found out by itself, and that is as good.
        strike.target.report(f"no walsender to end: {error.message.splitlines()[-1]}")
    alone = time.monotonic()
    while await lock_refreshed(strike) < alone + LOOKED_SECONDS:
        pass
    await strike.on(primary).run("sh", "-c", STAND_STILL)
    await parting(STALE, around)(strike)
    argv = (*etcd.etcdctl(strike.topology), "get", key_of(strike, "sync"), "--print-value-only")
    said = (await strike.on(another_member(strike)).run(*argv)).stdout
    return f'"{standby}"' in said


async def promoted_then_late(strike: Strike) -> None:
    """Let Patroni, which believes to lead, go on when another one leads and etcd can refuse what it still wants."""
    primary = strike.host
    await until("a standby has been promoted", lambda: not_promoted(strike), seconds=PROMOTED_SECONDS)
    await mending(STALE)(strike)
    if primary in strike.before.dcs:
        await until("etcd there has a majority again", lambda: without_majority(strike), seconds=ANSWERS_SECONDS)
    await go_on(strike)


def walsender_for(strike: Strike, standby: str) -> str:
    """Return the pattern of the title of the walsender that serves a standby."""
    address = re.escape(str(strike.topology.host(standby).address))
    return f"{titled(strike, 'walsender')}[^ ]+ {address}[(]"


async def lock_refreshed(strike: Strike) -> float:
    """Wait until the primary's Patroni writes its position, as it does after the lock; return when that was seen."""
    argv = ("python3", "-c", WATCH, *etcd.etcdctl(strike.topology), key_of(strike, "status"))
    await strike.on(another_member(strike)).run(*argv, timeout=REFRESHED_SECONDS)
    return time.monotonic()


def key_of(strike: Strike, name: str) -> str:
    """Return the full name of one of Patroni's keys."""
    return f"/service/{strike.topology.scope}/{name}"


def another_member(strike: Strike) -> str:
    """Return a member of etcd on another host, the leader where that is one."""
    return next(str(each) for each in (strike.before.dcs_leader, *strike.before.dcs) if each not in {None, strike.host})


async def not_promoted(strike: Strike) -> str | None:
    """Tell what is missing until one of the standbys has been promoted."""
    said = []
    for name in strike.before.standbys:
        try:
            recovers = await final.sql(strike.target, name, "SELECT pg_is_in_recovery()")
        except Error as error:
            said.append(f"{name}: {error.message.splitlines()[-1]}")
            continue
        if recovers == "f":
            return None
        said.append(f"{name} is a standby")
    return "; ".join(said)


async def without_majority(strike: Strike) -> str | None:
    """Tell why etcd on the first host struck does not answer for a majority."""
    said = await strike.on(strike.host).run(*etcd.etcdctl(strike.topology), "endpoint", "health", check=False)
    return None if said.ok else said.stderr.strip()


async def go_on(strike: Strike) -> None:
    """Let Patroni go on, and start the agent again."""
    await thaw(patroni.UNIT)(strike)
    await control("start", agent.UNIT)(strike)


async def connect_and_go_on(strike: Strike) -> None:
    """Take back everything that parts the host or slows it down, and let all of it go on."""
    await mending(STALE)(strike)
    await go_on(strike)
    await strike.on(strike.host).run("rm", "-f", MARK)


async def look_for_change(strike: Strike) -> Seen:
    """Look in Patroni's journal for what became of its late change."""
    said = await strike.on(strike.host).run("sh", "-c", SAID_SINCE)
    return Seen((late_change(said.stdout.splitlines()),))


def late_change(lines: Iterable[str]) -> Check:
    """Judge what a Patroni said since it was stopped: what it says first tells what became of its change. Pure."""
    for line in lines:
        if REFUSED.search(line):
            return Check("late change", Validity.VALID, (), {"patroni": line})
        if ACCEPTED.search(line):
            return Check("late change", Validity.INVALID, (f"a late change of /sync was accepted: {line}",))
    missed = "Patroni was not stopped in the moment that counts: it has tried no late change of /sync"
    return Check("late change", Validity.UNKNOWN, (missed,))


def late_and_cut_off(strike: Strike) -> Expectation:
    """Expect one slow loop of Patroni's, for which commits wait, and then what a primary costs that is cut off."""
    loop = strike.topology.timings.loop_wait + SLOW_LOOP_SECONDS
    return no_longer_than("primary-cut-off", PRIMARY_PARTS, extra_seconds=loop)(strike)


FAULTS = (
    Fault(
        name=STALE,
        title="Standby taken out of /sync too late",
        does="the primary loses its synchronous standby; its Patroni is stopped as near as can be after it refreshed "
        "its lock, to go on when its host was cut off, a standby promoted, and the host connected again",
        right="etcd refuses its late change of /sync, so that it acknowledges nothing alone; it rejoins",
        victims=primary_and_confirming_standby,
        inject=change_sync_late,
        heal=connect_and_go_on,
        look=look_for_change,
        expects=late_and_cut_off,
        needs=MAJORITY,
        obstacle=any_of(no_agents, no_standby_waited_for, same_host, unless_refused(DELAYS)),
        hold_seconds=BEYOND_TTL_SECONDS,
        composable=False,
    ),
)
