"""The clients' own way through a balancer: how it is taken, what speaks against it, and what comes of that."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from small_cluster import PATH, PRIMARY, STANDBY, Seen, until
from tls_files import authority
from wire_server import READY, Peer, answering, columns, row

from pgbaton.agent.acting import judge
from pgbaton.agent.acting import path as path_module
from pgbaton.agent.acting.path import Path
from pgbaton.agent.complaints import Complaints
from pgbaton.agent.kernel import processes
from pgbaton.agent.kernel.processes import Condition, Look, Process
from pgbaton.agent.protocols import https, wire
from pgbaton.agent.protocols.connections import AbsentError, RefusedError, ServiceError, SilentError, TcpAddress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as Directory

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SERVES, FOLLOWS = (("f",),), (("t",),)


class Led:
    """A balancer, as far as the path asks it."""

    leads_to: str | None = "db1"
    is_held = False


class Host:
    """lb1's agent, and whoever answers at the end of the path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = Seen("lb1")
        self.balancer = Led()
        self.answer: tuple[tuple[str | None, ...], ...] | ServiceError = SERVES
        self.asked: list[tuple[TcpAddress, wire.Login]] = []
        self.changes = 0
        self.look = Look(Condition.RUNNING)
        self.runnable = 0.1
        monkeypatch.setattr(path_module, "clock", lambda: self.seen.now)
        monkeypatch.setattr(judge, "of_unit", lambda unit, program: (Process(10, 1),) if program in unit else ())
        monkeypatch.setattr(processes, "look", lambda _: self.look)
        monkeypatch.setattr(processes, "runnable_per_processor", lambda: self.runnable)
        monkeypatch.setattr(processes, "kill", self.kill)
        monkeypatch.setattr(wire, "ask", self.ask)
        settings = self.seen.settings
        settings = replace(settings, path=PATH, secrets=replace(settings.secrets, probe_password="three"))
        self.path = Path(
            settings,
            PATH,
            self.seen.sight,
            Complaints(),
            balancer=self.balancer,  # type: ignore[arg-type]
            on_change=self.changed,
        )

    def changed(self) -> None:
        self.changes += 1

    def kill(self, *_: object) -> bool:
        pytest.fail("nothing is ended because of the path")

    async def ask(self, where: TcpAddress, login: wire.Login, _: str, *, deadline_seconds: float) -> wire.Answer:
        self.asked.append((where, login))
        if isinstance(self.answer, SilentError):
            self.seen.run(round(deadline_seconds / 0.05))
        if isinstance(self.answer, ServiceError):
            raise self.answer
        self.seen.run()
        return wire.Answer(("pg_is_in_recovery",), self.answer)

    async def turn(self, times: int = 1) -> None:
        for _ in range(times):
            await self.path._try("three", TLS)

    @property
    def held(self) -> tuple[bool, int]:
        return self.path.is_broken, self.path.failures


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


async def test_a_path_that_works_is_timed_and_nothing_is_said(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    await host.turn(3)
    assert host.held == (False, 0)
    assert host.path.reason == ""
    assert host.path.seconds == pytest.approx(0.05)
    assert (host.changes, caplog.messages) == (0, [])
    where, login = host.asked[0]
    assert (where.host, where.port, where.tls_name) == ("127.0.0.1", 5000, "lb1")
    assert (login.user, login.database, login.password) == ("pgbaton_probe", "postgres", "three")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (RefusedError("no more connections allowed"), "no more connections"),
        (AbsentError("nobody is there"), "nobody is there"),
        (SilentError("no answer within 0.5 s"), "no answer within"),
        (FOLLOWS, "takes no writes"),
        ((), "takes no writes"),
    ],
)
async def test_whatever_fails_three_times_breaks_it_is_told_once_and_a_success_mends_it(
    host: Host, caplog: pytest.LogCaptureFixture, answer: ServiceError, why: str
) -> None:
    host.answer = answer
    await host.turn(2)
    assert (host.held, host.path.reason) == ((False, 2), "")
    await host.turn(3)
    assert host.held == (True, 5)
    assert why in host.path.reason
    assert (host.changes, len(caplog.messages)) == (1, 1)
    assert caplog.messages[0].startswith("path to the primary: clients of this balancer do not reach it: ")
    host.answer = SERVES
    await host.turn()
    assert (host.held, host.path.reason, host.changes) == ((False, 0), "", 2)
    assert caplog.messages[1:] == ["path to the primary: well again"]


@pytest.mark.parametrize("case", ["leads nowhere", "held", "standby", "says nothing", "not writable", "fenced"])
async def test_a_failure_that_has_another_reason_is_not_the_paths(host: Host, case: str) -> None:
    host.answer = RefusedError("no")
    host.balancer.leads_to = None if case == "leads nowhere" else "db1"
    host.balancer.is_held = case == "held"
    if case == "says nothing":
        host.seen.sight.forget("db1")
    if case in {"standby", "not writable"}:
        host.seen.sight.hear("db1", STANDBY if case == "standby" else replace(PRIMARY, writable=False))
    host.seen.sight.fenced = frozenset({"db1"} if case == "fenced" else ())
    await host.turn(5)
    assert host.held == (False, 0)


