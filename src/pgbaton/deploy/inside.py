"""The wave inside the cluster: roles, databases, dynamic configuration, and restarts for settings that need them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgbaton.deploy import inventory, objects
from pgbaton.deploy.gate import together
from pgbaton.deploy.steps import Cost, Kind
from pgbaton.errors import RefusedError, UnhealthyError
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.deploy.steps import PlannedWave, Step
    from pgbaton.deploy.work import Work

#: Patroni notices within a loop which settings wait for a restart.
NOTICE_SECONDS = 15.0
#: A second round is for what a change of primaries left over.
ROUNDS = 2
PAUSE_SECONDS = 0.2


async def carry_out(work: Work, wave: PlannedWave) -> None:
    """Make the cluster what the wave's steps say; what is so already is left alone."""
    desired = work.desired or objects.desired(work.topology)
    primary = await wait_for_primary(work)
    current = await objects.read(work.hosts[primary], desired)
    objects.refuse_impossible(desired, current)
    standbys = len(work.topology.with_role(Role.DATABASE)) > 1
    now = {step.key: step for step in objects.steps(desired, current, work.vault, standbys=standbys)}
    refuse_drift(wave.steps, now, primary)
    todo = [now[step.key] for step in wave.steps if step.key in now]
    if todo:
        work.report(f"{wave.stage.title}: on {primary}: {', '.join(f'{step.action} {step.subject}' for step in todo)}")
        await objects.carry_out(work.hosts[primary], desired, todo, work.vault)


async def wait_for_primary(work: Work) -> str:
    """Return the primary, once there is exactly one."""
    deadline = time.monotonic() + work.gate.timeout_seconds
    while time.monotonic() < deadline:
        primaries = await find_primaries(work)
        if len(primaries) == 1:
            return primaries[0]
        await asyncio.sleep(PAUSE_SECONDS)
    message = f"no single primary after {work.gate.timeout_seconds:.0f} s"
    raise UnhealthyError(message, hint="pgbaton status says why; run apply again when there is one")


async def find_primaries(work: Work) -> list[str]:
    """Return the hosts whose servers are out of recovery."""
    databases = [host.name for host in work.topology.with_role(Role.DATABASE)]
    question = f"server {work.topology.postgresql.port}\n"
    found = await together(*(inventory.take(work.hosts[name], question) for name in databases))
    return [each.host for each in found if each.server == "primary"]


def refuse_drift(planned: tuple[Step, ...], now: dict[tuple[str, str, str], Step], primary: str) -> None:
    """Refuse when something inside the cluster is no longer what the plan saw."""
    for step in planned:
        found = now.get(step.key)
        same = found is None or (found.before_digest, found.after) == (step.before_digest, step.after)
        if step.before_digest and not same:
            message = f"{step.subject} changed since the plan was made"
            raise RefusedError(message, where=primary, hint="make a new plan, and look at it")


def asks_restart(step: Step) -> bool:
    """Tell whether a step changes settings that take effect at PostgreSQL's next start only."""
    settings = step.kind is Kind.DYNAMIC_CONFIGURATION or (step.kind is Kind.FILE and step.on_change == "reload")
    return settings and step.cost >= Cost.RESTART


async def restart_pending(work: Work) -> None:
    """Restart every server whose settings wait for it: standbys first, the primary last, behind a switchover.

    A standby keeps a limit until its primary has a lower one, and carries the old one on when it becomes primary:
    where a limit is lowered, the primary restarts first, where it is.
    """
    waiting = await wait_for_notice(work)
    desired = work.desired or objects.desired(work.topology)
    current = await objects.read(work.hosts[await wait_for_primary(work)], desired)
    in_place = objects.lowers_limit(desired, current)
    for _ in range(ROUNDS):
        for host in reversed(waiting) if in_place else waiting:
            work.report(f"restart of PostgreSQL on {host} for changed settings")
            await work.procedures.restart_database(host, in_place=in_place)
        waiting = await work.procedures.pending_restarts()
        if not waiting:
            return
    message = f"settings still wait for a restart on {', '.join(waiting)}"
    raise UnhealthyError(message, hint="pgbaton restart --pending, or pgbaton status")


async def wait_for_notice(work: Work) -> tuple[str, ...]:
    """Return the hosts that Patroni says have to restart; none when it says so of nobody for a while."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while time.monotonic() < deadline:
        waiting = await work.procedures.pending_restarts()
        if waiting:
            return waiting
        await asyncio.sleep(PAUSE_SECONDS)
    return ()
