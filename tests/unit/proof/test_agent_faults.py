"""Faults of agents: whom they strike and in which order, what undoes them, and what they expect."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest

from pgbaton.cli.demo import STOCK
from pgbaton.components import agent
from pgbaton.components.etcd import etcdctl
from pgbaton.errors import CommandError, UnhealthyError, UnreachableError
from pgbaton.hosts import process
from pgbaton.hosts.fake import FakeHost
from pgbaton.lab import capabilities, definition, network, record
from pgbaton.observe.host_probe import NFT
from pgbaton.operate.waiting import until
from pgbaton.proof import prove
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
PROGRAMS = ("systemctl", "systemd-run", "sh", "runuser", "env", "touch", "test", "rm", NFT)
#: What the network does, in words, as long as something is wrong with it.
UNCONNECTED, PARTED = "5432 between db1 and db2 is cut", "db1 is cut off from all"


class Played:
    """A lab in which faults can be struck, and everything that they did to it, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topology: Topology = TOPOLOGY) -> None:
        self.done: list[str] = []
        self.said: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.leaders = ["db2"]
        self.journal = ""
        self.host_by_name = {name: Played.host(name, self) for name in (*VOTERS, "app")}
        monkeypatch.setattr(Target, "hosts", self.host_by_name)
        monkeypatch.setattr(network, "apply_rules", self.apply)
        monkeypatch.setattr(network, "apply_delays", nothing)
        monkeypatch.setattr(Target, "until_whole", self.until_whole)
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
                    return played.leaders.pop(0)
                if stale_sync.SAID_SINCE in played.done[-1]:
                    return played.journal
                return "{}" if program == NFT else ""

            return answer

        made.answers.update({(program,): answering(program) for program in PROGRAMS})
        return made

    async def apply(self, lab: Lab) -> None:
        """Note what is wrong with the network now."""
        pairs = {frozenset((cut.source, cut.target)): cut.ports for cut in lab.cuts}
        wrong = [UNCONNECTED] if pairs.get(frozenset(("db1", "db2"))) == (5432,) else []
        wrong += [PARTED] if sum(ports == () for ports in pairs.values()) == 5 else []
        self.done.append(" and ".join(wrong) or "nothing is cut")

    async def until_whole(self, *, seconds: float) -> float:
        self.done.append("the cluster is whole")
        return seconds

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
    if stale_sync.PLACE in argv:
        return "place"
    if stale_sync.TAKE_BACK in argv:
        return "take back"
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


REFUSED = "INFO: Synchronous replication key updated by someone else."
WANTED = "INFO: Updating synchronous privilege temporarily from ['db2'] to []"
ACCEPTED = "INFO: Assigning synchronous standby status to ['db3']"


async def test_patroni_halts_until_another_has_its_lock_and_that_one_until_etcd_has_answered(played: Played) -> None:
    played.leaders = ["db1", "", "db2"]
    played.journal = f"{WANTED}\n{REFUSED}\n"
    stale = fault("stale-sync-change")
    await stale.inject(played.strike(stale))
    control = " ".join(etcdctl(TOPOLOGY))
    halt = "/run/pgbaton-stale-sync"
    walsender = f"^postgres: trial: walsender [^ ]+ ({re.escape(str(TOPOLOGY.host('db2').address))})[(]"
    placed = [f"{host}: {act}" for host in ("db1", "db2") for act in ("place", f"test -e {halt}/placed")]
    assert sorted(played.done[:4]) == placed
    assert played.done[4:] == [
        "the cluster is whole",
        f"db1: touch {halt}/halt",
        f"db2: touch {halt}/halt",
        UNCONNECTED,
        f"db1: server TERM all {walsender}",
        f"db1: test -e {halt}/halted",
        PARTED,
        *[f"db3: {control} get /service/trial/leader --print-value-only"] * 3,
        "nothing is cut",
        f"db1: {control} endpoint health",
        f"db1: rm -f {halt}/halt",
        f"db1: sh -c {stale_sync.SAID_SINCE}",
        f"db2: rm -f {halt}/halt",
    ]


async def test_every_standby_that_commits_wait_for_is_lost_and_halts(played: Played) -> None:
    stale = fault("stale-sync-change")
    both = replace(ROLES, synchronous=("db2", "db3"))
    strike = replace(played.strike(stale), hosts=stale.victims(both, Random(1)))
    assert strike.hosts == ("db1", "db2", "db3")
    assert {cut.target for cut in stale_sync.replication(strike)} == {"db1", "db2", "db3"}
    titles = [f"postgres: trial: walsender replicator {TOPOLOGY.host(name).address}(4711) x" for name in strike.hosts]
    assert [bool(re.search(stale_sync.walsenders(strike), title)) for title in titles] == [False, True, True]


