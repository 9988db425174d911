"""A cluster that a person fails over, from its first apply to a rejoined old primary."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from by_hand import (
    FAILED,
    UNHEALTHY,
    applied,
    healthy,
    lab_prove,
    look,
    operation,
    proven,
    until_held_back,
)
from labs import Lab, done, down, refused, up

from pgbaton.components import agent, manual
from pgbaton.errors import Error, RefusedError
from pgbaton.hosts.fake import FakeHost
from pgbaton.lab import lifecycle
from pgbaton.observe.collect import agent_figures
from pgbaton.operate import routing
from pgbaton.operate.hand import claims, control, failover, handover, living, promotion
from pgbaton.operate.operation import Operation
from pgbaton.operate.waiting import until
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

#: How long the meter waits for an answer.
ANSWER_SECONDS = 3.0


@pytest.fixture(scope="module")
def lab(lab_home: Path) -> Iterator[Lab]:
    assert lab_home
    try:
        yield up("test-manual", "--preset", "manual")
    finally:
        down("test-manual")


async def test_it_comes_up_and_a_second_apply_has_nothing_to_do(lab: Lab) -> None:
    await healthy(lab)
    view = await look(lab)
    assert (view.primary, view.streaming) == ("db1", frozenset({"db2"}))
    said = await done(lab, "status")
    assert said["etcd"] is None
    assert [(row["role"], row["sync_state"]) for row in said["hosts"][2:4]] == [("primary", None), ("standby", "sync")]
    assert (await done(lab, "plan"))["changes"] is False


async def test_a_switchover_under_load_and_a_balancer_that_dies_are_proven(lab: Lab) -> None:
    faults = [word for name in ("switchover", "haproxy-killed", "postmaster-killed") for word in ("--fault", name)]
    result = await lab_prove(lab, *faults)
    trials = {trial["fault"]: trial for trial in result["trials"]}
    assert set(trials) == {"switchover", "haproxy-killed"}
    assert [each["fault"] for each in result["not_run"]] == ["postmaster-killed"]
    assert "Patroni" in result["not_run"][0]["reason"]
    for trial in trials.values():
        assert (trial["lost"], trial["duplicated"]) == (0, 0)
        assert {check["validity"] for check in trial["checks"].values()} == {"valid"}, trial["checks"]
    moved = trials["switchover"]
    assert moved["primary"] == ["db1", "db2"]
    # Writers are held: they see a pause, and no error unless it lasts longer than the meter waits for an answer.
    assert moved["unknown"] == 0 or moved["write_outage_seconds"] > ANSWER_SECONDS, moved["error_classes"]


async def test_a_switchover_whose_standby_does_not_keep_up_is_given_up_and_clients_go_on(lab: Lab) -> None:
    await healthy(lab)
    view = await look(lab)
    (standby,) = view.streaming
    replayer = await operation(lab).sql(standby, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'")
    await lab.hosts()[standby].run("kill", "-STOP", replayer)
    try:
        result = await lab.pgbaton("switchover", "--yes")
    finally:
        await lab.hosts()[standby].run("kill", "-CONT", replayer)
    assert result.exit_status == FAILED, result.stderr
    assert f"{view.primary} is the primary again" in result.stderr
    assert (await look(lab)).primary == view.primary
    # A pooler that is still paused would be found.
    await healthy(lab)


async def test_a_standby_whose_promotion_does_not_end_is_stopped_before_the_old_primary_starts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await healthy(lab)
    view = await look(lab)
    (standby,) = view.streaming
    operate = operation(lab)
    replayer = await operate.sql(standby, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'")
    usual = promotion.promotion_sql

    def stuck(beyond: int | None) -> str:
        """Have its replay stop right before it is asked, so that pg_promote has to give up."""
        hang = f"COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; kill -STOP {replayer}';\n"
        return usual(beyond).replace("SELECT pg_promote(true, 60)", f"{hang}SELECT pg_promote(true, 1)")

    monkeypatch.setattr(promotion, "promotion_sql", stuck)
    with pytest.raises(Error, match=f"{view.primary} is the primary again") as caught:
        await handover.hand_over(operate, str(view.primary), standby)
    assert "did not come out of recovery" in str(caught.value)
    await operate.until_streaming(standby, str(view.primary))
    assert (await look(lab)).primaries == (view.primary,)
    await healthy(lab)


async def test_a_switchover_whose_terminal_goes_away_leaves_a_primary(lab: Lab) -> None:
    await healthy(lab)
    argv = (sys.executable, "-m", "pgbaton", "switchover", "--yes", "--cluster", lab.name)
    running = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert running.stderr
    async for line in running.stderr:
        if b"stopping PostgreSQL on" in line:
            break
    running.send_signal(signal.SIGHUP)
    await asyncio.sleep(0)
    running.send_signal(signal.SIGHUP)
    await asyncio.wait_for(running.communicate(), 120)
    assert running.returncode == 128 + signal.SIGHUP
    assert len((await look(lab)).primaries) == 1
    await healthy(lab)


async def test_a_primary_that_was_stopped_for_a_switchover_nobody_ends_leads_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await healthy(lab)
    primary = str((await look(lab)).primary)
    monkeypatch.setattr(control, "AGAIN_SECONDS", 3)
    last = await control.stop_and_look(Operation(lab.topology, lab.hosts(), lambda _: None), primary)
    assert (last.state, last.runs) == ("shut down", False)
    # Whoever did that is gone.
    await healthy(lab)
    assert (await look(lab)).primaries == (primary,)


async def test_two_operators_are_kept_apart_by_the_hosts(lab: Lab) -> None:
    operation = Operation(lab.topology, lab.hosts(), lambda _: None)
    async with claims.claimed(operation, "a failover"):
        said = await refused(lab, "switchover", "--yes")
        assert "a failover from" in said
        assert "is under way here" in said
    left = await lab.hosts()["db1"].run("ls", f"{manual.STATE}/claim.json", check=False)
    assert not left.ok


async def test_a_primary_that_only_the_operator_cannot_reach_is_not_taken_for_off(lab: Lab) -> None:
    await healthy(lab)
    view = await look(lab)
    (standby,) = view.streaming
    hosts = {**lab.hosts(), str(view.primary): FakeHost(str(view.primary))}
    sight = await living.settled(Operation(lab.topology, hosts, lambda _: None))
    assert sight.silent == (view.primary,)
    intent = failover.consider(lab.topology, sight, None, off=sight.silent)
    with pytest.raises(RefusedError, match=f"lb1 reaches {view.primary}") as caught:
        intent.require()
    assert f"{standby} streams from {view.primary}" in str(caught.value)


async def test_a_killed_primary_starts_again_where_it_is(lab: Lab) -> None:
    await healthy(lab)
    before = await look(lab)
    assert before.primary
    await lab.hosts()[before.primary].run("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", manual.UNIT)

    async def again() -> str | None:
        now = (await look(lab)).running.get(str(before.primary))
        started = before.running[str(before.primary)].started
        return None if now and not now.in_recovery and now.started != started else "not yet"

    await until("the primary runs again", again, seconds=30)
    await healthy(lab)


async def test_a_dead_primary_is_replaced_and_does_not_come_back_as_one(lab: Lab) -> None:
    old = str((await look(lab)).primary)
    new = next(name for name in ("db1", "db2") if name != old)
    await lifecycle.power_off(lab.state, old)
    assert f"--old-primary-is-off {old}" in await refused(lab, "failover", "--yes")
    dry = await done(lab, "failover", "--old-primary-is-off", old, "--dry-run")
    assert (dry["to"], dry["silent"], dry["needs_acceptance"]) == (new, [old], False)
    moved = await done(lab, "failover", "--old-primary-is-off", old, "--yes")
    assert (moved["to"], moved["apart"]) == (new, [old])
    assert (await look(lab)).primary == new

    await lifecycle.power_on(lab.state, old, report=lambda _: None)
    await until_held_back(lab, old, new)
    assert (await look(lab)).primaries == (new,)
    await the_outdated_one_is_not_started_for_the_asking(lab, old, new)
    back = await done(lab, "reinit", old, "--yes")
    assert (back["host"], back["primary"], back["how"]) == (old, new, "rewind")
    await healthy(lab)
    assert (await done(lab, "plan"))["changes"] is False


async def the_outdated_one_is_not_started_for_the_asking(lab: Lab, old: str, new: str) -> None:
    """Have the new primary fall silent too: what it acknowledged is nowhere else; it leads again once it is back."""
    await lifecycle.power_off(lab.state, new)
    words = ("failover", "--to", old, "--old-primary-is-off", new, "--accept-loss", "1000000000", "--yes")
    assert f"{new} was primary after it" in await refused(lab, *words)
    await lifecycle.power_on(lab.state, new, report=lambda _: None)
    await until_it_answers(lab, new)
    moved = await done(lab, "failover", "--to", new, "--yes")
    assert (moved["to"], moved["complete"], moved["apart"]) == (new, True, [old])
    assert (await look(lab)).primaries == (new,)


async def until_it_answers(lab: Lab, host: str) -> None:
    """Wait until a host says what its server has."""

    async def seen() -> str | None:
        return None if await control.ask(lab.hosts()[host]) else "no answer"

    await until(f"{host} answers", seen, seconds=60, interval_seconds=0.5)


async def test_commits_wait_for_a_standby_until_it_is_detached(lab: Lab) -> None:
    view = await look(lab)
    (standby,) = view.streaming
    await lab.hosts()[standby].run("systemctl", "stop", manual.UNIT, timeout=60)
    said = await lab.pgbaton("status", "-o", "json")
    assert said.exit_status == UNHEALTHY
    found = {each["rule"]: each for each in json.loads(said.stdout)["findings"]}
    assert found["synchronous-standby-missing"]["outage"]
    assert "pgbaton standby detach" in found["synchronous-standby-missing"]["advice"]
    # Off when it is detached, it cannot be told.
    await lifecycle.power_off(lab.state, standby)
    change = await done(lab, "standby", "detach", standby, "--yes")
    assert (change["attached"], change["detached"]) == ([], [standby])
    await operation(lab).sql(str(view.primary), "CREATE TABLE IF NOT EXISTS alone (id int)", seconds=10)
    assert f"{standby} streams" in await refused(lab, "standby", "attach", standby, "--yes")
    await lifecycle.power_on(lab.state, standby, report=lambda _: None)
    await until_it_answers(lab, standby)
    await operation(lab).until_streaming(standby, str(view.primary))
    # Commits do not wait for it: it may lack one at any moment, and must not be taken for complete.
    assert await would_lose(lab, str(view.primary))
    await operation(lab).until_streaming(standby, str(view.primary))
    await done(lab, "standby", "attach", standby, "--yes")
    assert not await would_lose(lab, str(view.primary))
    await healthy(lab)


async def would_lose(lab: Lab, primary: str) -> bool:
    """Stop the primary, return whether a failover would need a loss to be accepted, and start it again."""
    host = lab.hosts()[primary]
    await host.run("systemctl", "stop", manual.UNIT, timeout=60)
    try:
        return bool((await done(lab, "failover", "--dry-run"))["needs_acceptance"])
    finally:
        await host.run("systemctl", "start", manual.UNIT, timeout=60)


async def test_settings_change_by_reload_or_a_rolling_restart(lab: Lab, tmp_path: Path) -> None:
    await applied(lab, tmp_path, postgresql={"settings": {"work_mem": "8MB", "shared_buffers": "64MB"}})
    for host in ("db1", "db2"):
        assert await operation(lab).sql(host, "SHOW work_mem") == "8MB"
        assert await operation(lab).sql(host, "SHOW shared_buffers") == "64MB"
    assert len((await look(lab)).primaries) == 1


WAL, FAST = "/srv/wal/main", "/srv/fast/orders"


async def test_wal_and_tablespaces_find_places_of_their_own(lab: Lab, tmp_path: Path) -> None:
    fast = [{"name": "fast", "location": FAST, "owner": "app"}]
    await applied(lab, tmp_path, postgresql={"wal_directory": WAL}, tablespaces=fast)
    view = await look(lab)
    old, (new,) = str(view.primary), view.streaming
    await operation(lab).sql(old, "CREATE TABLE quick (id int) TABLESPACE fast; INSERT INTO quick VALUES (42)")
    assert (await done(lab, "reinit", new, "--yes"))["how"] == "clone"
    assert await wal_of(lab, new) == WAL
    moved = await done(lab, "switchover", "--yes")
    assert (moved["from"], moved["to"]) == (old, new)
    assert (await done(lab, "reinit", old, "--yes"))["how"] == "clone"
    assert await wal_of(lab, old) == WAL
    for host in (old, new):
        assert await operation(lab).sql(host, "SELECT id FROM quick") == "42"
        assert (await lab.hosts()[host].run("ls", FAST)).stdout.startswith("PG_17_")
    await healthy(lab)
    assert (await done(lab, "plan"))["changes"] is False


async def wal_of(lab: Lab, host: str) -> str:
    """Return where a host's server has its WAL."""
    return (await lab.hosts()[host].run("realpath", f"{lab.topology.data_directory}/pg_wal")).stdout.strip()


