"""Whose clients are held while a person moves the primary."""

from __future__ import annotations

import pytest

from pgbaton.operate.hand import pausing
from pgbaton.topology import load, presets


def held(pooling: str, more: str = "") -> tuple[str | None, tuple[tuple[str, str], ...]]:
    topology = load.loads(presets.text("manual").replace("[pooling]\n", f"[pooling]\n{pooling}\n") + more)
    return pausing.unheld(topology), pausing.processes(topology)


def test_every_process_for_writes_holds_its_own_clients() -> None:
    why, processes = held("processes = 2")
    assert why is None
    assert processes == (("lb1", "write"), ("lb1", "write-2"), ("lb2", "write"), ("lb2", "write-2"))


@pytest.mark.parametrize("where", ["database", "none"])
def test_pools_that_do_not_lead_to_the_next_primary_hold_nobody(where: str) -> None:
    why, processes = held(f'placement = "{where}"')
    assert (why, processes) == ("no pool on the way to the primary could", ())


def test_nobody_is_held_where_some_keep_their_servers() -> None:
    why, _ = held("", '\n[[users]]\nname = "other"\npool_mode = "session"\npool_size = 5\n')
    assert why == "whole sessions are pooled"
