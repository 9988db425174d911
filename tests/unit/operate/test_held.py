"""A switchover with clients held: what an agent's program printed means, and what is done without it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from operate_views import primary, standby, topology, view

from pgbaton.components import agent
from pgbaton.errors import CommandError, Error, UnhealthyError
from pgbaton.hosts.base import Host
from pgbaton.hosts.process import Result
from pgbaton.operate import held, readers, switchover
from pgbaton.operate.held import HandedOver, read
from pgbaton.operate.operation import Operation
from pgbaton.topology.model import Topology

if TYPE_CHECKING:
    from pgbaton.operate.members import View

DONE = {"done": True, "seconds": {"held": 0.02, "equal": 0.03, "stopped": 0.2, "writable": 0.5}}
REFUSED = {"done": False, "refused": True, "why": "Patroni is paused"}
UNKNOWN = {"done": False, "refused": False, "why": "10.77.0.11:7791: no answer in time"}


@pytest.mark.parametrize(
    ("stdout", "stderr", "exit_status", "meaning"),
    [
        (json.dumps(DONE), "", 0, HandedOver(done=True, seconds=DONE["seconds"])),  # type: ignore[arg-type]
        (json.dumps(REFUSED) + "\n", "", 1, HandedOver(done=False, refused=True, why="Patroni is paused")),
        (json.dumps(UNKNOWN), "a warning", 1, HandedOver(done=False, refused=False, why=str(UNKNOWN["why"]))),
        ("", "", -9, HandedOver(done=False, why="it printed nothing")),
        ("null", "", 0, HandedOver(done=False, why="it printed nothing")),
        ("{}", "Traceback", 1, HandedOver(done=False, why="Traceback")),
        (
            "",
            "usage: pgbaton-agent\npgbaton-agent: error: invalid choice: 'switchover'\n",
            2,
            HandedOver(done=False, refused=True, why="pgbaton-agent: error: invalid choice: 'switchover'"),
        ),
    ],
    ids=["done", "refused", "unknown", "killed", "no object", "half of one", "an agent that is too old"],
)
def test_what_the_program_printed_is_read(stdout: str, stderr: str, exit_status: int, meaning: HandedOver) -> None:
    assert read(stdout, stderr, exit_status) == meaning


@dataclass(frozen=True)
class Machine(Host):
    """A host with an agent's program that prints something; what it was asked is noted."""

    stdout: str = ""
    failure: CommandError | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        raise NotImplementedError

    async def run(
        self,
        *argv: str,
        input: str | bytes | None = None,  # noqa: A002 - the name subprocess uses
        check: bool = True,
        timeout: float | None = 30.0,
    ) -> Result:
        assert (input, check, timeout) == (None, False, held.SECONDS)
        self.asked.append(argv)
        if self.failure:
            raise self.failure
        return result(argv, self.stdout, exit_status=0 if self.stdout else 2)


def result(argv: tuple[str, ...], stdout: str, *, exit_status: int = 0) -> Result:
    return Result(argv, exit_status, stdout, "")


@dataclass(frozen=True)
class Made(Operation):
    """An operation that looks at a made-up cluster, in which every wait is over at once."""

    found: View = field(default_factory=view)
    statements: list[str] = field(default_factory=list)

    async def look(self) -> View:
        return self.found

    async def sql(self, host: str, statement: str, *, seconds: float = 6) -> str:
        del seconds
        self.statements.append(f"{host}: {statement}")
        return ""

    async def until_routed(self, primary: str) -> float:
        del primary
        return 0.1

    async def until_streaming(self, standby: str, primary: str, *, restarted_after: float | None = None) -> float:
        del standby, primary, restarted_after
        return 0.2

    async def until_synchronous(self) -> float:
        return 0.3


def with_agents(*, agents: bool = True) -> Topology:
    """Return the cluster of the other operations, with agents or without."""
    document = topology().model_dump(mode="json", by_alias=True)
    return Topology.model_validate(document | {"orchestration": {"agent": agents}})


class Course:
    """A switchover from db1 to db2: its hosts, what it reported, and what Patroni was asked."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        says: dict[str, Any] | None = None,
        agents: bool = True,
        failure: CommandError | None = None,
        found: View | None = None,
    ) -> None:
        self.machine = Machine("db1", json.dumps(says) if says else "", failure)
        self.reported: list[str] = []
        self.patroni: list[tuple[str, str]] = []
        self.readers_left = False
        hosts = {"db1": self.machine}
        self.operation = Made(with_agents(agents=agents), hosts, self.reported.append, found=found or view())
        monkeypatch.setattr(switchover, "ask", self.ask)
        monkeypatch.setattr(readers, "lead_away", self.lead_readers_away)

    async def lead_readers_away(self, operation: Operation) -> None:
        assert operation is self.operation
        assert (self.machine.asked, self.patroni) == ([], []), "readers leave while nobody waits for it yet"
        self.readers_left = True

    async def ask(self, operation: Operation, source: str, target: str) -> float:
        assert operation is self.operation
        self.patroni.append((source, target))
        return 1.6

    async def run(self) -> switchover.Switchover:
        return await switchover.carry_out(self.operation, "db1", "db2")


async def test_clients_are_held_where_agents_can(monkeypatch: pytest.MonkeyPatch) -> None:
    course = Course(monkeypatch, says=DONE)
    done = await course.run()
    assert course.machine.asked == [(*agent.RUN.split(), "switchover", "--to", "db2")]
    assert course.patroni == []
    assert done.held
    assert done.data["held"] is True
    assert course.readers_left
    assert done.seconds.hand_over < 1.0
    assert course.operation.statements == ["db1: CHECKPOINT"], "the server has little left to write when it stops"


async def test_patroni_does_it_where_agents_refuse_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    course = Course(monkeypatch, says=REFUSED)
    done = await course.run()
    assert course.patroni == [("db1", "db2")]
    assert not done.held
    assert done.seconds.hand_over == 1.6
    assert "clients are not held meanwhile: Patroni is paused" in course.reported


async def test_patroni_does_it_where_no_agent_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    course = Course(monkeypatch)
    assert not (await course.run()).held
    assert course.patroni == [("db1", "db2")]


async def test_without_agents_nobody_is_asked_to_hold_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    course = Course(monkeypatch, says=DONE, agents=False)
    done = await course.run()
    assert course.machine.asked == []
    assert course.patroni == [("db1", "db2")]
    assert not done.held
    assert not any("held" in line for line in course.reported)


@pytest.mark.parametrize(
    ("found", "kind", "text"),
    [
        (view(), Error, "db1 is still the primary and takes writes"),
        (view({"db1": standby(), "db2": primary()}), UnhealthyError, "db2 is the primary, but later than waited for"),
    ],
)
async def test_patroni_is_not_asked_again_for_what_may_have_begun(
    monkeypatch: pytest.MonkeyPatch, found: View, kind: type[Error], text: str
) -> None:
    course = Course(monkeypatch, says=UNKNOWN, found=found)
    with pytest.raises(kind, match=text) as caught:
        await course.run()
    assert "no answer in time" in caught.value.message
    assert course.patroni == []


async def test_a_program_that_does_not_end_leaves_open_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    course = Course(monkeypatch, failure=CommandError("db1: pgbaton-agent: no end after 45 s"))
    with pytest.raises(Error, match="no end after 45 s"):
        await course.run()
    assert course.patroni == []
