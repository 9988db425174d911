"""Prove: experiment after experiment, each measured, checked, judged and stored."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pgbaton.errors import Error
from pgbaton.proof import chaos, evidence, experiment, judgement, store
from pgbaton.proof.faults import lacking
from pgbaton.proof.finishing import to_the_end
from pgbaton.proof.results import NotRun, RunResult, Verdict
from pgbaton.proof.workloads.base import SCHEMA

if TYPE_CHECKING:
    from pgbaton.operate.waiting import Report
    from pgbaton.proof.experiment import Setting
    from pgbaton.proof.faults.base import Fault
    from pgbaton.proof.ground import Ground
    from pgbaton.proof.results import TrialResult
    from pgbaton.proof.store import StoredRun
    from pgbaton.proof.target import Target


@dataclass(frozen=True)
class Proof:
    """What is to be proven: every fault ``trials`` times, the n-th time with the seed ``seed + n``.

    A schedule of faults that breaks a promise is made shorter afterwards, in at most ``shrinking`` further trials.
    """

    faults: tuple[Fault, ...]
    trials: int
    seed: int
    setting: Setting
    tell: Report
    shrinking: int = 0

    @property
    def rounds(self) -> tuple[tuple[Fault, int], ...]:
        """Return the trials in order, fault and seed: all faults once, then again, so that an early end shows all.

        Several schedules have one name, and each a seed of its own.
        """
        names = [fault.name for fault in self.faults]
        nth = [names[:place].count(name) for place, name in enumerate(names)]
        return tuple(
            (fault, self.seed + number + earlier)
            for number in range(self.trials)
            for fault, earlier in zip(self.faults, nth, strict=True)
        )


@dataclass
class Prover:
    """A run under way: what it works on, and what it has come to so far, in an earlier part of it as well."""

    proof: Proof
    ground: Ground
    stored: StoredRun
    result: RunResult
    began: float = field(default_factory=time.monotonic)
    whole: bool = True

    def __post_init__(self) -> None:
        """Count the time that an earlier part took."""
        self.began -= self.result.total_seconds

    def account(self) -> dict[str, Any]:
        """Return what the run has come to so far, as JSON can carry it."""
        return self.result.to_dict()

    async def run(self) -> RunResult:
        """Make all trials, and save after each: whatever ends the run early, what was shown until then is kept."""
        target: Target | None = None
        try:
            target = await self.ground.prepare()
            await self._all(target)
            self._note(complete=True)
        finally:
            await to_the_end(self._end(target))
        return self.result

    async def _end(self, target: Target | None) -> None:
        """Clear up, and save what was shown; a full disk must not keep the lab from being taken down."""
        try:
            self._note()
        finally:
            if target is not None and self.ground.stays:
                await self._tidy(target)
            await self.ground.leave()

    async def _tidy(self, target: Target) -> None:
        """Remove the clients' tables from a cluster that stays; what is left where that fails is told."""
        try:
            await experiment.clean_up(target)
        except Error as error:
            self.proof.tell(f"the schema {SCHEMA} is still there, and yours to drop: {error.message}")

    async def _all(self, target: Target) -> None:
        self._note(versions=await evidence.versions(target))
        rounds = self.proof.rounds
        impossible = {each.fault for each in self.result.not_run}
        for number, (fault, seed) in enumerate(rounds, 1):
            if fault.name in impossible or self.result.has(fault.name, seed):
                continue
            target = await self._fit(target)
            self.proof.tell(f"trial {number} of {len(rounds)}: {fault.title.lower()} (seed {seed})")
            if (reason := await obstacle(target, fault)) is not None:
                impossible.add(fault.name)
                self.proof.tell(f"not run: {reason}")
                self._note(not_run=(*self.result.not_run, NotRun(fault.name, fault.title, reason)))
                continue
            result = await self._one(target, fault, seed)
            self._note(trials=(*self.result.trials, result))
            if fault.plan is not None and result.verdict is Verdict.VIOLATED and self.proof.shrinking:
                target = await self._shorten(target, fault, seed)

    async def _fit(self, target: Target) -> Target:
        """Return a cluster that is fit for a trial, which only the next one asks for: the last may leave it broken."""
        if not self.whole:
            target, self.whole = await self.ground.renew(), True
        return target

    async def _one(self, target: Target, fault: Fault, seed: int) -> TrialResult:
        """Make one experiment and keep its result."""
        folder = self.stored.begin_trial(fault.name)
        began_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            result, self.whole = await experiment.run(target, self.proof.setting, fault, seed=seed, folder=folder)
        except Error as error:
            reason = f"the trial came to no end: {error}"
            result, self.whole = judgement.failed(fault, seed, reason, began_at=began_at), False
        result = replace(result, folder=str(folder.relative_to(self.stored.path)))
        store.write(folder, "trial.json", result.to_dict())
        self.proof.tell(judgement.told(result))
        return result

    async def _shorten(self, target: Target, fault: Fault, seed: int) -> Target:
        """Look for the shortest schedule that still breaks a promise, and keep it beside the run."""
        self.proof.tell(f"looking for a shorter schedule that still fails, in at most {self.proof.shrinking} trials")

        async def fails(schedule: chaos.Schedule) -> bool:
            nonlocal target
            target = await self._fit(target)
            result = await self._one(target, chaos.as_fault(schedule), seed)
            return result.verdict is Verdict.VIOLATED

        whole = chaos.Schedule.from_dict(fault.plan or {})
        shortest, tried = await chaos.shrink(whole, fails, attempts=self.proof.shrinking)
        store.write(self.stored.path, "schedule-shortest.json", shortest.to_dict())
        self.proof.tell(f"after {tried} trials, the shortest that fails: {shortest}")
        return target

    def _note(self, **changes: Any) -> None:  # noqa: ANN401 - fields of RunResult
        self.result = replace(self.result, total_seconds=time.monotonic() - self.began, **changes)
        self.stored.save(self.result)


async def obstacle(target: Target, fault: Fault) -> str | None:
    """Return why a fault cannot be made on a cluster, None when it can."""
    if fault.lab and not target.state.lab_file.exists():
        return "it can be done to lab machines alone"
    if (reason := lacking(fault, target.topology)) is not None:
        return f"it needs {reason}"
    return await fault.obstacle(target)
