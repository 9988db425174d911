"""Faults of agents: killed, hung, gone, held up by load, and deceived about the primary.

Where the topology has no agents there is nothing to strike, and none of them can be made.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING

from pgbaton.components import agent
from pgbaton.errors import Error
from pgbaton.observe.host_probe import NFT
from pgbaton.operate import fences
from pgbaton.proof.faults.base import Expectation, Fault, Seen, Suite, primary, steady, within
from pgbaton.proof.faults.dcs import everywhere
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.partitions import around, mending, parting
from pgbaton.proof.faults.services import control
from pgbaton.proof.faults.signals import signal_server, signal_unit, thaw, to_unit
from pgbaton.proof.faults.victims import everything, no_standby_waited_for, primary_and_confirming_standby
from pgbaton.proof.parts import PRIMARY_PARTS
from pgbaton.topology import budget
from pgbaton.topology.addresses import IPV4, IPV6
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

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
#: The longest pause may begin at the end of the time for pauses, and what it leads to is to be seen.
LINGERING_SECONDS = PAUSE_SECONDS[1] + 5.0
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
#: What nftables calls the header of each family, and its echoes. What finds a neighbour's link address gets through.
ECHOES = {IPV4: ("ip", "icmp"), IPV6: ("ip6", "icmpv6")}
UNHEARD = (
    FORGOTTEN
    + """
table inet {table} {{
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    {header} saddr {address} udp dport {port} drop
    {header} saddr {address} {echoes} type {{ echo-request, echo-reply }} drop
  }}
}}
"""
)


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


def pauses(random: Random, seconds: float) -> tuple[Pause, ...]:
    """Return the pauses of one agent that begin within so many seconds, one after the other."""
    found, at = [], random.uniform(0.0, BETWEEN_SECONDS[1])
    while at < seconds:
        found.append(Pause(at, random.uniform(*PAUSE_SECONDS)))
        at += found[-1].seconds + random.uniform(*BETWEEN_SECONDS)
    return tuple(found)


async def pause_under_load(strike: Strike, seconds: float = PAUSING_SECONDS) -> None:
    """Pause each agent at moments of its own, again and again for so long, while every core is busy."""
    drawn = [(host, pauses(strike.random, seconds)) for host in strike.hosts]
    await keep_busy(strike, 2 * (seconds + LINGERING_SECONDS))
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


async def keep_busy(strike: Strike, seconds: float) -> None:
    """Have a program for every core of this machine that never waits, dealt out over the hosts, for so long at most."""
    ends = f"--property=RuntimeMaxSec={seconds:g}"
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
    header, echoes = ECHOES[address.version]
    return UNHEARD.format(table=table, header=header, echoes=echoes, address=address, port=port)


async def look_for_fences(strike: Strike) -> Seen:
    """Look whether anybody has fenced anybody."""
    found = await fences.look(strike.topology, strike.target.hosts) or {}
    return Seen(objections=tuple(f"{host} is fenced on {', '.join(on)}" for host, on in found.items()))


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
        hold_seconds=PAUSING_SECONDS + LINGERING_SECONDS,
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
)
