"""Faults of the balancers' services: HAProxy, PgBouncer and Keepalived, killed, stopped, restarted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import haproxy, keepalived, pgbouncer
from pgbaton.proof.faults.base import Fault, Suite, predicted, steady, vip_holder, within
from pgbaton.proof.faults.expectations import no_longer_than
from pgbaton.proof.faults.signals import thaw, to_unit
from pgbaton.proof.faults.victims import entry, no_pooler, no_vip, nobody_minds_poolers, read_pooler, write_pooler
from pgbaton.proof.parts import BALANCER_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Act, Strike
    from pgbaton.proof.target import Target

#: All processes of a port: most topologies have one.
WRITE_POOLER, READ_POOLER = map(pgbouncer.units, pgbouncer.PURPOSES)
ONE, PAIR = ((Role.BALANCER, 1),), ((Role.BALANCER, 2),)
#: HAProxy gives a pooler that accepts and does not answer ``timeout check`` for each of ``check_fall`` checks, at the
#: healthy and then the fast interval; then clients connect again. With the defaults 2.3 s, and a login.
SILENT_POOLER_SECONDS = 3.0
#: What clients of the other port may notice.
BLIP_SECONDS = 1.0
#: Long enough to see both balancers at rest again before the stopped process goes on.
HOLD_SECONDS = 5.0


def control(verb: str, unit: str) -> Act:
    """Return the act of telling systemd to start, stop or restart a unit."""

    async def act(strike: Strike) -> None:
        await strike.on(strike.host).run("systemctl", verb, unit)

    return act


async def no_second_process(target: Target) -> str | None:
    """Tell when each port has a single PgBouncer process."""
    alone = target.topology.pooling.processes == 1
    return "pooling.processes is 1: there is no other process on the port" if alone else None


FAULTS = (
    Fault(
        name="haproxy-killed",
        title="HAProxy killed",
        does="SIGKILL to HAProxy's processes on the VIP's holder",
        right="the VIP moves, or HAProxy is back first; clients connect again",
        victims=entry,
        inject=to_unit(haproxy.UNIT, "KILL"),
        expects=steady(predicted("haproxy-killed", BALANCER_PARTS)),
        needs=ONE,
        suite=Suite.SMOKE,
    ),
    Fault(
        name="haproxy-stopped",
        title="HAProxy stopped",
        does="SIGSTOP to HAProxy's processes on the VIP's holder",
        right="the VIP moves, because only an answer counts; it does not move back when HAProxy goes on, unless "
        "it is one of several, and then not at once",
        victims=vip_holder,
        inject=to_unit(haproxy.UNIT, "STOP"),
        heal=thaw(haproxy.UNIT),
        expects=steady(predicted("haproxy-hung", BALANCER_PARTS)),
        needs=PAIR,
        obstacle=no_vip,
        hold_seconds=HOLD_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="pgbouncer-killed",
        title="PgBouncer for writes killed",
        does="SIGKILL to a PgBouncer that writes go through: where it is beside HAProxy, the one of the VIP's holder",
        right="clients find another pooler, or the same when it is back",
        victims=write_pooler,
        inject=to_unit(WRITE_POOLER, "KILL"),
        expects=steady(predicted("pgbouncer-killed")),
        needs=ONE,
        obstacle=no_pooler,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="one-of-several-pgbouncers-killed",
        title="One of several PgBouncers for writes killed",
        does="SIGKILL to the first of the PgBouncer processes for writes of a host that writes go through",
        right="clients of the other processes notice nothing; its own connect again, and come to those",
        victims=write_pooler,
        inject=to_unit(pgbouncer.unit("write"), "KILL"),
        expects=steady(within(BLIP_SECONDS)),
        needs=ONE,
        obstacle=no_second_process,
    ),
    Fault(
        name="pgbouncer-stopped",
        title="PgBouncer for writes stopped",
        does="SIGSTOP to a PgBouncer that writes go through",
        right="HAProxy notices that it does not answer and leads clients to another pooler, or an agent ends it",
        victims=write_pooler,
        inject=to_unit(WRITE_POOLER, "STOP"),
        heal=thaw(WRITE_POOLER),
        expects=steady(within(SILENT_POOLER_SECONDS)),
        needs=PAIR,
        obstacle=nobody_minds_poolers,
        hold_seconds=HOLD_SECONDS,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="read-pgbouncer-killed",
        title="PgBouncer for reads killed",
        does="SIGKILL to a PgBouncer that reads go through",
        right="writes go on undisturbed; readers find another pooler, or the same when it is back",
        victims=read_pooler,
        inject=to_unit(READ_POOLER, "KILL"),
        expects=steady(within(BLIP_SECONDS)),
        needs=ONE,
        obstacle=no_pooler,
    ),
    Fault(
        name="keepalived-killed",
        title="Keepalived killed",
        does="SIGKILL to Keepalived's processes on the VIP's holder",
        right="the VIP it left behind is taken away, and one balancer has it, this one or another",
        victims=vip_holder,
        inject=to_unit(keepalived.UNIT, "KILL"),
        expects=steady(no_longer_than("balancer-power-off", BALANCER_PARTS)),
        needs=PAIR,
        obstacle=no_vip,
        suite=Suite.STANDARD,
    ),
    Fault(
        name="keepalived-stopped",
        title="Keepalived stopped",
        does="SIGSTOP to Keepalived's processes on the VIP's holder, which keeps its address",
        right="another balancer takes the VIP and clients follow; the stale address is taken away",
        victims=vip_holder,
        inject=to_unit(keepalived.UNIT, "STOP"),
        heal=thaw(keepalived.UNIT),
        expects=steady(no_longer_than("balancer-power-off", BALANCER_PARTS)),
        needs=PAIR,
        obstacle=no_vip,
        hold_seconds=HOLD_SECONDS,
    ),
    Fault(
        name="pooler-restarted",
        title="PgBouncer for writes restarted",
        does="a PgBouncer that writes go through is restarted by its operator",
        right="transactions under way end first; clients connect again, to another pooler or the same",
        victims=write_pooler,
        inject=control("restart", WRITE_POOLER),
        expects=steady(no_longer_than("pgbouncer-killed")),
        needs=ONE,
        obstacle=no_pooler,
        lab=False,
    ),
    Fault(
        name="vip-handed-over",
        title="VIP handed over",
        does="Keepalived is stopped by its operator on the VIP's holder, and started again",
        right="another balancer takes the VIP at once and keeps it; clients connect again",
        victims=vip_holder,
        inject=control("stop", keepalived.UNIT),
        heal=control("start", keepalived.UNIT),
        expects=steady(no_longer_than("haproxy-killed", BALANCER_PARTS)),
        needs=PAIR,
        obstacle=no_vip,
        lab=False,
    ),
)
