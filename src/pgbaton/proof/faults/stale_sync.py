"""A fault of its own: a primary that was replaced changes ``/sync`` too late, and etcd has to refuse it.

What counts happens between two steps of Patroni's: after it has refreshed its lock, and before it writes to ``/sync``.
Nobody from outside meets that surely, so Patroni itself halts there. Whoever replaces it writes to ``/sync`` as well,
before it promotes its server, and from then on etcd would refuse the late change in any case. So it halts there too:
what has to refuse the change is the release alone, which put ``/sync`` again.

It is struck where there are agents, because only there a primary is replaced while its Patroni still believes to lead.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pgbaton.components import etcd, patroni
from pgbaton.errors import CommandError
from pgbaton.operate.waiting import until
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults.agents import BEYOND_TTL_SECONDS, MAJORITY, any_of, no_agents
from pgbaton.proof.faults.base import Expectation, Fault, Seen
from pgbaton.proof.faults.dcs import everywhere
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.partitions import around, between, mending, parting, same_host
from pgbaton.proof.faults.signals import signal_server, titled
from pgbaton.proof.faults.victims import no_standby_waited_for, primary_and_confirming_standbys
from pgbaton.proof.parts import PRIMARY_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.lab.record import Cut
    from pgbaton.proof.faults.base import Strike

STALE = "stale-sync-change"
#: Patroni's start, and until nothing is wrong with the cluster any more.
PLACED_SECONDS = 30.0
WHOLE_SECONDS = 60.0
#: What one of Patroni's loops takes beside its own pause.
LOOP_SECONDS = 10.0
#: Less than a lock lives: whoever has it by then has it because it was released.
REPLACED_SECONDS = 10.0
#: Until etcd on the host has a majority again, and until Patroni has an answer: together less than the new lock lives.
MAJORITY_SECONDS = 8.0
ANSWER_SECONDS = 8.0

DIRECTORY = "/run/pgbaton-stale-sync"
DROP_IN = f"/run/systemd/system/{patroni.UNIT}.d/90-pgbaton-stale-sync.conf"
#: Patroni runs with the halt; it is to halt from now on; it has halted, since when.
PLACED, HALT, HALTED = (f"{DIRECTORY}/{name}" for name in ("placed", "halt", "halted"))

# Python runs it before Patroni itself. Its directory is taken out of the environment again, which servers inherit.
SITE = """
import os, time
from patroni.dcs import AbstractDCS

placed, halt, halted = (os.path.join(os.path.dirname(__file__), name) for name in ("placed", "halt", "halted"))
write = AbstractDCS.write_sync_state

def write_when_let_go(*arguments, **named):
    if os.path.exists(halt):
        with open(halted, "w") as since:
            since.write(f"@{time.time():.6f}")
        while os.path.exists(halt):
            time.sleep(0.01)
    return write(*arguments, **named)

AbstractDCS.write_sync_state = write_when_let_go
del os.environ["PYTHONPATH"]
open(placed, "w").close()
"""
# The new environment counts from the next start: the unit is not restarted, which would stop the server, but killed.
PLACE = f"""
set -eu
umask 022
rm -rf {DIRECTORY}
install -d -o postgres -g postgres {DIRECTORY}
cat >{DIRECTORY}/sitecustomize.py
mkdir -p "$(dirname {DROP_IN})"
cat >{DROP_IN} <<END
[Service]
Environment=PYTHONPATH={DIRECTORY}
ReadWritePaths=-{DIRECTORY}
END
systemctl daemon-reload
systemctl kill --kill-whom=main --signal=SIGKILL {patroni.UNIT}
"""
# A Patroni that halts goes on by this.
TAKE_BACK = f"""
set -eu
rm -rf {DROP_IN} {DIRECTORY}
systemctl daemon-reload
"""
SAID_SINCE = f'exec journalctl -q --no-pager -o cat -u {patroni.UNIT} --since="$(cat {HALTED})"'
#: What Patroni says (4.0) when etcd has refused its change of ``/sync``, and what when it goes on after it.
REFUSED = re.compile(r"Synchronous replication key updated by someone else|Updating sync state failed")
ACCEPTED = re.compile(r"Assigning synchronous standby status to|Setting synchronous replication to")


async def change_sync_late(strike: Strike) -> None:
    """Halt Patroni before it takes standbys out of ``/sync``, and let it go on when one of these has its lock."""
    primary, standbys = strike.host, strike.hosts[1:]
    await everywhere(place)(strike)
    await strike.target.until_whole(seconds=WHOLE_SECONDS)
    await everywhere(halt)(strike)
    await lose_standbys(strike)
    seconds = strike.topology.timings.loop_wait + LOOP_SECONDS
    await until(f"Patroni on {primary} is about to change /sync", lambda: missing(strike, HALTED), seconds=seconds)
    await parting(STALE, around)(strike)
    await until("a standby has the lock", lambda: unreplaced(strike), seconds=REPLACED_SECONDS)
    await mending(STALE)(strike)
    if primary in strike.before.dcs:
        await until("etcd there has a majority again", lambda: without_majority(strike), seconds=MAJORITY_SECONDS)
    await let_go(strike)
    await until("the late change has an answer", lambda: unanswered(strike), seconds=ANSWER_SECONDS)
    await everywhere(let_go)(replace(strike, hosts=standbys))


async def place(strike: Strike) -> None:
    """Have the host's Patroni begin anew, as one that can halt before it changes ``/sync``; its server runs on."""
    await strike.on(strike.host).run("sh", "-c", PLACE, input=SITE)
    what = f"Patroni on {strike.host} runs with the halt"
    await until(what, lambda: missing(strike, PLACED), seconds=PLACED_SECONDS)


