"""Faults of configuration: settings that no server could start with, through our own apply and past it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import haproxy
from pgbaton.deploy import engine
from pgbaton.errors import Error, UnhealthyError
from pgbaton.lab import definition
from pgbaton.operate.procedures import ClusterProcedures
from pgbaton.proof.faults.base import Fault, primary, within
from pgbaton.proof.faults.victims import entry
from pgbaton.topology import load
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Strike
    from pgbaton.topology.model import Topology

#: What clients may notice of a change that must not reach them.
BLIP_SECONDS = 0.5
#: Some loops of Patroni, and some checks of the balancers.
HOLD_SECONDS = 8.0
REQUEST_SECONDS = 10.0
#: Values that the topology's types allow and no server starts with.
IMPOSSIBLE = (("work_mem", "plenty"), ("shared_buffers", "64TB"), ("max_wal_size", "-1"))

BREAK_BALANCER = r"""
set -eu
cp -p "$1" "$1.whole"
printf '\nlisten broken\n    bind 0.0.0.0:5999\n    mode nonsense\n' >>"$1"
systemctl reload "$2"
"""
MEND_BALANCER = r"""
set -eu
[ -e "$1.whole" ] || exit 0
mv "$1.whole" "$1"
systemctl reset-failed "$2" || true
systemctl reload-or-restart "$2"
"""


async def push(strike: Strike) -> None:
    """Apply a topology with an impossible setting, as an operator would; raises UnhealthyError when it is accepted."""
    name, value = strike.random.choice(IMPOSSIBLE)
    try:
        await deploy(strike, with_setting(strike.topology, name, value))
    except Error as error:
        strike.target.report(f"{name} = {value} is refused: {error}")
        return
    message = f"a configuration with {name} = {value} was applied, and should have been refused"
    raise UnhealthyError(message, hint="pgbaton rollback takes it back")


async def deploy(strike: Strike, topology: Topology) -> None:
    """Make the cluster what a topology says, and remember it as the cluster's."""
    target = strike.target
    text = definition.to_toml(topology)
    with target.state.lock("apply"):
        procedures = ClusterProcedures(target.operation)
        loaded = load.loads(text)
        await engine.deploy(target.state, text, loaded, target.hosts, procedures=procedures, report=target.report)


def with_setting(topology: Topology, name: str, value: str) -> Topology:
    """Return a topology with one more setting of PostgreSQL."""
    settings = {**topology.postgresql.settings, name: value}
    return topology.model_copy(update={"postgresql": topology.postgresql.model_copy(update={"settings": settings})})


async def apply_as_before(strike: Strike) -> None:
    """Apply the topology that the cluster had."""
    await deploy(strike, strike.topology)


async def edit(strike: Strike) -> None:
    """Put an impossible setting into the configuration in etcd by hand; Patroni's answer is told."""
    name, value = IMPOSSIBLE[0]
    await patch(strike, {name: value})


async def take_back(strike: Strike) -> None:
    """Take the setting out of the configuration in etcd."""
    await patch(strike, {IMPOSSIBLE[0][0]: None})


async def patch(strike: Strike, parameters: dict[str, str | None]) -> None:
    """Change parameters of PostgreSQL through Patroni's REST on the first host struck."""
    body = {"postgresql": {"parameters": parameters}}
    reply = await strike.target.operation.patroni(strike.host).request(
        "PATCH", "/config", body, seconds=REQUEST_SECONDS
    )
    strike.target.report(f"Patroni answers the change of {', '.join(parameters)} with status {reply.status}")


async def break_balancer(strike: Strike) -> None:
    """Write nonsense into HAProxy's file, and reload its unit; that the reload fails is the point."""
    said = await strike.on(strike.host).run("sh", "-c", BREAK_BALANCER, "sh", haproxy.CONFIG, haproxy.UNIT, check=False)
    strike.target.report(f"the reload on {strike.host} ends with exit status {said.exit_status}")


async def mend_balancer(strike: Strike) -> None:
    """Put HAProxy's file back as it was, and have it read."""
    await strike.on(strike.host).run("sh", "-c", MEND_BALANCER, "sh", haproxy.CONFIG, haproxy.UNIT)


FAULTS = (
    Fault(
        name="bad-configuration-applied",
        title="Impossible setting applied",
        does="a topology with a PostgreSQL setting that no server starts with is applied",
        right="it is refused, and no server is touched",
        victims=primary,
        inject=push,
        heal=apply_as_before,
        expects=within(BLIP_SECONDS),
        needs=((Role.DATABASE, 2),),
    ),
    Fault(
        name="bad-configuration-by-hand",
        title="Impossible setting put into etcd by hand",
        does="a PostgreSQL setting with an impossible value is put into Patroni's configuration in etcd",
        right="no server takes it, none stops, and it is shown",
        victims=primary,
        inject=edit,
        heal=take_back,
        expects=within(BLIP_SECONDS),
        needs=((Role.DATABASE, 2),),
        hold_seconds=HOLD_SECONDS,
    ),
    Fault(
        name="haproxy-file-broken",
        title="HAProxy's file broken by hand",
        does="nonsense is written into HAProxy's file on the VIP's holder, and the unit is reloaded",
        right="the reload fails, and HAProxy goes on with the file that it had",
        victims=entry,
        inject=break_balancer,
        heal=mend_balancer,
        expects=within(BLIP_SECONDS),
        needs=((Role.BALANCER, 1),),
        hold_seconds=HOLD_SECONDS,
    ),
)