@pytest.mark.timeout(600)
async def test_without_pools_and_asked_by_a_program_servers_are_moved_and_failed_over(lab: Lab, tmp_path: Path) -> None:
    await applied(lab, tmp_path, pooling={"placement": "none"}, balancing={"check": "script"})
    config = (await lab.hosts()["lb1"].run("cat", "/etc/haproxy/haproxy.cfg")).stdout
    assert "external-check command" in config
    trials = await proven(lab, "switchover", "primary-power-off-and-failover")
    assert trials["switchover"]["primary"] == trials["primary-power-off-and-failover"]["primary"][::-1]
    primary = str((await look(lab)).primary)
    # What was rewound has the tablespace as well, and its rows.
    for host in ("db1", "db2"):
        assert await operation(lab).sql(host, "SELECT id FROM quick") == "42", primary


@pytest.mark.timeout(600)
async def test_with_pools_beside_the_servers_an_old_primary_that_returns_never_serves(lab: Lab, tmp_path: Path) -> None:
    await applied(lab, tmp_path, pooling={"placement": "database"}, balancing={"check": "query"})
    # Each server says which one it is over its host's Unix socket as well: so it is known that no two acknowledged.
    trials = await proven(lab, "switchover", "old-primary-returns-after-failover")
    returned = trials["old-primary-returns-after-failover"]
    assert returned["checks"]["old primary"] == {"validity": "valid", "findings": [], "figures": {}}