async def halt(strike: Strike) -> None:
    """Have the host's Patroni halt when it next changes ``/sync``."""
    await strike.on(strike.host).run("touch", HALT)


async def let_go(strike: Strike) -> None:
    """Have the host's Patroni go on, and halt no more."""
    await strike.on(strike.host).run("rm", "-f", HALT)


async def take_back(strike: Strike) -> None:
    """Remove all traces of the halt; the Patroni that was started with it goes on, and never halts again."""
    await strike.on(strike.host).run("sh", "-c", TAKE_BACK)


async def missing(strike: Strike, path: str) -> str | None:
    """Tell when the first host struck does not have a file."""
    seen = await strike.on(strike.host).run("test", "-e", path, check=False)
    return None if seen.ok else f"there is no {path}"


async def lose_standbys(strike: Strike) -> None:
    """Part the primary from the standbys that commits wait for, and have its server notice at once."""
    await parting(STALE, replication)(strike)
    try:
        await signal_server(strike, "TERM", "all", walsenders(strike))
    except CommandError as error:
        # It may have found out by itself, and that is as good.
        strike.target.report(f"no walsender to end: {error.message.splitlines()[-1]}")


def replication(strike: Strike) -> tuple[Cut, ...]:
    """Part the servers of the hosts struck from the first one's."""
    return between(strike.host, strike.hosts[1:], (strike.topology.postgresql.port,))


def walsenders(strike: Strike) -> str:
    """Return the pattern of the titles of the walsenders that serve the standbys."""
    topology = strike.topology
    standbys = (topology.host(name) for name in strike.hosts[1:])
    addresses = "|".join(re.escape(str(topology.replicates_at(standby))) for standby in standbys)
    return f"{titled(strike, 'walsender')}[^ ]+ ({addresses})[(]"


async def unreplaced(strike: Strike) -> str | None:
    """Tell who has the lock when none of the standbys does."""
    members = (strike.before.dcs_leader, *strike.before.dcs)
    asked = next(member for member in members if member not in {None, strike.host})
    argv = (*etcd.etcdctl(strike.topology), "get", f"/service/{strike.topology.scope}/leader", "--print-value-only")
    said = await strike.on(str(asked)).run(*argv, check=False)
    leader = said.stdout.strip()
    return None if leader in strike.hosts[1:] else f"etcd on {asked} names as its holder: {leader or 'nobody'}"


async def without_majority(strike: Strike) -> str | None:
    """Tell why etcd on the first host struck does not answer for a majority."""
    said = await strike.on(strike.host).run(*etcd.etcdctl(strike.topology), "endpoint", "health", check=False)
    return None if said.ok else said.stderr.strip()


async def connect_and_go_on(strike: Strike) -> None:
    """Take back all that parts the hosts, and what halts."""
    await mending(STALE)(strike)
    await everywhere(take_back)(strike)


async def unanswered(strike: Strike) -> str | None:
    """Tell when Patroni has not said what became of its late change."""
    check = await seen_change(strike)
    return check.findings[0] if check.validity is Validity.UNKNOWN else None


async def look_for_change(strike: Strike) -> Seen:
    """Look for what became of the late change."""
    return Seen((await seen_change(strike),))


async def seen_change(strike: Strike) -> Check:
    """Judge the late change by the journal of the Patroni that was replaced."""
    said = await strike.on(strike.host).run("sh", "-c", SAID_SINCE)
    return late_change(said.stdout.splitlines())


def late_change(lines: Iterable[str]) -> Check:
    """Judge what a Patroni said since it halted: what it says first tells what became of its change. Pure."""
    for line in lines:
        if REFUSED.search(line):
            return Check("late change", Validity.VALID, (), {"patroni": line})
        if ACCEPTED.search(line):
            return Check("late change", Validity.INVALID, (f"a late change of /sync was accepted: {line}",))
    return Check("late change", Validity.UNKNOWN, ("Patroni does not say what became of its late change of /sync",))


def late_and_cut_off(strike: Strike) -> Expectation:
    """Expect one loop of Patroni's, for which commits wait, what a primary costs that is cut off, and the halt."""
    extra = strike.topology.timings.loop_wait + MAJORITY_SECONDS + ANSWER_SECONDS
    return no_longer_than("primary-cut-off", PRIMARY_PARTS, extra_seconds=extra)(strike)


FAULTS = (
    Fault(
        name=STALE,
        title="Standby taken out of /sync too late",
        does="the primary loses its synchronous standby; its Patroni halts after it refreshed its lock and before it "
        "changes /sync, its host is cut off until the standby has the lock, and it goes on before that one is promoted",
        right="etcd refuses its late change of /sync, so that it acknowledges nothing alone; it rejoins",
        victims=primary_and_confirming_standbys,
        inject=change_sync_late,
        heal=connect_and_go_on,
        look=look_for_change,
        expects=late_and_cut_off,
        needs=MAJORITY,
        obstacle=any_of(no_agents, no_standby_waited_for, same_host),
        hold_seconds=BEYOND_TTL_SECONDS,
        composable=False,
    ),
)
