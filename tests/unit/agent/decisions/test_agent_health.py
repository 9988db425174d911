"""What an agent answers to those who look for a primary, a standby or trouble."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pgbaton.agent.decisions.health import Health, answer

PRIMARY = Health("db1", "primary", writable=True, lock=True, timeline=3, server="well")
STANDBY = Health("db2", "standby", following=True, lag_bytes=2048, synchronous=True, timeline=3)


def status(health: Health, path: str, query: str = "") -> int:
    return int(answer(health, path, query).status)


def test_the_primary_takes_writes_and_holds_the_lock() -> None:
    assert [status(PRIMARY, path) for path in ("/primary", "/read-only", "/health")] == [200, 200, 200]
    assert [status(PRIMARY, path) for path in ("/replica", "/sync")] == [503, 503]


@pytest.mark.parametrize(
    "change",
    [{"writable": False}, {"lock": False}, {"isolated": True}, {"role": "unknown"}, {"role": "none"}],
    ids=["in recovery yet", "without the lock", "cut off from the majority", "hung", "dead"],
)
def test_a_host_that_is_not_certain_to_be_the_primary_never_says_so(change: dict[str, object]) -> None:
    half = replace(PRIMARY, **change)  # type: ignore[arg-type]
    assert status(half, "/primary") == status(half, "/read-only") == 503


def test_a_standby_takes_reads_within_the_lag_that_is_asked_for() -> None:
    assert [status(STANDBY, "/replica", query) for query in ("", "lag=2048", "lag=2kB", "lag=1MB")] == [200] * 4
    assert status(STANDBY, "/replica", "lag=2047") == 503
    assert status(replace(STANDBY, lag_bytes=None), "/replica", "lag=1GB") == 503
    assert status(replace(STANDBY, following=False), "/replica") == 503


def test_only_a_synchronous_standby_says_that_it_is_one() -> None:
    assert status(STANDBY, "/sync") == 200
    assert status(replace(STANDBY, synchronous=False), "/sync") == 503


@pytest.mark.parametrize("query", ["lag=much", "lag=1TB", "lag=-1", "lag=1.5MB"])
def test_a_lag_that_is_none_is_refused_with_what_is_wanted(query: str) -> None:
    said = answer(STANDBY, "/replica", query)
    assert said.status == 400
    assert "lag=16MB" in said.json()["error"]


def test_an_unknown_path_is_told_the_known_ones() -> None:
    said = answer(PRIMARY, "/leader", "")
    assert said.status == 404
    assert "/primary" in said.json()["error"]


def test_every_answer_says_what_the_host_is_and_who_is_fenced() -> None:
    said = json.loads(answer(replace(PRIMARY, fenced=frozenset({"db3", "db2"})), "/health", "").text())
    assert (said["host"], said["role"], said["timeline"], said["fenced"]) == ("db1", "primary", 3, ["db2", "db3"])


def test_the_metrics_are_prometheus_text() -> None:
    told = replace(STANDBY, gauges={"jitter_seconds": 0.0625}, silent=frozenset({"db1"}))
    lines = answer(told, "/metrics", "").text().splitlines()
    assert "pgbaton_primary 0" in lines
    assert "pgbaton_lag_bytes 2048" in lines
    assert "pgbaton_jitter_seconds 0.0625" in lines
    assert "pgbaton_silent_hosts 1" in lines
    assert all(line.startswith(("# TYPE pgbaton_", "pgbaton_")) for line in lines)
