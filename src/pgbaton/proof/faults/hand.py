"""Faults of clusters that a person fails over, with what the person does about them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgbaton.components import haproxy, manual
from pgbaton.errors import Error, UnhealthyError
from pgbaton.operate.hand import control, living, rejoin
from pgbaton.operate.hand import failover as failing
from pgbaton.operate.waiting import until
from pgbaton.proof import marks
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults.base import Fault, Seen, predicted, primary, steady, within
from pgbaton.proof.faults.power import power_off, power_on
from pgbaton.proof.faults.signals import to_server
from pgbaton.proof.marks import Moment
from pgbaton.topology import placement
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgbaton.proof.faults.base import Act, Strike
    from pgbaton.proof.marks import Mark
    from pgbaton.topology.model import Topology

PAIR = ((Role.DATABASE, 2),)
#: Until an operator has come, seen what is wrong and decided, unless the user says how long: a proof measures programs.
HUMAN_SECONDS = 0.0
#: What is left then: pgbaton failover, which looks at hosts of which one says nothing.
OPERATOR_SECONDS = 40.0
#: How long a host may take to answer after its power is back.
BOOT_SECONDS = 60.0
#: What a host's own program says in the journal when it lets its server not start.
STAYS_DOWN = "stays down: "

#: What can be proven of such a cluster: all that does not lean on Patroni, etcd or votes. The rest counts as not run,
#: and so does what needs agents where there are none.
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
        "pooler-cut-off",
        "agents-killed",
        "agents-stopped",
        "standby-deaf-to-heartbeats",
        "postmaster-killed-in-place",
        "primary-power-off-and-failover",
        "old-primary-returns-after-failover",
    }
)


def fail_over_after(seconds: float) -> Act:
    """Return the act of cutting the primary's power, and of the operator who comes so many seconds later."""

    async def inject(strike: Strike) -> None:
        await power_off(strike)
        await asyncio.sleep(seconds)
        await fail_over(strike)

    return inject


def fail_over_after_and_power_on(seconds: float) -> Act:
    """Return the same, and giving the old primary its power back; it is waited for what its host decides."""
    failed_over = fail_over_after(seconds)

    async def inject(strike: Strike) -> None:
        await failed_over(strike)
        await power_on(strike)
        await until(f"{strike.host} has decided", lambda: undecided(strike), seconds=BOOT_SECONDS, interval_seconds=0.5)

    return inject


async def fail_over(strike: Strike) -> None:
    """Do what the operator does: promote a standby, by name of what is off."""
    operation = strike.target.operation
    intent = failing.consider(strike.topology, await living.settled(operation), None, off=strike.hosts)
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


async def undecided(strike: Strike) -> str | None:
    """Tell what a host that has booted has not said yet of its server; None when it has, or when its server runs."""
    try:
        said = await words(strike)
    except Error as error:
        return error.message.splitlines()[-1]
    found = await control.ask(strike.on(strike.host))
    if STAYS_DOWN in said or (found is not None and found.unit == "active"):
        return None
    return said[-200:] or "nothing"


async def words(strike: Strike) -> str:
    """Return what a host's server, and what guards it, have said since the host booted."""
    argv = ("journalctl", "-b", "-q", "--no-pager", "-o", "cat", "-u", manual.UNIT)
    return (await strike.on(strike.host).run(*argv, timeout=30)).stdout


async def look_at_old_primary(strike: Strike) -> Seen:
    """Read from the journals whether the old primary took writes once its host was back, or a balancer led there."""
    old, view = strike.host, await strike.target.operation.look()
    if old in view.primaries:
        return Seen((returned(old, leads=True),))
    new = await strike.target.primary()
    promoted = max(each.time for each in await of(strike, new, manual.UNIT, since=0.0) if is_promotion(each))
    own = await of(strike, old, manual.UNIT, since=promoted)
    routers = [host.name for host in placement.routers(strike.topology)]
    asked = [await of(strike, name, haproxy.UNIT, since=promoted) for name in routers]
    up = f"Server primary/{old} is UP"
    routed = [each.host for found in asked for each in found if each.moment is Moment.ROUTED and up in each.text]
    return Seen((returned(old, wrote=any(map(is_promotion, own)), routed=routed),))


async def of(strike: Strike, host: str, unit: str, *, since: float) -> tuple[Mark, ...]:
    """Return the moments in the journal of one unit."""
    return await marks.journal(strike.on(host), since=since, units=(unit,))


def is_promotion(mark: Mark) -> bool:
    """Tell whether a server says that it takes writes."""
    return mark.moment is Moment.WRITABLE


def returned(old: str, *, leads: bool = False, wrote: bool = False, routed: Iterable[str] = ()) -> Check:
    """Judge the return of an old primary: it may never serve as one again before it follows. Pure."""
    findings = (
        *((f"{old} is the primary",) if leads else ()),
        *((f"the server of {old} took writes beside the new primary",) if wrote else ()),
        *(f"{name} led clients to {old}" for name in dict.fromkeys(routed)),
    )
    return Check("old primary", Validity.INVALID if findings else Validity.VALID, findings)


def attended(faults: Iterable[Fault], seconds: float) -> tuple[Fault, ...]:
    """Return faults with an operator who comes after so many seconds, in those that have one."""
    own = {each.name: each for each in failovers(seconds)}
    return tuple(own.get(fault.name, fault) for fault in faults)


def failovers(seconds: float) -> tuple[Fault, ...]:
    """Return the faults that an operator ends who comes after so many seconds."""
    off = "the power of the primary's host is cut"
    coming = f"its operator comes after {seconds:g} s and promotes a standby"
    return (
        Fault(
            name="primary-power-off-and-failover",
            title="Primary host powered off, failover by its operator",
            does=f"{off}; {coming}; when the host is back, its server is made a standby",
            right="nothing acknowledged is lost; the old primary stays down until it is rejoined",
            victims=primary,
            inject=fail_over_after(seconds),
            heal=power_on_and_rejoin,
            expects=within(seconds + OPERATOR_SECONDS),
            needs=PAIR,
            composable=False,
        ),
        Fault(
            name="old-primary-returns-after-failover",
            title="Old primary returns after a failover by its operator",
            does=f"{off}; {coming}; then the old primary's host gets its power back, and is left to itself",
            right="its server never takes writes again, and no balancer leads there; rejoined, it is a standby",
            victims=primary,
            inject=fail_over_after_and_power_on(seconds),
            look=look_at_old_primary,
            heal=power_on_and_rejoin,
            expects=within(seconds + OPERATOR_SECONDS),
            needs=PAIR,
            composable=False,
        ),
    )


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
    *failovers(HUMAN_SECONDS),
)
