"""The agent's command line: what systemd runs on a host, and what deploying checks there."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pgbaton import __version__
from pgbaton.agent import settings_file
from pgbaton.agent.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbaton.agent.settings import Settings

SETTINGS_FILE = "/etc/pgbaton/agent.json"
SECRETS_FILE = "/etc/pgbaton/agent-secrets.json"
SWITCHOVER_SECONDS = 30.0
#: Statuses of an agent that does not understand, or does not believe, whoever asks.
NOTHING_DONE = (400, 403)
#: What each command is for; all but the last take the settings from where they are on a host.
COMMANDS = {
    "run": "hear the other hosts, and act; systemd starts this",
    "restore-fences": "put up the fences that stood before a reboot; to be run before Patroni starts",
    "release-holds": "resume the poolers that an agent has paused and left so",
    "switchover": "have this host's agent hand over to a standby, with clients held meanwhile; prints what came of it",
    "check-settings": "read a file of settings and one of secrets, and say what is wrong with them",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    asked = parser().parse_args(arguments)
    try:
        found = settings_file.load(asked.settings, asked.secrets)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_CONFIG
    if asked.command == "check-settings":
        sys.stdout.write(f"settings of {found.me} in cluster {found.cluster}, {len(found.hosts)} hosts have an agent\n")
        return os.EX_OK
    if asked.command == "switchover":
        return switchover(found, asked.to, asked.hold_seconds)
    # Only what runs needs all of the agent; each command is a function of the same name.
    commands = importlib.import_module("pgbaton.agent.commands")
    return int(getattr(commands, asked.command.replace("-", "_"))(found, asked.secrets) or os.EX_OK)


def switchover(found: Settings, to: str, hold_seconds: float) -> int:
    """Ask for a hand-over, and print as JSON what came of it; 1 when there was none."""
    agents, https = (
        importlib.import_module(f"pgbaton.agent.{name}") for name in ("services.agents", "protocols.https")
    )
    asked = agents.switchover(found, to, hold_seconds=hold_seconds, deadline_seconds=SWITCHOVER_SECONDS)
    try:
        said = asyncio.run(asked)
    except (agents.RefusedByAgentError, https.HttpsError, OSError) as error:
        # In each of these cases the agent has done nothing, or was never asked.
        nothing = (agents.RefusedByAgentError, https.ConnectError, OSError)
        refused = isinstance(error, nothing) or getattr(error, "status", None) in NOTHING_DONE
        sys.stdout.write(json.dumps({"done": False, "refused": refused, "why": str(error)}) + "\n")
        return 1
    sys.stdout.write(json.dumps({"done": True, **said}) + "\n")
    return os.EX_OK


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser("pgbaton-agent", description="The agent of a host in a PostgreSQL cluster.")
    made.add_argument("--version", action="version", version=f"pgbaton-agent {__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        if name == "check-settings":
            command.add_argument("settings", type=Path)
            command.add_argument("secrets", type=Path)
        else:
            command.add_argument("--settings", type=Path, default=Path(SETTINGS_FILE))
            command.add_argument("--secrets", type=Path, default=Path(SECRETS_FILE))
        if name == "switchover":
            command.add_argument("--to", required=True, metavar="HOST")
            command.add_argument("--hold-seconds", type=float, default=2.0)
    return made


if __name__ == "__main__":
    sys.exit(main())
