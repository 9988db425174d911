"""Faults of clocks: the wall clock of one daemon jumps.

The kernel has one wall clock for all namespaces (time namespaces cover the monotonic and the boot clock alone), so that
of a lab machine is this machine's own, and is never set. What can be made to jump is what one daemon is told: Patroni
runs under libfaketime, which answers for the kernel, with the monotonic clock left alone as a real jump leaves it.
PostgreSQL, which Patroni adopts, and etcd, HAProxy and the others see the true time; no fault here is about them.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pgbaton.components import patroni
from pgbaton.errors import Error
from pgbaton.operate.waiting import until
from pgbaton.proof.faults.base import Fault, primary, steady, within
from pgbaton.proof.faults.signals import signal_unit
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Act, Strike
    from pgbaton.proof.target import Target

PAIR = ((Role.DATABASE, 2),)
#: Patroni is started anew to be given a clock of its own, and again to take it back: HAProxy takes the primary out of
#: rotation for as long as nobody answers for it, and that is all that clients may notice.
RESTARTS_SECONDS = 6.0
#: Beyond the leader lock's usual life.
BEYOND_TTL_SECONDS = 30.0
#: Patroni's start, and its first loop.
ADOPTED_SECONDS = 30.0
JUMP_SECONDS = 3600

#: Debian's libfaketime has it in a directory of the machine's architecture.
LIBRARY = "/usr/lib/*/faketime/libfaketime.so.1"
CLOCK = "/run/pgbaton-clock"
DROP_IN = f"/run/systemd/system/{patroni.UNIT}.d/90-pgbaton-clock.conf"

# The new environment counts from the next start: the unit is not restarted, which would stop the server, but killed.
PRELOAD = f"""
set -eu
library=$(ls {LIBRARY} | head -n 1)
echo +0 >{CLOCK}
mkdir -p "$(dirname {DROP_IN})"
cat >{DROP_IN} <<END
[Service]
Environment=LD_PRELOAD=$library FAKETIME_TIMESTAMP_FILE={CLOCK} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
END
systemctl daemon-reload
"""
RESTORE = f"""
set -eu
[ -e {DROP_IN} ] || exit 0
rm {DROP_IN} {CLOCK}
systemctl daemon-reload
systemctl kill --kill-whom=main --signal=SIGKILL {patroni.UNIT}
"""


async def no_library(target: Target) -> str | None:
    """Tell when a database host has no libfaketime, without which no daemon's clock can be made to jump."""
    for host in target.topology.with_role(Role.DATABASE):
        if not (await target.hosts[host.name].run("sh", "-c", f"ls {LIBRARY}", check=False)).ok:
            return f"libfaketime is not installed on {host.name}, and the wall clock is this machine's own"
    return None


def jump(seconds: int) -> Act:
    """Return the act of letting Patroni's wall clock jump in the midst of its life."""

    async def act(strike: Strike) -> None:
        await strike.on(strike.host).run("sh", "-c", PRELOAD)
        await signal_unit(strike, patroni.UNIT, "KILL", whom="main")
        await until("Patroni has adopted the server again", lambda: adopted(strike), seconds=ADOPTED_SECONDS)
        # In one step: a Patroni that reads an empty file is ended by libfaketime.
        said = shlex.quote(f"{seconds:+d}")
        await strike.on(strike.host).run("sh", "-c", f"echo {said} >{CLOCK}.new && mv {CLOCK}.new {CLOCK}")

    return act


async def adopted(strike: Strike) -> str | None:
    """Tell what is missing until a Patroni with a clock of its own says that it leads."""
    host = strike.on(strike.host)
    main = await host.run("systemctl", "show", "--property=MainPID", "--value", patroni.UNIT)
    seen = await host.run("grep", "-q", "faketime", f"/proc/{main.stdout.strip()}/maps", check=False)
    if not seen.ok:
        return "Patroni does not run with libfaketime yet"
    try:
        reply = await strike.target.operation.patroni(strike.host).request("GET", "/leader", seconds=5)
    except Error as error:
        return error.message
    return None if reply.ok else f"Patroni says {reply.status}"


async def true_time(strike: Strike) -> None:
    """Give Patroni the true clock back."""
    await strike.on(strike.host).run("sh", "-c", RESTORE)


FAULTS = (
    Fault(
        name="clock-jump-back",
        title="Patroni's clock jumps back",
        does="the wall clock that the primary's Patroni sees jumps an hour back",
        right="nothing happens: the lock is kept, the server serves",
        victims=primary,
        inject=jump(-JUMP_SECONDS),
        heal=true_time,
        expects=steady(within(RESTARTS_SECONDS)),
        needs=PAIR,
        obstacle=no_library,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
    Fault(
        name="clock-jump-forward",
        title="Patroni's clock jumps forward",
        does="the wall clock that the primary's Patroni sees jumps an hour forward",
        right="nothing happens: the lock is kept, the server serves",
        victims=primary,
        inject=jump(JUMP_SECONDS),
        heal=true_time,
        expects=steady(within(RESTARTS_SECONDS)),
        needs=PAIR,
        obstacle=no_library,
        hold_seconds=BEYOND_TTL_SECONDS,
    ),
)
