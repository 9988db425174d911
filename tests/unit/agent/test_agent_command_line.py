from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import pgbaton
from pgbaton.agent import __main__ as command_line
from pgbaton.agent import settings_file

if TYPE_CHECKING:
    from pathlib import Path


#: What each command is given: the settings, and where the secrets are, which it may read again.
EXPECTED = ("settings", "agent-secrets.json")


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pgbaton-agent {pgbaton.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["fence"], ["check-settings", "/one"]])
def test_a_command_that_is_none_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(arguments)
    assert ended.value.code == 2
    assert "usage: pgbaton-agent" in capsys.readouterr().err


def test_settings_that_cannot_be_read_end_it_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "agent.json")
    assert command_line.main(["check-settings", missing, missing]) == 78
    assert missing in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "restore-fences", "release-holds"])
def test_each_command_is_a_function(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = ModuleType("pgbaton.agent.commands")
    setattr(commands, command.replace("-", "_"), lambda found, secrets: 7 if (found, secrets.name) == EXPECTED else 1)
    monkeypatch.setitem(sys.modules, commands.__name__, commands)
    monkeypatch.setattr(settings_file, "load", lambda *_: "settings")
    assert command_line.main([command]) == 7
