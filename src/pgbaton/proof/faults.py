"""Faults: how to cause each, how to undo it, and what is expected of it. Adding one is a value in FAULTS.

A fault acts through the hosts' seam or the lab alone, never through the cluster's own interfaces, so that what it
breaks is broken for the cluster as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.errors import UnhealthyError, UsageError
from pgbaton.lab import lifecycle
from pgbaton.operate.switchover import switchover
from pgbaton.proof.parts import BALANCER_PARTS, PRIMARY_PARTS, SWITCHOVER_PARTS
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgbaton.proof.marks import Moment
    from pgbaton.proof.target import Roles, Target
    from pgbaton.topology.model import Topology

# The pid file may be a stale one: only a process that works in the data directory is the postmaster.
KILL_POSTMASTER = """
set -eu
pid=$(head -n 1 "$1/postmaster.pid")
[ "$(readlink -f /proc/$pid/cwd)" = "$(readlink -f "$1")" ]
kill -KILL "$pid"
"""

Act = Callable[["Target", str], Awaitable[None]]


@dataclass(frozen=True)
class Expectation:
    """What is expected of a fault: ``budget`` names its prediction, ``parts`` are those its outage is made of."""

    budget: str
    parts: Sequence[tuple[str, Moment]]


@dataclass(frozen=True)
class Fault:
    """One way to break a cluster.

    ``victim`` names the host it strikes, ``inject`` breaks that, ``heal`` undoes what does not mend itself;
    ``expects`` tells what is expected when it strikes a host that has these roles. ``needs`` are roles with the
    number of hosts that must have them; ``lab`` tells that only lab machines can be treated so.
    """

    name: str
    title: str
    does: str
    expects: Callable[[str, Roles], Expectation]
    needs: tuple[tuple[Role, int], ...]
    victim: Callable[[Roles], str]
    inject: Act
    heal: Act
    lab: bool = False


def primary(roles: Roles) -> str:
    """Return the primary's host."""
    return roles.primary


def vip_holder(roles: Roles) -> str:
    """Return the balancer that holds the VIP; raises UnhealthyError when none does."""
    if roles.vip is None:
        message = "no balancer holds the VIP"
        raise UnhealthyError(message, hint="a topology without network.vip has no active balancer to strike")
    return roles.vip


def crash(host: str, roles: Roles) -> Expectation:
    """Expect a failover that is noticed at once."""
    del host, roles
    return Expectation("postmaster-killed", PRIMARY_PARTS)


def hand_over(host: str, roles: Roles) -> Expectation:
    """Expect a planned switchover."""
    del host, roles
    return Expectation("switchover", SWITCHOVER_PARTS)


def silence(host: str, roles: Roles) -> Expectation:
    """Expect a takeover of the VIP, or a failover when the silent host is the primary's, whatever else it is."""
    if host == roles.primary:
        return Expectation("primary-power-off", PRIMARY_PARTS)
    return Expectation("balancer-power-off", BALANCER_PARTS)


async def kill_postmaster(target: Target, host: str) -> None:
    """Kill PostgreSQL's first process, as the kernel does when memory runs out."""
    await target.hosts[host].run("sh", "-c", KILL_POSTMASTER, "sh", target.topology.data_directory)


async def switch_over(target: Target, host: str) -> None:
    """Move the primary to a standby, as an operator would."""
    del host
    await switchover(target.operation, to=None)


async def power_off(target: Target, host: str) -> None:
    """Cut a machine's power."""
    await lifecycle.power_off(target.state, host)


async def power_on(target: Target, host: str) -> None:
    """Give a machine its power back; it is to rejoin by itself."""
    await lifecycle.power_on(target.state, host, report=target.report)


async def nothing(target: Target, host: str) -> None:
    """Leave it to the cluster to mend itself."""
    del target, host


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="postmaster-killed",
        title="Postmaster killed",
        does="SIGKILL to PostgreSQL's first process on the primary",
        expects=crash,
        needs=((Role.DATABASE, 2),),
        victim=primary,
        inject=kill_postmaster,
        heal=nothing,
    ),
    Fault(
        name="switchover",
        title="Planned switchover",
        does="the primary is moved to a standby by its operator",
        expects=hand_over,
        needs=((Role.DATABASE, 2),),
        victim=primary,
        inject=switch_over,
        heal=nothing,
    ),
    Fault(
        name="balancer-power-off",
        title="Active balancer powered off",
        does="the power of the VIP's holder is cut",
        expects=silence,
        needs=((Role.BALANCER, 2),),
        victim=vip_holder,
        inject=power_off,
        heal=power_on,
        lab=True,
    ),
    Fault(
        name="primary-power-off",
        title="Primary host powered off",
        does="the power of the primary's host is cut",
        expects=silence,
        needs=((Role.DATABASE, 2),),
        victim=primary,
        inject=power_off,
        heal=power_on,
        lab=True,
    ),
)


def choose(names: Iterable[str], topology: Topology) -> tuple[Fault, ...]:
    """Return faults by name, all when none is named, in the order given; raises UsageError for what cannot be."""
    known = {fault.name: fault for fault in FAULTS}
    chosen = []
    for name in names or known:
        if name not in known:
            message = f"no fault named {name}"
            raise UsageError(message, hint=f"known: {', '.join(known)}")
        chosen.append(known[name])
    for fault in chosen:
        require(fault, topology)
    return tuple(chosen)


def require(fault: Fault, topology: Topology) -> None:
    """Raise UsageError when a topology lacks the hosts that a fault needs."""
    for role, count in fault.needs:
        if len(topology.with_role(role)) < count:
            message = f"{fault.name} needs {count} hosts with the role {role}, {topology.name} has fewer"
            raise UsageError(message, hint="leave that fault out, or take a larger topology")
