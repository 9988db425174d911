"""One trial: a cluster at rest, a fault, the service back, the fault undone, the cluster whole again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from pgbaton.errors import RefusedError, UnhealthyError
from pgbaton.proof import marks
from pgbaton.proof.faults.base import Service, Strike
from pgbaton.proof.finishing import to_the_end
from pgbaton.proof.outage import Span
from pgbaton.proof.running import CALM_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    if fault.lab and not target.state.lab_file.exists():
        message = f"{fault.name} can be done to lab machines alone, and {target.topology.name} is no lab"
        raise RefusedError(message, hint="leave that fault out")
    allowed = patience or Patience()
    remarks: list[str] = []
    remains: list[str] = []

    def give_up(error: UnhealthyError, told: list[str]) -> None:
        if patience is None:
            raise error
        target.report(error.message)
        told.append(error.message)

    before = await target.roles()
    random = Random(seed)  # noqa: S311 - a choice that can be repeated, no secret
    strike = Strike(target, fault.victims(before, random), before, random)
    expectation = fault.expects(strike)
    await meter.until_calm(since=time.monotonic() + QUIET_SECONDS - CALM_SECONDS, seconds=RECOVERY_SECONDS)
    target.report(f"{', '.join(strike.hosts)}: {fault.does}")
    injected, offset = time.monotonic(), time.time() - time.monotonic()
    served: float | None = None
    kept_service = True
    try:
        await fault.inject(strike)
        struck = time.monotonic()
        if fault.service is Service.RETURNS:
            served, kept_service = await serve_through(
                meter,
                allowed,
                lambda error: give_up(error, remarks),
                struck=struck,
                lasts_until=injected + fault.hold_seconds,
            )
        else:
            await asyncio.sleep(max(0.0, injected + fault.hold_seconds - time.monotonic()))
    finally:
        await to_the_end(fault.heal(strike))
    healed = time.monotonic()
    target.report("the fault is undone; waiting until every client is served and the cluster is whole again")
    try:
        calm = await meter.until_calm(since=healed, seconds=allowed.recovery_seconds)
        served = served or calm
        await target.until_whole(seconds=allowed.whole_seconds)
        after = await target.roles()
    except UnhealthyError as error:
        give_up(error, remains)
        kept_service, after = kept_service and served is not None, None
    end = time.monotonic()
    begin = injected - LEAD_SECONDS
    found = await marks.collect(target.hosts, since=begin + offset)
    on_our_clock = tuple(replace(mark, time=mark.time - offset) for mark in found)
    return Trial(
        fault=fault,
        hosts=strike.hosts,
        expectation=expectation,
        before=before,
        after=after,
        begin=begin,
        injected=injected,
        struck=struck,
        served=served,
        healed=healed,
        end=end,
        marks=on_our_clock,
        kept_service=kept_service,
        remarks=tuple(remarks),
        remains=tuple(remains),
    )


async def serve_through(
    meter: RunningMeter,
    allowed: Patience,
    give_up: Callable[[UnhealthyError], None],
    *,
    struck: float,
    lasts_until: float,
) -> tuple[float | None, bool]:
    """Wait until clients are served and the fault has lasted long enough, and are served at its end as well.

    Some faults bite late: who is served at first may not be so for long. Return when clients were served last, and
    whether they were in time.
    """
    try:
        await meter.until_calm(since=struck, seconds=allowed.recovery_seconds)
        await asyncio.sleep(max(0.0, lasts_until - time.monotonic()))
        remaining = max(struck + allowed.recovery_seconds - time.monotonic(), LAST_CHANCE_SECONDS)
        return await meter.until_calm(since=time.monotonic() - CALM_SECONDS, seconds=remaining), True
    except UnhealthyError as error:
        give_up(error)
        await asyncio.sleep(max(0.0, lasts_until - time.monotonic()))
        return None, False
