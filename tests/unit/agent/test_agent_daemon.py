"""The agent as a whole: what it takes in, in which order, and that no part of it ends the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from small_cluster import BEAT, HOSTS, PATH, PORTS, PRIMARY, STANDBY, settings, until

from pgbaton.agent import commands, daemon, election, parts
from pgbaton.agent.acting import holds
from pgbaton.agent.acting import vitals as vitals_module
from pgbaton.agent.acting.keepalived import TrackFile
from pgbaton.agent.daemon import Agent
from pgbaton.agent.decisions import path as paths
from pgbaton.agent.decisions import terms
from pgbaton.agent.election import Election, NoElection
from pgbaton.agent.kernel import fences, processes
from pgbaton.agent.kernel.fence_rules import Fence as Standing
from pgbaton.agent.kernel.fence_rules import Serving
from pgbaton.agent.kernel.fences import FenceError
from pgbaton.agent.kernel.sockets import Cut
from pgbaton.agent.peers.codec import Codec
from pgbaton.agent.peers.messages import Ask, Foreign, Vote
from pgbaton.agent.peers.udp import Post
from pgbaton.agent.services import clients
from pgbaton.agent.services.keys import KeyValue, Snapshot
from pgbaton.agent.settings import Host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from pgbaton.agent.peers.udp import Heard
    from pgbaton.agent.settings import Settings, Way

CASE = terms.Case("db2", "db1", 100, 90, 5, 7)
BROKEN = paths.Path(3, "db1", "refused", is_broken=True)
POOLERS = ("PgBouncer write", "PgBouncer read")
LOOPBACK = tuple(replace(host, address=f"127.8.8.{number}") for number, host in enumerate(HOSTS, 1))


class Watched:
    """An agent that is not started: its clock stands still, and what the verdict is told is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, me: str, directory: Path) -> None:
        self.now = 1000.0
        for module in (daemon, election, vitals_module):
            monkeypatch.setattr(module, "clock", lambda: self.now)
        self.agent = Agent(settings(me, directory=directory))
        assert isinstance(self.agent._election, Election)
        self.election = self.agent._election
        self.told: list[tuple[terms.Event, frozenset[str]]] = []
        monkeypatch.setattr(self.election._releases, "tell", self.tell)
        self.pinged: list[str] = []
        monkeypatch.setattr(self.agent._pinger, "send", lambda host, _: self.pinged.append(host))
        self.beats(5, *(host.name for host in self.agent._settings.others))
        self.told.clear()

    def tell(self, event: terms.Event) -> None:
        self.told.append((event, self.agent._hearing.silent(self.now)))

    @property
    def events(self) -> list[terms.Event]:
        return [event for event, _ in self.told]

    def beats(self, turns: int, *hosts: str) -> None:
        for _ in range(turns):
            self.now += BEAT
            self.agent._received([(host, STANDBY) for host in hosts])
            self.agent._turn()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watched:
    return Watched(monkeypatch, "db3", tmp_path)


def test_whom_it_would_fence_it_knows_by_every_address_and_hears_by_the_first(tmp_path: Path) -> None:
    apart = tuple(
        replace(host, replication_address=host.address.replace("10.77.", "10.78."))
        if "database" in host.roles
        else host
        for host in HOSTS
    )
    agent = Agent(settings("db3", directory=tmp_path, hosts=apart))
    assert agent._election._fences.hosts["db1"] == ("10.77.0.21", "10.78.0.21")
    assert agent._election._fences.hosts["lb1"] == ("10.77.0.11",)
    assert agent._post._addresses["db1"] == ("10.77.0.21", PORTS.heartbeat)


def test_all_that_waits_counts_as_heard_before_anybody_is_judged(watched: Watched) -> None:
    watched.beats(4, "db2", "lb1", "lb2")
    watched.told.clear()
    watched.now += BEAT + 0.001
    watched.agent._received([("db2", replace(STANDBY, state="busy")), ("lb1", Ask(CASE)), ("db1", PRIMARY)])
    assert [silent for _, silent in watched.told] == [frozenset()] * 2
    assert watched.events == [terms.Asked(CASE), terms.Tick()]


def test_a_heartbeat_without_news_is_no_event(watched: Watched) -> None:
    watched.agent._received([("db1", replace(STANDBY, position=99))])
    assert watched.events == []
    watched.agent._received([("db1", replace(STANDBY, position=99, following=False))])
    assert watched.events == [terms.Tick()]


def test_a_vote_is_told_with_who_gave_it(watched: Watched) -> None:
    watched.agent._received([("lb1", Vote(CASE, 42))])
    assert watched.events == [terms.Voted("lb1", CASE)]


