"""One trial: a cluster at rest, a fault, the service back, the fault undone, the cluster whole again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

from pgbaton.errors import RefusedError, UnhealthyError
from pgbaton.proof import marks
from pgbaton.proof.faults.base import Service, Strike
from pgbaton.proof.finishing import to_the_end
from pgbaton.proof.outage import Span
from pgbaton.proof.running import CALM_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgbaton.proof.faults.base import Expectation, Fault
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
    had to be, ``remarks`` who was not, and ``remains`` what was wrong with the cluster to the end.
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
    try:
        await fault.inject(strike)
        struck = time.monotonic()
        served, in_time = await watch.while_it_lasts(fault.service, struck=struck, until=injected + fault.hold_seconds)
    finally:
        await to_the_end(fault.heal(strike))
    healed = time.monotonic()
    target.report("the fault is undone; waiting until every client is served and the cluster is whole again")
    calm, after = await watch.until_settled(healed)
    end, begin = time.monotonic(), injected - LEAD_SECONDS
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
        remarks=tuple(watch.remarks),
        remains=tuple(watch.remains),
    )


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

    async def until_settled(self, healed: float) -> tuple[float | None, Roles | None]:
        """Return when clients were served after a fault, and the roles once the cluster was whole; None for neither."""
        calm = None
        try:
            calm = await self.meter.until_calm(since=healed, seconds=self.patience.recovery_seconds)
            await self.target.until_whole(seconds=self.patience.whole_seconds)
            return calm, await self.target.roles()
        except UnhealthyError as error:
            self._give_up(error, self.remains)
            return calm, None

    def _give_up(self, error: UnhealthyError, told: list[str]) -> None:
        if self.strict:
            raise error
        self.target.report(error.message)
        told.append(error.message)
