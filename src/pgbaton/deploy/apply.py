"""Carry out a plan: wave after wave, each gated on probes, each step in the journal."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgbaton.components.catalogue import COMPONENTS
from pgbaton.deploy import drift, establish, gate, inside, journal, onhost, packages, request
from pgbaton.deploy.gate import together, unbroken
from pgbaton.deploy.steps import DATABASE_UNITS, Kind, Stage, Step
from pgbaton.deploy.waves import SERIAL
from pgbaton.deploy.work import Work
from pgbaton.errors import Error, RefusedError, UnhealthyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pgbaton.blueprint import Blueprint
    from pgbaton.components.base import Component
    from pgbaton.deploy.objects import Desired
    from pgbaton.deploy.procedures import Procedures
    from pgbaton.deploy.steps import Plan, PlannedWave
    from pgbaton.hosts.base import Host
    from pgbaton.secrets import Vault
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology

#: How long a component may take to become ready; a standby that clones a large database needs more.
READY_SECONDS = 180.0
#: How long the others may take to be well before one is restarted.
GUARD_SECONDS = 20.0
#: One host's share of a wave: files, validators and units, each with a deadline of its own on the host.
SHARE_SECONDS = 600
PROGRAM = inspect.getsource(onhost)
DISRUPTIVE = frozenset({"restart", "disable"})


@dataclass(frozen=True)
class Outcome:
    """What an apply did; ``seconds`` is how long it took."""

    plan: str
    steps: int
    seconds: float
    waves: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON carries it."""
        waves = list(self.waves)
        return {"plan": self.plan, "steps": self.steps, "seconds": round(self.seconds, 2), "waves": waves}


async def apply(
    plan: Plan,
    topology: Topology,
    blueprint: Blueprint,
    hosts: Mapping[str, Host],
    vault: Vault,
    *,
    state: ClusterState,
    procedures: Procedures,
    report: Callable[[str], None],
    desired: Desired | None = None,
    components: Iterable[Component] = COMPONENTS,
    ready_seconds: float = READY_SECONDS,
) -> Outcome:
    """Carry out exactly this plan, then see that everything works.

    Raises RefusedError when a host changed since the plan was made, or when a change would take down what others
    lean on; UnhealthyError when something does not become ready. What was done stays, and a new plan goes on from it.
    """
    start = time.monotonic()
    by_name = {component.name: component for component in components}
    await drift.check(plan, blueprint, hosts)
    work = Work(
        plan,
        topology,
        blueprint,
        hosts,
        vault,
        procedures,
        report,
        journal.begin(state, plan) if plan.changes else journal.NONE,
        gate.Gate(topology, hosts, vault, report, ready_seconds),
        gate.targets(blueprint, by_name),
        desired,
    )
    await carry_out(work)
    return Outcome(plan.id, len(plan.steps), time.monotonic() - start, tuple(wave.stage.title for wave in plan.waves))


async def carry_out(work: Work) -> None:
    """Carry out all waves, then probe what no wave has probed."""
    place = "before the first wave"
    try:
        for wave in work.plan.waves:
            place = f"in the wave of {wave.stage.title}"
            await carry_out_wave(work, wave)
            await restart_pending(work, wave)
        place = "after the last wave"
        probed = {wave.stage for wave in work.plan.waves}
        await work.gate.ready(target for target in work.targets if target.stage not in probed)
    except asyncio.CancelledError:
        work.journal.record("interrupted", stage=place)
        work.report(f"stopped {place}; pgbaton apply goes on from there")
        raise
    except Error as error:
        work.journal.record("stopped", stage=place, error=str(error))
        raise
    work.journal.record("end")


async def carry_out_wave(work: Work, wave: PlannedWave) -> None:
    """Carry out one wave, batch by batch; each batch works before the next begins."""
    if wave.stage is Stage.OBJECTS:
        with work.journal.during(wave.stage.title):
            await inside.carry_out(work, wave)
        return
    for batch in await batches(work, wave):
        work.report(f"{wave.stage.title}: {describe(wave, batch)}")
        await guard(work, wave, batch)
        await hand_over(work, wave, batch)
        await together(*(share(work, wave, host) for host in batch))
        if wave.stage is Stage.DATABASE and work.topology.is_manual:
            await together(*(establish.server(work, host) for host in batch))
        await work.gate.ready(work.of(wave.stage, batch))


async def batches(work: Work, wave: PlannedWave) -> tuple[tuple[str, ...], ...]:
    """Return the wave's batches; etcd members none of which works are brought up together: one alone has no quorum."""
    if wave.stage is not Stage.DCS or len(wave.batches) == 1:
        return wave.batches
    answers = await together(*(work.gate.works(target) for target in work.of(wave.stage)))
    everyone = tuple(host for batch in wave.batches for host in batch)
    return wave.batches if any(answers) else (everyone,)


