"""A hand-over: what is done in which order, and what is taken back when something is not as it should be."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from small_cluster import PRIMARY, STANDBY, Seen, cluster, until
from wire_server import LOGGED_IN, READY, Peer, columns, error, row, serving

from pgbaton.agent.acting import handover
from pgbaton.agent.acting.handover import BusyError, Handover, NotHandedOverError, UnfinishedError
from pgbaton.agent.protocols import wire
from pgbaton.agent.protocols.connections import UnixSocket
from pgbaton.agent.protocols.https import ConnectError
from pgbaton.agent.services.agents import RefusedByAgentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from pgbaton.agent.peers.messages import Heartbeat

HELD, LET_GO = ["lb1 /hold", "lb2 /hold"], ["lb1 /let-go", "lb2 /let-go"]
IN_ORDER = [*HELD, "asked", "stopped", "woken"]


class Host:
    """The primary's agent, db1's: other agents and the server are made up; what they are told is noted in order.

    They are also what a hand-over takes for the agents and for the server. ``has_all`` is what the server answers about
    the standby, one after the other, the last for ever; ``on_question`` is done before each answer.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.seen = Seen("db1", directory=directory)
        self.seen.sight.mine = PRIMARY
        self.told: list[str] = []
        self.fields: list[tuple[Mapping[str, Any], float]] = []
        self.failures: dict[str, Exception] = {}
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.has_all = ["t"]
        self.on_question: Callable[[], None] = lambda: None
        self.promoted = replace(PRIMARY, timeline=5)
        self.has_postmaster = True
        self.seconds_for_a_look = 0.0
        self.socket = directory / "server"
        self.questions: list[str] = []
        monkeypatch.setattr(handover, "clock", self.clock)
        monkeypatch.setattr(handover, "LOOK_SECONDS", 0.0)
        self.handover = Handover(self.seen.sight, self, self)  # type: ignore[arg-type]

    def clock(self) -> float:
        self.seen.run(round(self.seconds_for_a_look / 0.05))
        return self.seen.now

    @property
    def way_in(self) -> tuple[UnixSocket, wire.Login]:
        return UnixSocket(self.socket), wire.Login("pgbaton_agent", "postgres")

    async def ask(self, host: str, path: str, fields: Mapping[str, Any], *, deadline_seconds: float) -> dict[str, Any]:
        self.told.append(f"{host} {path}")
        self.fields.append((fields, deadline_seconds))
        await self.may_answer.wait()
        if failure := self.failures.get(f"{host} {path}"):
            raise failure
        return {}

    async def stop(self, deadline_seconds: float) -> bool:
        assert deadline_seconds == handover.STOP_SECONDS
        self.told.append("stopped")
        self.seconds_for_a_look = 1.0
        self.seen.sight.hear("db2", self.promoted)
        return self.has_postmaster

    def nudge(self) -> None:
        self.told.append("woken")

    async def answer(self, peer: Peer) -> None:
        """Be the server, for one connection."""
        await peer.start()
        peer.say(LOGGED_IN)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while (heard := await peer.hear())[0] == "Q":
                self.questions.append(heard[1].decode())
                if self.told[-1] != "asked":
                    self.told.append("asked")
                self.on_question()
                said = self.has_all.pop(0) if len(self.has_all) > 1 else self.has_all[0]
                peer.say(columns("has_all"), row(said), READY)

    async def run(self, target: str = "db2", hold_seconds: float = 2.0) -> dict[str, float]:
        return await self.handover.run(target, hold_seconds)


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(monkeypatch, tmp_path)
    async with serving(made.socket, made.answer):
        yield made


async def test_every_balancer_holds_before_the_server_is_asked_and_it_stops_last(host: Host) -> None:
    parts = await host.run()
    assert host.told == IN_ORDER
    assert list(parts) == ["held", "equal", "stopped", "writable"]
    assert list(parts.values()) == sorted(parts.values())


