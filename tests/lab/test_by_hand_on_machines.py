"""A cluster that a person fails over, from its first apply to a rejoined old primary."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from labs import Lab, down, up

from pgbaton.components import manual
from pgbaton.errors import Error, RefusedError
from pgbaton.hosts import process
from pgbaton.hosts.fake import FakeHost
from pgbaton.lab import lifecycle
from pgbaton.operate.hand import claims, control, failover, handover, living, promotion
from pgbaton.operate.operation import Operation
from pgbaton.operate.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgbaton.operate.members import View

pytestmark = pytest.mark.lab

OK, FAILED, UNHEALTHY, REFUSED = 0, 1, 3, 6
#: How long the meter waits for an answer.
ANSWER_SECONDS = 3.0


@pytest.fixture(scope="module")
def lab(lab_home: Path) -> Iterator[Lab]:
    assert lab_home
    try:
        yield up("test-manual", "--preset", "manual")
    finally:
        down("test-manual")


async def done(lab: Lab, *arguments: str, timeout: float = 200) -> dict[str, Any]:
    """Run a command that must succeed; return its JSON."""
    result = await lab.pgbaton(*arguments, "-o", "json", timeout=timeout)
    assert result.exit_status == OK, result.stdout + result.stderr
    data: dict[str, Any] = json.loads(result.stdout)
    return data


async def refused(lab: Lab, *arguments: str) -> str:
    """Run a command that must be refused; return what it said."""
    result = await lab.pgbaton(*arguments)
    assert result.exit_status == REFUSED, result.stdout + result.stderr
    return result.stderr


async def look(lab: Lab) -> View:
    return await Operation(lab.topology, lab.hosts(), lambda _: None).look()


async def healthy(lab: Lab) -> None:
    """Wait until status has nothing to say."""

    async def seen() -> str | None:
        said = json.loads((await lab.pgbaton("status", "-o", "json")).stdout)
        return None if said["health"] == "healthy" else "; ".join(each["seen"] for each in said["findings"])

    await until("the cluster is healthy", seen, seconds=60, interval_seconds=0.5)


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


async def lab_prove(lab: Lab, *arguments: str) -> dict[str, Any]:
    """Put the cluster to the proof; return what came of it."""
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", lab.name, *arguments, "--seed", "7", "-o", "json")
    said = await process.run(*argv, check=False, timeout=300)
    data: dict[str, Any] = json.loads(said.stdout)
    return data


async def test_a_switchover_whose_standby_does_not_keep_up_is_given_up_and_clients_go_on(lab: Lab) -> None:
    await healthy(lab)
    view = await look(lab)
    (standby,) = view.streaming
    operation = Operation(lab.topology, lab.hosts(), lambda _: None)
    replayer = await operation.sql(standby, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'")
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
    operation = Operation(lab.topology, lab.hosts(), lambda _: None)
    replayer = await operation.sql(standby, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'")
    usual = promotion.promotion_sql

    def stuck(beyond: int | None) -> str:
        """Have its replay stop right before it is asked, so that pg_promote has to give up."""
        hang = f"COPY (SELECT 1) TO PROGRAM 'kill -STOP {replayer}';\n"
        return usual(beyond).replace("SELECT pg_promote(true, 60)", f"{hang}SELECT pg_promote(true, 1)")

    monkeypatch.setattr(promotion, "promotion_sql", stuck)
    with pytest.raises(Error, match=f"{view.primary} is the primary again") as caught:
        await handover.hand_over(operation, str(view.primary), standby)
    assert "did not come out of recovery" in str(caught.value)
    await operation.until_streaming(standby, str(view.primary))
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
    operation = Operation(lab.topology, hosts, lambda _: None)
    sight = await living.settled(operation)
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


async def until_held_back(lab: Lab, old: str, new: str) -> None:
    """Wait until the old primary's host has said why its server stays down."""

    async def seen() -> str | None:
        said = await lab.hosts()[old].run("journalctl", "-b", "-u", manual.UNIT, "--no-pager", check=False)
        return None if f"{new} is primary" in said.stdout else said.stdout[-200:]

    await until(f"{old} stays down", seen, seconds=60, interval_seconds=0.5)


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
    operation = Operation(lab.topology, lab.hosts(), lambda _: None)
    await operation.sql(str(view.primary), "CREATE TABLE IF NOT EXISTS alone (id int)", seconds=10)
    assert f"{standby} streams" in await refused(lab, "standby", "attach", standby, "--yes")
    await lifecycle.power_on(lab.state, standby, report=lambda _: None)
    await until_it_answers(lab, standby)
    operation = Operation(lab.topology, lab.hosts(), lambda _: None)
    await operation.until_streaming(standby, str(view.primary))
    # Commits do not wait for it: it may lack one at any moment, and must not be taken for complete.
    assert await would_lose(lab, str(view.primary))
    await operation.until_streaming(standby, str(view.primary))
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
    file = tmp_path / "manual.toml"
    text = lab.state.topology_file.read_text()
    file.write_text(text + '\n[postgresql.settings]\nwork_mem = "8MB"\nshared_buffers = "64MB"\n')
    await done(lab, "apply", str(file), "--cluster", lab.name, "--yes")
    operation = Operation(lab.topology, lab.hosts(), lambda _: None)
    for host in ("db1", "db2"):
        assert await operation.sql(host, "SHOW work_mem") == "8MB"
        assert await operation.sql(host, "SHOW shared_buffers") == "64MB"
    assert len((await look(lab)).primaries) == 1
