"""How figures of PgBouncer's places become a page of the documentation, and that each place can be had."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.proof import faults
from pgbaton.topology import load
from pgbaton.topology.model import Placement

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[4] / "benchmarks" / "placements.py"


@pytest.fixture(scope="module")
def placements() -> ModuleType:
    spec = importlib.util.spec_from_file_location("placements", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trial(fault: str, outage: float | None, *, errors: int = 0, verdict: str = "proven") -> dict[str, Any]:
    return {
        "fault": fault,
        "seed": 1,
        "write_outage_seconds": outage,
        "limit_seconds": 2.5,
        "acknowledged": 100,
        "lost": 0,
        "errors": errors,
        "unknown": 1,
        "verdict": verdict,
        "said": [],
    }


def measured(*trials: dict[str, Any]) -> dict[str, Any]:
    return {"began_at": "2026-11-30T10:00:00+00:00", "machine": "2 cores, Linux 6", "trials": [*trials], "not_run": []}


def test_every_place_can_be_had_both_ways_and_its_faults_are_known_there(
    placements: ModuleType,
) -> None:
    assert len(placements.names()) == 2 * len(Placement)
    for name in placements.names():
        topology = load.loads(placements.topology(name))
        assert f"{topology.pooling.placement}-{topology.orchestration.kind}" == name
        chosen = faults.choose(placements.faults(name), topology)
        assert [fault.name for fault in chosen] == [*placements.faults(name)]


def test_the_page_has_medians_worst_cases_predictions_failures_and_what_fell_short(placements: ModuleType) -> None:
    data = {
        "pooler-patroni": measured(
            trial("switchover", 0.4), trial("switchover", 0.6), trial("switchover", 0.5, errors=6, verdict="missed")
        ),
        "none-manual": measured(trial("haproxy-killed", None)),
    }
    data["none-manual"]["not_run"] = [{"fault": "switchover", "title": "Switchover", "reason": "no standby"}]
    text = placements.page(data)
    assert "1 or 3 trials of each" in text
    pooler = next(line for line in text.splitlines() if line.startswith("| `pooler`"))
    assert "| 0.50 (0.60) / 2.5<br>1 failed |" in pooler
    assert pooler.count("not run") == 4
    assert "∞" in next(line for line in text.splitlines() if line.startswith("| `none`"))
    assert "- `pooler-patroni`, switchover: missed: longer than predicted" in text
    assert "- `none-manual`, switchover: no standby" in text
    assert "in all 4 trials: **0**" in text.replace("\n", " ")