async def test_the_server_is_asked_nothing_before_the_last_balancer_holds(host: Host) -> None:
    host.may_answer.clear()
    running = asyncio.ensure_future(host.run())
    await until(lambda: len(host.told) == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert host.told == HELD
    host.may_answer.set()
    await running
    assert host.told == IN_ORDER


async def test_the_server_is_asked_about_the_target_alone(host: Host) -> None:
    await host.run()
    assert host.questions == [handover.HAS_ALL.format(target="db2") + "\0"]


async def test_the_server_stops_only_when_the_standby_has_everything(host: Host) -> None:
    host.has_all = ["f", "f", "t"]
    await host.run()
    assert len(host.questions) == 3
    assert host.told == IN_ORDER


@pytest.mark.parametrize(("asked", "held"), [(2.0, 2.0), (60.0, handover.LONGEST_HOLD_SECONDS)])
async def test_nobody_is_held_for_longer_than_is_good(host: Host, asked: float, held: float) -> None:
    await host.run(hold_seconds=asked)
    assert host.fields == [({"seconds": held}, held + 1.0)] * 2


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (RefusedByAgentError("PgBouncer write: 3 transactions are under way"), "lb2: PgBouncer write: 3 transactions"),
        (ConnectError("10.77.0.12:7791", "no connection"), "10.77.0.12:7791: no connection"),
    ],
    ids=["refuses", "unreachable"],
)
async def test_a_balancer_that_does_not_hold_has_all_let_go_and_nothing_changed(
    host: Host, failure: Exception, why: str
) -> None:
    host.failures["lb2 /hold"] = failure
    with pytest.raises(NotHandedOverError, match=why):
        await host.run()
    assert host.told == [*HELD, *LET_GO]


async def test_every_balancer_that_does_not_hold_is_named(host: Host) -> None:
    host.failures = {name: RefusedByAgentError("no") for name in HELD}
    with pytest.raises(NotHandedOverError, match="lb1: no; lb2: no"):
        await host.run()


