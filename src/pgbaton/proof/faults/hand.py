"""Faults of clusters that a person fails over, with what the person does about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.errors import Error, UnhealthyError
from pgbaton.operate.hand import control, rejoin
from pgbaton.operate.hand import failover as failing
from pgbaton.operate.waiting import until
from pgbaton.proof.faults.base import Fault, predicted, primary, steady, within
from pgbaton.proof.faults.power import power_off, power_on
from pgbaton.proof.faults.signals import to_server
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Strike
    from pgbaton.topology.model import Topology

PAIR = ((Role.DATABASE, 2),)
#: Somebody who runs pgbaton failover at once: the rest is looking at hosts of which one says nothing.
OPERATOR_SECONDS = 40.0
#: How long a host may take to answer after its power is back.
BOOT_SECONDS = 60.0

#: What can be proven of such a cluster: all that does not lean on Patroni, etcd or agents. The rest counts as not run.
BY_HAND = frozenset(
    {
        "switchover",
        "two-switchovers",
        "haproxy-killed",
        "haproxy-stopped",
        "pgbouncer-killed",
        "pgbouncer-stopped",
        "read-pgbouncer-killed",
        "keepalived-killed",
        "keepalived-stopped",
        "pooler-restarted",
        "vip-handed-over",
        "balancer-power-off",
        "backup-balancer-power-off",
        "balancers-power-off",
        "packet-loss",
        "latency",
        "postmaster-killed-in-place",
        "primary-power-off-and-failover",
    }
)


async def power_off_and_fail_over(strike: Strike) -> None:
    """Cut the power of the primary's host, and do what its operator does: promote a standby, by name of what is off."""
    await power_off(strike)
    operation = strike.target.operation
    intent = failing.consider(strike.topology, await failing.look_when_known(operation), None, off=strike.hosts)
    if intent.needs_acceptance:
        message = f"nobody would be promoted without accepting a loss: {intent.target}"
        raise UnhealthyError(message, hint="prove it in a synchronous mode")
    await failing.failover(operation, intent)


async def power_on_and_rejoin(strike: Strike) -> None:
    """Give the host its power back, and bring its server back as a standby when somebody else is primary by now."""
    await power_on(strike)
    operation = strike.target.operation

    async def answers() -> str | None:
        found = await control.ask(operation.hosts[strike.host])
        return None if found else "no answer"

    await until(f"{strike.host} answers", answers, seconds=BOOT_SECONDS, interval_seconds=0.5)
    view = await operation.look()
    if view.primary not in {None, strike.host} and strike.host not in view.streaming:
        try:
            await rejoin.rejoin(operation, strike.host)
        except Error as error:
            strike.target.report(f"{strike.host} was not brought back: {error}")


def lacking_kind(fault: str, topology: Topology) -> str | None:
    """Return what a topology's kind of orchestration lacks for a fault; None when it will do."""
    if topology.is_manual and fault not in BY_HAND:
        return f"Patroni and etcd, which {topology.name} does not have"
    own = {each.name for each in FAULTS}
    return (
        f'orchestration.kind = "manual", and {topology.name} has Patroni'
        if not topology.is_manual and fault in own
        else None
    )


FAULTS = (
    Fault(
        name="postmaster-killed-in-place",
        title="Postmaster killed, nobody takes over",
        does="SIGKILL to PostgreSQL's first process on the primary of a cluster that a person fails over",
        right="the server starts again where it is, with everything acknowledged; no standby is promoted",
        victims=primary,
        inject=to_server("KILL", "postmaster"),
        expects=steady(predicted("postmaster-killed")),
        needs=PAIR,
        composable=False,
    ),
    Fault(
        name="primary-power-off-and-failover",
        title="Primary host powered off, failover by its operator",
        does="the power of the primary's host is cut, and its operator promotes a standby at once; when the host is "
        "back, its server is made a standby",
        right="nothing acknowledged is lost; the old primary stays down when its host is back, until it is rejoined",
        victims=primary,
        inject=power_off_and_fail_over,
        heal=power_on_and_rejoin,
        expects=within(OPERATOR_SECONDS),
        needs=PAIR,
        composable=False,
    ),
)
