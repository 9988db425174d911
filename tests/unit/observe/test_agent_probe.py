"""The probe's questions about agents, against what agents answer and leave on a host."""

from __future__ import annotations

import ssl
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from observed import AGENTS, TOPOLOGY

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from tls_files import authority

from pgbaton import __version__
from pgbaton.agent.acting.keepalived import GIVE_UP, TrackFile
from pgbaton.agent.decisions.health import Health, answer
from pgbaton.agent.protocols.https import server_context
from pgbaton.agent.protocols.serving import Request, Server
from pgbaton.components import agent as component
from pgbaton.components import archive
from pgbaton.observe import host_probe, readings
from pgbaton.observe.collect import request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgbaton.agent.protocols.http1 import Response

GAP = 'heartbeat_gap_seconds{host="db1"}'
WELL = Health("db2", "standby", following=True, fenced=frozenset({"db3"}), gauges={GAP: 0.05})


class Agent:
    """An agent's health port, with answers that a test decides on."""

    def __init__(self) -> None:
        self.says = [WELL]
        self.asked: list[str] = []

    async def answer(self, asked: Request) -> Response:
        self.asked.append(asked.path)
        assert asked.certified
        health = self.says[0]
        if len(self.says) > 1 and len(self.asked) % 2 == 0:
            self.says.pop(0)
        return answer(health, asked.path, asked.query)


@pytest.fixture
async def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Agent, dict[str, Any]]]:
    """Serve an agent's word over mutual TLS; yield it, and the request for it."""
    identity = authority(tmp_path / "tls").identity("agent")
    program = tmp_path / "agent.pyz"
    program.write_bytes(archive.build())
    monkeypatch.setattr(host_probe, "TLS", tmp_path / "tls")
    monkeypatch.setitem(host_probe.AUTHORITIES, "agent", tmp_path / "tls" / "ca.crt")
    monkeypatch.setattr(host_probe, "AGENT_PROGRAM", program)
    running = Agent()
    server = Server(running.answer, tls=server_context(identity, ssl.CERT_OPTIONAL))
    port = await server.start("127.0.0.1", 0)
    where = {"port": port, "catch_up_seconds": 0.0, "tracked_file": str(tmp_path / "tracked")}
    try:
        yield running, {"address": "127.0.0.1", "agent": where}
    finally:
        await server.close(grace_seconds=0)


async def test_an_agent_is_asked_over_mutual_tls_and_understood(agent: tuple[Agent, dict[str, Any]]) -> None:
    _, asked = agent
    view = readings.agent(await host_probe.agent(asked))
    assert (view.role, view.fenced, view.heard, view.stalled) == ("standby", ("db3",), ("db1",), False)
    assert view.version == __version__
    assert view.build
    assert len(view.build) == 12


@pytest.mark.parametrize(("later", "stalled"), [(WELL, False), (replace(WELL, stalled=True), True)])
async def test_an_agent_is_stalled_when_it_is_so_twice(
    agent: tuple[Agent, dict[str, Any]], later: Health, *, stalled: bool
) -> None:
    running, asked = agent
    running.says = [replace(WELL, stalled=True), later]
    assert readings.agent(await host_probe.agent(asked)).stalled is stalled
    assert sorted(running.asked) == ["/health"] * 2 + ["/metrics"] * 2