@pytest.mark.timeout(600)
async def test_agents_find_the_primary_end_what_hangs_and_let_clients_wait_for_a_server_that_restarts(
    lab: Lab, tmp_path: Path
) -> None:
    agents = {"agent": True}
    await applied(lab, tmp_path, pooling={"placement": "balancer"}, orchestration=agents, balancing={"check": "agent"})
    said = await done(lab, "status")
    assert [(row["host"], row["state"]) for row in said["agents"]] == [
        (host, "running") for host in ("lb1", "lb2", "db1", "db2")
    ]
    assert "fences" not in said
    assert [row["writes_from"] for row in said["hosts"] if row["role"] == "primary"] == [["lb1", "lb2"]]
    trials = await proven(lab, "switchover", "postmaster-killed-in-place", "haproxy-stopped", "pooler-cut-off")
    assert trials["postmaster-killed-in-place"]["primary"][0] == trials["postmaster-killed-in-place"]["primary"][1]


async def test_an_agent_that_is_started_anew_costs_its_server_nothing(lab: Lab) -> None:
    primary = str((await look(lab)).primary)
    before = {name: int((await row_of(lab, name, primary))["chkdown"]) for name in ("lb1", "lb2")}
    for _ in range(3):
        await lab.hosts()[primary].run("systemctl", "kill", "--signal=SIGKILL", agent.UNIT)
        await until("the agent answers again", lambda: silence(lab, primary), seconds=20, interval_seconds=0.2)
    await healthy(lab)
    for name, times in before.items():
        row = await row_of(lab, name, primary)
        assert (row["status"], int(row["chkdown"])) == ("UP", times)


