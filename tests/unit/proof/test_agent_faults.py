"""Faults of agents: whom they strike and in which order, what undoes them, and what they expect."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.cli.demo import STOCK
from pgbaton.components import agent, patroni
from pgbaton.components.etcd import etcdctl
from pgbaton.errors import CommandError, UnhealthyError, UnreachableError
from pgbaton.hosts import process
from pgbaton.hosts.fake import FakeHost
from pgbaton.lab import capabilities, definition, network, record
from pgbaton.observe.host_probe import NFT
from pgbaton.proof import final, prove
from pgbaton.proof.checkers.base import Validity
from pgbaton.proof.faults import agents, named, stale_sync
from pgbaton.proof.faults.base import Fault, Seen, Service, Strike, Suite
from pgbaton.proof.faults.signals import SIGNAL_SERVER
from pgbaton.proof.target import Roles, Target
from pgbaton.state import ClusterState
from pgbaton.topology import budget, load, presets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pgbaton.lab.record import Lab
    from pgbaton.topology.model import Topology

TOPOLOGY = definition.complete(load.loads(presets.text("standard")), "trial")
WITHOUT = definition.complete(load.loads(presets.text("standard") + STOCK), "trial")
ROLES = Roles(
    "db1",
    "lb2",
    ("db2", "db3"),
    synchronous=("db2",),
    balancers=("lb1", "lb2"),
    dcs=("db1", "db2", "db3"),
    dcs_leader="db3",
)
VOTERS = ("db1", "db2", "db3", "lb1", "lb2")
OF_AGENTS = (*agents.FAULTS, *stale_sync.FAULTS)
PROGRAMS = ("systemctl", "systemd-run", "sh", "python3", "runuser", "env", "rm", NFT)
#: What the network does, in words, as long as something is wrong with it.
SLOW, UNCONNECTED, PARTED = "db1 is slow", "5432 between db1 and db2 is cut", "db1 is cut off from all"


class Played:
    """A lab in which faults can be struck, and everything that they did to it, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topology: Topology = TOPOLOGY) -> None:
        self.done: list[str] = []
        self.said: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.promoted = "f"
        self.sync = ["db2"]
        self.host_by_name = {name: Played.host(name, self) for name in (*VOTERS, "app")}
        monkeypatch.setattr(Target, "hosts", self.host_by_name)
        monkeypatch.setattr(network, "apply_rules", self.apply)
        monkeypatch.setattr(network, "apply_delays", nothing)
        monkeypatch.setattr(final, "sql", self.sql)
        state = ClusterState("trial", tmp_path / "trial")
        state.create()
        record.save(state, record.describe(topology, state, system="debian-13", durable=False))
        self.target = Target(topology, state, self.said.append)

    @staticmethod
    def host(name: str, played: Played) -> FakeHost:
        """Return a host that notes what it is told."""
        made = FakeHost(name)

        def answering(program: str) -> Callable[[str], str]:
            def answer(text: str) -> str:
                played.done.append(f"{name}: {told(made.calls[-1][0], text)}")
                raised = next((error for word, error in played.errors.items() if word in played.done[-1]), None)
                if raised is not None:
                    raise raised
                if " get " in played.done[-1]:
                    return f'{{"leader": "db1", "sync_standby": "{played.sync.pop(0)}"}}'
                return "{}" if program == NFT else ""

            return answer

        made.answers.update({(program,): answering(program) for program in PROGRAMS})
        return made

    async def apply(self, lab: Lab) -> None:
        """Note what is wrong with the network now."""
        wrong = [SLOW] if lab.delays else []
        pairs = {frozenset((cut.source, cut.target)): cut.ports for cut in lab.cuts}
        wrong += [UNCONNECTED] if pairs.get(frozenset(("db1", "db2"))) == (5432,) else []
        wrong += [PARTED] if sum(ports == () for ports in pairs.values()) == 5 else []
        self.done.append(" and ".join(wrong) or "nothing is cut")

    async def sql(self, _: Target, name: str, statement: str) -> str:
        self.done.append(f"{name}: {statement}")
        return self.promoted

    def strike(self, fault: Fault, seed: int = 1) -> Strike:
        random = Random(seed)
        return Strike(self.target, fault.victims(ROLES, random), ROLES, random)

    def on(self, *words: str) -> set[str]:
        """Return the hosts that were told something with these words."""
        return {line.partition(":")[0] for line in self.done if all(word in line for word in words)}


async def nothing(_: object) -> None:
    """Leave the fabric alone, which is not there."""


