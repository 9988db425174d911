"""What the command line does to hand over: what it asks for, what it prints, and how it ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pgbaton.agent import __main__ as command_line
from pgbaton.agent import settings_file
from pgbaton.agent.protocols.https import DeadlineError
from pgbaton.agent.services import agents
from pgbaton.agent.services.agents import RefusedByAgentError

if TYPE_CHECKING:
    from pathlib import Path


class Agent:
    """This host's agent, made up: what it was asked, and what it says."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.failure: Exception | None = None

    async def switchover(
        self, found: object, to: str, *, hold_seconds: float, deadline_seconds: float
    ) -> dict[str, Any]:
        self.asked.append((found, to, hold_seconds, deadline_seconds))
        if self.failure:
            raise self.failure
        return {"seconds": {"held": 0.02, "writable": 0.4}}


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    made = Agent()
    monkeypatch.setattr(agents, "switchover", made.switchover)
    monkeypatch.setattr(settings_file, "load", lambda *paths: tuple(map(str, paths)))
    return made


def test_what_came_of_it_is_printed_as_json(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["switchover", "--to", "db2"]) == 0
    assert json.loads(capsys.readouterr().out) == {"done": True, "seconds": {"held": 0.02, "writable": 0.4}}
    found = (command_line.SETTINGS_FILE, command_line.SECRETS_FILE)
    assert agent.asked == [(found, "db2", 2.0, command_line.SWITCHOVER_SECONDS)]


def test_how_long_clients_are_held_and_where_the_settings_are_can_be_said(agent: Agent, tmp_path: Path) -> None:
    given = ["--settings", str(tmp_path / "one"), "--secrets", str(tmp_path / "two"), "--hold-seconds", "0.5"]
    assert command_line.main(["switchover", *given, "--to", "db3"]) == 0
    ((found, to, hold_seconds, _),) = agent.asked
    assert (found, to, hold_seconds) == ((str(tmp_path / "one"), str(tmp_path / "two")), "db3", 0.5)


@pytest.mark.parametrize(
    ("failure", "refused"),
    [
        (RefusedByAgentError("Patroni is paused"), True),
        (DeadlineError("10.77.0.21:7791", "no answer in time"), False),
    ],
    ids=["refused", "no answer"],
)
def test_why_there_was_none_is_printed_as_json_and_the_status_is_1(
    agent: Agent,
    failure: Exception,
    refused: bool,  # noqa: FBT001 - a table's row
    capsys: pytest.CaptureFixture[str],
) -> None:
    agent.failure = failure
    assert command_line.main(["switchover", "--to", "db2"]) == 1
    assert json.loads(capsys.readouterr().out) == {"done": False, "refused": refused, "why": str(failure)}


def test_a_host_without_a_certificate_says_so(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.failure = FileNotFoundError(2, "no such file", "/etc/pgbaton/tls/me.crt")
    assert command_line.main(["switchover", "--to", "db2"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert not said["done"]
    assert "/etc/pgbaton/tls/me.crt" in said["why"]


@pytest.mark.parametrize("arguments", [[], ["--to"], ["--to", "db2", "--hold-seconds", "long"], ["db2"]])
def test_a_hand_over_to_nobody_is_not_begun(
    arguments: list[str], agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["switchover", *arguments])
    assert ended.value.code == 2
    assert "usage: pgbaton-agent switchover" in capsys.readouterr().err
    assert agent.asked == []