def test_a_host_of_another_version_lives_and_its_earlier_words_are_forgotten(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.agent._received([("db1", Foreign(2, news=True)), ("db1", Foreign(2, news=False))])
    assert "db1" not in watched.agent._sight.heartbeats
    assert watched.agent._hearing.silent(watched.now) == frozenset()
    assert caplog.text.count("speaks version 2") == 1


def test_each_turn_tells_the_verdict_and_asks_for_echoes_of_hosts_that_are_missed(watched: Watched) -> None:
    watched.beats(3, "db2", "lb1", "lb2")
    assert watched.events == [terms.Tick()] * 3
    assert watched.pinged == ["db1"]
    watched.agent._echoed("db1")
    watched.beats(3, "db2", "lb1", "lb2")
    assert watched.agent._hearing.silent(watched.now) == frozenset()
    assert watched.agent._hearing.mute(watched.now) == {"db1"}


def snapshot(leader: str, revision: int, *, confirmed: bool) -> Snapshot:
    key = KeyValue("/service/orders/leader", leader.encode(), revision, 0x77)
    return Snapshot(revision, {key.key: key}, confirmed=confirmed)


def test_only_what_a_majority_of_etcd_confirmed_is_proof_of_it(watched: Watched) -> None:
    watched.election._follower.asked_seconds = 999.0
    watched.election._learned(snapshot("db1", 10, confirmed=False))
    assert watched.agent._sight.quorum_seconds is None
    watched.election._learned(snapshot("db1", 10, confirmed=True))
    assert watched.agent._sight.quorum_seconds == 999.0


def test_a_new_leader_key_brings_the_look_at_the_server_forward(watched: Watched) -> None:
    looked: list[int] = []
    assert watched.agent._server
    watched.agent._server.look_soon = lambda: looked.append(1)  # type: ignore[method-assign]
    for revision in (10, 10, 11):
        watched.election._learned(snapshot("db1", revision, confirmed=True))
    assert len(looked) == 2
    assert watched.events == [terms.Tick()] * 3
    assert watched.agent._sight.cluster
    assert watched.agent._sight.cluster.leader == "db1"


def test_another_store_of_etcds_makes_promises_on_the_old_one_void(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    monkeypatch.setattr(watched.election._releases, "begin_anew", lambda: begun.append(1))
    for revision in (10, 11, 3):
        watched.election._learned(snapshot("db1", revision, confirmed=True))
    assert begun == [1]


def of_balancer(directory: Path, way: Way | None) -> Agent:
    """Return lb1's agent, told of the clients' way or not."""
    own = settings("lb1", directory=directory)
    return Agent(replace(own, path=way, secrets=replace(own.secrets, probe_password="three")))


def test_a_balancer_leads_only_while_its_clients_reach_the_primary(tmp_path: Path) -> None:
    made = of_balancer(tmp_path, PATH)
    assert made._balancer
    assert made._path
    made._path.use(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    made._balancer.leads_to = "db1"
    assert made._voice.mine(1000.0).poolers
    made._path._note(BROKEN)
    assert not made._voice.mine(1000.0).poolers
    assert made._report.health(1000.0).path == "refused"
    assert made._balancer._soon.is_set()


def test_whoever_is_told_of_no_way_tries_none(tmp_path: Path) -> None:
    assert of_balancer(tmp_path, None)._path is None
    assert Agent(settings("db1", directory=tmp_path))._path is None


def test_another_password_and_other_certificates_are_used_from_then_on(tmp_path: Path) -> None:
    made = of_balancer(tmp_path, PATH)
    assert made._path
    kinds = (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    client, server, bare = (ssl.SSLContext(each) for each in kinds)
    made._trust_hosts(client, server, bare)
    made._trust_secrets(replace(made._settings.secrets, probe_password="four"))
    assert (made._path._tls, made._path._password) == (bare, "four"), "a pooler refuses certificates"


def by_hand(me: str, directory: Path) -> Agent:
    """Return the agent of a cluster that a person fails over."""
    return Agent(replace(settings(me, directory=directory), kind="manual"))


@pytest.mark.parametrize("me", ["db1", "lb1"])
def test_where_a_person_promotes_nobody_is_asked_for_a_vote_fenced_or_released(me: str, tmp_path: Path) -> None:
    made = by_hand(me, tmp_path)
    assert type(made._election) is NoElection
    assert (made._election.handover, list(made._election.parts()), list(made._election.keepers())) == (None, [], [])
    sent: list[object] = []
    made._post.send = lambda message, _: sent.append(message)  # type: ignore[method-assign]
    made._received([("db2", Ask(CASE)), ("db3", Vote(CASE, 42)), ("db2", PRIMARY)])
    made._turn()
    assert sent == []
    assert made._sight.heartbeats["db2"] == PRIMARY
    watched_services = set(made._verdicts())
    assert "Patroni" not in watched_services
    assert watched_services == ({"PostgreSQL"} if me == "db1" else {"HAProxy", "Keepalived", *POOLERS})


async def test_where_a_person_promotes_systemd_need_not_wait_for_fences(tmp_path: Path) -> None:
    made = by_hand("db1", tmp_path)
    async with under_way(made._election.run(made._vitals.begun)):
        await until(made._vitals._begun.is_set)


class Systemd:
    """What systemd is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ready(self) -> None:
        self.told.append("ready")

    def watchdog(self) -> None:
        self.told.append("alive")

    def status(self, text: str) -> None:
        self.told.append(text)


@contextlib.asynccontextmanager
async def under_way(work: Any) -> AsyncIterator[None]:  # noqa: ANN401 - any coroutine
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_systemd_is_told_that_the_agent_lives_only_while_it_takes_turns(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd, vitals = Systemd(), watched.agent._vitals
    vitals._notifier = systemd  # type: ignore[assignment]
    monkeypatch.setattr(vitals_module, "WATCHDOG_SECONDS", 0.0)
    async with under_way(vitals.run()):
        for _ in range(3):
            await asyncio.sleep(0)
        assert systemd.told == []
        vitals.turned(watched.now)
        vitals.begun()
        await until(lambda: systemd.told.count("alive") >= 3)
        assert systemd.told[:3] == ["ready", "alive", "none, hears 4 of 4"]
        watched.now += vitals_module.ALIVE_SECONDS
        await until(lambda: "none, overslept, cannot tell who lives" in systemd.told)
        count = systemd.told.count("alive")
        watched.agent._sight.fenced = frozenset({"db1"})
        await until(lambda: systemd.told[-1].endswith("fenced: db1"))
        assert systemd.told.count("alive") == count
    assert systemd.told.count("none, hears 4 of 4") == 1


def test_etcds_majority_is_complained_of_after_a_while(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watch, begun = watched.agent._vitals._watch, watched.election._started_seconds
    watch(begun + 1.0)
    assert caplog.text == ""
    watched.election._etcd.trouble["10.0.0.1:2379"] = "refused"
    watch(begun + election.QUORUM_SECONDS)
    assert "does not answer: refused" in caplog.text
    watched.election._follower.asked_seconds = begun + 6.0
    watch(begun + 6.5)
    assert "etcd's majority: well again" in caplog.text


class Kernel:
    """Fences without a kernel; loading the rules fails a few times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.serving = Serving.OPEN
        self.hosts = {host.name: host.addresses for host in HOSTS}
        self.closed = False

    async def install(self) -> tuple[Standing, ...]:
        if self.failures:
            self.failures -= 1
            message = "nft: not installed"
            raise FenceError(message)
        return self.standing()

    def standing(self) -> tuple[Standing, ...]:
        return (Standing("db1", HOSTS[0].address, "silent"),)

    async def mend(self) -> tuple[str, ...]:
        return ()

    async def drop(self, host: str) -> Cut:
        del host
        return Cut()

    def resign(self) -> None:
        message = "nft: not permitted"
        raise FenceError(message)

    def shun(self, *_: str) -> None:
        message = "nft: not permitted"
        raise FenceError(message)

    def close(self) -> None:
        self.closed = True


async def test_nothing_is_decided_before_the_fences_of_before_are_known(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[frozenset[str]] = []
    monkeypatch.setattr(watched.election._releases, "begin", lambda: begun.append(watched.agent._sight.fenced))
    watched.election._fencing._fences = watched.election._fences = Kernel(failures=1)  # type: ignore[assignment]
    with pytest.raises(FenceError):
        await watched.election.run(watched.agent._vitals.begun)
    assert begun == []
    assert watched.agent._vitals._begun.is_set()  # systemd need not wait for what may never be
    async with under_way(watched.election.run(watched.agent._vitals.begun)):
        await until(lambda: begun)
    assert begun == [{"db1"}]


def test_the_end_of_the_own_server_is_news_for_the_verdict(watched: Watched) -> None:
    watched.agent._changed()
    assert watched.events == [terms.Tick()]


async def test_a_primary_can_hold_its_clients_though_its_disk_is_full(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: list[float] = []
    assert watched.election._own_fence
    monkeypatch.setattr(watched.election._own_fence, "begin", own.append)
    watched.election._fencing._fences = Kernel(failures=1)  # type: ignore[assignment]
    with pytest.raises(FenceError):
        await watched.election.run(watched.agent._vitals.begun)
    assert own == [watched.now]


class Peer:
    """Another host of the cluster, in the same process: it hears, and answers challenges."""

    def __init__(self, own: Settings, name: str) -> None:
        others = {host.name: host.address for host in own.hosts if host.name != name}
        codec = Codec(name, own.secrets.heartbeat_keys, 77, peers=others)
        bind = (own.host(name).address, own.ports.heartbeat)
        self.heard: list[Heard] = []
        self.post = Post(codec, others, bind=bind, on_messages=self.take)

    def take(self, heard: Sequence[Heard]) -> None:
        self.heard += heard


async def test_an_agent_speaks_where_nothing_that_it_needs_is_there_and_ends_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No certificates, no etcd, no Patroni, no server, no HAProxy, no pooler, no nft."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.8.8.1", 0))
        ports = replace(PORTS, heartbeat=free.getsockname()[1], health=1, etcd=1, etcd_peer=1, rest=1)
    all_roles = tuple(Host(host.name, host.address, ("database", "dcs", "balancer")) for host in LOOPBACK)
    own = replace(settings("db1", directory=tmp_path, hosts=all_roles), ports=ports)
    monkeypatch.setattr(parts, "PAUSE_SECONDS", 0.01)
    # What this machine has is nobody's business here: its fences, its services, its Keepalived.
    monkeypatch.setattr(fences, "Fences", lambda **_: Kernel(failures=1000))
    monkeypatch.setattr(processes, "members", lambda _: ())
    monkeypatch.setattr(TrackFile, "write", lambda *_: False)
    monkeypatch.setattr(holds, "let_go_of_all", nothing := Nothing())
    peer = Peer(own, "db2")
    peer.post.open()
    frozen = daemon.gc.get_freeze_count()
    running = asyncio.ensure_future(Agent(own, tmp_path / "secrets").run())
    async with asyncio.timeout(10):
        while len(peer.heard) < 3:  # noqa: ASYNC110 - real time, and real datagrams
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await running
    peer.post.close()
    daemon.gc.unfreeze()
    assert frozen == 0
    assert {sender for sender, _ in peer.heard} == {"db1"}
    assert nothing.asked == 1
    assert "certificates: cannot be used" in caplog.text


class Nothing:
    """Let go of nothing, and note that it was asked."""

    asked = 0

    async def __call__(self, *_: object) -> None:
        self.asked += 1


def fill(descriptor: int) -> None:
    """Write more than any socket takes."""
    for _ in range(100_000):
        os.write(descriptor, b"x" * 1000)


def test_an_agent_does_not_wait_for_a_journal_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    journal, agent = socket.socketpair()
    with journal, agent:
        commands.do_not_wait_for_journal(agent.fileno())
        with pytest.raises(BlockingIOError):
            fill(agent.fileno())
    assert not logging.raiseExceptions


def test_a_terminal_or_a_file_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    with (tmp_path / "log").open("wb") as log:
        commands.do_not_wait_for_journal(log.fileno())
        assert os.get_blocking(log.fileno())
    assert logging.raiseExceptions


def test_a_host_asks_its_own_member_of_etcd_first() -> None:
    assert clients.etcd_members(settings("db2")) == ["127.0.0.1:2379", "10.77.0.21:2379", "10.77.0.23:2379"]
    assert clients.etcd_members(settings("lb1")) == ["10.77.0.21:2379", "10.77.0.22:2379", "10.77.0.23:2379"]
    assert clients.bracketed("fd00::1") == "[fd00::1]"


def test_fences_that_cannot_be_restored_keep_the_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails(_: Path) -> tuple[Standing, ...]:
        message = "no nft"
        raise FenceError(message)

    monkeypatch.setattr(fences, "restore", fails)
    assert commands.restore_fences(settings(directory=tmp_path), tmp_path) == os.EX_UNAVAILABLE
    assert capsys.readouterr().err == "no nft\n"


def test_fences_that_were_restored_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def restore(_: Path) -> tuple[Standing, ...]:
        return (Standing("db1", "10.77.0.21", "silent"),)

    monkeypatch.setattr(fences, "restore", restore)
    assert commands.restore_fences(settings(directory=tmp_path), tmp_path) == os.EX_OK
    assert capsys.readouterr().out == "fenced db1 (10.77.0.21): silent\n"


def test_holds_are_released_with_what_systemd_says_of_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []

    async def let_go_after(_: Settings, environment: dict[str, str]) -> None:
        said.append(environment.get("EXIT_CODE"))

    monkeypatch.setenv("EXIT_CODE", "killed")
    monkeypatch.setattr(holds, "let_go_after", let_go_after)
    assert commands.release_holds(settings(directory=tmp_path), tmp_path) == os.EX_OK
    assert said == ["killed"]
