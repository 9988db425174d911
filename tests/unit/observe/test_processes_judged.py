"""Several PgBouncer processes on a port, as status judges them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from observed import changed, healthy, topology

from pgbaton.observe.collect import wanted_units
from pgbaton.observe.facts import Facts
from pgbaton.observe.findings import Finding, Level
from pgbaton.observe.rules import routing
from pgbaton.observe.snapshot import Problem, Snapshot

TWO = topology(pooling={"processes": 2})
NAMES = ("write", "read", "write-2", "read-2")


def snapshot() -> Snapshot:
    """Return a healthy cluster with two processes on each port."""
    made = healthy()
    for name in ("lb1", "lb2"):
        write, read = made.host(name).pools
        pools = (write, read, replace(write, instance="write-2"), replace(read, instance="read-2"))
        made = changed(made, name, pools=pools)
    return made


def silent(made: Snapshot, host: str, *instances: str) -> Snapshot:
    """Return a snapshot in which processes of a host do not answer."""
    pools = tuple(pool for pool in made.host(host).pools if pool.instance not in instances)
    problems = tuple(Problem(f"pooler {instance}", "no such file") for instance in instances)
    return changed(made, host, pools=pools, problems=problems)


def silences(made: Snapshot) -> list[Finding]:
    return list(routing.pooler_silent(Facts(TWO, made)))


def test_every_process_is_wanted_and_has_its_unit() -> None:
    assert set(wanted_units(TWO)["lb1"]) >= {f"pgbouncer@{name}.service" for name in NAMES}
    facts = Facts(TWO, snapshot())
    assert [facts.unit_of(f"pooler {name}") for name in NAMES] == [f"pgbouncer@{name}.service" for name in NAMES]
    assert facts.unit_of("addresses") is None
    assert silences(snapshot()) == []


def test_one_process_that_is_silent_is_a_warning_on_either_host() -> None:
    made = silent(silent(snapshot(), "lb1", "write-2"), "lb2", "write-2")
    found = silences(made)
    assert [(each.subject, each.part, each.level, each.outage) for each in found] == [
        ("lb1", "write-2", Level.WARNING, False),
        ("lb2", "write-2", Level.WARNING, False),
    ]
    assert "systemctl restart pgbouncer@write-2" in found[0].advice


def test_all_processes_for_writes_that_are_silent_are_an_outage() -> None:
    made = silent(silent(snapshot(), "lb1", "write", "write-2"), "lb2", "write", "write-2")
    assert {(each.level, each.outage) for each in silences(made)} == {(Level.CRITICAL, True)}


@pytest.mark.parametrize("forgotten", [("write", "write-2"), ("write-2",)])
def test_a_process_that_an_agent_forgot_is_found(forgotten: tuple[str, ...]) -> None:
    agents = topology(pooling={"processes": 2}, orchestration={"agent": True})
    made = snapshot()
    for host in ("lb1", "lb2"):
        pools = (
            replace(pool, paused=("all",), clients_waiting=1, wait_seconds=60.0) if pool.instance in forgotten else pool
            for pool in made.host(host).pools
        )
        made = changed(made, host, pools=tuple(pools))
    found = list(routing.pooler_held(Facts(agents, made)))
    assert {each.part for each in found} == set(forgotten)
    assert {each.outage for each in found} == {len(forgotten) == 2}
    assert list(routing.pooler_paused(Facts(agents, made))) == []