async def test_an_agent_that_takes_too_long_says_for_how_long_it_was_waited(
    agent: tuple[Agent, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked = agent
    monkeypatch.setattr(host_probe, "AGENT_SECONDS", 0)
    assert await host_probe.limited(host_probe.agent(asked), 3) == {"error": "no answer within 0 s"}


async def test_an_agent_that_does_not_run_says_why(agent: tuple[Agent, dict[str, Any]], tmp_path: Path) -> None:
    _, asked = agent
    elsewhere = {**asked, "agent": {**asked["agent"], "port": 1}}
    assert "Connect call failed" in (await host_probe.limited(host_probe.agent(elsewhere), 3))["error"]
    assert host_probe.program(tmp_path / "nothing") == {"version": None, "build": None}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("Error: No such file or directory list table inet pgbaton_fence"), {"answer": {}}),
        (OSError("Error: Operation not permitted"), {"error": "Error: Operation not permitted"}),
        (
            FileNotFoundError(2, "No such file or directory", "nft"),
            {"error": "[Errno 2] No such file or directory: 'nft'"},
        ),
    ],
    ids=["no table", "no right", "no nft"],
)
async def test_only_a_table_that_is_not_there_means_that_nobody_is_fenced(
    error: OSError, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*argv: str) -> str:
        assert argv == ("/usr/sbin/nft", "-j", "list", "table", "inet", "pgbaton_fence")
        raise error

    monkeypatch.setattr(host_probe, "output", fails)
    assert await host_probe.limited(host_probe.fences({}), 1) == told


async def test_what_keepalived_is_told_is_read_from_the_agents_file(agent: tuple[Agent, dict[str, Any]]) -> None:
    _, asked = agent
    assert await host_probe.tracked(asked) is None
    TrackFile(Path(asked["agent"]["tracked_file"])).write(GIVE_UP)
    assert await host_probe.tracked(asked) == GIVE_UP


TABLES = ["version\nPgBouncer 1.18.0\n", "", "pools\n", "databases\n"]
REFUSALS = {
    "ERROR:  already suspended/paused": "key,value\npaused,yes\n",
    "ERROR:  cannot pause admin db: pgbouncer": "",
}


@pytest.mark.parametrize(("refusal", "state"), REFUSALS.items())
async def test_an_old_pooler_tells_by_its_refusal_whether_an_agent_has_paused_it(
    refusal: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    async def psql(_user: str, *arguments: str) -> str:
        asked.append(arguments)
        if "PAUSE pgbouncer" in arguments:
            raise OSError(refusal)
        return "".join(f"==\n{table}" for table in TABLES)

    monkeypatch.setattr(host_probe, "psql", psql)
    pools = {"pools": {"write": 6432, "read": 6433}}
    assert (await host_probe.pooler({**pools, "agent": {}}, "write"))[1] == state
    assert len(asked) == 2
    assert await host_probe.pooler({**pools, "agent": {}}, "read") == TABLES
    assert await host_probe.pooler(pools, "write") == TABLES
    assert len(asked) == 4


async def test_a_pooler_that_tells_its_state_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ["version\n", "key,value\npaused,no\n", "pools\n", "databases\n"]

    async def psql(_user: str, *arguments: str) -> str:
        assert "PAUSE pgbouncer" not in arguments
        return "".join(f"==\n{table}" for table in told)

    monkeypatch.setattr(host_probe, "psql", psql)
    assert await host_probe.pooler({"pools": {"write": 6432}, "agent": {}}, "write") == told


def test_a_host_is_asked_for_its_agent_only_where_there_are_some() -> None:
    stock, more = (request(topology, topology.host("lb1"), deadline=3.0) for topology in (TOPOLOGY, AGENTS))
    assert set(more["parts"]) - set(stock["parts"]) == {"agent", "fences", "tracked"}
    assert "agent" not in stock
    assert more["agent"] == {"port": 7791, "tracked_file": "/run/pgbaton-agent-haproxy", "catch_up_seconds": 0.7}
    assert "tracked" not in request(AGENTS, AGENTS.host("db1"), deadline=3.0)["parts"]


def test_a_look_that_has_little_time_does_not_wait_for_an_agent_to_catch_up() -> None:
    assert request(AGENTS, AGENTS.host("db1"), deadline=0.3)["agent"]["catch_up_seconds"] == pytest.approx(0.09)


def test_the_agents_files_are_where_they_are_put() -> None:
    assert str(host_probe.AGENT_PROGRAM) == component.PROGRAM
    assert (host_probe.TLS / "agent.crt").name == f"{component.CERTIFICATE}.crt"
