"""Whose confirmation commits wait for, where no Patroni decides that: taken out and put back by a person."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.errors import RefusedError
from pgbaton.operate.checks import Check, listing, require
from pgbaton.operate.hand import claims, control
from pgbaton.operate.members import database_names, only_primary
from pgbaton.topology.model import ReplicationMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgbaton.operate.hand.control import Control
    from pgbaton.operate.members import View
    from pgbaton.operate.operation import Operation
    from pgbaton.topology.model import Topology


#: A checkpoint on a large, busy primary takes minutes; it blocks nobody.
CHECKPOINT_SECONDS = 1800


@dataclass(frozen=True)
class Change:
    """Whose confirmation commits wait for now: any or the first of ``attached``; ``detached`` are left out.

    ``joins`` is the standby that they wait for again.
    """

    primary: str
    attached: tuple[str, ...]
    detached: tuple[str, ...]
    joins: str | None = None

    @property
    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"primary": self.primary, "attached": list(self.attached), "detached": list(self.detached)}


def refuse_elsewhere(topology: Topology) -> None:
    """Raise RefusedError where Patroni decides whose confirmation commits wait for."""
    if not topology.is_manual:
        message = f"{topology.name} has Patroni, which takes standbys out and puts them back by itself"
        raise RefusedError(message, hint='this is for clusters with orchestration.kind = "manual"')


def consider(
    topology: Topology, view: View, controls: Mapping[str, Control | None], host: str, *, attach: bool
) -> Change:
    """Return what a change comes to; raises RefusedError when it would break what the topology promises. Pure."""
    primary = only_primary(view, "the change")
    before = {name for found in controls.values() if found for name in found.detached}
    after = before - {host} if attach else before | {host}
    change = changed(topology, primary, after, joins=host if attach else None)
    fix = "choose a standby: nobody waits for the primary itself"
    checks = [Check(f"{host} as standby", host != primary, "the primary", "a standby", fix)]
    if attach:
        seen = view.said(host)
        fix = f"commits would wait for it: bring it back first, pgbaton reinit {host}"
        checks.append(Check(f"{host} streams", host in view.streaming, seen, "a streaming standby", fix))
    else:
        checks.append(is_told(view, controls, host, primary))
    if not attach and topology.replication.mode is ReplicationMode.STRICT:
        fix = 'bring another standby back, or apply replication.mode = "synchronous" first'
        left = listing(change.attached)
        checks.append(Check("standbys left in strict mode", bool(change.attached), left, "one at least", fix))
    require("the change", checks)
    return change


def is_told(view: View, controls: Mapping[str, Control | None], host: str, primary: str) -> Check:
    """Check that a standby which goes on following can be told that commits do not wait for it. Pure.

    It would go on giving its word, and a failover would count on it.
    """
    follows = host in view.running[primary].streaming_to if primary in view.running else False
    seen = "no, and it streams" if follows else "no"
    fix = f"bring the way to {host} back, or stop its PostgreSQL"
    return Check(f"{host} answers", controls[host] is not None or not follows, seen, "yes, while it streams", fix)


def changed(topology: Topology, primary: str, detached: Iterable[str], *, joins: str | None = None) -> Change:
    """Return who confirms commits when some standbys are left out. Pure."""
    out = set(detached) - {primary}
    able = [name for name in database_names(topology) if topology.host(name).confirms and name != primary]
    return Change(primary, tuple(name for name in able if name not in out), tuple(sorted(out)), joins)


async def carry_out(operation: Operation, change: Change) -> None:
    """Tell every database host that answers, so that the next primary knows as well.

    A standby that is left out stops giving its word before commits stop waiting for it. One that is taken in gives it
    after they have begun to.
    """
    async with claims.claimed(operation, "a change of whom commits wait for"):
        await change_all(operation, change)


async def change_all(operation: Operation, change: Change) -> None:
    """Tell every database host, while nobody else changes who leads."""
    controls = await control.look(operation.topology, operation.hosts)
    others = [name for name, found in controls.items() if found is not None and name != change.primary]
    if change.joins is None:
        await tell(operation, others, change)
    await tell(operation, [change.primary], change)
    await control.reload(operation, change.primary)
    if change.joins is not None:
        # Its process takes the new names up before it begins another one: commits wait from here on.
        await operation.sql(change.primary, "CHECKPOINT", seconds=CHECKPOINT_SECONDS)
        await tell(operation, others, change)
        await control.confirm(operation, change.joins)


async def tell(operation: Operation, hosts: Iterable[str], change: Change) -> None:
    """Tell hosts which standbys commits do not wait for."""
    await asyncio.gather(*(control.tell(operation, name, "detach", *change.detached) for name in hosts))


async def detach_meanwhile(operation: Operation, host: str, primary: str) -> None:
    """Have commits go on without a standby that is about to be made anew, where the topology lets them."""
    if operation.topology.replication.mode in {ReplicationMode.STRICT, ReplicationMode.ASYNCHRONOUS}:
        return
    controls = await control.look(operation.topology, operation.hosts)
    before = {name for found in controls.values() if found for name in found.detached}
    if host not in before:
        await carry_out(operation, changed(operation.topology, primary, before | {host}))
        operation.report(f"commits do not wait for {host} meanwhile")


async def attach_again(operation: Operation, host: str, primary: str) -> None:
    """Have commits wait again for a standby that is back."""
    controls = await control.look(operation.topology, operation.hosts)
    before = {name for found in controls.values() if found for name in found.detached}
    if host in before:
        await carry_out(operation, changed(operation.topology, primary, before - {host}, joins=host))
        operation.report(f"commits may wait for {host} again")
    else:
        await control.confirm(operation, host)
