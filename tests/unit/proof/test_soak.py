"""A soak: how long its faults are, what is done to a cluster in them, and what their looks come to."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.cli.demo import STOCK
from pgbaton.components import agent
from pgbaton.errors import Error, UnhealthyError
from pgbaton.hosts.fake import FakeHost
from pgbaton.lab import definition, record
from pgbaton.proof import final, prove, soak, steadiness, trial, upkeep
from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.faults import agents, bench
from pgbaton.proof.faults.base import Service, Strike
from pgbaton.proof.marks import Mark, Moment
from pgbaton.proof.soak import Processors, faults_of
from pgbaton.proof.steadiness import Lead
from pgbaton.proof.target import Roles, Target
from pgbaton.proof.upkeep import Sample
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pathlib import Path

    from pgbaton.proof.faults.base import Fault

TOPOLOGY = definition.complete(load.loads(presets.text("standard")), "trial")
WITHOUT = definition.complete(load.loads(presets.text("standard") + STOCK), "trial")
ROLES = Roles("db1", "lb1", ("db2", "db3"), synchronous=("db2",), balancers=("lb1", "lb2"), dcs=("db1", "db2", "db3"))
VOTERS = {"db1", "db2", "db3", "lb1", "lb2"}
FIRST = Lead(timeline=1, leader="db1", revision=7, vip="lb1")
SAYS = {"systemd-run": "", "systemctl": "0\n", "env": "", "rm": "", "sh": ""}
FULL_LOAD, PAUSED = faults_of(60)


class Clock:
    """A clock that goes on by as much as anybody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(asyncio, "sleep", self.sleep)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Played:
    """A lab under a load that is none: what its hosts were told, in order, and what is seen of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        self.clock = Clock(monkeypatch)
        self.done: list[str] = []
        self.said: list[str] = []
        self.committed = 7_300
        self.leads = [FIRST]
        self.signs: tuple[Mark, ...] = ()
        self.since: list[float] = []
        monkeypatch.setattr(Target, "hosts", {name: self.host(name) for name in (*VOTERS, "app")})
        monkeypatch.setattr(Target, "roles", self.roles)
        monkeypatch.setattr(final, "sql", self.sql)
        monkeypatch.setattr(steadiness, "lead", self.lead)
        monkeypatch.setattr(steadiness, "signs", self.look_for_signs)
        monkeypatch.setattr(upkeep, "ask", self.ask)
        monkeypatch.setattr(soak, "processors_now", lambda: Processors(int(self.clock.now), int(self.clock.now) // 10))
        state = ClusterState("trial", home / "trial")
        state.create()
        record.save(state, record.describe(TOPOLOGY, state, system="debian-13", durable=False))
        owner = TOPOLOGY.databases[0].owner
        state.vault_directory.mkdir(exist_ok=True)
        secrets = {f"password/user/{owner}": "secret", "ca": "authority"}
        (state.vault_directory / "vault.json").write_text(json.dumps(secrets))
        self.target = Target(TOPOLOGY, state, self.said.append)

    def host(self, name: str) -> FakeHost:
        made = FakeHost(name)

        def answer(program: str) -> str:
            self.done.append(f"{name}: {' '.join(made.calls[-1][0])}")
            return SAYS[program]

        made.answers.update({(program,): lambda _, program=program: answer(program) for program in SAYS})  # type: ignore[misc]
        return made

    async def roles(self) -> Roles:
        return ROLES

    async def sql(self, _: Target, name: str, statement: str) -> str:
        self.done.append(f"{name}: {statement}")
        return str(self.committed)

    async def lead(self, _: Target) -> Lead:
        return self.leads.pop(0) if len(self.leads) > 1 else self.leads[0]

    async def look_for_signs(self, _: Target, *, since: float) -> tuple[Mark, ...]:
        self.since.append(since)
        return self.signs

    async def ask(self, *_: object) -> Sample:
        return Sample({"db2": 0.25}, self.clock.now / 50, 20 << 20)

    def strike(self, fault: Fault, seed: int = 1) -> Strike:
        random = Random(seed)
        return Strike(self.target, fault.victims(ROLES, random), ROLES, random)

    def told(self, *words: str) -> list[str]:
        """Return what was told with these words."""
        return [line for line in self.done if all(word in line for word in words)]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    return Played(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("minutes", "full", "paused"),
    [(60, "60 min", "10 min"), (240, "240 min", "40 min"), (3, "3 min", "1 min"), (0.5, "1 min", "1 min")],
)
def test_a_sixth_of_the_time_is_for_pauses_and_nothing_is_shorter_than_agents_look_back(
    minutes: float, full: str, paused: str
) -> None:
    first, second = faults_of(minutes)
    assert (first.name, second.name) == ("full-load", "agents-paused-under-full-load")
    assert first.does.startswith(f"for {full} ")
    assert second.does.startswith(f"for {paused} ")


@pytest.mark.parametrize("each", [FULL_LOAD, PAUSED], ids=lambda each: each.name)
def test_whatever_the_load_the_primary_stays_and_nothing_but_an_outage_takes_seconds(
    played: Played, each: Fault
) -> None:
    expected = each.expects(played.strike(each))
    assert (expected.keeps_primary, expected.limit_seconds, expected.budget) == (True, 5.0, None)
    assert (each.lab, each.composable, each.service) == (True, False, Service.AFTER_HEALING)
    assert set(played.strike(each).hosts) == VOTERS


async def test_without_agents_there_is_a_load_and_nobody_to_pause(played: Played) -> None:
    without = replace(played.target, topology=WITHOUT)
    assert await prove.obstacle(without, FULL_LOAD) is None
    assert await prove.obstacle(without, PAUSED) == "trial has no agents"
    assert [await prove.obstacle(played.target, each) for each in (FULL_LOAD, PAUSED)] == [None, None]


async def test_a_cluster_in_use_is_not_put_under_such_a_load(played: Played) -> None:
    played.target.state.lab_file.unlink()
    for each in (FULL_LOAD, PAUSED):
        assert await prove.obstacle(played.target, each) == "it can be done to lab machines alone"


async def test_more_clients_than_connections_work_longer_than_the_soak_each_connection_in_a_branch_of_its_own(
    played: Played,
) -> None:
    await FULL_LOAD.inject(played.strike(FULL_LOAD))
    (made,), (works,) = played.told("--initialize"), played.told("systemd-run")
    pool = TOPOLOGY.pooling.size
    assert f"--scale={pool}" in made.split()
    assert f"--client={2 * pool}" in works.split()
    assert next(int(word.removeprefix("--time=")) for word in works.split() if "--time=" in word) > 3600
    assert {"--property=Restart=on-failure", "--exit-on-abort"} <= set(works.split())
    assert not any(word.startswith("--rate") for word in works.split())
    assert played.said == [f"pgbench works with {2 * pool} clients, for 60 min from now"]


async def test_the_load_lasts_for_the_whole_time_and_nothing_is_done_to_agents(played: Played) -> None:
    begin = played.clock.now
    await FULL_LOAD.inject(played.strike(FULL_LOAD))
    assert played.clock.now >= begin + 3600
    assert played.told(agents.BUSY) == played.told("SIGSTOP") == []
    assert played.told("systemctl stop") == []
    await FULL_LOAD.heal(played.strike(FULL_LOAD))
    assert [line.partition(":")[0] for line in played.told("systemctl stop", bench.UNIT)] == ["app"]


async def test_agents_are_paused_while_every_core_is_busy_too_and_go_on_when_all_is_undone(played: Played) -> None:
    _, paused = faults_of(3)
    await paused.inject(played.strike(paused))
    first_stop = played.done.index(played.told("SIGSTOP")[0])
    assert all(played.done.index(line) < first_stop for line in played.told("systemd-run"))
    assert played.told("systemd-run", bench.UNIT)
    assert played.told("systemd-run", agents.BUSY)
    assert {line.partition(":")[0] for line in played.told("SIGSTOP", agent.UNIT)} == VOTERS
    played.done.clear()
    await paused.heal(played.strike(paused))
    for words in (("stop", f"{agents.BUSY_UNIT}-*"), ("SIGCONT", agent.UNIT)):
        assert {line.partition(":")[0] for line in played.told(*words)} == VOTERS
    assert played.told("app: systemctl stop", bench.UNIT)


async def test_a_load_that_there_was_is_told_with_its_figures(played: Played) -> None:
    strike = played.strike(FULL_LOAD)
    await FULL_LOAD.inject(strike)
    seen = await FULL_LOAD.look(strike)
    (check,) = seen.checks
    assert (check.name, check.validity) == ("load", Validity.VALID)
    assert check.figures == {"transactions": 7_300, "started_again": 0}
    (told,) = seen.remarks
    assert told.startswith("pgbench committed 7,300 transactions, 1 a second, and was started again 0 times;")
    assert told.endswith("had nothing to do for 10% of the time")
    assert seen.objections == ()


async def test_without_a_load_nothing_is_shown(played: Played) -> None:
    played.committed = 0
    strike = played.strike(FULL_LOAD)
    await FULL_LOAD.inject(strike)
    (check,) = (await FULL_LOAD.look(strike)).checks
    assert (check.validity, check.findings) == (Validity.UNKNOWN, ("pgbench committed nothing: there was no load",))


async def test_a_cluster_that_was_left_as_it_was_is_told_of_and_not_objected_to(played: Played) -> None:
    began, strike = time.time(), played.strike(FULL_LOAD)
    await FULL_LOAD.inject(strike)
    seen = await FULL_LOAD.look_after(strike)
    assert seen.objections == ()
    assert [told.partition(":")[0] for told in seen.remarks] == [
        "longest time between two heartbeats",
        "agents used of one processor all along, and of memory at the end",
    ]
    assert "db1 2.0% and 20 MiB" in seen.remarks[1]
    assert began <= played.since[0] <= time.time()


async def test_whatever_moved_or_came_and_went_is_objected_to(played: Played) -> None:
    played.leads = [FIRST, replace(FIRST, timeline=2)]
    played.signs = (Mark(Moment.FENCED, 5.0, "db3", "WARNING: fenced db1"),)
    strike = played.strike(FULL_LOAD)
    await FULL_LOAD.inject(strike)
    assert (await FULL_LOAD.look_after(strike)).objections == (
        "the timeline is 2 and was 1",
        "db3: its agent raised a fence at 00:00:05 UTC (WARNING: fenced db1)",
    )


async def test_each_trial_is_compared_with_its_own_beginning(played: Played) -> None:
    second = replace(FIRST, timeline=2)
    played.leads = [FIRST, second]
    for objections in (("the timeline is 2 and was 1",), ()):
        strike = played.strike(FULL_LOAD)
        await FULL_LOAD.inject(strike)
        assert (await FULL_LOAD.look_after(strike)).objections == objections


async def test_of_a_soak_that_came_to_no_end_nothing_is_known(played: Played) -> None:
    (fault, _) = faults_of(3)
    with pytest.raises(UnhealthyError, match="not come to its end"):
        await fault.look_after(played.strike(fault))
    seen = await trial.seen_by(fault.look_after, played.strike(fault), name="look after")
    assert [check.validity for check in seen.checks] == [Validity.UNKNOWN]


async def test_nobody_goes_on_asking_agents_when_the_load_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, played: Played
) -> None:
    ended = asyncio.Event()

    async def watch(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail(*_: object) -> None:
        await turn()
        message = "no answer"
        raise Error(message)

    monkeypatch.setattr(upkeep, "watch", watch)
    with pytest.raises(Error, match="no answer"):
        await soak.Soak(60.0, fail).inject(played.strike(FULL_LOAD))
    await turn()
    assert ended.is_set()


async def turn() -> None:
    """Let whoever can go on do so once."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    await passed.wait()


def test_what_processors_did_is_the_kernels_own_account() -> None:
    before = soak.processors("cpu  100 0 50 800 50 0 0 0 70 0\ncpu0 1 2 3\n")
    after = soak.processors("cpu  190 5 150 820 60 3 2 20 99 0\n")
    assert before == Processors(total=1000, idle=850)
    assert after == Processors(total=1250, idle=880)
    assert after.idle_since(before) == pytest.approx(30 / 250)
    assert before.idle_since(before) == 0.0
    assert soak.processors_now().total > 0
