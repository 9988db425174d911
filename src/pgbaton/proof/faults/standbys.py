"""Faults of standbys: replay that stands still, WAL that is gone, a history of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import patroni
from pgbaton.errors import RefusedError, UnhealthyError
from pgbaton.operate.reinit import reinit
from pgbaton.operate.waiting import until
from pgbaton.proof import final
from pgbaton.proof.faults.base import Fault, Suite, steady, within
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.power import power_off, power_on
from pgbaton.proof.faults.signals import signal_server, titled
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from random import Random

    from pgbaton.proof.faults.base import Act, Expectation, Strike
    from pgbaton.proof.target import Roles

PAIR = ((Role.DATABASE, 2),)
#: What clients may notice of a standby that no commit waits for.
BLIP_SECONDS = 1.0
#: Long enough to be seen behind the limit, to leave the read pool, and for reads to go on without it.
FROZEN_SECONDS = 15.0
#: How far beyond the lag limit a frozen standby is left behind, in MiB.
BEYOND_LIMIT_MB = 16
#: Beyond wal_keep_size (256 MiB) and with some to spare, in pieces.
FORGOTTEN_PIECES = 20
PIECE_MB = 16
FORGETTING_SECONDS = 120.0
#: How long a standby's Patroni may take to be there and free, before it can be asked to clone.
ASKED_SECONDS = 60.0

MESSAGE = "SELECT pg_logical_emit_message(true, 'pgbaton', repeat('x', 1048576)) FROM generate_series(1, {count})"
#: Segments are told without their timeline, the first eight digits: those of older timelines go with them.
OLDEST = "SELECT min(substr(name, 9)) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
NEWEST = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 9)"
#: Patroni keeps the slot of a member that is gone for half an hour; a new one of the same name keeps no old WAL.
DROP_SLOT = (
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
)

# Starts the standby's server alone, out of its cluster's sight, and promotes it. Arguments: directory of the programs,
# data directory, "rewindable" or "bare": whether WAL is left that pg_rewind could find the common past in.
DIVERGE = r"""
set -eu
bin=$1 data=$2
as() { runuser -u postgres -- "$@"; }
systemctl stop patroni.service
as "$bin/pg_ctl" -s -w -D "$data" -l /dev/null -o "-c listen_addresses= -c unix_socket_directories=/tmp" start
as "$bin/pg_ctl" -s -w -D "$data" promote
as psql -Xq -h /tmp -c "CREATE TABLE a_history_of_its_own AS SELECT generate_series(1, 10000) AS id" -c CHECKPOINT
as "$bin/pg_ctl" -s -w -D "$data" -m fast stop
[ "$3" = rewindable ] || as "$bin/pg_resetwal" -f -D "$data" >/dev/null
"""


def a_standby(roles: Roles, random: Random) -> tuple[str, ...]:
    """Strike any standby, if there is one that no commit waits for."""
    fit = roles.asynchronous or roles.standbys
    if not fit:
        message = "there is no standby to strike"
        raise UnhealthyError(message, hint="pgbaton status shows the whole cluster")
    return (random.choice(fit),)


async def freeze_replay(strike: Strike) -> None:
    """Stop the standby's startup process, and write more WAL than a standby that serves reads may lag behind."""
    await signal_server(strike, "STOP", "all", titled(strike, "startup"))
    await write_wal(strike, strike.topology.balancing.max_lag_mb + BEYOND_LIMIT_MB)


async def thaw_replay(strike: Strike) -> None:
    """Let the standby's startup process go on, if it is still there."""
    await strike.on(strike.host).run("pkill", "-CONT", "-f", titled(strike, "startup"), check=False)


async def write_wal(strike: Strike, megabytes: int) -> None:
    """Write WAL that changes nothing, on the primary."""
    await final.sql(strike.target, strike.before.primary, MESSAGE.format(count=megabytes))