async def test_an_agent_that_overslept_does_not_know(host: Host) -> None:
    host.answer = RefusedError("no")
    for _ in range(5):
        host.seen.sleep(3.0)
        await host.turn()
    assert host.held == (False, 0)


@pytest.mark.parametrize(("runnable", "condition"), [(30.0, Condition.RUNNING), (0.1, Condition.WAITING)])
async def test_silence_on_a_host_that_is_busy_is_excused_and_a_refusal_is_not(
    host: Host, runnable: float, condition: Condition
) -> None:
    host.runnable, host.look = runnable, Look(condition)
    host.answer = SilentError("silent")
    await host.turn(5)
    assert host.held == (False, 0)
    host.answer = RefusedError("no")
    await host.turn(3)
    assert host.held == (True, 3)


async def test_silence_of_a_starved_pooler_is_excused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "look", lambda _: Look(Condition.RUNNING, 1.0, host.seen.now, is_runnable=False))
    host.answer = SilentError("silent")
    await host.turn(5)
    assert host.held == (False, 0)


async def test_silence_of_a_pooler_that_is_at_work_is_excused_and_of_one_that_is_idle_is_not(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = 0.6
    monkeypatch.setattr(processes, "look", lambda _: Look(Condition.RUNNING, share / 2 * host.seen.now))
    host.answer = SilentError("silent")
    await host.turn(5)  # HAProxy and PgBouncer, each for three tenths of the time
    assert host.held == (False, 0)
    share = 0.4
    await host.turn(3)
    assert host.held == (True, 3)


async def test_without_a_password_nobody_tries_and_nothing_is_held_against_the_path(host: Host) -> None:
    host.answer = RefusedError("no")
    await host.turn(3)
    without = replace(host.seen.settings.secrets, probe_password=None)
    host.path.prove_with(without)
    assert (host.held, host.path.is_tried, host.changes) == ((False, 0), False, 2)
    host.asked.clear()
    running = asyncio.ensure_future(host.path.run())
    await asyncio.sleep(0)
    assert host.asked == []
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_it_is_tried_once_there_are_certificates(host: Host) -> None:
    assert not host.path.is_tried
    running = asyncio.ensure_future(host.path.run())
    await asyncio.sleep(0)
    assert host.asked == []
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    host.path.use(TLS)
    assert host.path.is_tried
    running = asyncio.ensure_future(host.path.run())
    await until(lambda: host.asked)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@contextlib.contextmanager
def certified(directory: Directory, *, address: str) -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    """Give TLS for a pooler whose certificate is for an address, and for a client that trusts its authority."""
    made = authority(directory)
    server = https.server_context(made.identity("lb1", address=address), ssl.CERT_NONE)
    yield server, https.client_context(made.identity("agent"))


async def question_over_tls(
    host: Host, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, *, name: str
) -> tuple[object, str]:
    """Return how the question of a host of that name ends, at a pooler in this process."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        writer.write(b"S")
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await writer.start_tls(server_tls)
            await answering(columns("pg_is_in_recovery"), row("f"), READY)(Peer(reader, writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host.path._way = replace(PATH, port=server.sockets[0].getsockname()[1])
        host.path._settings = replace(host.path._settings, me=name)
        return await host.path._asked("three", client_tls)


@pytest.mark.parametrize(("name", "why"), [("127.0.0.1", ""), ("127.0.0.9", "certificate is not valid")])
async def test_the_poolers_certificate_is_verified_by_the_hosts_name(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Directory, name: str, why: str
) -> None:
    monkeypatch.undo()
    with certified(tmp_path / "ca", address="127.0.0.1") as (server_tls, client_tls):
        outcome, failure = await question_over_tls(host, server_tls, client_tls, name=name)
    assert why in failure
    assert str(outcome) == ("refused" if why else "answered")


async def test_a_pooler_of_another_authority_is_no_way(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Directory
) -> None:
    monkeypatch.undo()
    with (
        certified(tmp_path / "theirs", address="127.0.0.1") as (server_tls, _),
        certified(tmp_path / "ours", address="127.0.0.1") as (_, client_tls),
    ):
        outcome, failure = await question_over_tls(host, server_tls, client_tls, name="127.0.0.1")
    assert str(outcome) == "refused"
    assert "no TLS with it" in failure


async def test_in_an_outage_nobody_takes_the_path(host: Host) -> None:
    host.balancer.is_held = True
    await host.turn()
    host.balancer.is_held, host.balancer.leads_to = False, None
    await host.turn()
    assert host.asked == []
