"""A lab as tests use it, and the commands of users that make and remove one."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from preloaded import Commands

from pgbaton import state as states
from pgbaton.errors import RefusedError
from pgbaton.hosts.connect import connect
from pgbaton.hosts.machine import is_living, started
from pgbaton.lab import claims, record
from pgbaton.secrets import Vault
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pgbaton.hosts.base import Host
    from pgbaton.hosts.process import Result
    from pgbaton.state import ClusterState
    from pgbaton.topology.model import Topology

#: Which tests the labs of a state directory belong to.
SESSION = "tests.json"
#: How long a command that outlived its tests may go on.
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Lab:
    """A running lab."""

    state: ClusterState
    topology: Topology

    @property
    def name(self) -> str:
        """Return the cluster's name."""
        return self.state.name

    @property
    def vault(self) -> Vault:
        """Return the cluster's secrets."""
        return Vault(self.state.vault_directory)

    def hosts(self) -> Mapping[str, Host]:
        """Return the machines as they are now."""
        return connect(self.topology, self.state)

    async def pgbaton(self, *arguments: str, timeout: float = 300) -> Result:
        """Run a command on this cluster, as a user without a terminal would."""
        return await pgbaton(*arguments, "--cluster", self.name, timeout=timeout)


async def done(lab: Lab, *arguments: str, timeout: float = 400) -> dict[str, Any]:
    """Run a command on a lab's cluster that must succeed; return its JSON."""
    said = await lab.pgbaton(*arguments, "-o", "json", timeout=timeout)
    assert said.ok, said.stdout + said.stderr
    data: dict[str, Any] = json.loads(said.stdout)
    return data


async def refused(lab: Lab, *arguments: str) -> str:
    """Run a command on a lab's cluster that must be refused; return what it said."""
    said = await lab.pgbaton(*arguments)
    assert said.exit_status == RefusedError.exit_code, said.stdout + said.stderr
    return said.stderr


@cache
def commands() -> Commands:
    """Return what runs commands; whoever asks first starts it."""
    return Commands.start()


async def pgbaton(*arguments: str, timeout: float = 300, **environment: str) -> Result:
    """Run a command of pgbaton to its end."""
    return await commands().run(*arguments, environment={**os.environ, **environment}, timeout=timeout)


def up(name: str, *arguments: str) -> Lab:
    """Bring a lab up; a failure shows what the command said."""
    said = asyncio.run(pgbaton("lab", "up", "--cluster", name, *arguments, timeout=540))
    assert said.ok, said.stderr
    state = states.cluster(name)
    return Lab(state, load(state.topology_file))


def down(name: str) -> None:
    """Remove a lab."""
    said = asyncio.run(pgbaton("lab", "down", "--cluster", name))
    assert said.ok, said.stderr


def note_session(home: Path) -> None:
    """Note in a state directory which process its labs belong to."""
    (home / SESSION).write_text(json.dumps({"pid": os.getpid(), "started": started(os.getpid())}))


def abandoned() -> Iterator[tuple[str, Path]]:
    """Yield the labs, with their state directories, of tests that were killed before they could take them down."""
    for path in record.RUN.glob(f"*/{claims.OWNER}"):
        state = claims.owner(path.parent.name)
        if state is None or not any(part.startswith("pytest-of-") for part in state.parts):
            continue
        home = state.parents[1]
        note = home / SESSION
        session = json.loads(note.read_text()) if note.exists() else {}
        if not is_living(session.get("pid"), session.get("started")):
            yield path.parent.name, home


def clear_up() -> None:
    """Take abandoned labs down, whose names the next tests would miss; commands that still work on one end first."""
    for name, home in tuple(abandoned()):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            said = asyncio.run(pgbaton("lab", "down", "--cluster", name, PGBATON_STATE_HOME=str(home)))
            if said.ok:
                break
            assert time.monotonic() < deadline, said.stderr
            time.sleep(1)
