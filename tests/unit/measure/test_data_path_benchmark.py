"""What the benchmark of the data path makes of what it reads: processors, memory, goals, its page, changed files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "data_path"))

import goals
import memory
import path_lab
import path_page
import processors
import variants
from made_measurement import STANDARD

from pgbaton.components import haproxy, pgbouncer

MILLISECOND = os.sysconf("SC_CLK_TCK") / 1000
STAT = "{pid} ({program}) S 1 1 1 0 -1 4194560 1 2 3 4 {user} {system} {child_user} {child_system} 20 0 1 0 99 0 0\n"
ROW = {
    "profile": "select-only",
    "protocol": "simple",
    "clients": 16,
    "connect": False,
    "path": "vip",
    "transactions_per_second": 6_000.4,
    "rounds": [5_900.0, 6_100.0],
    "ratio_to_direct": 0.61,
    "latency_milliseconds": {"median": 1.234, "p95": 4.0, "p99": 12.5},
    "added_median_milliseconds": 0.4,
    "processor_microseconds": {"haproxy": 51.2, "pgbouncer": 40.0, "postgres": 70.0},
    "errors": 0,
}


def data(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - what JSON has
    """Return the benchmark's results."""
    made: dict[str, Any] = {
        "machine": "2 cores",
        "began_at": "2026-01-01T00:00:00+00:00",
        "versions": {"postgresql": "17.6", "pgbouncer": "1.24", "haproxy": "3.0"},
        "rounds": 2,
        "seconds": 5,
        "scale": 20,
        "replication": "synchronous",
        "file_limit": 20_000,
        "client_limit": 2_700,
        "rows": [ROW],
        "pictures": [{"title": "Latency", "file": "results-latency.svg"}],
        "memory": [memory_of(0, 20.0), memory_of(2_000, 58.0)],
        "storms": [storm(errors=0)],
        "variants": [],
        "not_run": [],
        "remarks": ["plain is no setting"],
    }
    made |= changes
    return made | {"goals": goals.judged(made)}


def memory_of(clients: int, megabytes: float) -> dict[str, int]:
    sizes = ("pss_bytes", "rss_bytes", "haproxy_pss_bytes", "pgbouncer_pss_bytes")
    return {"clients": clients} | dict.fromkeys(sizes, round(megabytes * 1e6))


def storm(*, errors: int) -> dict[str, Any]:
    return {
        "clients": 1_000,
        "path": "vip",
        "served": 1_000 - errors,
        "errors": errors,
        "complaints": {"connection refused": errors} if errors else {},
        "wait_milliseconds": {"median": 900.0, "p99": 2_100.0, "last": 2_200.0},
        "server_connections_at_most": 25,
    }


def test_a_programs_processor_time_is_that_of_all_its_processes_and_of_their_children_that_have_ended() -> None:
    ticks = {"user": 3, "system": 2, "child_user": 0, "child_system": 0}
    lines = [
        STAT.format(pid=1, program="systemd", **ticks),
        STAT.format(pid=8, program="postgres", user=10, system=0, child_user=100, child_system=50),
        STAT.format(pid=9, program="postgres", **ticks),
        STAT.format(pid=10, program="haproxy", **ticks),
        STAT.format(pid=11, program="postgres (x) y", **ticks),
    ]
    seen = processors.used(lines)
    assert {name: time * MILLISECOND / 1000 for name, time in seen.items()} == {
        "haproxy": 5,
        "pgbouncer": 0,
        "postgres": 165,
    }
    before = processors.Used(dict.fromkeys(processors.PROGRAMS, 1.0))
    assert processors.Used(seen).since(before)["pgbouncer"] == -1.0


def test_proportional_sizes_add_up_by_program() -> None:
    printed = "haproxy Rss: 3000\nhaproxy Pss: 2000\npgbouncer Rss: 900\npgbouncer Pss: 700\npgbouncer Pss: 300\n"
    assert memory.sizes(printed) == {
        "pss_bytes": 3000 * 1024,
        "rss_bytes": 3900 * 1024,
        "haproxy_pss_bytes": 2000 * 1024,
        "pgbouncer_pss_bytes": 1000 * 1024,
    }
    assert memory.lists("databases|2\nused_clients|1999\nlist|x\n") == {"databases": 2, "used_clients": 1999}


def test_every_goal_is_judged_by_what_was_measured_and_by_nothing_else() -> None:
    found = {each["goal"]: (each["measured"], each["met"]) for each in data()["goals"]}
    assert found["select-only, 16 clients"] == (0.61, True)
    assert found["select-only, 150 clients"] == (None, None)
    assert found["2,000 idle clients, all proxies together"] == (58.0, True)
    assert found["a storm of 1,000 clients"] == (0, True)
    assert len(found) == len(goals.GOALS) == 8
    worse = data(storms=[storm(errors=3)], memory=[memory_of(2_000, 61.0)], rows=[ROW | {"ratio_to_direct": 0.59}])
    assert [each["goal"] for each in worse["goals"] if each["met"] is False] == [
        "select-only, 16 clients",
        "2,000 idle clients, all proxies together",
        "a storm of 1,000 clients",
    ]


def test_the_page_has_goals_figures_and_what_was_not_measured() -> None:
    made = path_page.page(data(storms=[storm(errors=3)]))
    assert "| select-only, 16 clients | ≥ 0.6 of direct | 0.61 | yes |" in made
    assert "| a storm of 1,000 clients | ≤ 0 errors | 3 | **no** |" in made
    assert "| select-only | simple | 16 | held | vip | 6,000 | 5,900 to 6,100 | 0.61 | 1.23 | 4 | 12.5 | 51.2 |" in made
    assert "| 2,000 | 58.0 | 58.0 | 58.0 | 58.0 | 19.0 |" in made
    assert "| 1,000 | vip | 997 | 3 | 900 | 2,100 | 2,200 | 25 | connection refused |" in made
    assert "![Latency](results-latency.svg)" in made
    assert "- plain is no setting" in made
    assert "Settings that were tried" not in made


def test_a_setting_that_did_not_work_is_told_with_its_reason() -> None:
    tried = [
        {"title": "one", "case": "16 clients", "usual": 1000.0, "tried": 1100.0, "ratio": 1.1, "spread": "1.0 to 1.2"},
        {"title": "two", "case": "16 clients", "problem": "server does not support SSL"},
    ]
    made = path_page.page(data(variants=tried))
    assert "| one | 16 clients | 1,000 | 1,100 | 1.10 | 1.0 to 1.2 |" in made
    assert "| two | 16 clients | - | - | - | server does not support SSL |" in made


def test_the_lab_has_room_for_every_case_within_this_machines_limit_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_lab, "files", lambda: 20_000)
    made = path_lab.topology("data-path")
    assert made.postgresql.max_connections >= path_lab.DIRECT_CLIENTS + 100
    assert made.pooling.max_clients == made.balancing.max_connections == 2_700
    assert made.has_agents


@pytest.mark.parametrize("variant", variants.VARIANTS, ids=lambda variant: variant.name)
def test_every_setting_that_is_tried_changes_each_file_that_it_names(variant: variants.Variant) -> None:
    host = STANDARD.hosts[0]
    texts = {
        haproxy.CONFIG: haproxy.configuration(STANDARD, host),
        variants.POOLER: str(pgbouncer.configuration(STANDARD, host, "write").content),
    }
    for path, change in variant.changes.items():
        assert change(texts[path]) != texts[path]
        assert change(change(texts[path])).count("client_tls_sslmode") <= 1
