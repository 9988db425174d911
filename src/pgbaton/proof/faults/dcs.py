"""Faults of etcd: single members, its leader, its majority, its speed and its space."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.components import etcd
from pgbaton.errors import UnhealthyError
from pgbaton.operate.waiting import until
from pgbaton.proof.faults.base import Fault, Service, Suite, predicted, steady, within
from pgbaton.proof.faults.signals import signal_unit
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from random import Random

    from pgbaton.proof.faults.base import Act, Strike
    from pgbaton.proof.target import Roles

MEMBERS = ((Role.DCS, 3), (Role.DATABASE, 2))
#: Long enough for what an election of etcd's costs to be seen, Patroni's patience of a few seconds included.
ELECTION_SECONDS = 10.0
#: Longer than a lock of the usual ttl of 20 s lives: it must have been renewed without the member that is missing.
BEYOND_TTL_SECONDS = 30.0
#: Long enough for the primary to have given up, and for a majority that never comes to be told from a slow one.
QUORUM_SECONDS = 20.0
#: After a majority is back: its election, Patroni's next tries, the old primary or another promoted, and routing.
RETURN_SECONDS = 15.0
#: All members start at once, and elect; the primary gave up meanwhile, and is promoted again.
RESTART_SECONDS = 12.0

#: Stops etcd for most of the time, but never for as long as an election takes to begin; goes on at its end.
#: Arguments: for how many seconds it is stopped, and for how many it runs.
SLOW_UNIT = "pgbaton-slow-etcd"
STOPPED_SHARE = 0.7
SLOW = f"""
while systemctl kill --kill-whom=main --signal=SIGSTOP {etcd.UNIT}; do
  sleep "$1"
  systemctl kill --kill-whom=main --signal=SIGCONT {etcd.UNIT}
  sleep "$2"
done
"""

#: Asked to end, etcd may go on as a silent member of the majority for a minute and more: it is killed, and stays so.
SHUT_DOWN = f"""
systemctl --no-block stop {etcd.UNIT}
systemctl kill --signal=SIGKILL {etcd.UNIT}
exec systemctl stop {etcd.UNIT}
"""

#: A later drop-in than the one that is deployed, so that the quota is that of this file as long as it is there.
QUOTA_FILE = f"/run/systemd/system/{etcd.UNIT}.d/90-pgbaton-quota.conf"
QUOTA = f"""
set -eu
mkdir -p "$(dirname {QUOTA_FILE})"
printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/env ETCD_QUOTA_BACKEND_BYTES=1 /usr/bin/etcd\\n' >{QUOTA_FILE}
systemctl daemon-reload
systemctl restart {etcd.UNIT}
"""
NO_QUOTA = f"""
set -eu
[ -e {QUOTA_FILE} ] || exit 0
rm {QUOTA_FILE}
systemctl daemon-reload
systemctl restart {etcd.UNIT}
"""
ALARM = "NOSPACE"
ALARM_SECONDS = 30.0


def leader(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike etcd's leading member; raises UnhealthyError when there is none."""
    del random
    if roles.dcs_leader is None:
        message = "etcd has no leader"
        raise UnhealthyError(message, hint="pgbaton status shows etcd's members")
    return (roles.dcs_leader,)