async def test_a_walsender_that_has_ended_by_itself_is_as_good(played: Played) -> None:
    played.errors = {"server TERM": CommandError("exit status 1\nno such process of the server")}
    played.journal = REFUSED
    stale = fault("stale-sync-change")
    await stale.inject(played.strike(stale))
    assert "no walsender to end: no such process of the server" in played.said
    assert played.done[-1] == "db2: rm -f /run/pgbaton-stale-sync/halt"


@pytest.mark.parametrize(
    ("within", "leaders", "missing"),
    [
        ("REPLACED_SECONDS", ["db1"], "etcd on db3 names as its holder: db1"),
        ("REPLACED_SECONDS", [""], "etcd on db3 names as its holder: nobody"),
        ("ANSWER_SECONDS", ["db2"], "Patroni does not say what became of its late change"),
    ],
)
async def test_what_was_not_met_is_an_error_and_nobody_halts_any_more(
    monkeypatch: pytest.MonkeyPatch, played: Played, within: str, leaders: list[str], missing: str
) -> None:
    monkeypatch.setattr(stale_sync, within, 0.0)
    played.leaders = leaders * 10
    stale = fault("stale-sync-change")
    with pytest.raises(UnhealthyError, match=missing):
        await stale.inject(played.strike(stale))
    await stale.heal(played.strike(stale))
    assert played.done[-3:] == ["nothing is cut", "db1: take back", "db2: take back"]
    assert record.load(played.target.state).cuts == ()


@pytest.mark.parametrize(
    ("lines", "validity"),
    [
        ([WANTED, REFUSED, "ERROR: failed to update leader lock"], Validity.VALID),
        (["WARNING: Updating sync state failed"], Validity.VALID),
        ([WANTED, ACCEPTED], Validity.INVALID),
        (["INFO: Setting synchronous replication to 1 of 1 (db3)"], Validity.INVALID),
        ([WANTED, ACCEPTED, REFUSED], Validity.INVALID),
        (["ERROR: failed to update leader lock"], Validity.UNKNOWN),
        ([], Validity.UNKNOWN),
    ],
)
def test_what_became_of_the_late_change_is_told_by_patroni(lines: list[str], validity: Validity) -> None:
    check = stale_sync.late_change(lines)
    assert check.validity is validity
    assert bool(check.findings) is (validity is not Validity.VALID)


async def test_patronis_words_are_read_from_its_journal_since_it_halted(played: Played) -> None:
    stale = fault("stale-sync-change")
    seen = await stale.look(played.strike(stale))
    assert played.done == [f"db1: sh -c {stale_sync.SAID_SINCE}"]
    assert [check.validity for check in seen.checks] == [Validity.UNKNOWN]


# What Patroni's method is wrapped in has to work with any that has its name.
PATRONI = """
class AbstractDCS:
    def write_sync_state(self, leader, sync_standby, quorum, version=None):
        return leader, sync_standby, quorum, version
"""
WRITE = """
import os, sys
from patroni.dcs import AbstractDCS
assert "PYTHONPATH" not in os.environ
print(*AbstractDCS().write_sync_state("db1", None, 0, version="7"))
"""


async def test_a_patroni_that_is_to_halt_says_so_writes_nothing_and_goes_on_when_it_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "patroni").mkdir()
    (tmp_path / "patroni" / "__init__.py").touch()
    (tmp_path / "patroni" / "dcs.py").write_text(PATRONI)
    (tmp_path / "sitecustomize.py").write_text(stale_sync.SITE)
    argv = ("env", f"PYTHONPATH={tmp_path}", sys.executable, "-c", WRITE)
    assert (await process.run(*argv, timeout=20)).stdout == "db1 None 0 7\n"
    assert (tmp_path / "placed").exists()
    assert not (tmp_path / "halted").exists()
    begun = time.time()
    (tmp_path / "halt").touch()
    writing = asyncio.create_task(process.run(*argv, timeout=20))

    async def unhalted() -> str | None:
        said = tmp_path / "halted"
        return None if said.exists() and said.read_text() else "it has not halted"

    await until("it has halted", unhalted, seconds=20)
    assert begun <= float((tmp_path / "halted").read_text().removeprefix("@")) <= time.time()
    assert not writing.done()
    (tmp_path / "halt").unlink()
    assert (await writing).stdout == "db1 None 0 7\n"


def test_rules_against_heartbeats_of_ipv6_let_neighbours_be_found() -> None:
    host = TOPOLOGY.hosts[0].model_copy(update={"address": ip_address("fd00:77::21")})
    topology = TOPOLOGY.model_copy(update={"hosts": (host, *TOPOLOGY.hosts[1:])})
    rules = agents.unheard(topology, host.name, table=agents.table("false-alarm"))
    assert "ip6 saddr fd00:77::21 udp dport" in rules
    assert "ip6 saddr fd00:77::21 icmpv6 type { echo-request, echo-reply } drop" in rules
    assert "ip saddr" not in rules
    assert "nd-" not in rules
