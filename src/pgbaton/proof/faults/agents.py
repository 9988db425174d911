"""Faults of agents: killed, hung, gone, held up by load, and deceived about the primary.

Where the topology has no agents there is nothing to strike, and none of them can be made.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING

from pgbaton.components import agent, etcd, patroni
from pgbaton.errors import CommandError, Error
from pgbaton.observe.host_probe import NFT
from pgbaton.operate import fences
from pgbaton.operate.waiting import until
from pgbaton.proof import final
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults.base import Expectation, Fault, Seen, Suite, primary, steady, within
from pgbaton.proof.faults.dcs import everywhere
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.links import DELAYS, delaying, unless_refused
from pgbaton.proof.faults.partitions import around, between, mending, parting, same_host
from pgbaton.proof.faults.services import control
from pgbaton.proof.faults.signals import signal_server, signal_unit, thaw, titled, to_unit
from pgbaton.proof.faults.victims import everything, no_standby_waited_for, primary_and_confirming_standby
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.topology import budget
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from pgbaton.lab.record import Cut
    from pgbaton.proof.faults.base import Act, Obstacle, Strike
    from pgbaton.proof.target import Target
    from pgbaton.topology.model import Topology

    Whom = Callable[[Strike], Sequence[str]]

PAIR = ((Role.DATABASE, 2),)
MAJORITY = ((Role.DCS, 3), *PAIR)
#: What clients may notice of something that must not disturb them: one connection made anew.
BLIP_SECONDS = 1.0
#: Beyond systemd's patience with a hung agent (3 s), its start, and several times what takes a host for silent.
RESTARTED_SECONDS = 10.0
#: Longer than a lock of the usual ttl of 20 s lives: what an old lease or a fence may still do is seen as well.
BEYOND_TTL_SECONDS = 30.0

#: For how long agents are paused again and again; how long each pause is, below systemd's patience or beyond it, and
#: how long an agent runs until the next one.
PAUSING_SECONDS = 20.0
PAUSE_SECONDS = (0.2, 5.0)
BETWEEN_SECONDS = (0.3, 4.0)
#: Where every core is busy anyway, each step of a commit and of a login waits for its turn.
BUSY_SECONDS = 2.0
#: Its longest pause may begin at the end of the time for pauses, and what it leads to is to be seen.
PAUSED_SECONDS = PAUSING_SECONDS + PAUSE_SECONDS[1] + 5.0
BUSY_UNIT = "pgbaton-busy"
BUSY = "while :; do :; done"

#: From the moment in which a silent host counts as such: votes, fences and the release take about as long.
BACK_SECONDS = (0.0, 0.2)

# Before the firewall's rules (filter) and those of the fences (filter - 5), so that none of these is asked. The first
# line makes sure that there is something for the second to delete.
FORGOTTEN = """
table inet {table}
delete table inet {table}
"""
UNHEARD = (
    FORGOTTEN
    + """
table inet {table} {{
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    ip saddr {address} udp dport {port} drop
    ip saddr {address} icmp type {{ echo-request, echo-reply }} drop
  }}
}}
"""
)

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


async def no_agents(target: Target) -> str | None:
    """Tell when there are no agents."""
    return None if target.topology.has_agents else f"{target.topology.name} has no agents"


def any_of(*obstacles: Obstacle) -> Obstacle:
    """Return the obstacle that the first of several is which is there."""

    async def obstacle(target: Target) -> str | None:
        for each in obstacles:
            if (reason := await each(target)) is not None:
                return reason
        return None

    return obstacle


kill_all, stop_all, thaw_all = (
    everywhere(act) for act in (to_unit(agent.UNIT, "KILL"), to_unit(agent.UNIT, "STOP"), thaw(agent.UNIT))
)
leave_all, return_all = (everywhere(control(verb, agent.UNIT)) for verb in ("stop", "start"))


async def kill_without_agents(strike: Strike) -> None:
    """Have systemd stop all agents, then kill the primary's postmaster."""
    await leave_all(strike)
    await signal_server(strike, "KILL", "postmaster")


def as_stock(strike: Strike) -> Expectation:
    """Expect what the stock parts need; but HAProxy was told to ask for the primary as seldom as agents allow."""
    topology = strike.topology
    longest = budget.without_agents(topology, "postmaster-killed").write_seconds.maximum
    seldom = topology.primary_check_seconds - topology.timings.check_interval
    return Expectation(None, PRIMARY_PARTS, limit_seconds=longest + seldom)


@dataclass(frozen=True)
class Pause:
    """A pause of a host's agent: when it begins, and how long it is, in seconds."""

    at: float
    seconds: float