async def silence(lab: Lab, host: str) -> str | None:
    """Tell why a host's agent does not answer; None when it does."""
    asked = await lab.hosts()[host].run("systemctl", "is-active", agent.UNIT, check=False)
    if asked.stdout.strip() != "active":
        return asked.stdout
    return None if "pgbaton_primary" in await figures(lab, host) else "no figures"


async def figures(lab: Lab, host: str) -> str:
    """Return the figures of a host's agent."""
    topology = load(lab.state.topology_file)
    return await agent_figures(topology, topology.host(host), lab.hosts()[host])


async def row_of(lab: Lab, balancer: str, server: str) -> dict[str, str]:
    """Return what a balancer's HAProxy says of a server for writes."""
    said = (await lab.hosts()[balancer].run("python3", "-c", routing.PROGRAM)).stdout
    rows = csv.DictReader(io.StringIO(said.removeprefix("# ")))
    return next(row for row in rows if (row["pxname"], row["svname"]) == ("primary", server))


async def test_a_primary_that_hangs_is_told_of_and_left_to_a_person(lab: Lab) -> None:
    primary = str((await look(lab)).primary)
    host = lab.hosts()[primary]
    main = (await host.run("systemctl", "show", "-P", "MainPID", manual.UNIT)).stdout.strip()
    await host.run("kill", "-STOP", main)
    try:
        await until("the agent tells of it", lambda: untold(lab, primary), seconds=30, interval_seconds=0.5)
        state = (await host.run("ps", "-o", "stat=", "-p", main)).stdout.strip()
    finally:
        await host.run("kill", "-CONT", main)
    assert state.startswith("T"), "nobody ended it"
    await healthy(lab)
    assert (await look(lab)).primary == primary


