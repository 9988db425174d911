"""Wait until components work, with a deadline, and say what does not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pgbaton.deploy import diff
from pgbaton.deploy.steps import Stage
from pgbaton.errors import CommandError, Error, UnhealthyError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from pgbaton.blueprint import Blueprint
    from pgbaton.components.base import Component
    from pgbaton.hosts.base import Host
    from pgbaton.secrets import Vault
    from pgbaton.topology.model import Topology

T = TypeVar("T")
PAUSE_SECONDS = 0.15
#: How often a waiting gate asks whether systemd has given a unit up.
FAILED_CHECK_SECONDS = 3.0
JOURNAL_LINES = 20


@dataclass(frozen=True)
class Target:
    """A component on a host that should work, and its units there."""

    component: Component
    host: str
    stage: Stage
    units: tuple[str, ...]

    def __str__(self) -> str:
        """Return the target in words."""
        return f"{self.component.name} on {self.host}"


def targets(blueprint: Blueprint, components: Mapping[str, Component]) -> tuple[Target, ...]:
    """Return everything that should work when a blueprint is in place, in the order of the stages."""
    found = [
        Target(
            components[part.component],
            host.host,
            Stage.of(part.wave),
            tuple(unit.name for unit in part.units if not unit.masked),
        )
        for host in blueprint.hosts
        for part in host.parts
        if part.component in components
    ]
    return tuple(sorted(found, key=lambda target: target.stage))


@dataclass(frozen=True)
class Gate:
    """Probes of one cluster; ``timeout_seconds`` is how long a component may take to become ready."""

    topology: Topology
    hosts: Mapping[str, Host]
    vault: Vault
    report: Callable[[str], None]
    timeout_seconds: float

    async def works(self, target: Target) -> bool:
        """Tell whether a component works right now."""
        return await self.complaint(target) is None

    async def complaint(self, target: Target) -> Error | None:
        """Return what a component's probe says against it; None when it works."""
        try:
            await target.component.probe(self.topology, self.topology.host(target.host), self.hosts)
        except (UnhealthyError, CommandError, UnreachableError) as error:
            return error
        return None

    async def ready(self, wanted: Iterable[Target], *, timeout_seconds: float | None = None) -> None:
        """Wait until all of them work; raises UnhealthyError for those that do not in time."""
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        await together(*(self.wait(target, seconds) for target in wanted))

    async def wait(self, target: Target, seconds: float) -> None:
        """Wait until one component works."""
        start = asked = time.monotonic()
        while complaint := await self.complaint(target):
            now = time.monotonic()
            given_up: tuple[str, ...] = ()
            if now - asked > FAILED_CHECK_SECONDS:
                asked, given_up = now, await self.failed_units(target)
            if given_up or now - start > seconds:
                raise await self.verdict(target, complaint, now - start)
            # A probe that is expensive is repeated less often.
            await asyncio.sleep(max(PAUSE_SECONDS, time.monotonic() - now))
        taken = time.monotonic() - start
        if taken > 1:
            self.report(f"{target} ready after {taken:.1f} s")

    async def failed_units(self, target: Target) -> tuple[str, ...]:
        """Return the units that systemd has given up."""
        if not target.units:
            return ()
        result = await self.hosts[target.host].run("systemctl", "is-failed", *target.units, check=False)
        states = result.stdout.split()
        return tuple(unit for unit, state in zip(target.units, states, strict=False) if state == "failed")

    async def verdict(self, target: Target, complaint: Error, seconds: float) -> UnhealthyError:
        """Return the error that says what does not work, with the end of its units' journals."""
        message = f"{target.component.name} is not ready after {seconds:.0f} s: {complaint.message}"
        tail = await self.journal(target.host, target.units)
        hint = f"pgbaton logs shows more; put it right, then run apply again: it goes on where it stopped{tail}"
        return UnhealthyError(diff.presentable(self.vault, message), where=target.host, hint=hint)

    async def journal(self, host: str, units: Iterable[str]) -> str:
        """Return the end of units' journals, fit to be shown; empty when there is none to be had."""
        argv = [word for unit in units for word in ("-u", unit)]
        if not argv:
            return ""
        lines = ("-n", str(JOURNAL_LINES), "--no-pager", "-o", "short-iso")
        try:
            said = (await self.hosts[host].run("journalctl", *argv, *lines, check=False)).stdout.strip()
        except UnreachableError:
            return ""
        return f"\n{diff.presentable(self.vault, said)}" if said else ""


async def together(*work: Awaitable[T]) -> list[T]:
    """Do things at the same time, all to their end; raises the first error, telling the others' messages as well."""
    results = await asyncio.gather(*work, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        if not isinstance(failure, Error):
            raise failure
    errors = [failure for failure in failures if isinstance(failure, Error)]
    if len(errors) > 1:
        first = errors[0]
        raise type(first)("\n  ".join(map(str, errors)), hint=first.hint)
    if errors:
        raise errors[0]
    return [result for result in results if not isinstance(result, BaseException)]


async def unbroken(work: Awaitable[T]) -> T:
    """Let work come to its end even when the caller is cancelled meanwhile; the cancellation comes after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            await asyncio.wait([task])
        raise