def pauses(random: Random) -> tuple[Pause, ...]:
    """Return the pauses of one agent, one after the other."""
    found, at = [], random.uniform(0.0, BETWEEN_SECONDS[1])
    while at < PAUSING_SECONDS:
        found.append(Pause(at, random.uniform(*PAUSE_SECONDS)))
        at += found[-1].seconds + random.uniform(*BETWEEN_SECONDS)
    return tuple(found)


async def pause_under_load(strike: Strike) -> None:
    """Pause each agent at moments of its own, again and again, while every core is busy."""
    drawn = [(host, pauses(strike.random)) for host in strike.hosts]
    await keep_busy(strike)
    try:
        begin = time.monotonic()
        made = await asyncio.gather(*(pause(strike, host, each, begin) for host, each in drawn))
    finally:
        await let_rest(strike)
    strike.target.report(f"{sum(made)} pauses of {len(made)} agents")


async def pause(strike: Strike, host: str, drawn: Iterable[Pause], begin: float) -> int:
    """Pause one agent as drawn, and return how often; one that is just started anew is told of, and left alone."""
    made = 0
    for each in drawn:
        await asyncio.sleep(max(0.0, begin + each.at - time.monotonic()))
        try:
            await send(strike, host, "STOP")
            try:
                await asyncio.sleep(each.seconds)
            finally:
                await send(strike, host, "CONT", check=False)
        except Error as error:
            strike.target.report(f"no pause of the agent on {host}: {error.message.splitlines()[-1]}")
        else:
            made += 1
    return made


async def send(strike: Strike, host: str, signal: str, *, check: bool = True) -> None:
    """Send a signal to the agent of a host."""
    await signal_unit(replace(strike, hosts=(host,)), agent.UNIT, signal, whom="main", check=check)


async def keep_busy(strike: Strike) -> None:
    """Have a program for every core of this machine that never waits, dealt out over the hosts; each ends by itself."""
    ends = f"--property=RuntimeMaxSec={2 * PAUSED_SECONDS:g}"
    dealt = zip(range(os.cpu_count() or 1), cycle(strike.hosts), strict=False)
    argv = ("systemd-run", "--quiet", "--collect", ends)
    await asyncio.gather(
        *(strike.on(host).run(*argv, f"--unit={BUSY_UNIT}-{number}", "sh", "-c", BUSY) for number, host in dealt)
    )


async def let_rest(strike: Strike) -> None:
    """End the programs that never wait."""
    argv = ("systemctl", "stop", f"{BUSY_UNIT}-*")
    await asyncio.gather(*(strike.on(host).run(*argv, check=False) for host in strike.hosts))


async def relieve(strike: Strike) -> None:
    """End the load, and let all agents go on."""
    await let_rest(strike)
    await thaw_all(strike)


def cut_for_a_moment(name: str) -> Act:
    """Return the act of parting the host from all others for as long as makes it silent, or a little longer.

    The time is counted from order to order: each takes about as long to come into effect.
    """

    async def act(strike: Strike) -> None:
        away = strike.topology.timings.detection_time + strike.random.uniform(*BACK_SECONDS)
        begin = time.monotonic()
        await parting(name, around)(strike)
        await asyncio.sleep(max(0.0, begin + away - time.monotonic()))
        await mending(name)(strike)

    return act


def away_and_back(strike: Strike) -> Expectation:
    """Expect no more than of a primary that stays away, and that TCP waits no longer than the link was away."""
    away = strike.topology.timings.detection_time + BACK_SECONDS[1]
    return no_longer_than("primary-cut-off", PRIMARY_PARTS, extra_seconds=away)(strike)


def other_voters(strike: Strike) -> tuple[str, ...]:
    """Return the hosts with agents but the first one struck."""
    return tuple(host.name for host in strike.topology.voters if host.name != strike.host)


def the_standby(strike: Strike) -> tuple[str, ...]:
    """Return the hosts struck but the first one."""
    return strike.hosts[1:]


def deafening(name: str, whom: Whom) -> Act:
    """Return the act of having some hosts hear no heartbeat and no echo of the first host struck, and all else."""

    async def act(strike: Strike) -> None:
        rules = unheard(strike.topology, strike.host, table=table(name))
        await asyncio.gather(*(strike.on(host).run(NFT, "-f", "-", input=rules) for host in whom(strike)))

    return act


