"""One trial: a cluster at rest, a fault, the service back, the fault undone, the cluster whole again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

from pgbaton.errors import Error, RefusedError, UnhealthyError
from pgbaton.proof import marks, underway
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults.base import Seen, Service, Strike
from pgbaton.proof.finishing import to_the_end
from pgbaton.proof.outage import Span
from pgbaton.proof.running import CALM_SECONDS
from pgbaton.proof.target import LOOK_INTERVAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.proof.faults.base import Act, Expectation, Fault, Look
    from pgbaton.proof.marks import Mark
    from pgbaton.proof.running import RunningMeter
    from pgbaton.proof.target import Roles, Target
    from pgbaton.topology.prediction import Prediction

#: How long everything must be calm before a fault: long enough to know what normal is.
QUIET_SECONDS = 2.0
#: How long clients may be without service; far beyond every prediction, so that a miss is measured, not cut off.
RECOVERY_SECONDS = 120.0
#: How long the cluster may take until nothing is wrong with it any more.
WHOLE_SECONDS = 120.0
#: How long clients that are not served at the end of a long fault are waited for even then.
LAST_CHANCE_SECONDS = 10.0
#: The measurement begins this long before the fault, so that the last acknowledgement before it is in view.
LEAD_SECONDS = 0.5


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds: for the service while a fault lasts, and for a whole cluster after it."""

    recovery_seconds: float = RECOVERY_SECONDS
    whole_seconds: float = WHOLE_SECONDS


@dataclass(frozen=True)
class Trial:
    """What was done and when, on the meter's clock; ``begin`` to ``end`` is the window to measure in.

    ``injected`` is when the fault was asked for, ``struck`` when it had been done, ``served`` when all clients had
    been served for a while, while it lasted or after it, ``healed`` when it had been undone, ``end`` when nothing was
    wrong any more. What never came to be in time is None; ``kept_service`` tells whether clients were served when they
    had to be, ``remarks`` who was not, and ``remains`` what was wrong with the cluster to the end. ``checks``,
    ``objections`` and the rest of the remarks are what the fault's own looks came to, and what it took to make the
    cluster whole.
    """

    fault: Fault
    hosts: tuple[str, ...]
    expectation: Expectation
    before: Roles
    after: Roles | None
    begin: float
    injected: float
    struck: float
    served: float | None
    healed: float
    end: float
    marks: tuple[Mark, ...]
    kept_service: bool = True
    remarks: tuple[str, ...] = ()
    remains: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    objections: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """Return the first of the hosts struck."""
        return self.hosts[0]

    @property
    def window(self) -> Span:
        """Return the time to measure in."""
        return Span(self.begin, self.end)

    def prediction(self, predictions: Mapping[str, Prediction]) -> Prediction:
        """Return what was predicted; raises KeyError for a fault of which nothing is."""
        return predictions[self.expectation.budget or self.fault.name]


async def run(
    target: Target, meter: RunningMeter, fault: Fault, *, seed: int = 0, patience: Patience | None = None
) -> Trial:
    """Put a cluster that is whole through one fault, and undo it whatever happens in between.

    With ``patience`` a service that does not come back, or a cluster that does not become whole, is a result; without,
    it raises UnhealthyError. Raises RefusedError when the fault would need a lab and the cluster is none.
    """
    refuse_outside_labs(target, fault)
    watch = _Watch(target, meter, patience or Patience(), strict=patience is None)
    before = await target.roles()
    random = Random(seed)  # noqa: S311 - a choice that can be repeated, no secret
    strike = Strike(target, fault.victims(before, random), before, random)
    expectation = fault.expects(strike)
    await meter.until_calm(since=time.monotonic() + QUIET_SECONDS - CALM_SECONDS, seconds=RECOVERY_SECONDS)
    target.report(f"{', '.join(strike.hosts)}: {fault.does}")
    injected, offset = time.monotonic(), time.time() - time.monotonic()
    note = underway.begin(fault, strike)
    try:
        await fault.inject(strike)
        struck = time.monotonic()
        served, in_time = await watch.while_it_lasts(fault.service, struck=struck, until=injected + fault.hold_seconds)
        seen = await seen_by(fault.look, strike, name="look")
    finally:
        await to_the_end(underway.undo(fault, strike, note))
    healed = time.monotonic()
    target.report("the fault is undone; waiting until every client is served and the cluster is whole again")
    calm, after = await watch.until_settled(healed, rescue=fault.rescue, strike=strike)
    end, begin = time.monotonic(), injected - LEAD_SECONDS
    seen_after = await seen_by(fault.look_after, strike, name="look after")
    found = await marks.collect(target.hosts, since=begin + offset)
    return Trial(
        fault=fault,
        hosts=strike.hosts,
        expectation=expectation,
        before=before,
        after=after,
        begin=begin,
        injected=injected,
        struck=struck,
        served=served or calm,
        healed=healed,
        end=end,
        marks=tuple(replace(mark, time=mark.time - offset) for mark in found),
        kept_service=in_time and (served or calm) is not None,
        remarks=(*watch.remarks, *seen.remarks, *seen_after.remarks),
        remains=tuple(watch.remains),
        checks=(*seen.checks, *seen_after.checks),
        objections=(*seen.objections, *watch.objections, *seen_after.objections),
    )