async def untold(lab: Lab, host: str) -> str | None:
    """Tell what an agent has said instead of what becomes of a server that hangs."""
    said = await lab.hosts()[host].run("journalctl", "-q", "--no-pager", "-o", "cat", "-n", "50", "-u", agent.UNIT)
    return None if "is left alone: a person decides here" in said.stdout else said.stdout[-200:]


async def test_of_two_primaries_balancers_lead_to_the_one_that_was_promoted_last_and_status_says_so(lab: Lab) -> None:
    view = await look(lab)
    old, (new,) = str(view.primary), view.streaming
    await operation(lab).sql(new, "SELECT pg_promote(true, 30)", seconds=40)
    assert set((await look(lab)).primaries) == {old, new}
    await operation(lab).until_routed(new)
    said = json.loads((await lab.pgbaton("status", "-o", "json")).stdout)
    found = {each["rule"]: each for each in said["findings"]}
    assert said["primary"] == new
    assert f"balancers lead to {new}" in found["several-primaries"]["seen"]
    for name, takes_writes in ((old, 0), (new, 1)):
        assert f"pgbaton_primary {takes_writes}\n" in await figures(lab, name)
    for balancer in ("lb1", "lb2"):
        assert not (await row_of(lab, balancer, old))["status"].startswith("UP")
    await lab.hosts()[old].run("systemctl", "stop", manual.UNIT, timeout=120)
    back = await done(lab, "reinit", old, "--yes")
    assert (back["host"], back["primary"]) == (old, new)
    await healthy(lab)
