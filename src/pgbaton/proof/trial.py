"""One trial: a cluster at rest, a fault, the service back, the fault undone, the cluster whole again."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgbaton.errors import RefusedError
from pgbaton.proof import marks
from pgbaton.proof.outage import Span
from pgbaton.proof.running import CALM_SECONDS

if TYPE_CHECKING:
    from pgbaton.proof.faults import Expectation, Fault
    from pgbaton.proof.marks import Mark
    from pgbaton.proof.running import RunningMeter
    from pgbaton.proof.target import Roles, Target

#: How long everything must be calm before a fault: long enough to know what normal is.
QUIET_SECONDS = 2.0
#: How long clients may be without service; far beyond every prediction, so that a miss is measured, not cut off.
RECOVERY_SECONDS = 120.0
#: How long the cluster may take until nothing is wrong with it any more.
WHOLE_SECONDS = 120.0
#: The measurement begins this long before the fault, so that the last acknowledgement before it is in view.
LEAD_SECONDS = 0.5


@dataclass(frozen=True)
class Trial:
    """What was done and when, on the meter's clock; ``begin`` to ``end`` is the window to measure in.

    ``injected`` is when the fault was asked for, ``served`` when all clients had been served for a while, ``healed``
    when it had been undone, ``end`` when nothing was wrong any more.
    """

    fault: Fault
    host: str
    before: Roles
    after: Roles
    begin: float
    injected: float
    served: float
    healed: float
    end: float
    marks: tuple[Mark, ...]

    @property
    def expectation(self) -> Expectation:
        """Return what was expected of the fault on the host that it struck."""
        return self.fault.expects(self.host, self.before)

    @property
    def window(self) -> Span:
        """Return the time to measure in."""
        return Span(self.begin, self.end)


async def run(target: Target, meter: RunningMeter, fault: Fault) -> Trial:
    """Put a cluster that is whole through one fault.

    Raises RefusedError when the fault would need a lab and the cluster is none; UnhealthyError when the service does
    not come back, or the cluster does not become whole, in time.
    """
    if fault.lab and not target.state.lab_file.exists():
        message = f"{fault.name} can be done to lab machines alone, and {target.topology.name} is no lab"
        raise RefusedError(message, hint="leave that fault out")
    before = await target.roles()
    host = fault.victim(before)
    await meter.until_calm(since=time.monotonic() + QUIET_SECONDS - CALM_SECONDS, seconds=RECOVERY_SECONDS)
    target.report(f"{host}: {fault.does}")
    injected, offset = time.monotonic(), time.time() - time.monotonic()
    await fault.inject(target, host)
    served = await meter.until_calm(since=time.monotonic(), seconds=RECOVERY_SECONDS)
    target.report("every client is served; waiting until the cluster is whole again")
    await fault.heal(target, host)
    healed = time.monotonic()
    await target.until_whole(seconds=WHOLE_SECONDS)
    end = time.monotonic()
    begin = injected - LEAD_SECONDS
    found = await marks.collect(target.hosts, since=begin + offset)
    on_our_clock = tuple(replace(mark, time=mark.time - offset) for mark in found)
    return Trial(fault, host, before, await target.roles(), begin, injected, served, healed, end, on_our_clock)