async def seen_by(look: Look, strike: Strike, *, name: str) -> Seen:
    """Return what a fault's own look came to; where it could not look, nothing is known, which is no pass."""
    try:
        return await look(strike)
    except Error as error:
        return Seen((Check(name, Validity.UNKNOWN, (f"the fault's own look failed: {error}",)),))


def refuse_outside_labs(target: Target, fault: Fault) -> None:
    """Raise RefusedError when a fault can be done to lab machines alone, and the cluster has none."""
    if fault.lab and not target.state.lab_file.exists():
        message = f"{fault.name} can be done to lab machines alone, and {target.topology.name} is no lab"
        raise RefusedError(message, hint="leave that fault out")


@dataclass
class _Watch:
    """Waits for clients and cluster during one trial; ``strict`` raises what comes too late, else it is noted."""

    target: Target
    meter: RunningMeter
    patience: Patience
    strict: bool
    remarks: list[str] = field(default_factory=list)
    remains: list[str] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)

    async def while_it_lasts(self, service: Service, *, struck: float, until: float) -> tuple[float | None, bool]:
        """Return when clients were served last while a fault lasted, and whether they were when they had to be.

        Some faults bite late: who is served at first may not be so for long, so the end of the fault counts too.
        """
        served, in_time = None, True
        try:
            if service is Service.RETURNS:
                await self.meter.until_calm(since=struck, seconds=self.patience.recovery_seconds)
                await asyncio.sleep(max(0.0, until - time.monotonic()))
                left = max(struck + self.patience.recovery_seconds - time.monotonic(), LAST_CHANCE_SECONDS)
                served = await self.meter.until_calm(since=time.monotonic() - CALM_SECONDS, seconds=left)
        except UnhealthyError as error:
            self._give_up(error, self.remarks)
            in_time = False
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        return served, in_time

    async def until_settled(
        self, healed: float, *, rescue: Act | None, strike: Strike
    ) -> tuple[float | None, Roles | None]:
        """Return when clients were served after a fault, and the roles once the cluster was whole; None for neither."""
        calm, after = await self._settled(healed)
        if after is None and rescue is not None:
            calm_at_last, after = await self._rescued(rescue, strike)
            calm = calm or calm_at_last
        return calm, after

    async def _settled(self, since: float) -> tuple[float | None, Roles | None]:
        calm = None
        try:
            calm = await self.meter.until_calm(since=since, seconds=self.patience.recovery_seconds)
            return calm, await self._whole()
        except UnhealthyError as error:
            self._give_up(error, self.remains)
            return calm, None

    async def _whole(self) -> Roles:
        """Wait until the cluster is whole; return its roles, which a look that comes at a bad moment may not find."""
        begin = time.monotonic()
        while True:
            await self.target.until_whole(seconds=self.patience.whole_seconds)
            try:
                return await self.target.roles()
            except UnhealthyError:
                if time.monotonic() - begin > self.patience.whole_seconds:
                    raise
                await asyncio.sleep(LOOK_INTERVAL_SECONDS)

    async def _rescued(self, rescue: Act, strike: Strike) -> tuple[float | None, Roles | None]:
        """Do what an operator would for a cluster that did not mend itself, object to that, and wait once more."""
        wrong = "; ".join(self.remains)
        self.objections.append(f"the cluster did not become whole by itself, and had to be helped: {wrong}")
        self.target.report("it did not mend itself; doing what an operator would")
        try:
            await rescue(strike)
        except Error as error:
            self.target.report(error.message)
            self.remains.append(f"helping it failed: {error.message}")
            return None, None
        self.remains.clear()
        return await self._settled(time.monotonic())

    def _give_up(self, error: UnhealthyError, told: list[str]) -> None:
        if self.strict:
            raise error
        self.target.report(error.message)
        told.append(error.message)