def describe(wave: PlannedWave, batch: tuple[str, ...]) -> str:
    """Return what happens on the hosts of a batch, in one line."""
    steps = [step for host in batch for step in wave.of(host)]
    files = sum(step.kind in {Kind.FILE, Kind.REMOVE_FILE} for step in steps)
    named = [f"{step.action} {step.subject}" for step in steps if step.kind in {Kind.UNIT, Kind.ADDRESS}]
    if wave.stage is Stage.PACKAGES:
        named = sorted({package for step in steps for package in step.subject.split()})
    parts = [f"{files} file{'s' * (files != 1)}"] if files else []
    return f"{', '.join(batch)}: {', '.join([*parts, *dict.fromkeys(named)])}"


def is_disruptive(steps: Iterable[Step]) -> bool:
    """Tell whether any step stops a unit that may be in use."""
    return any(step.kind is Kind.UNIT and DISRUPTIVE & set(step.actions) for step in steps)


async def guard(work: Work, wave: PlannedWave, batch: tuple[str, ...]) -> None:
    """Refuse to take down what works while another of its kind does not: the cluster would lose both."""
    disruptive = any(is_disruptive(wave.of(host)) for host in batch)
    if not disruptive or wave.stage not in SERIAL or wave.stage is Stage.LEFTOVERS:
        return
    own = work.of(wave.stage, batch)
    if not all(await together(*(work.gate.works(target) for target in own))):
        return
    others = [target for target in work.of(wave.stage) if target not in own]
    try:
        await work.gate.ready(others, timeout_seconds=GUARD_SECONDS)
    except UnhealthyError as error:
        message = f"a restart on {', '.join(batch)} would interrupt the cluster: {error}"
        raise RefusedError(message, hint="bring that host back first, then run apply again") from None


async def hand_over(work: Work, wave: PlannedWave, batch: tuple[str, ...]) -> None:
    """Move the primary away from a host whose server is about to be stopped."""
    for host in batch:
        stops = [step for step in wave.of(host) if step.subject in DATABASE_UNITS and is_disruptive([step])]
        if stops and await work.procedures.primary() == host:
            work.report(f"{host} is primary: switchover before its server stops")
            with work.journal.during("switchover", host=host):
                await work.procedures.switchover_away(host)


async def share(work: Work, wave: PlannedWave, host: str) -> None:
    """Carry out one host's share of a wave, to its end even when the apply is interrupted."""
    with work.journal.during(wave.stage.title, host=host, steps=[str(step) for step in wave.of(host)]):
        if wave.stage is Stage.PACKAGES:
            for step in wave.of(host):
                await unbroken(packages.install(work.hosts[host], step.subject))
            return
        asked = request.build(work.plan, wave, host, work.blueprint.host(host), work.vault)
        answer = await unbroken(ask(work.hosts[host], asked))
        if answer["problem"]:
            raise await problem(work, host, **answer["problem"])


async def ask(host: Host, asked: dict[str, Any]) -> dict[str, Any]:
    """Have a host carry out a request; raises CommandError when it cannot even begin."""
    result = await host.run("python3", "-c", PROGRAM, "/", input=json.dumps(asked), timeout=SHARE_SECONDS)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


async def problem(work: Work, host: str, *, kind: str, subject: str, message: str) -> Error:
    """Return the error for what a host could not do."""
    message = work.vault.redact(f"{subject}: {message}")
    if kind == "drift":
        return RefusedError(message, where=host, hint="make a new plan, and look at it")
    if kind == "unit":
        tail = await work.gate.journal(host, [subject])
        return UnhealthyError(message, where=host, hint=f"put it right, then run apply again{tail}")
    if kind == "check":
        message = f"its own validator refuses {message}"
        return Error(message, where=host, hint="nothing was replaced; change the topology, then plan again")
    return Error(message, where=host)


async def restart_pending(work: Work, wave: PlannedWave) -> None:
    """Restart the servers whose new settings need it, once roles and dynamic configuration are done."""
    if wave.stage not in {Stage.DATABASE, Stage.OBJECTS}:
        return
    remaining = {later.stage for later in work.plan.waves if later.stage > wave.stage}
    if Stage.OBJECTS in remaining or not any(map(inside.asks_restart, work.plan.steps)):
        return
    with work.journal.during("restarts for changed settings"):
        await inside.restart_pending(work)
    await work.gate.ready(work.of(Stage.DATABASE))
