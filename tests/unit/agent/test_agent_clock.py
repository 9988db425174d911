from __future__ import annotations

import time

import pytest

from pgbaton.agent.clock import clock


def test_the_clock_counts_while_the_machine_is_suspended() -> None:
    assert clock() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1)
    assert clock() <= clock()