def hearing(name: str, whom: Whom) -> Act:
    """Return the act of having them hear again."""

    async def act(strike: Strike) -> None:
        rules = FORGOTTEN.format(table=table(name))
        await asyncio.gather(*(strike.on(host).run(NFT, "-f", "-", input=rules) for host in whom(strike)))

    return act


def table(name: str) -> str:
    """Return the name of a fault's own table: one that ends leaves that of another."""
    return f"pgbaton_{name.replace('-', '_')}"


def unheard(topology: Topology, host: str, *, table: str) -> str:
    """Return the rules that drop what tells agents that a host lives. Pure."""
    address, port = topology.host(host).address, topology.orchestration.heartbeat_port
    return UNHEARD.format(table=table, address=address, port=port)


async def look_for_fences(strike: Strike) -> Seen:
    """Look whether anybody has fenced anybody."""
    found = await fences.look(strike.topology, strike.target.hosts) or {}
    return Seen(objections=tuple(f"{host} is fenced on {', '.join(on)}" for host, on in found.items()))


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
        name="agents-killed",
        title="All agents killed",
        does="SIGKILL to the agents of all hosts at once",
        right="systemd starts them again; the primary stays, and clients notice nothing",
        victims=everything,
        inject=kill_all,
        expects=steady(within(BLIP_SECONDS)),
        needs=PAIR,
        obstacle=no_agents,
        hold_seconds=RESTARTED_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="agents-stopped",
        title="All agents hung",
        does="SIGSTOP to the agents of all hosts at once",
        right="systemd ends them after 3 s and starts them again; the primary stays, and clients notice nothing",
        victims=everything,
        inject=stop_all,
        heal=thaw_all,
        expects=steady(within(BLIP_SECONDS)),
        needs=PAIR,
        obstacle=no_agents,
        hold_seconds=RESTARTED_SECONDS,
    ),
    Fault(
        name="agents-gone",
        title="Postmaster killed while there are no agents",
        does="the agents of all hosts are stopped by their operator, then SIGKILL to the primary's postmaster",
        right="the cluster is a stock one: a synchronous standby takes over, the old primary rejoins",
        victims=everything,
        inject=kill_without_agents,
        heal=return_all,
        expects=as_stock,
        needs=PAIR,
        obstacle=no_agents,
    ),
    Fault(
        name="agents-paused-under-load",
        title="Agents paused, every core busy",
        does=f"for {PAUSING_SECONDS:g} s agents are stopped for {PAUSE_SECONDS[0]:g} to {PAUSE_SECONDS[1]:g} s at "
        "random moments, while every core of the machine is kept busy",
        right="an agent that did not run takes nobody for dead: the primary stays, and clients are served",
        victims=everything,
        inject=pause_under_load,
        heal=relieve,
        expects=steady(within(BUSY_SECONDS)),
        needs=PAIR,
        obstacle=no_agents,
        hold_seconds=PAUSED_SECONDS,
    ),
    Fault(
        name="primary-back-during-verdict",
        title="Primary back while agents decide",
        does="nothing gets through between the primary's host and any other for as long as makes it silent, or up to "
        f"{BACK_SECONDS[1]:g} s longer",
        right="it stays primary and its fences fall, or a synchronous standby takes over and it rejoins",
        victims=primary,
        inject=cut_for_a_moment("primary-back-during-verdict"),
        heal=mending("primary-back-during-verdict"),
        expects=away_and_back,
        needs=MAJORITY,
        obstacle=no_agents,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="false-alarm",
        title="Living primary taken for dead",
        does="all other hosts drop the heartbeats and echoes of the primary's; everything else gets through",
        right="it may be replaced as a dead one would be, and then follows; two never acknowledge, and nothing is lost",
        victims=primary,
        inject=deafening("false-alarm", other_voters),
        heal=hearing("false-alarm", other_voters),
        expects=no_longer_than("primary-power-off", PRIMARY_PARTS),
        needs=MAJORITY,
        obstacle=no_agents,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="standby-deaf-to-heartbeats",
        title="Primary's heartbeats lost on the way to its synchronous standby",
        does="the host of a standby that commits wait for drops the heartbeats and echoes of the primary's; "
        "everything else gets through",
        right="one word is no majority's: nobody is fenced, the primary stays, and clients notice nothing",
        victims=primary_and_confirming_standby,
        inject=deafening("standby-deaf-to-heartbeats", the_standby),
        heal=hearing("standby-deaf-to-heartbeats", the_standby),
        look=look_for_fences,
        expects=steady(within(BLIP_SECONDS)),
        needs=PAIR,
        obstacle=any_of(no_agents, no_standby_waited_for),
        hold_seconds=RESTARTED_SECONDS,
    ),
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