def follower(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike a member that does not lead; raises UnhealthyError when there is none."""
    followers = [name for name in roles.dcs if name != roles.dcs_leader]
    if not followers:
        message = "etcd has no member beside its leader"
        raise UnhealthyError(message, hint="pgbaton status shows etcd's members")
    return (random.choice(followers),)


def majority(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike as many members as leave the others without a majority."""
    return tuple(random.sample(roles.dcs, len(roles.dcs) - len(roles.dcs) // 2))


def members(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike every member."""
    del random
    return roles.dcs


def everywhere(act: Act) -> Act:
    """Return the act of doing something to all the hosts struck, at once."""

    async def acts(strike: Strike) -> None:
        await asyncio.gather(*(act(replace(strike, hosts=(host,))) for host in strike.hosts))

    return acts


def sending(signal: str, *, check: bool = True) -> Act:
    """Return the act of sending etcd a signal on all the hosts struck."""

    async def act(strike: Strike) -> None:
        await signal_unit(strike, etcd.UNIT, signal, whom="main", check=check)

    return everywhere(act)


async def shut_down(strike: Strike) -> None:
    """Have systemd stop etcd on all the hosts struck, and return when none of it is left."""
    await asyncio.gather(*(strike.on(host).run("sh", "-c", SHUT_DOWN) for host in strike.hosts))


async def start(strike: Strike) -> None:
    """Start etcd on all the hosts struck; a member is up only once there is a majority, so none waits for itself."""
    await asyncio.gather(*(strike.on(host).run("systemctl", "--no-block", "start", etcd.UNIT) for host in strike.hosts))


thaw = sending("CONT", check=False)


async def slow_down(strike: Strike) -> None:
    """Stop etcd on the host for a moment, again and again."""
    go_on = f"--property=ExecStopPost=-systemctl kill --kill-whom=main --signal=SIGCONT {etcd.UNIT}"
    whole = strike.topology.etcd_election_seconds
    times = (f"{whole * STOPPED_SHARE:.3f}", f"{whole * (1 - STOPPED_SHARE):.3f}")
    argv = ("systemd-run", "--quiet", "--collect", f"--unit={SLOW_UNIT}", go_on, "sh", "-c", SLOW, "sh", *times)
    await strike.on(strike.host).run(*argv)


async def speed_up(strike: Strike) -> None:
    """Let etcd go on again without interruption."""
    await strike.on(strike.host).run("systemctl", "stop", SLOW_UNIT, check=False)
    await thaw(strike)


async def run_out_of_space(strike: Strike) -> None:
    """Give a member a quota that its database is beyond, and wait until the next write has raised the alarm."""
    host = strike.on(strike.host)
    await host.run("sh", "-c", QUOTA)

    async def raised() -> str | None:
        said = await host.run(*etcd.etcdctl(strike.topology), "alarm", "list", check=False)
        return None if ALARM in said.stdout else said.stderr.strip() or "no alarm yet"

    await until("etcd has raised its alarm for space", raised, seconds=ALARM_SECONDS)


async def make_space(strike: Strike) -> None:
    """Give the member its quota back, and take the alarm back as etcd's operators have to."""
    host = strike.on(strike.host)
    await host.run("sh", "-c", NO_QUOTA)

    async def disarmed() -> str | None:
        said = await host.run(*etcd.etcdctl(strike.topology), "alarm", "disarm", check=False)
        return None if said.ok else said.stderr.strip()

    await until("etcd takes its alarm back", disarmed, seconds=ALARM_SECONDS)


FAULTS = (
    Fault(
        name="etcd-member-killed",
        title="etcd member killed",
        does="SIGKILL to an etcd that does not lead",
        right="nothing is noticed; systemd starts it again",
        victims=follower,
        inject=sending("KILL"),
        expects=steady(predicted("etcd-member-lost")),
        needs=MEMBERS,
        hold_seconds=ELECTION_SECONDS,
    ),
    Fault(
        name="etcd-member-stopped",
        title="etcd member hung",
        does="SIGSTOP to an etcd that does not lead",
        right="nothing is noticed; it catches up when it goes on",
        victims=follower,
        inject=sending("STOP"),
        heal=thaw,
        expects=steady(predicted("etcd-member-lost")),
        needs=MEMBERS,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="etcd-leader-killed",
        title="etcd's leader killed",
        does="SIGKILL to the etcd that leads",
        right="another member leads before Patroni loses patience; the primary stays",
        victims=leader,
        inject=sending("KILL"),
        expects=steady(predicted("etcd-member-lost")),
        needs=MEMBERS,
        hold_seconds=ELECTION_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="etcd-leader-stopped",
        title="etcd's leader hung",
        does="SIGSTOP to the etcd that leads",
        right="another member leads before Patroni loses patience; the primary stays",
        victims=leader,
        inject=sending("STOP"),
        heal=thaw,
        expects=steady(predicted("etcd-member-lost")),
        needs=MEMBERS,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="etcd-leader-slow",
        title="etcd's leader slow",
        does=f"the etcd that leads is stopped for {STOPPED_SHARE:.0%} of every election timeout, again and again",
        right="the primary stays: a slow answer is no dead one, and an election is nothing that clients notice",
        victims=leader,
        inject=slow_down,
        heal=speed_up,
        expects=steady(predicted("etcd-member-lost")),
        needs=MEMBERS,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="etcd-quorum-lost",
        title="etcd's majority shut down",
        does="so many members are killed, and not started again, that the others are no majority",
        right="the primary steps down, because it could not know of another one; all goes on when the majority is back",
        victims=majority,
        inject=shut_down,
        heal=start,
        expects=within(QUORUM_SECONDS + RETURN_SECONDS),
        needs=MEMBERS,
        service=Service.AFTER_HEALING,
        hold_seconds=QUORUM_SECONDS,
    ),
    Fault(
        name="etcd-quorum-hung",
        title="etcd's majority hung",
        does="SIGSTOP to so many members that the others are no majority",
        right="the primary steps down, because it could not know of another one; all goes on when the majority is back",
        victims=majority,
        inject=sending("STOP"),
        heal=thaw,
        expects=within(QUORUM_SECONDS + RETURN_SECONDS),
        needs=MEMBERS,
        service=Service.AFTER_HEALING,
        hold_seconds=QUORUM_SECONDS,
    ),
    Fault(
        name="etcd-killed-everywhere",
        title="All of etcd killed",
        does="SIGKILL to every member of etcd at once",
        right="systemd starts them again; the primary stays, or steps down and is back within seconds",
        victims=members,
        inject=sending("KILL"),
        expects=within(RESTART_SECONDS),
        needs=MEMBERS,
        hold_seconds=ELECTION_SECONDS,
    ),
    Fault(
        name="etcd-out-of-space",
        title="etcd out of space",
        does="a member's database is beyond its quota, so that etcd refuses whatever would make it larger",
        right="the primary stays, because its lock can be renewed; status shows the alarm",
        victims=follower,
        inject=run_out_of_space,
        heal=make_space,
        expects=steady(predicted("etcd-member-lost")),
        needs=MEMBERS,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
)
