"""A measurement from beginning to end: tables, clients, step after step, and nothing left behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgbaton.errors import Error, UnhealthyError
from pgbaton.measure import client, database, plan, profiles, room, ways
from pgbaton.measure.summary import NotRun, Run
from pgbaton.proof.finishing import to_the_end
from pgbaton.proof.target import roles
from pgbaton.topology.addresses import at_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pgbaton.measure.client import Client
    from pgbaton.measure.pgbench import Outcome
    from pgbaton.measure.plan import Step
    from pgbaton.measure.results import Result
    from pgbaton.measure.ways import Layout
    from pgbaton.proof.target import Target
    from pgbaton.topology.model import Topology


async def look(target: Target, names: Sequence[str], *, client: str | None) -> Layout:
    """Return the ways asked for through the cluster as it is now; raises Error when it has them not."""
    snapshot = await target.snapshot()
    seen = roles(target.topology, snapshot)
    alive = {host.name for host in target.topology.hosts if snapshot.host(host.name).reachable}
    standing = ways.Standing(target.topology, seen.primary, seen.vip, frozenset(alive))
    return ways.layout(standing, names, client=client)


@dataclass
class Bench:
    """A measurement under way; ``result`` is what is known by now."""

    target: Target
    result: Result

    async def run(self) -> None:
        """Make all steps; raises UnhealthyError when the primary or the VIP moves meanwhile.

        Whatever happens, pgbench is ended, and its tables and files are taken away.
        """
        layout = self.result.layout
        host = self.target.hosts[layout.client]
        await client.require_idle(host)
        await database.refuse_foreign(self.target, layout.primary)
        try:
            await self._measure()
        finally:
            await to_the_end(self._clear())

    def account(self) -> dict[str, Any]:
        """Return what is known by now as JSON has it."""
        return self.result.to_dict()

    async def _measure(self) -> None:
        layout, request = self.result.layout, self.result.request
        self.target.report(f"making pgbench's tables on {layout.primary}, scale {request.scale}")
        await database.make_tables(self.target, layout.primary, request.scale)
        ready = await client.prepare(self.target, layout, request)
        steps = tuple(plan.steps(request))
        for number, step in enumerate(steps, 1):
            if number > 1 and step.round != steps[number - 2].round:
                await self._require_unmoved()
            await self._step(ready, step, f"{number}/{len(steps)}  round {step.round}: {step.case.words}, {step.way}")
        await self._require_unmoved()
        self.result = replace(self.result, complete=True)

    async def _step(self, ready: Client, step: Step, words: str) -> None:
        if any((each.case, each.way) == (step.case, step.way) for each in self.result.not_run):
            return
        if (reason := await self._obstacle(step)) is not None:
            self.target.report(f"{words}: not measured: {reason}")
            self.result = replace(self.result, not_run=(*self.result.not_run, NotRun(step.case, step.way, reason)))
            return
        if profiles.named(step.case.profile).writes:
            await database.tidy(self.target, self.result.layout.primary)
        way = self.result.layout.way(step.way)
        outcome = await ready.run(step.case, way, seconds=self.result.request.seconds)
        self.target.report(f"{words}: {described(outcome)}")
        self.result = replace(self.result, runs=(*self.result.runs, Run(step, outcome)))

    async def _obstacle(self, step: Step) -> str | None:
        layout, lab = self.result.layout, self.target.state.lab_file.exists()
        seen = await database.connections(self.target, layout.primary)
        return room.obstacle(self.target.topology, step.case, layout.way(step.way), layout.client, seen, lab=lab)

    async def _require_unmoved(self) -> None:
        layout, now = self.result.layout, await self.target.roles()
        for what, before, after in (("primary", layout.primary, now.primary), ("VIP", layout.vip, now.vip)):
            if before != after:
                message = f"the {what} moved from {before} to {after} meanwhile: paths cannot be compared"
                raise UnhealthyError(message, hint="pgbaton logs says why; begin anew when that is over")

    async def _clear(self) -> None:
        layout, target = self.result.layout, self.target
        try:
            await client.clear(target.hosts[layout.client])
        except Error as error:
            target.report(f"{layout.client} could not be cleared; the next measurement does: {error.message}")
        try:
            await database.drop(target)
        except Error as error:
            target.report(f"{profiles.SCHEMA} could not be dropped; the next measurement does: {error.message}")


def described(outcome: Outcome) -> str:
    """Return what a run came to, in a few words."""
    middle = outcome.latencies.quantile(0.5)
    errors = sum(outcome.errors.values())
    latency = "" if middle is None else f", median {middle:.3g} ms"
    return f"{outcome.per_second:,.0f}/s{latency}" + (f", {errors:,} errors" if errors else "")


def intended(topology: Topology, begun: Result) -> tuple[str, ...]:
    """Return what a measurement would do to a cluster, a sentence each."""
    layout, request, database = begun.layout, begun.request, topology.databases[0]
    most = max(case.clients for case in request.cases)
    paths = ", ".join(f"{way.name} ({at_port(way.address, way.port)})" for way in layout.ways)
    size = profiles.SCALE_MB * request.scale
    return (
        f"pgbench works on {layout.client}, as fast as it can, for about {request.total_seconds:,} s in all",
        f"it has up to {most:,} clients, by these paths: {paths}",
        f"its tables are in the schema {profiles.SCHEMA} of the database {database.name}",
        f"they are made for that, take about {size:,} MB on every database host, and are dropped at the end",
        "applications will feel the load",
    )