async def forget(strike: Strike) -> None:
    """Cut a standby's power, and have the primary throw away the WAL that it would need."""
    needed = await final.sql(strike.target, strike.before.primary, NEWEST)
    await power_off(strike)
    await until("the WAL that the standby needs is gone", lambda: forgotten(strike, needed), seconds=FORGETTING_SECONDS)


async def forgotten(strike: Strike, needed: str) -> str | None:
    """Tell which WAL the primary has left when that is still too much, after writing more and dropping the slot."""
    target, primary = strike.target, strike.before.primary
    kept = await final.sql(target, primary, OLDEST)
    if kept > needed:
        return None
    for _ in range(FORGOTTEN_PIECES):
        await write_wal(strike, PIECE_MB)
    await final.sql(target, primary, DROP_SLOT.format(slot=strike.host))
    await final.sql(target, primary, "CHECKPOINT")
    return f"the oldest segment is {kept}, {needed} must go"


def diverge(kind: str) -> Act:
    """Return the act of promoting a standby by hand, behind its cluster's back."""

    async def act(strike: Strike) -> None:
        programs = f"/usr/lib/postgresql/{strike.topology.postgresql.version}/bin"
        await strike.on(strike.host).run("sh", "-c", DIVERGE, "sh", programs, strike.topology.data_directory, kind)
        await start_patroni(strike)

    return act


async def start_patroni(strike: Strike) -> None:
    """Start the unit, if it does not run."""
    await strike.on(strike.host).run("systemctl", "start", patroni.UNIT)


async def clone_anew(strike: Strike) -> None:
    """Have the standby cloned anew, as its operator would, as soon as its Patroni can be asked for that."""
    operation, host = strike.target.operation, strike.host
    await start_patroni(strike)

    async def asked() -> str | None:
        try:
            await operation.patroni(host).request("GET", "/patroni", seconds=5)
        except UnhealthyError as error:
            return error.message
        try:
            await reinit(operation, host)
        except RefusedError as error:
            return error.message
        return None

    await until(f"{host} is cloned anew", asked, seconds=ASKED_SECONDS, interval_seconds=1.0)


def unnoticed(strike: Strike) -> Expectation:
    """Expect nothing to be noticed of a standby that stops, unless commits wait for it, and the primary to stay."""
    waited_for = strike.host in strike.before.synchronous
    return steady(no_longer_than("standby-power-off") if waited_for else within(BLIP_SECONDS))(strike)


FAULTS = (
    Fault(
        name="standby-replay-frozen",
        title="Replay frozen on a standby",
        does="SIGSTOP to a standby's startup process, and more WAL than the lag limit allows",
        right="it leaves the read pool, reads go on elsewhere; it returns when it has caught up",
        victims=a_standby,
        inject=freeze_replay,
        heal=thaw_replay,
        expects=within(BLIP_SECONDS),
        needs=PAIR,
        hold_seconds=FROZEN_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="standby-lost-its-wal",
        title="Standby whose WAL is gone",
        does="a standby's power is cut, the WAL that it needs is removed, and the power given back",
        right="it is cloned anew by itself",
        victims=a_standby,
        inject=forget,
        heal=power_on,
        expects=no_longer_than("standby-power-off"),
        needs=PAIR,
    ),
    Fault(
        name="standby-diverged",
        title="Standby with a history of its own",
        does="a standby is promoted by hand, out of its cluster's sight, and started again under Patroni",
        right="it is rewound or cloned anew by itself, and what it wrote alone is nowhere",
        victims=a_standby,
        inject=diverge("rewindable"),
        heal=start_patroni,
        expects=within(BLIP_SECONDS),
        needs=PAIR,
    ),
    Fault(
        name="standby-diverged-without-wal",
        title="Diverged standby that cannot be rewound",
        does="a standby is promoted by hand, its WAL is thrown away, and it is started again under Patroni",
        right="it is cloned anew by itself",
        victims=a_standby,
        inject=diverge("bare"),
        heal=start_patroni,
        expects=within(BLIP_SECONDS),
        needs=PAIR,
    ),
)