async def test_a_balancer_that_cannot_be_told_to_let_go_keeps_nobody_else_waiting(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.failures["lb2 /hold"] = RefusedByAgentError("no")
    host.failures["lb1 /let-go"] = ConnectError("10.77.0.11:7791", "no connection")
    with pytest.raises(NotHandedOverError, match="lb2: no"):
        await host.run()
    assert host.told == [*HELD, *LET_GO]
    assert "clients are held a little longer: 10.77.0.11:7791: no connection" in caplog.text


async def test_a_standby_that_lacks_something_for_too_long_ends_the_hold(host: Host) -> None:
    host.has_all = ["f"]
    host.on_question = lambda: host.seen.run(4)
    with pytest.raises(NotHandedOverError, match=r"db2 has not all that was written after 0\.5 s"):
        await host.run()
    assert len(host.questions) == 3
    assert host.told == [*HELD, "asked", *LET_GO]


async def test_nobody_is_held_for_a_server_that_is_not_there(host: Host) -> None:
    host.socket = host.socket.with_name("nobody")
    with pytest.raises(NotHandedOverError, match=r"the server of this host: .*nobody"):
        await host.run()
    assert host.told == []


async def test_nobody_is_held_for_a_server_that_lets_nobody_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(monkeypatch, tmp_path)

    async def refuse(peer: Peer) -> None:
        await peer.start()
        peer.say(error("53300", "sorry, too many clients already"))

    async with serving(host.socket, refuse):
        with pytest.raises(NotHandedOverError, match="too many clients"):
            await host.run()
    assert host.told == []


async def test_a_server_that_refuses_to_tell_ends_the_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(monkeypatch, tmp_path)

    async def refuse(peer: Peer) -> None:
        await peer.start()
        peer.say(LOGGED_IN)
        await peer.hear()
        peer.say(error("57P01", "terminating connection"))

    async with serving(host.socket, refuse):
        with pytest.raises(NotHandedOverError, match="terminating connection"):
            await host.run()
    assert host.told == [*HELD, *LET_GO]


async def test_what_changes_while_clients_are_held_is_seen_before_the_server_is_stopped(host: Host) -> None:
    def replace_standby() -> None:
        host.seen.sight.cluster = cluster(sync=["db3"])

    host.on_question = replace_standby
    with pytest.raises(NotHandedOverError, match="/sync names db3"):
        await host.run()
    assert host.told == [*HELD, "asked", *LET_GO]


async def test_an_objection_is_told_before_anybody_is_held(host: Host) -> None:
    host.seen.sight.cluster = cluster("db2")
    with pytest.raises(NotHandedOverError, match="the leader lock is held by db2, not by db1"):
        await host.run()
    assert host.told == []


@pytest.mark.parametrize("unknown", ["cluster", "mine"])
async def test_an_agent_that_does_not_know_hands_nothing_over(host: Host, unknown: str) -> None:
    setattr(host.seen.sight, unknown, None)
    with pytest.raises(NotHandedOverError, match=r"the leader lock is held by nobody|takes no writes"):
        await host.run()
    assert host.told == []


async def test_a_balancer_whose_agent_is_dead_keeps_all_from_being_held(host: Host) -> None:
    host.seen.run(6, echoing=["lb2"])
    with pytest.raises(NotHandedOverError, match="nothing is heard of lb2"):
        await host.run()
    assert host.told == []


@pytest.mark.parametrize("target", ["lb1", "db9", "db2'; select 1"])
async def test_only_a_database_host_can_be_handed_over_to(host: Host, target: str) -> None:
    with pytest.raises(NotHandedOverError, match="is no database host"):
        await host.run(target)
    assert host.told == []


async def test_a_second_hand_over_is_refused_while_one_is_under_way(host: Host) -> None:
    host.may_answer.clear()
    running = asyncio.ensure_future(host.run())
    await until(lambda: len(host.told) == 2)
    with pytest.raises(BusyError, match="another hand-over is under way"):
        await host.run()
    host.may_answer.set()
    await running
    assert host.told == IN_ORDER


async def test_after_one_that_failed_there_may_be_another(host: Host) -> None:
    host.failures["lb1 /hold"] = RefusedByAgentError("no")
    with pytest.raises(NotHandedOverError, match="lb1: no"):
        await host.run()
    host.failures.clear()
    host.told.clear()
    await host.run()
    assert host.told == IN_ORDER


async def test_one_that_is_given_up_lets_everybody_go(host: Host) -> None:
    host.may_answer.clear()
    running = asyncio.ensure_future(host.run())
    await until(lambda: len(host.told) == 2)
    running.cancel()
    await until(lambda: len(host.told) == 4)
    host.may_answer.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert host.told == [*HELD, *LET_GO]


@pytest.mark.parametrize(
    "word",
    [STANDBY, replace(STANDBY, timeline=5), replace(PRIMARY, timeline=5, writable=False)],
    ids=["follows", "is on its own", "refuses its clients"],
)
async def test_no_promotion_in_time_is_an_error_that_says_that_the_server_was_stopped(
    host: Host, word: Heartbeat
) -> None:
    host.promoted = word
    host.seen.sight.hear("db3", replace(PRIMARY, timeline=5))
    with pytest.raises(UnfinishedError, match="the server was stopped, and db2 takes no writes after 15 s"):
        await host.run()
    assert host.told == IN_ORDER


async def test_without_a_postmaster_that_could_be_stopped_all_are_let_go(host: Host) -> None:
    host.has_postmaster = False
    with pytest.raises(NotHandedOverError, match="there is no postmaster here"):
        await host.run()
    assert host.told[-len(LET_GO) :] == list(LET_GO)


async def test_where_nobody_can_be_held_the_server_is_stopped_at_once(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.has_all = ["f"]
    monkeypatch.setattr(host.seen.sight, "settings", replace(host.seen.settings, placement="database"))
    parts = await host.run()
    assert host.told == ["stopped", "woken"]
    assert parts.keys() == {"stopped", "writable"}
