"""The benchmark from beginning to end, on a lab that is whole."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import memory
import processors
import storm

from pgbaton.measure import bench, client, database, plan, profiles, room, summary
from pgbaton.measure.summary import NotRun, Run
from pgbaton.proof.finishing import to_the_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbaton.measure.client import Client
    from pgbaton.measure.plan import Case, Request, Step
    from pgbaton.measure.ways import Layout
    from pgbaton.proof.target import Target

#: Logging so many clients in takes a share of the processors that is told of no transaction.
MOST_CLIENTS_OF_COSTS = 150


@dataclass
class Measuring:
    """A run under way: what is asked, and what was seen by now."""

    target: Target
    request: Request
    idle: tuple[int, ...]
    storms: tuple[int, ...]
    runs: list[Run] = field(default_factory=list)
    not_run: dict[tuple[Case, str], NotRun] = field(default_factory=dict)
    costs: dict[tuple[Case, str], list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))
    memory: list[dict[str, Any]] = field(default_factory=list)
    stormed: list[dict[str, Any]] = field(default_factory=list)

    async def run(self) -> None:
        """Measure memory first, while the proxies are as they started; then the steps, and the storms last."""
        layout = await bench.look(self.target, self.request.ways, client=None)
        await database.make_tables(self.target, layout.primary, self.request.scale)
        try:
            ready = await client.prepare(self.target, layout, self.request)
            if self.idle:
                self.memory = await memory.measure(self.target, layout, ready, self.idle)
            await self._steps(ready, layout)
            for count in self.storms:
                self.stormed.append(await storm.measure(self.target, layout, ready, "vip", count))
                self.target.report(f"{self.stormed[-1]}")
        finally:
            await to_the_end(self._clear(layout))

    async def _clear(self, layout: Layout) -> None:
        await client.clear(self.target.hosts[layout.client])
        await database.drop(self.target)

    async def _steps(self, ready: Client, layout: Layout) -> None:
        steps = tuple(plan.steps(self.request))
        for number, step in enumerate(steps, 1):
            await self._step(
                ready, layout, step, f"{number}/{len(steps)}  round {step.round}: {step.case.words}, {step.way}"
            )

    async def _step(self, ready: Client, layout: Layout, step: Step, words: str) -> None:
        seen = await database.connections(self.target, layout.primary)
        way = layout.way(step.way)
        if (reason := room.obstacle(self.target.topology, step.case, way, layout.client, seen, lab=True)) is not None:
            self.target.report(f"{words}: not measured: {reason}")
            self.not_run[step.case, step.way] = NotRun(step.case, step.way, reason)
            return
        if profiles.named(step.case.profile).writes:
            await database.tidy(self.target, layout.primary)
        before = await processors.look(self.target, layout)
        outcome = await ready.run(step.case, way, seconds=self.request.seconds)
        after = await processors.look(self.target, layout)
        self.runs.append(Run(step, outcome))
        if outcome.transactions:
            spent = after.since(before)
            self.costs[step.case, step.way].append({name: spent[name] / outcome.transactions for name in spent})
        self.target.report(f"{words}: {bench.described(outcome)}")

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each case and way as JSON has it, with what each hop's processors cost a transaction."""
        return [
            {**row.to_dict(), "processor_microseconds": self._cost(row.case, row.way)}
            for row in summary.rows(self.runs)
        ]

    def _cost(self, case: Case, way: str) -> dict[str, float] | None:
        if case.clients > MOST_CLIENTS_OF_COSTS:
            return None
        return medians(self.costs[case, way])


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float] | None:
    """Return the median of each program's figures over the rounds. Pure."""
    return {name: round(median(each[name] for each in rounds), 1) for name in processors.PROGRAMS} if rounds else None
