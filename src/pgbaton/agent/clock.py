"""The clock that every moment in an agent is read from."""

from __future__ import annotations

import time


def clock() -> float:
    """Return the seconds since the machine started, with those in which it was suspended.

    Not CLOCK_MONOTONIC, which stands still in a suspension: the agent would wake with a fresh-looking picture of hosts
    that it has not heard for hours, and not know that it slept. A hypervisor may stop a machine without any of its
    clocks noticing; then nothing seems to have happened, nobody has become older, and the next heartbeats decide.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