def told(argv: tuple[str, ...], text: str) -> str:
    """Return in short what a host was told."""
    if SIGNAL_SERVER in argv:
        return " ".join(("server", *argv[5:]))
    if stale_sync.WATCH in argv:
        return f"watch {argv[-1]}"
    if argv[0] == NFT:
        return f"drop {text.split()[2]}" if "drop" in text else f"forget {text.split()[2]}"
    return " ".join(argv)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    return Played(monkeypatch, tmp_path)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no time go by: how long anybody would have slept, and a clock that has gone on by that."""
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(agents.asyncio, "sleep", sleep)
    monkeypatch.setattr(agents.time, "monotonic", lambda: 1000.0)
    return asked


def fault(name: str) -> Fault:
    (found,) = named([name])
    return found


@pytest.mark.parametrize("each", OF_AGENTS, ids=lambda each: each.name)
async def test_without_agents_none_is_made_and_it_is_said_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, each: Fault
) -> None:
    without = Played(monkeypatch, tmp_path, WITHOUT).target
    assert await prove.obstacle(without, each) == "trial has no agents"


@pytest.mark.parametrize("each", OF_AGENTS, ids=lambda each: each.name)
async def test_with_agents_nothing_is_in_the_way(monkeypatch: pytest.MonkeyPatch, played: Played, each: Fault) -> None:
    async def roles(_: Target) -> Roles:
        return ROLES

    async def attempt(_: object) -> None:
        """Find that the kernel can do it."""

    monkeypatch.setattr(Target, "roles", roles)
    monkeypatch.setattr(capabilities, "attempt", attempt)
    assert await prove.obstacle(played.target, each) is None


async def test_a_late_change_needs_a_primary_that_clients_do_not_come_in_by(
    monkeypatch: pytest.MonkeyPatch, played: Played
) -> None:
    async def roles(_: Target) -> Roles:
        return Roles("db1", "db1", ("db2",), synchronous=("db2",))

    monkeypatch.setattr(Target, "roles", roles)
    seen = await fault("stale-sync-change").obstacle(played.target)
    assert seen == "the active balancer is the primary's own host"


def test_all_of_them_are_for_labs_and_one_is_in_the_standard_suite() -> None:
    assert all(each.lab and each.service is Service.RETURNS for each in OF_AGENTS)
    assert [each.name for each in OF_AGENTS if each.suite is not Suite.FULL] == ["agents-killed"]
    assert {each.suite for each in OF_AGENTS} == {Suite.STANDARD, Suite.FULL}


@pytest.mark.parametrize(("name", "signal"), [("agents-killed", "KILL"), ("agents-stopped", "STOP")])
async def test_every_agent_is_struck(played: Played, name: str, signal: str) -> None:
    await fault(name).inject(played.strike(fault(name)))
    sent = f"systemctl kill --kill-whom=all --signal=SIG{signal} {agent.UNIT}"
    assert sorted(played.done) == [f"{host}: {sent}" for host in VOTERS]


async def test_agents_that_were_stopped_go_on(played: Played) -> None:
    await fault("agents-stopped").heal(played.strike(fault("agents-stopped")))
    assert played.on("SIGCONT", agent.UNIT) == set(VOTERS)


async def test_the_postmaster_is_killed_when_no_agent_is_left(played: Played) -> None:
    gone = fault("agents-gone")
    await gone.inject(played.strike(gone))
    assert set(played.done[:-1]) == {f"{host}: systemctl stop {agent.UNIT}" for host in VOTERS}
    assert played.done[-1] == "db1: server KILL postmaster"
    await gone.heal(played.strike(gone))
    assert played.on(f"systemctl start {agent.UNIT}") == set(VOTERS)


def test_a_cluster_whose_agents_are_gone_is_measured_as_a_stock_one_whose_balancers_ask_seldom(played: Played) -> None:
    expected = fault("agents-gone").expects(played.strike(fault("agents-gone")))
    stock = budget.prediction(WITHOUT, "postmaster-killed").write_seconds.maximum
    seldom = TOPOLOGY.primary_check_seconds - WITHOUT.primary_check_seconds
    assert expected.limit_seconds == pytest.approx(stock + seldom)
    assert seldom > 0
    assert stock > budget.prediction(TOPOLOGY, "postmaster-killed").write_seconds.maximum


def test_an_agent_is_paused_again_and_again_for_times_below_and_beyond_what_systemd_bears() -> None:
    drawn = [agents.pauses(Random(seed), agents.PAUSING_SECONDS) for seed in range(200)]
    assert agents.pauses(Random(7), agents.PAUSING_SECONDS) == drawn[7]
    assert all(one.at + one.seconds < other.at for each in drawn for one, other in pairwise(each))
    assert all(each[0].at >= 0 and each[-1].at < agents.PAUSING_SECONDS for each in drawn)
    times = [each.seconds for pauses in drawn for each in pauses]
    assert 0.2 <= min(times) < 0.5
    assert 4.5 < max(times) <= 5


async def test_each_pause_ends_and_the_load_with_the_last(played: Played, slept: list[float]) -> None:
    paused = fault("agents-paused-under-load")
    await paused.inject(played.strike(paused))
    busy, rest = played.on("systemd-run", agents.BUSY), played.on("systemctl stop pgbaton-busy-*")
    assert sum("systemd-run" in line for line in played.done) == os.cpu_count()
    assert busy <= set(VOTERS) == rest
    assert all("systemctl stop pgbaton-busy-*" in line for line in played.done[-len(VOTERS) :])
    for host in VOTERS:
        signals = [line.split("SIG")[1].split()[0] for line in played.done if line.startswith(host) and "SIG" in line]
        assert signals
        assert signals == ["STOP", "CONT"] * (len(signals) // 2)
    assert max(slept) <= agents.PAUSING_SECONDS


async def test_an_agent_that_is_not_there_to_be_paused_is_told_of(played: Played, slept: list[float]) -> None:
    paused = fault("agents-paused-under-load")
    played.errors = {"lb1: systemctl kill": CommandError("exit status 1\nNo main process to kill")}
    await paused.inject(played.strike(paused))
    assert "no pause of the agent on lb1: No main process to kill" in played.said
    assert not any("SIGCONT" in line for line in played.done if line.startswith("lb1"))
    assert played.said[-1].endswith(f"pauses of {len(VOTERS)} agents")
    assert slept


async def test_a_load_that_cannot_be_made_is_an_error_and_pauses_nobody(played: Played, slept: list[float]) -> None:
    paused = fault("agents-paused-under-load")
    played.errors = {"systemd-run": UnreachableError("no end after 30 s")}
    with pytest.raises(UnreachableError):
        await paused.inject(played.strike(paused))
    assert not any("SIGSTOP" in line for line in played.done)
    assert slept == []
    await paused.heal(played.strike(paused))
    assert played.on("systemctl stop pgbaton-busy-*") == played.on("SIGCONT") == set(VOTERS)


async def test_a_primary_is_connected_again_just_when_it_counts_as_silent(played: Played, slept: list[float]) -> None:
    back = fault("primary-back-during-verdict")
    for seed in range(30):
        await back.inject(played.strike(back, seed))
    assert played.done == [PARTED, "nothing is cut"] * 30
    detection = TOPOLOGY.timings.detection_time
    assert detection <= min(slept) < detection + 0.05
    assert detection + 0.15 < max(slept) <= detection + 0.2
    await back.heal(played.strike(back))
    assert record.load(played.target.state).cuts == ()


def test_a_primary_that_comes_back_costs_little_more_than_one_that_stays_away(played: Played) -> None:
    limit = fault("primary-back-during-verdict").expects(played.strike(fault("false-alarm"))).limit_seconds
    longest = budget.prediction(TOPOLOGY, "primary-cut-off").write_seconds.maximum
    assert limit == pytest.approx(longest + TOPOLOGY.timings.detection_time + 0.2)


@pytest.mark.parametrize(
    ("name", "deaf"), [("false-alarm", set(VOTERS) - {"db1"}), ("standby-deaf-to-heartbeats", {"db2"})]
)
async def test_who_is_deceived_hears_again_and_nobody_else_is(played: Played, name: str, deaf: set[str]) -> None:
    each = fault(name)
    await each.inject(played.strike(each))
    assert played.on("drop") == deaf
    await each.heal(played.strike(each))
    assert played.on("forget") == deaf


def test_nothing_is_dropped_but_what_tells_that_a_host_lives() -> None:
    rules = agents.unheard(TOPOLOGY, "db1", table=agents.table("false-alarm"))
    address = TOPOLOGY.host("db1").address
    assert [line.strip() for line in rules.splitlines() if line.endswith("drop")] == [
        f"ip saddr {address} udp dport {TOPOLOGY.orchestration.heartbeat_port} drop",
        f"ip saddr {address} icmp type {{ echo-request, echo-reply }} drop",
    ]
    assert rules.count("table inet pgbaton_false_alarm") == 3


def test_one_who_is_deceived_must_disturb_nobody_and_many_may_replace_the_primary(played: Played) -> None:
    one, many = (
        fault(name).expects(played.strike(fault(name))) for name in ("standby-deaf-to-heartbeats", "false-alarm")
    )
    assert (one.keeps_primary, one.limit_seconds) == (True, 1.0)
    assert many.keeps_primary is False
    assert many.limit_seconds == budget.prediction(TOPOLOGY, "primary-power-off").write_seconds.maximum


@pytest.mark.parametrize(
    ("standing", "objections"),
    [({}, ()), ({"db1": ("db2", "lb1")}, ("db1 is fenced on db2, lb1",)), (None, ())],
)
async def test_a_fence_that_one_word_has_put_up_is_objected_to(
    monkeypatch: pytest.MonkeyPatch, played: Played, standing: dict[str, tuple[str, ...]] | None, objections: object
) -> None:
    async def look(*_: object) -> dict[str, tuple[str, ...]] | None:
        return standing

    monkeypatch.setattr(agents.fences, "look", look)
    deaf = fault("standby-deaf-to-heartbeats")
    assert await deaf.look(played.strike(deaf)) == Seen(objections=objections)  # type: ignore[arg-type]


STATUS = "/service/trial/status"


async def test_patroni_stands_still_while_another_is_promoted_and_goes_on_when_etcd_can_answer(
    monkeypatch: pytest.MonkeyPatch, played: Played
) -> None:
    monkeypatch.setattr(stale_sync, "LOOKED_SECONDS", 0.0)
    stale = fault("stale-sync-change")
    await stale.inject(played.strike(stale))
    control = " ".join(etcdctl(TOPOLOGY))
    walsender = f"^postgres: trial: walsender [^ ]+ {str(TOPOLOGY.host('db2').address).replace('.', chr(92) + '.')}[(]"
    assert played.done == [
        f"db1: systemctl stop {agent.UNIT}",
        SLOW,
        f"db3: watch {STATUS}",
        f"{SLOW} and {UNCONNECTED}",
        f"db1: server TERM all {walsender}",
        f"db3: watch {STATUS}",
        f"db1: sh -c {stale_sync.STAND_STILL}",
        f"{SLOW} and {PARTED}",
        f"db3: {control} get /service/trial/sync --print-value-only",
        "db2: SELECT pg_is_in_recovery()",
        "nothing is cut",
        f"db1: {control} endpoint health",
        f"db1: systemctl kill --kill-whom=all --signal=SIGCONT {patroni.UNIT}",
        f"db1: systemctl start {agent.UNIT}",
    ]


async def test_a_moment_that_was_missed_is_tried_once_more_with_whoever_is_synchronous_then(
    monkeypatch: pytest.MonkeyPatch, played: Played
) -> None:
    async def roles(_: Target) -> Roles:
        return replace(ROLES, synchronous=("db3",))

    async def until_whole(_: Target, *, seconds: float) -> float:
        played.done.append("whole")
        return seconds

    monkeypatch.setattr(stale_sync, "LOOKED_SECONDS", 0.0)
    monkeypatch.setattr(Target, "roles", roles)
    monkeypatch.setattr(Target, "until_whole", until_whole)
    played.sync = ["", "db3"]
    stale = fault("stale-sync-change")
    await stale.inject(played.strike(stale))
    again = played.done.index("whole")
    assert "Patroni had taken db2 out of /sync already: once more" in played.said
    first, second = played.done[:again], played.done[again:]
    assert [line for line in first if "SIGCONT" in line] == [
        f"db1: systemctl kill --kill-whom=all --signal=SIGCONT {patroni.UNIT}"
    ]
    assert not any("pg_is_in_recovery" in line for line in first)
    assert any("server TERM" in line and str(TOPOLOGY.host("db3").address)[-2:] in line for line in second)
    assert any("pg_is_in_recovery" in line for line in second)
    played.sync = [""] * stale_sync.ATTEMPTS
    await stale.inject(played.strike(stale))
    assert played.said[-1] == "the moment was not met"


async def test_a_walsender_that_has_ended_by_itself_is_as_good(monkeypatch: pytest.MonkeyPatch, played: Played) -> None:
    monkeypatch.setattr(stale_sync, "LOOKED_SECONDS", 0.0)
    played.errors = {"server TERM": CommandError("exit status 1\nno such process of the server")}
    stale = fault("stale-sync-change")
    await stale.inject(played.strike(stale))
    assert "no walsender to end: no such process of the server" in played.said
    assert any("pg_is_in_recovery" in line for line in played.done)


async def test_a_look_of_patronis_from_before_the_standby_was_gone_is_not_the_one(
    monkeypatch: pytest.MonkeyPatch, played: Played
) -> None:
    stale = fault("stale-sync-change")
    times = iter((990.0, 1000.2, 1001.5, 1003.0))

    async def lock_refreshed(_: Strike) -> float:
        played.done.append("refreshed")
        return next(times)

    monkeypatch.setattr(stale_sync, "lock_refreshed", lock_refreshed)
    monkeypatch.setattr(agents.time, "monotonic", lambda: 1000.0)
    await stale.inject(played.strike(stale))
    killed = next(at for at, line in enumerate(played.done) if "server TERM" in line)
    assert played.done[killed + 1 : killed + 4] == ["refreshed", "refreshed", f"db1: sh -c {stale_sync.STAND_STILL}"]


async def test_it_is_not_gone_on_before_a_standby_is_promoted(monkeypatch: pytest.MonkeyPatch, played: Played) -> None:
    monkeypatch.setattr(stale_sync, "PROMOTED_SECONDS", 0.0)
    monkeypatch.setattr(stale_sync, "LOOKED_SECONDS", 0.0)
    played.promoted = "t"
    stale = fault("stale-sync-change")
    with pytest.raises(UnhealthyError, match="db2 is a standby; db3 is a standby"):
        await stale.inject(played.strike(stale))
    assert not any("SIGCONT" in line for line in played.done)
    await stale.heal(played.strike(stale))
    assert played.on("SIGCONT", patroni.UNIT) == played.on(f"start {agent.UNIT}") == {"db1"}
    lab = record.load(played.target.state)
    assert (lab.cuts, lab.delays) == ((), ())


async def test_a_standby_that_does_not_answer_is_no_new_primary(
    monkeypatch: pytest.MonkeyPatch, played: Played
) -> None:
    async def sql(_: Target, name: str, __: str) -> str:
        message = f"psql on {name}:\nno socket"
        raise CommandError(message)

    monkeypatch.setattr(final, "sql", sql)
    seen = await stale_sync.not_promoted(played.strike(fault("stale-sync-change")))
    assert seen == "db2: no socket; db3: no socket"


REFUSED = "INFO: Synchronous replication key updated by someone else."
WANTED = "INFO: Updating synchronous privilege temporarily from ['db2'] to []"
ACCEPTED = "INFO: Assigning synchronous standby status to ['db3']"


@pytest.mark.parametrize(
    ("lines", "validity"),
    [
        ([WANTED, REFUSED, "ERROR: failed to update leader lock"], Validity.VALID),
        (["WARNING: Updating sync state failed"], Validity.VALID),
        ([WANTED, ACCEPTED], Validity.INVALID),
        ([WANTED, ACCEPTED, REFUSED], Validity.INVALID),
        (["ERROR: failed to update leader lock"], Validity.UNKNOWN),
        ([], Validity.UNKNOWN),
    ],
)
def test_what_became_of_the_late_change_is_told_by_patroni(lines: list[str], validity: Validity) -> None:
    check = stale_sync.late_change(lines)
    assert check.validity is validity
    assert bool(check.findings) is (validity is not Validity.VALID)


async def test_patronis_words_are_read_from_its_journal_since_it_was_stopped(played: Played) -> None:
    stale = fault("stale-sync-change")
    seen = await stale.look(played.strike(stale))
    assert played.done == [f"db1: sh -c {stale_sync.SAID_SINCE}"]
    assert [check.validity for check in seen.checks] == [Validity.UNKNOWN]


async def test_a_watch_ends_with_the_first_change(tmp_path: Path) -> None:
    etcd = tmp_path / "etcdctl"
    etcd.write_text(
        '#!/bin/sh\n[ "$*" = "--endpoints=here watch /service/trial/status" ] || exit 1\necho PUT\nexec sleep 60\n'
    )
    etcd.chmod(0o755)
    argv = ("python3", "-c", stale_sync.WATCH, str(etcd), "--endpoints=here")
    assert (await process.run(*argv, STATUS, timeout=20)).ok
    with pytest.raises(CommandError, match="etcdctl ended, and had seen nothing"):
        await process.run(*argv, "/another", timeout=20)
